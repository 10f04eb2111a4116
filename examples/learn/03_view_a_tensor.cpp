// How do I get at the values of one tensor without copying them?
#include <cstdio>
#include <cstring>
#include <span>
#include <vector>

#include <safefuse/read.hpp>
#include <safefuse/run/convert.hpp>

namespace sf = safefuse;

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
        std::printf(
            "usage: 03_view_a_tensor CHECKPOINT NAME\n"
            "Prints the first values of a tensor of BF16, F16, F32 or F64.\n");
        return 0;
    }
    if (argc != 3) {
        std::fprintf(stderr, "error: a checkpoint and a name are needed; see --help\n");
        return 2;
    }
    const auto report = [](const sf::failure& failure) {
        std::fprintf(stderr, "error: %s\n", failure.message().c_str());
        return 1;
    };

    const auto checkpoint = sf::checkpoint::open(argv[1]);
    if (!checkpoint) return report(checkpoint.error());

    // The view points into the mapped file. It is valid as long as the checkpoint is.
    const auto tensor = checkpoint->find(argv[2]);
    if (!tensor) return report(tensor.error());
    std::printf("%s, %zu axes, %zu bytes\n", sf::text{sf::name(tensor->type())}.c_str(),
                tensor->rank(), tensor->size_bytes());

    // as<float>() gives a span of the same bytes if they are F32 and aligned. Otherwise it is a
    // failure, and convert() makes a copy in the wanted type.
    if (const auto floats = tensor->as<float>()) {
        for (std::size_t i = 0; i < floats->size() && i < 4; ++i)
            std::printf("%g\n", static_cast<double>((*floats)[i]));
        return 0;
    }
    std::vector<float> values(static_cast<std::size_t>(tensor->element_count()));
    const auto bytes = std::as_writable_bytes(std::span{values});
    if (const auto done = sf::convert(*tensor, sf::dtype::f32, bytes); !done)
        return report(done.error());
    for (std::size_t i = 0; i < values.size() && i < 4; ++i)
        std::printf("%g\n", static_cast<double>(values[i]));
    return 0;
}
