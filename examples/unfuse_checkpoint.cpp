// How do I get back from a fused checkpoint to one that stores its experts one by one, as the hub does?
#include "convert_checkpoint.hpp"

int main(int argc, char** argv) {
    return convert_checkpoint::run(argc, argv,
                                   "usage: unfuse_checkpoint IN OUT [options]\n"
                                   "Writes the fused checkpoint IN to the directory OUT as the hub stores its model type: the inverse of\n"
                                   "fuse_checkpoint, byte for byte.\n"
                                   "  IN                    a directory, a model.safetensors.index.json or one .safetensors file\n"
                                   "  --layout NAME         the family or model type; default: config.json's model_type, else from the names\n"
                                   "  --max-shard-size S    such as 300MB or 5GB; default 5GB\n"
                                   "  --source mmap|pread   map the files or read them by position; default mmap\n"
                                   "  --overwrite           replace the tensor files in OUT\n"
                                   "  --quiet               say nothing but errors\n",
                                   true);
}
