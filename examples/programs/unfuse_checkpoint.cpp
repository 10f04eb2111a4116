// How do I get back from a fused checkpoint to one that stores its experts one by one, as the hub
// does?
#include "convert_checkpoint.hpp"

int main(int argc, char** argv) {
    return convert_checkpoint::run(
        argc, argv,
        "usage: unfuse_checkpoint IN OUT [options]\n"
        "Writes the fused checkpoint IN to the directory OUT as the hub stores its model type:\n"
        "the inverse of fuse_checkpoint, byte for byte.\n",
        convert_checkpoint::direction::unfuse);
}
