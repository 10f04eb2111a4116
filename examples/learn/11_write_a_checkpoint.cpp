// How do I write tensors as a checkpoint of several files, with its index?
#include <cstdio>
#include <cstring>
#include <span>
#include <vector>

#include <safefuse/write/checkpoint_writer.hpp>

namespace sf = safefuse;

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
        std::printf(
            "usage: 11_write_a_checkpoint DIRECTORY\n"
            "Writes three small tensors as a checkpoint of two files.\n");
        return 0;
    }
    if (argc != 2) {
        std::fprintf(stderr, "error: a directory is needed; see --help\n");
        return 2;
    }
    const auto report = [](const sf::failure& failure) {
        std::fprintf(stderr, "error: %s\n", failure.message().c_str());
        return 1;
    };

    const float values[6] = {1, 2, 3, 4, 5, 6};
    const std::uint64_t matrix[] = {2, 3}, row[] = {6};
    const sf::tensor_spec tensors[] = {{"embed.weight", sf::dtype::f32, matrix},
                                       {"norm.weight", sf::dtype::f32, row},
                                       {"head.weight", sf::dtype::f32, matrix}};

    // Names, types and shapes decide the files. The split is that of huggingface_hub. create()
    // refuses a directory that contains a checkpoint, and needs room for all of it.
    auto writer = sf::checkpoint_writer::create(argv[1], tensors, {.max_shard_bytes = 48});
    if (!writer) return report(writer.error());

    // Each file gets its name when it is complete and on the disk.
    for (std::uint32_t shard = 0; shard < writer->shard_count(); ++shard) {
        auto file = writer->open_shard(shard);
        if (!file) return report(file.error());
        for (std::size_t i = 0; i < writer->tensors_of(shard).size(); ++i)
            if (auto done = file->write(i, 0, std::as_bytes(std::span{values})); !done)
                return report(done.error());
        if (auto done = file->commit(); !done) return report(done.error());
        std::printf("%s\n", sf::printable(writer->shard_path(shard)).c_str());
    }

    // The index comes last: until it is there, nobody takes the files for a checkpoint.
    if (auto done = writer->finish(); !done) return report(done.error());
    return 0;
}
