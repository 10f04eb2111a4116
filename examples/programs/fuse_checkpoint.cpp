// How do I get a fused checkpoint from one that stores its experts one by one?
#include "convert_checkpoint.hpp"

int main(int argc, char** argv) {
    return convert_checkpoint::run(
        argc, argv,
        "usage: fuse_checkpoint IN OUT [options]\n"
        "Writes the checkpoint IN to the directory OUT with the experts of each layer fused, as\n"
        "transformers 5 holds them, and every tensor under the name that the loaded model gives\n"
        "it.\n",
        convert_checkpoint::direction::fuse);
}
