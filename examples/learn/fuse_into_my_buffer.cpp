// How do I get one layer's fused experts into memory of my own?
#include <cstdio>
#include <cstring>
#include <string_view>
#include <vector>

#include <safefuse/safefuse.hpp>

namespace sf = safefuse;

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
        std::printf(
            "usage: fuse_into_my_buffer CHECKPOINT [SCOPE]\nFuses one experts module (the first, or SCOPE) of a qwen2_moe-like checkpoint into buffers.\n");
        return 0;
    }
    if (argc != 2 && argc != 3) {
        std::fprintf(stderr, "error: a checkpoint is wanted; see --help\n");
        return 2;
    }
    const auto report = [](const sf::failure& failure) {
        std::fprintf(stderr, "error: %s\n", failure.message().c_str());
        return 1;
    };

    // Headers and index are read and checked against each other; no tensor's bytes are.
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

    // The plan knows every output's size and every copy; whatever is missing or odd has been found
    // by now.
    const auto plan = sf::plan<sf::families::qwen2_moe>(*checkpoint, scope);
    if (!plan) return report(plan.error());
    std::printf("%s: %llu experts, %zu copies\n", sf::printable(scope).c_str(),
                static_cast<unsigned long long>(plan->expert_count()), plan->blocks().size());

    for (const sf::plan_output& output : plan->outputs()) {
        const std::string_view name = output.local_name;
        std::vector<std::byte> buffer(
            static_cast<std::size_t>(output.size_bytes));  // any memory of that size will do
        if (auto done = sf::fuse(*plan, name, buffer); !done) return report(done.error());
        std::printf("%s: %zu bytes\n", sf::printable(name).c_str(), buffer.size());
    }
    return 0;
}
