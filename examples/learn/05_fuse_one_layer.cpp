// How do I get one layer's fused experts into memory of my own?
#include <cstdio>
#include <cstring>
#include <vector>

#include <safefuse/safefuse.hpp>

namespace sf = safefuse;

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
        std::printf(
            "usage: 05_fuse_one_layer CHECKPOINT [SCOPE]\n"
            "Fuses the experts of one layer (the first, or SCOPE) of a qwen2_moe-like "
            "checkpoint.\n");
        return 0;
    }
    if (argc != 2 && argc != 3) {
        std::fprintf(stderr, "error: a checkpoint is needed; see --help\n");
        return 2;
    }
    const auto report = [](const sf::failure& failure) {
        std::fprintf(stderr, "error: %s\n", failure.message().c_str());
        return 1;
    };

    // open() reads headers and the index and checks them against each other.
    const auto checkpoint = sf::checkpoint::open(argv[1]);
    if (!checkpoint) return report(checkpoint.error());

    sf::text scope = argc == 3 ? argv[2] : "";
    if (scope.empty()) {
        const auto scopes =
            sf::experts_scopes::find(*checkpoint, sf::description_of<sf::families::qwen2_moe>);
        if (!scopes) return report(scopes.error());
        if (scopes->size() == 0)
            return report({.code = sf::errc::no_experts, .file = sf::text{argv[1]}});
        scope = (*scopes)[0].name;
    }

    // The plan knows the size of every output and every copy. Whatever is missing or odd is a
    // failure of plan().
    const auto plan = sf::plan<sf::families::qwen2_moe>(*checkpoint, scope);
    if (!plan) return report(plan.error());
    std::printf("%s: %llu experts, %zu copies\n", sf::printable(scope).c_str(),
                static_cast<unsigned long long>(plan->expert_count()), plan->blocks().size());

    for (const sf::plan_output& output : plan->outputs()) {
        // Any memory of that size will do: a vector, a framework's tensor, pinned pages.
        std::vector<std::byte> buffer(static_cast<std::size_t>(output.size_bytes));
        if (auto done = sf::fuse(*plan, output.local_name, buffer); !done)
            return report(done.error());
        std::printf("%s: %zu bytes\n", sf::printable(output.local_name).c_str(), buffer.size());
    }
    return 0;
}
