// How long it takes from the bytes of a header to a checked table whose names can be found, in ns per tensor.
//   header FILE...        median, best and worst of many parses of each file
//   header --once FILE    one parse and nothing else, so that an instruction counter can watch it
#include <safefuse/header.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <vector>

namespace sf = safefuse;

namespace {

struct loaded {
    std::vector<std::byte> bytes;
    std::uint64_t file_bytes = 0;
};

bool load(const char* path, loaded& out) {
    std::ifstream file{path, std::ios::binary};
    out.bytes.resize(8);
    if (!file.read(reinterpret_cast<char*>(out.bytes.data()), 8)) return false;
    const auto needed = sf::header::bytes_needed(out.bytes);
    if (!needed) return false;
    out.bytes.resize(static_cast<std::size_t>(*needed));
    out.file_bytes = std::filesystem::file_size(path);
    return static_cast<bool>(file.read(reinterpret_cast<char*>(out.bytes.data()) + 8, static_cast<std::streamsize>(*needed - 8)));
}

}  // namespace

int main(int count, char** arguments) {
    const bool once = count > 1 && std::string_view{arguments[1]} == "--once";
    for (int i = once ? 2 : 1; i < count; ++i) {
        loaded file;
        if (!load(arguments[i], file)) {
            std::fprintf(stderr, "cannot read the header of %s\n", arguments[i]);
            return 1;
        }
        std::vector<double> times;
        std::size_t tensors = 0;
        const auto start = std::chrono::steady_clock::now();
        do {
            const auto before = std::chrono::steady_clock::now();
            const auto parsed = sf::header::parse(file.bytes, file.file_bytes);
            const auto after = std::chrono::steady_clock::now();
            if (!parsed) {
                std::fprintf(stderr, "%s: %s\n", arguments[i], parsed.error().message().c_str());
                return 1;
            }
            tensors = parsed->size();
            times.push_back(std::chrono::duration<double, std::nano>(after - before).count() /
                            static_cast<double>(tensors == 0 ? 1 : tensors));
        } while (!once && (times.size() < 15 || std::chrono::steady_clock::now() - start < std::chrono::seconds{1}));
        std::sort(times.begin(), times.end());
        const double median = times[times.size() / 2];
        const double total = median * static_cast<double>(tensors == 0 ? 1 : tensors);
        std::printf("%-40s %7zu tensors  median %6.1f ns per tensor (%.1f to %.1f in %zu parses), %5.0f MB/s\n", arguments[i], tensors,
                    median, times.front(), times.back(), times.size(), static_cast<double>(file.bytes.size()) * 1e3 / total);
    }
}
