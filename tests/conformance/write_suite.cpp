// Writes the conformance suite for other projects, or judges files with this library.
//   write_conformance_suite DIRECTORY [--large]
//       Writes the cases as files, and their expected verdicts as verdicts.json, verdicts.tsv,
//       indexes.json and indexes.tsv. Without --large, large cases are only described.
//   write_conformance_suite --judge FILE
//       FILE contains files, each as its size (a 64-bit little-endian number) and its bytes.
//       Prints one line of JSON for each.
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <safefuse/read/checkpoint.hpp>

#include "../support/support.hpp"
#include "suite.hpp"

namespace sf = safefuse;
namespace fs = std::filesystem;
using conformance::header_case;
using conformance::index_case;
using conformance::profile;
using support::json_string;

namespace {

std::string in_hex(std::string_view bytes) {
    std::string out;
    for (const char c : bytes) {
        char digits[3];
        std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(c));
        out += digits;
    }
    return out;
}

/// "tensors" in the order of their bytes, and "metadata" in the file's order.
std::string table(const sf::header& header) {
    std::string out = "\"tensors\": [";
    for (std::size_t i = 0; i < header.size(); ++i) {
        const sf::tensor_entry entry = header[i];
        std::string shape;
        for (const std::uint64_t extent : entry.shape)
            shape += (shape.empty() ? "" : ", ") + std::to_string(extent);
        out += (i == 0 ? "" : ", ") + ("[" + json_string(entry.name)) + ", " +
               json_string(sf::name(entry.type)) + ", [" + shape + "], " +
               std::to_string(entry.begin) + ", " + std::to_string(entry.end) + "]";
    }
    out += "], \"metadata\": ";
    if (!header.has_metadata()) return out + "null";
    for (std::size_t i = 0; i < header.metadata_size(); ++i)
        out += (i == 0 ? "{" : ", ") + json_string(header.metadata(i).key) + ": " +
               json_string(header.metadata(i).value);
    return out + (header.metadata_size() == 0 ? "{}" : "}");
}

bool write(const fs::path& path, std::string_view contents) {
    fs::create_directories(path.parent_path());
    std::ofstream file{path, std::ios::binary};
    file.write(contents.data(), static_cast<std::streamsize>(contents.size()));
    file.close();
    if (!file) std::fprintf(stderr, "cannot write %s\n", path.string().c_str());
    return static_cast<bool>(file);
}

/// Writes the file of a large case. The zeros after its header become a hole if the file system
/// supports that.
bool write_large(const fs::path& path, const header_case& each) {
    if (!write(path, each.head + std::string(static_cast<std::size_t>(each.spaces), ' ')))
        return false;
    std::error_code failed;
    fs::resize_file(path, each.file_bytes(), failed);
    if (failed) std::fprintf(stderr, "cannot write %s\n", path.string().c_str());
    return !failed;
}

/// The content of a case in the first profile that accepts it, as this library reads it.
std::string accepted_table(const header_case& each) {
    const std::string start = each.head + std::string(static_cast<std::size_t>(each.spaces), ' ');
    for (const profile which : {profile::standard, profile::reference, profile::lenient}) {
        if (each.refusal(which)) continue;
        const auto parsed = sf::header::parse(std::as_bytes(std::span{start.data(), start.size()}),
                                              each.file_bytes(), conformance::options(which));
        if (parsed) return ", " + table(*parsed);
    }
    return {};
}

int write_suite(const fs::path& directory, bool large) {
    std::string json =
        "{\n  \"profiles\": {\n"
        "    \"strict\": \"exactly the format's description: { comes first, only spaces after the "
        "object, no repeated key, no unknown field\",\n"
        "    \"default\": \"as reference, except that a tensor's name must not be repeated, and "
        "that what the reference accepts only because of how its JSON library reads structures is "
        "refused\",\n"
        "    \"reference\": \"safetensors 0.8\",\n"
        "    \"lenient\": \"as default, but bytes that belong to no tensor are accepted, between "
        "the tensors and after them\"\n"
        "  },\n  \"cases\": [";
    std::string lines = "case\ttopic\tstrict\tdefault\treference\tlenient\treason\n";
    const char* comma = "";
    for (const header_case& each : conformance::header_cases()) {
        const std::string file = "cases/" + each.name + ".safetensors";
        const bool is_written = !each.is_large() || large;
        if (is_written && !(each.is_large() ? write_large(directory / file, each)
                                            : write(directory / file, each.head)))
            return 1;
        json += comma + ("\n    {\"case\": " + json_string(each.name)) +
                ", \"topic\": " + json_string(each.topic);
        if (is_written) json += ", \"file\": " + json_string(file);
        json += ", \"file_bytes\": " + std::to_string(each.file_bytes());
        if (each.is_large())
            json += ", \"made_of\": {\"hex\": \"" + in_hex(each.head) +
                    "\", \"spaces\": " + std::to_string(each.spaces) +
                    ", \"zeros\": " + std::to_string(each.zeros) + "}";
        lines += each.name + '\t' + each.topic;
        for (const profile which : conformance::profiles) {
            const std::string verdict{conformance::name(each.refusal(which))};
            json += ", " + json_string(conformance::name(which)) + ": " + json_string(verdict);
            lines += '\t' + verdict;
        }
        lines += '\t' + each.reason + '\n';
        json += ", \"reason\": " + json_string(each.reason) + accepted_table(each) + "}";
        comma = ",";
    }
    if (!write(directory / "verdicts.json", json + "\n  ]\n}\n") ||
        !write(directory / "verdicts.tsv", lines))
        return 1;

    json = "{\n  \"cases\": [";
    lines = "case\tverdict\treason\n";
    comma = "";
    for (const index_case& each : conformance::index_cases()) {
        const fs::path place = directory / "indexes" / each.name;
        fs::create_directories(place / "checkpoint");
        for (const auto& [file, contents] : each.files)
            if (!write(place / file, contents)) return 1;
        const std::string verdict{conformance::name(each.refusal)};
        json += comma + ("\n    {\"case\": " + json_string(each.name)) +
                ", \"directory\": " + json_string("indexes/" + each.name + "/checkpoint") +
                ", \"verdict\": " + json_string(verdict) +
                ", \"reason\": " + json_string(each.reason);
        if (!each.refusal) {
            json += ", \"tensors\": {";
            const char* inner = "";
            for (const auto& [tensor, file] : each.tensors)
                json += inner + json_string(tensor) + ": " + json_string(file), inner = ", ";
            json += "}";
        }
        json += "}";
        lines += each.name + '\t' + verdict + '\t' + each.reason + '\n';
        comma = ",";
    }
    return write(directory / "indexes.json", json + "\n  ]\n}\n") &&
                   write(directory / "indexes.tsv", lines)
               ? 0
               : 1;
}

/// The reference's deviations that a file needs: without any one of them it is refused.
std::string needed_tolerances(std::span<const std::byte> file) {
    const auto without = [&](bool sf::read_options::* tolerance) {
        sf::read_options options = sf::read_options::reference();
        options.*tolerance = false;
        return sf::header::parse(file, file.size(), options).has_value();
    };
    std::string out;
    const auto need = [&](const char* label, bool sf::read_options::* tolerance) {
        if (!without(tolerance)) out += (out.empty() ? "\"" : ", \"") + std::string{label} + '"';
    };
    need("last_duplicate_wins", &sf::read_options::last_duplicate_wins);
    need("array_entries", &sf::read_options::array_entries);
    need("object_dtypes", &sf::read_options::object_dtypes);
    return out;
}

int judge(const char* path) {
    std::ifstream stream{path, std::ios::binary};
    const std::vector<char> all{std::istreambuf_iterator<char>{stream}, {}};
    for (std::size_t at = 0; at < all.size();) {
        std::uint64_t size = 0;
        for (std::size_t i = 0; i < 8 && at + i < all.size(); ++i)
            size |= std::uint64_t{static_cast<unsigned char>(all[at + i])} << 8 * i;
        if (all.size() - at < 8 || size > all.size() - at - 8) {
            std::fprintf(stderr, "%s ends inside a file\n", path);
            return 1;
        }
        const auto file =
            std::as_bytes(std::span{all.data() + at + 8, static_cast<std::size_t>(size)});
        at += 8 + static_cast<std::size_t>(size);
        std::string line = "{";
        std::optional<std::string> found;
        bool is_first = true;
        for (const profile which : conformance::profiles) {
            const auto parsed = sf::header::parse(file, file.size(), conformance::options(which));
            line += (is_first ? "" : ", ") + json_string(conformance::name(which)) + ": " +
                    json_string(parsed ? "accept" : conformance::name(parsed.error().code));
            is_first = false;
            if (which == profile::reference && parsed)
                found = ", \"needs\": [" + needed_tolerances(file) + "], " + table(*parsed);
        }
        std::printf("%s%s}\n", line.c_str(), found.value_or("").c_str());
    }
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    if (count == 3 && std::string_view{arguments[1]} == "--judge") return judge(arguments[2]);
    const bool large = count == 3 && std::string_view{arguments[2]} == "--large";
    if (count < 2 || (count == 3 && !large) || count > 3 || arguments[1][0] == '-') {
        std::fprintf(stderr,
                     "usage: write_conformance_suite DIRECTORY [--large]\n"
                     "       write_conformance_suite --judge FILE\n");
        return 2;
    }
    return write_suite(arguments[1], large);
}
