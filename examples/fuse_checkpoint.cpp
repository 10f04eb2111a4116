// How do I get a fused checkpoint from one that stores its experts one by one?
#include "convert_checkpoint.hpp"

int main(int argc, char** argv) {
    return convert_checkpoint::run(argc, argv,
                                   "usage: fuse_checkpoint IN OUT [options]\n"
                                   "Writes the checkpoint IN to the directory OUT with the experts of each layer fused, as transformers 5\n"
                                   "holds them, and every tensor under the name that the loaded model gives it.\n"
                                   "  IN                    a directory, a model.safetensors.index.json or one .safetensors file\n"
                                   "  --layout NAME         the family or model type; default: config.json's model_type, else from the names\n"
                                   "  --max-shard-size S    such as 300MB or 5GB; default 5GB\n"
                                   "  --source mmap|pread   map the files or read them by position; default mmap\n"
                                   "  --overwrite           replace the tensor files in OUT\n"
                                   "  --quiet               say nothing but errors\n",
                                   false);
}
