// How do I load the experts of every layer, one layer at a time, for a model of any family?
#include <cstdio>
#include <cstring>
#include <vector>

#include <safefuse/safefuse.hpp>

namespace sf = safefuse;

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
        std::printf(
            "usage: 06_every_layer CHECKPOINT [FAMILY]\n"
            "Fuses the experts of every layer into memory. Without FAMILY, the names of the\n"
            "tensors tell the family.\n");
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

    // Open, detect, find: three calls. If one fails, its failure says what is wrong.
    const auto checkpoint = sf::checkpoint::open(argv[1]);
    if (!checkpoint) return report(checkpoint.error());
    const sf::family_description* family = argc == 3 ? sf::find_family(argv[2]) : nullptr;
    if (argc == 3 && family == nullptr)
        return report({.code = sf::errc::unknown_family, .detail = sf::family_names()});
    if (family == nullptr) {
        const auto told = sf::detect_family(*checkpoint);
        if (!told) return report(told.error());
        family = *told;
    }
    const auto scopes = sf::find_scopes(*checkpoint, *family);
    if (!scopes) return report(scopes.error());

    // The buffers of one layer. Every layer uses them again.
    std::vector<std::vector<std::byte>> buffers;
    std::size_t used = 0;
    const auto buffer_for = [&](const sf::plan_output& output) -> std::vector<std::byte>& {
        if (used == buffers.size()) buffers.emplace_back();
        buffers[used].resize(static_cast<std::size_t>(output.size_bytes));
        std::printf("  %s, %zu bytes\n", sf::printable(output.name).c_str(), buffers[used].size());
        return buffers[used++];
    };
    for (const sf::experts_scope& scope : *scopes) {
        std::printf("%s\n", sf::printable(scope.name).c_str());
        used = 0;
        if (auto done = sf::fuse(*checkpoint, scope, *family, sf::direction::forward, buffer_for);
            !done)
            return report(done.error());
        // Here the layer is complete: its tensors are in buffers[0] to buffers[used - 1].
    }
    return 0;
}
