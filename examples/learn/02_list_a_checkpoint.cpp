// Which files and tensors does a checkpoint have, and which family of models is it of?
#include <cstdio>
#include <cstring>

#include <safefuse/models.hpp>
#include <safefuse/plan.hpp>
#include <safefuse/read.hpp>

namespace sf = safefuse;

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
        std::printf(
            "usage: 02_list_a_checkpoint CHECKPOINT\n"
            "Lists the files of a checkpoint and the modules that contain its experts.\n");
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

    // A directory, a model.safetensors.index.json or one .safetensors file. Every header is checked
    // against the index.
    const auto checkpoint = sf::checkpoint::open(argv[1]);
    if (!checkpoint) return report(checkpoint.error());
    for (std::size_t i = 0; i < checkpoint->file_count(); ++i)
        std::printf("file    %s: %zu tensors\n", sf::printable(checkpoint->file(i).path()).c_str(),
                    checkpoint->file(i).size());

    // The names of the tensors tell the family: how the experts are stored, and what the model
    // wants. A config.json, if there is one, tells it too: find_family(model_type).
    const auto family = sf::detect_family(*checkpoint);
    if (!family) return report(family.error());
    std::printf("family  %s\n", sf::text{(*family)->name}.c_str());

    // Each scope is one module that the family fuses: the experts of one layer.
    const auto scopes = sf::experts_scopes::find(*checkpoint, **family);
    if (!scopes) return report(scopes.error());
    for (std::size_t i = 0; i < scopes->size(); ++i)
        std::printf("scope   %s: %zu tensors\n", sf::printable((*scopes)[i].name).c_str(),
                    (*scopes)[i].tensors.size());
    return 0;
}
