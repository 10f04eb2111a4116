// How do I turn a fused checkpoint back into one that stores its experts one by one, as on the hub?
#include "convert_checkpoint.hpp"

int main(int argc, char** argv) {
    return convert_checkpoint::run(
        argc, argv,
        "usage: unfuse_checkpoint IN OUT [options]\n"
        "Writes the fused checkpoint IN to the directory OUT in the form of its model type on\n"
        "the hub: the inverse of fuse_checkpoint, byte for byte.\n",
        convert_checkpoint::direction::unfuse);
}
