// What would fusing a layer do, before a byte is copied?
#include <cstdio>
#include <cstring>

#include <safefuse/models.hpp>
#include <safefuse/plan.hpp>
#include <safefuse/read.hpp>

namespace sf = safefuse;

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
        std::printf(
            "usage: 04_plan_one_layer CHECKPOINT SCOPE\n"
            "Prints the plan for the experts in SCOPE, such as model.layers.1.mlp.experts.\n");
        return 0;
    }
    if (argc != 3) {
        std::fprintf(stderr, "error: a checkpoint and a scope are needed; see --help\n");
        return 2;
    }
    const auto report = [](const sf::failure& failure) {
        std::fprintf(stderr, "error: %s\n", failure.message().c_str());
        return 1;
    };
    const auto checkpoint = sf::checkpoint::open(argv[1]);
    if (!checkpoint) return report(checkpoint.error());

    // Planning reads names, types and shapes. A missing expert, a wrong shape or a block that the
    // layout would cut is found here.
    const auto plan = sf::plan<sf::families::qwen2_moe>(*checkpoint, argv[2]);
    if (!plan) return report(plan.error());

    // What the plan makes.
    for (const sf::plan_output& output : plan->outputs()) {
        std::printf("output  %s: %s [", sf::printable(output.local_name).c_str(),
                    sf::text{sf::name(output.type)}.c_str());
        for (std::size_t axis = 0; axis < output.shape.size(); ++axis)
            std::printf("%s%llu", axis == 0 ? "" : ", ",
                        static_cast<unsigned long long>(output.shape[axis]));
        std::printf("]\n");
    }
    // How: each copy takes bytes from one file to one output, sorted by file and offset.
    for (const sf::copy_block& copy : plan->blocks())
        std::printf("copy    file %u at %llu -> output %u at %llu, %llu x %llu bytes\n",
                    copy.source, static_cast<unsigned long long>(copy.source_offset), copy.output,
                    static_cast<unsigned long long>(copy.destination_offset),
                    static_cast<unsigned long long>(copy.run_count()),
                    static_cast<unsigned long long>(copy.run_bytes));
    return 0;
}
