// How do I get a checkpoint whose experts an engine can use in place?
#include "convert_checkpoint.hpp"

int main(int argc, char** argv) {
    return convert_checkpoint::run(
        argc, argv,
        "usage: repack_checkpoint IN OUT [options]\n"
        "Writes the checkpoint IN to the directory OUT with the same tensors under the same\n"
        "names, but with those that make one fused parameter end to end in one file, which begins\n"
        "on a page: a plan then gives views instead of copies.\n",
        convert_checkpoint::direction::repack);
}
