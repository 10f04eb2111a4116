// How do I make a fused checkpoint from one that stores its experts one by one?
#include "convert_checkpoint.hpp"

int main(int argc, char** argv) {
    return convert_checkpoint::run(
        argc, argv,
        "usage: fuse_checkpoint IN OUT [options]\n"
        "Writes the checkpoint IN to the directory OUT. The experts of each layer are fused as in\n"
        "transformers 5, and every tensor gets its name in the loaded model.\n",
        convert_checkpoint::direction::fuse);
}
