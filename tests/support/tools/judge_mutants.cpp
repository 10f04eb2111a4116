// Makes tensor files with changed numbers (mutants.hpp) and judges them: judge_mutants FIRST COUNT.
// For each it prints, in binary and little-endian:
//   32 bits   the size of the file in bytes
//   the file
//   8 bits    the profiles that accept it: bit 0 strict, 1 default, 2 reference, 3 lenient
//   32 bits   the size of the table in bytes
//   the table as the reference profile reads it: for each tensor, in the order of the bytes, a line
//             of begin, end, dtype, extents with commas between, and the size of the name; then the
//             name, which may contain anything
// With --quiet it prints only how many were accepted. It checks every accepted file with
// oracle.hpp; if a check fails, it keeps the file and exits with status 1.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#endif

#include <safefuse/format/header.hpp>

#include "../mutants.hpp"
#include "../oracle.hpp"
#include "../support.hpp"

namespace sf = safefuse;

namespace {

constexpr sf::read_options profiles[] = {sf::read_options::strict(), sf::read_options{},
                                         sf::read_options::reference(),
                                         sf::read_options::lenient()};
constexpr std::string_view profile_names[] = {"strict", "default", "reference", "lenient"};

std::string number(std::size_t value) {
    std::string out;
    for (std::size_t i = 0; i < 4; ++i) out += static_cast<char>(value >> 8 * i & 255);
    return out;
}

std::string table_of(const sf::header& header) {
    std::string table;
    for (std::size_t i = 0; i < header.size(); ++i) {
        const sf::tensor_entry entry = header[i];
        table += std::to_string(entry.begin) + ' ' + std::to_string(entry.end) + ' ' +
                 std::string{sf::name(entry.type)} + ' ';
        for (std::size_t axis = 0; axis < entry.shape.size(); ++axis)
            table += (axis == 0 ? "" : ",") + std::to_string(entry.shape[axis]);
        table += ' ' + std::to_string(entry.name.size()) + '\n' + std::string{entry.name};
    }
    return table;
}

int keep(const std::string& file, std::uint64_t seed, std::string_view profile,
         std::string_view fault) {
    const std::string path = "mutant-" + std::to_string(seed) + ".safetensors";
    std::ofstream{path, std::ios::binary} << file;
    std::fprintf(stderr, "mutant %llu, accepted by the %.*s profile: %.*s; it is kept as %s\n",
                 static_cast<unsigned long long>(seed), static_cast<int>(profile.size()),
                 profile.data(), static_cast<int>(fault.size()), fault.data(), path.c_str());
    return 1;
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 3 || count > 4) {
        std::fputs("usage: judge_mutants FIRST COUNT [--quiet]\n", stderr);
        return 2;
    }
    const std::uint64_t first = std::strtoull(arguments[1], nullptr, 10),
                        wanted = std::strtoull(arguments[2], nullptr, 10);
    const bool is_quiet = count == 4;
#ifdef _WIN32
    _setmode(_fileno(stdout), _O_BINARY);
#endif
    std::uint64_t accepted[std::size(profiles)]{};
    for (std::uint64_t seed = first; seed < first + wanted; ++seed) {
        const std::string file = mutants::file_of(mutants::make(seed));
        unsigned verdicts = 0;
        std::string table;
        for (std::size_t p = 0; p < std::size(profiles); ++p) {
            const auto parsed =
                sf::header::parse(support::bytes_of(file), file.size(), profiles[p]);
            if (!parsed) continue;
            ++accepted[p];
            verdicts |= 1u << p;
            std::string_view fault = oracle::fault_of(*parsed, file.size(), profiles[p]);
            if (fault.empty()) fault = oracle::fault_of_views(file, profiles[p]);
            if (!fault.empty()) return keep(file, seed, profile_names[p], fault);
            if (p == 2) table = table_of(*parsed);
        }
        if (is_quiet) continue;
        const std::string record =
            number(file.size()) + file + static_cast<char>(verdicts) + number(table.size()) + table;
        if (std::fwrite(record.data(), 1, record.size(), stdout) != record.size()) return 2;
    }
    if (is_quiet)
        for (std::size_t p = 0; p < std::size(profiles); ++p)
            std::printf("%.*s: %llu of %llu accepted\n", static_cast<int>(profile_names[p].size()),
                        profile_names[p].data(), static_cast<unsigned long long>(accepted[p]),
                        static_cast<unsigned long long>(wanted));
    return 0;
}
