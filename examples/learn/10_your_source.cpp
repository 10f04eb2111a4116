// How do I read a checkpoint from a server or an archive?
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <safefuse/safefuse.hpp>

namespace sf = safefuse;

// A byte source of your own. A real one would request a range from a server; this one reads a file.
struct object_source {
    std::string url;
    std::uint64_t bytes_there = 0;

    explicit object_source(std::string of) : url{std::move(of)} {
        std::ifstream object{url, std::ios::binary | std::ios::ate};
        if (object) bytes_there = static_cast<std::uint64_t>(object.tellg());
    }
    std::uint64_t size_bytes() const noexcept { return bytes_there; }
    sf::span<const std::byte> bytes() const noexcept { return {}; }  // not in memory: use read()
    sf::result<void> read(std::uint64_t offset, sf::span<std::byte> out) const noexcept {
        std::ifstream object{url, std::ios::binary};
        object.seekg(static_cast<std::streamoff>(offset));
        object.read(reinterpret_cast<char*>(out.data()), static_cast<std::streamsize>(out.size()));
        if (!object) return sf::failure{.code = sf::errc::io_error, .file = url.c_str()};
        return {};
    }
    void advise(std::uint64_t, std::uint64_t, sf::advice) const noexcept {}  // a hint: read ahead
};

int main(int argc, char** argv) {
    const auto report = [](const sf::failure& failure) {
        std::fprintf(stderr, "error: %s\n", failure.message().c_str());
        return 1;
    };
    if (argc != 2 || std::strcmp(argv[1], "--help") == 0) {
        std::printf("usage: 10_your_source URL\nLists the tensors of a sharded checkpoint.\n");
        return 0;
    }
    const std::string url = std::string{argv[1]} + "/";
    const object_source list{url + "model.safetensors.index.json"};
    std::vector<std::byte> json(static_cast<std::size_t>(list.size_bytes()));
    if (const auto done = list.read(0, json); !done) return report(done.error());
    const auto index = sf::shard_index::parse(json);
    if (!index) return report(index.error());

    std::vector<sf::basic_tensor_file<object_source>> files;  // only headers are read
    for (std::size_t i = 0; i < index->file_count(); ++i) {
        const std::string name = url + std::string{index->file(i)};
        auto file = sf::basic_tensor_file<object_source>::from(object_source{name}, name);
        if (!file) return report(file.error());
        files.push_back(*std::move(file));
    }
    const auto checkpoint = sf::basic_checkpoint<object_source>::from(*index, std::move(files));
    if (!checkpoint) return report(checkpoint.error());  // plan and fuse accept it, too
    for (std::size_t i = 0; i < checkpoint->size(); ++i)
        std::printf("%s\n", sf::printable(checkpoint->spec(i).name).c_str());
}
