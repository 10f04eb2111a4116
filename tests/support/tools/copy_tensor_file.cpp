// For tests/interop: shows other programs what the writer does.
//   copy_tensor_file IN OUT        reads a tensor file and writes its tensors and metadata again
//   copy_tensor_file --split MAX   reads sizes, one per line, and prints for each the index of the
//                                  file that a tensor of that size goes to
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include <safefuse/safefuse.hpp>

namespace sf = safefuse;

namespace {

int report(const sf::failure& failure) {
    std::fprintf(stderr, "error: %s\n", failure.message().c_str());
    return 1;
}

int copy(const char* in, const char* out) {
    const auto file = sf::tensor_file::open(in);
    if (!file) return report(file.error());
    std::vector<sf::named_tensor> tensors;
    for (std::size_t i = 0; i < file->size(); ++i) {
        const auto view = file->view(i);
        if (!view) return report(view.error());
        tensors.push_back({(*file)[i].name, *view});
    }
    std::vector<sf::metadata_entry> metadata;
    for (std::size_t i = 0; i < file->header().metadata_size(); ++i)
        metadata.push_back(file->header().metadata(i));
    if (auto written = sf::write_tensor_file(out, tensors, metadata); !written)
        return report(written.error());
    return 0;
}

int split(const char* most) {
    std::vector<std::uint64_t> sizes;
    for (std::uint64_t size = 0; std::cin >> size;) sizes.push_back(size);
    std::vector<sf::tensor_spec> tensors;
    for (const std::uint64_t& size : sizes) tensors.push_back({"t", sf::dtype::u8, {&size, 1}});
    const auto shards = sf::split_into_shards(tensors, std::strtoull(most, nullptr, 10));
    if (!shards) return report(shards.error());
    for (const std::uint32_t shard : shards->shard_of)
        std::puts(sf::shard_name("model", std::uint64_t{shard} + 1, shards->shard_count).c_str());
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: copy_tensor_file IN OUT | copy_tensor_file --split MAX\n");
        return 2;
    }
    return std::string_view{argv[1]} == "--split" ? split(argv[2]) : copy(argv[1], argv[2]);
}
