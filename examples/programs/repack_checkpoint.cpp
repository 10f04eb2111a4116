// How do I make a checkpoint whose experts an engine can use in place?
#include "convert_checkpoint.hpp"

int main(int argc, char** argv) {
    return convert_checkpoint::run(
        argc, argv,
        "usage: repack_checkpoint IN OUT [options]\n"
        "Writes the checkpoint IN to the directory OUT with the same tensors under the same\n"
        "names. The tensors of each fused parameter are contiguous in one file and begin at a\n"
        "page boundary, so that a plan gives views instead of copies.\n",
        convert_checkpoint::direction::repack);
}
