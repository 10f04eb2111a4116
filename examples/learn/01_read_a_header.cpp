// What is in a tensor file?
#include <cstdio>
#include <cstring>

#include <safefuse/read.hpp>

namespace sf = safefuse;

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
        std::printf("usage: 01_read_a_header FILE\nPrints the header of a .safetensors file.\n");
        return 0;
    }
    if (argc != 2) {
        std::fprintf(stderr, "error: one .safetensors file is needed; see --help\n");
        return 2;
    }

    // The header says what is in the file. open() reads and checks it. It reads no bytes of a
    // tensor.
    const auto file = sf::tensor_file::open(argv[1]);
    if (!file) {
        std::fprintf(stderr, "error: %s\n", file.error().message().c_str());
        return 1;
    }

    const sf::header& header = file->header();
    for (std::size_t i = 0; i < header.metadata_size(); ++i) {
        const sf::metadata_entry entry = header.metadata(i);
        std::printf("metadata  %s: %s\n", sf::printable(entry.key).c_str(),
                    sf::printable(entry.value).c_str());
    }

    // The tensors are in the order of their bytes. A name can contain any character, so printable()
    // escapes what a terminal would take for a command.
    for (std::size_t i = 0; i < file->size(); ++i) {
        const sf::tensor_entry tensor = (*file)[i];
        std::printf("tensor    %s: %s [", sf::printable(tensor.name).c_str(),
                    sf::text{sf::name(tensor.type)}.c_str());
        for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis)
            std::printf("%s%llu", axis == 0 ? "" : ", ",
                        static_cast<unsigned long long>(tensor.shape[axis]));
        std::printf("], %llu bytes at %llu\n", static_cast<unsigned long long>(tensor.size_bytes()),
                    static_cast<unsigned long long>(file->offset_bytes(i)));
    }
    return 0;
}
