// How do I load a whole model, with every tensor under its name in the model?
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include <safefuse/safefuse.hpp>

namespace sf = safefuse;

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
        std::printf(
            "usage: 07_models_tensors CHECKPOINT\n"
            "Lists every tensor of the model, says where it comes from, and loads all of them.\n");
        return 0;
    }
    if (argc != 2) {
        std::fprintf(stderr, "error: a checkpoint is needed; see --help\n");
        return 2;
    }
    const auto report = [](const sf::failure& failure) {
        std::fprintf(stderr, "error: %s\n", failure.message().c_str());
        return 1;
    };
    const auto checkpoint = sf::checkpoint::open(argv[1]);
    if (!checkpoint) return report(checkpoint.error());
    const auto family = sf::detect_family(*checkpoint);
    if (!family) return report(family.error());

    // This reads no tensor bytes. It gives the name, dtype and shape of every tensor.
    const auto model = sf::find_model(*checkpoint, **family);
    if (!model) return report(model.error());
    std::vector<std::byte> weights(static_cast<std::size_t>(model->total_bytes()));
    for (const sf::model_tensor& tensor : *model)
        std::printf("%s: %s\n", sf::printable(tensor.name).c_str(),
                    tensor.from.is_stored() ? "stored" : "made by a plan");

    // One block of memory for all tensors. It could also be the memory of a framework.
    std::size_t next = 0;
    const auto buffer_for = [&](const sf::model_tensor& tensor) {
        const auto size = static_cast<std::size_t>(tensor.size_bytes);
        next += size;
        return sf::span<std::byte>{weights}.subspan(next - size, size);
    };
    unsigned percent = 0;
    const auto watch = [&](const sf::run_progress& at) {
        percent = static_cast<unsigned>(100 * at.done_bytes / at.total_bytes);
        return true;  // false would cancel the run
    };
    if (auto done = sf::fuse(*model, buffer_for, watch); !done) return report(done.error());
    std::printf("%zu tensors, %zu bytes, %u %%\n", model->size(), weights.size(), percent);
    return 0;
}
