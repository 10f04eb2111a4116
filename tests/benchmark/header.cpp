// How long does it take from the bytes of a header to a checked table with a name index?
//
//     benchmark_header [options of measure.hpp]  compares with JSON libraries and Python's
//                                                safetensors; also the cost of hostile headers
//     benchmark_header --files FILE...           the headers of these files
//     benchmark_header --once FILE               one parse, for instruction counters
//     benchmark_header --make FILE [LAYERS] [EXPERTS]
//                                                a sparse file with Kimi-K2's tensors
#include <safefuse/format/header.hpp>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "heap.hpp"
#include "json_peers.hpp"
#include "measure.hpp"
#include "synthetic.hpp"

namespace sf = safefuse;

namespace {

struct loaded {
    std::vector<std::byte> bytes;
    std::uint64_t file_bytes = 0;
};

bool load(const std::string& path, loaded& out) {
    std::ifstream file{path, std::ios::binary};
    out.bytes.resize(8);
    if (!file.read(reinterpret_cast<char*>(out.bytes.data()), 8)) return false;
    const auto needed = sf::header::bytes_needed(out.bytes);
    if (!needed) return false;
    out.bytes.resize(static_cast<std::size_t>(*needed));
    out.file_bytes = std::filesystem::file_size(path);
    return static_cast<bool>(file.read(reinterpret_cast<char*>(out.bytes.data()) + 8,
                                       static_cast<std::streamsize>(*needed - 8)));
}

/// Parses often enough to measure. Returns the seconds of one parse.
double seconds_of_parse(std::span<const std::byte> bytes, std::uint64_t file_bytes) {
    const std::size_t times = 1 + 4'000'000 / bytes.size();
    return measure::seconds_of([&] {
               for (std::size_t i = 0; i < times; ++i)
                   measure::keep(sf::header::parse(bytes, file_bytes));
           }) /
           static_cast<double>(times);
}

/// JSON after its length.
std::vector<std::byte> framed(const std::string& json) {
    std::vector<std::byte> out(8 + json.size());
    const std::uint64_t size = json.size();
    for (std::size_t i = 0; i < 8; ++i) out[i] = static_cast<std::byte>(size >> 8 * i);
    std::memcpy(out.data() + 8, json.data(), json.size());
    return out;
}

std::string repeated(std::string_view what, std::size_t count) {
    std::string out;
    for (std::size_t i = 0; i < count; ++i) out += what;
    return out;
}

/// A header with entries text(i), up to a number of bytes.
template <class Text>
std::string entries(std::size_t bytes, Text&& text) {
    std::string json{"{"};
    for (std::size_t i = 0; json.size() < bytes; ++i) json += (i == 0 ? "" : ",") + text(i);
    return json + "}";
}
std::string entry(const std::string& name, std::uint64_t begin, std::uint64_t end,
                  const char* space = "") {
    const std::string s{space};
    return '"' + name + "\":" + s + "{" + s + "\"dtype\":" + s + "\"U8\"," + s + "\"shape\":" + s +
           "[" + std::to_string(end - begin) + "]," + s + "\"data_offsets\":" + s + "[" +
           std::to_string(begin) + "," + s + std::to_string(end) + "]}";
}

void measure_headers(measure::program& program) {
    measure::python_peer python{program};
    struct model {
        std::uint64_t layers, experts;
    };
    for (const model& each : program.is_small()
                                 ? std::vector<model>{{35, 2}, {8, 445}}
                                 : std::vector<model>{{35, 2}, {8, 445}, {61, 384}}) {
        const auto tensors = synthetic::kimi_k2(each.layers, each.experts, 1);
        const auto encoded = synthetic::encode(tensors);
        if (!encoded) return program.fail(encoded.error().message().c_str());
        const std::string json{reinterpret_cast<const char*>(encoded->bytes.data()) + 8,
                               encoded->bytes.size() - 8};
        const std::span<const std::byte> bytes = encoded->bytes.view();
        const std::string path = (program.work() / "header.safetensors").string();
        measure::race race{program, std::to_string(tensors.size()) + " tensors, " +
                                        std::to_string(json.size() / 1000) + " kB"};
        race.add("safefuse",
                 [&]() -> double { return seconds_of_parse(bytes, encoded->file_bytes); });
        std::vector<char> copy(json.size());
        race.add("memcpy of the header", [&] {
            std::memcpy(copy.data(), json.data(), json.size());
            measure::keep(copy);
        });
        json_peers::enter(program, race, json);
        if (!program.python().empty() &&
            !synthetic::write_file(path, encoded->bytes, encoded->file_bytes))
            return program.fail("cannot write " + path);
        python.enter(program, race, "Python's safetensors: safe_open", {"header", path});
        race.run().report(measure::nanoseconds_per("tensor", static_cast<double>(tensors.size())));
        if (heap::is_watched) {
            const auto demand =
                heap::of([&] { measure::keep(sf::header::parse(bytes, encoded->file_bytes)); });
            std::printf("  %zu allocations, %.2f times the header's bytes\n", demand.calls,
                        static_cast<double>(demand.peak_bytes) / static_cast<double>(json.size()));
            program.record("safefuse", std::to_string(tensors.size()) + " tensors",
                           static_cast<double>(demand.calls), "allocations");
        }
    }
}

void measure_hostile(measure::program& program) {
    const std::size_t size = program.is_small() ? 1'000'000 : 10'000'000;
    const std::string tail = R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
    const std::size_t count = size / 60;
    const std::pair<const char*, std::string> cases[] = {
        {"plain", entries(size,
                          [](std::size_t i) {
                              return entry("model.layers.1.mlp.experts." + std::to_string(i), i,
                                           i + 1);
                          })},
        {"spaces everywhere",
         entries(size,
                 [](std::size_t i) {
                     return entry("model.layers.1.mlp.experts." + std::to_string(i), i, i + 1, " ");
                 })},
        {"names of one character or two",
         entries(size, [](std::size_t i) { return entry(std::to_string(i), i, i + 1); })},
        {"names with escapes", entries(size,
                                       [](std::size_t i) {
                                           return entry("\\u006d\\u006f" + std::to_string(i), i,
                                                        i + 1);
                                       })},
        {"the last first", entries(size,
                                   [&](std::size_t i) {
                                       return entry(std::to_string(i), 2 * count - i,
                                                    2 * count - i + 1);
                                   })},
        {"all in one place",
         entries(size, [](std::size_t i) { return entry(std::to_string(i), 0, 1); })},
        {"all of one name", entries(size, [](std::size_t) { return entry("same", 0, 4); })},
        {"one name, all of it", "{\"" + std::string(size, 'n') + tail},
        {"one name, all escapes", "{\"" + repeated("\\u006e", size / 6) + tail},
        {"a shape of ones", R"({"a":{"dtype":"U8","shape":[1)" + repeated(",1", size / 2) +
                                R"(],"data_offsets":[0,1]}})"},
        {"metadata of one key",
         R"({"__metadata__":{"k":"v")" + repeated(R"(,"k":"w")", size / 8) + "}}"},
        {"metadata of many keys",
         R"({"__metadata__":)" +
             entries(size, [](std::size_t i) { return "\"" + std::to_string(i) + R"(":"")"; }) +
             "}"},
        {"unknown fields", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1])" +
                               repeated(R"(,"x":[{"y":1e5},null])", size / 22) + "}}"},
        {"spaces behind it", "{}" + std::string(size, ' ')},
        {"brackets", R"({"a":{"x":)" + std::string(size, '[')},
    };
    measure::race race{program, "hostile headers of " + std::to_string(size / 1'000'000) + " MB"};
    std::vector<std::vector<std::byte>> files;
    for (const auto& [name, json] : cases) files.push_back(framed(json));
    for (std::size_t i = 0; i < files.size(); ++i)
        race.add(std::string{"safefuse, "} + cases[i].first, [&bytes = files[i]]() -> double {
            return measure::seconds_of(
                       [&] { measure::keep(sf::header::parse(bytes, sf::unknown)); }) *
                   1e6 / static_cast<double>(bytes.size());
        });
    race.run().report({"ns per byte", 1e3, false}, "safefuse, plain");
}

}  // namespace

int main(int argc, char** argv) {
    measure::program program{"header", argc, argv};
    const auto& arguments = program.arguments;
    const std::string what = arguments.empty() ? "" : arguments[0];
    if (what == "--make" && arguments.size() > 1) {
        const auto encoded =
            synthetic::encode(synthetic::kimi_k2(program.number(2, 61), program.number(3, 384), 1));
        return encoded && synthetic::write_file(arguments[1], encoded->bytes, encoded->file_bytes)
                   ? 0
                   : 1;
    }
    if (what == "--once" || what == "--files") {
        for (std::size_t i = 1; i < arguments.size(); ++i) {
            loaded file;
            if (!load(arguments[i], file)) {
                program.fail("cannot read the header of " + arguments[i]);
                continue;
            }
            const auto parsed = sf::header::parse(file.bytes, file.file_bytes);
            if (!parsed) program.fail(arguments[i] + ": " + parsed.error().message().c_str());
            if (!parsed || what == "--once") continue;
            measure::race race{program,
                               arguments[i] + ", " + std::to_string(parsed->size()) + " tensors"};
            race.add("safefuse",
                     [&]() -> double { return seconds_of_parse(file.bytes, file.file_bytes); });
            race.run().report(
                measure::nanoseconds_per("tensor", static_cast<double>(parsed->size())));
        }
        return program.finish();
    }
    measure_headers(program);
    measure_hostile(program);
    return program.finish();
}
