// How long does it take until a large checkpoint is open and checked against its index, until a
// tensor is found by name, until its experts are enumerated, and until its family is detected by
// names?
//
//     benchmark_open [--inspect PROGRAM] [options of measure.hpp]   also times that program
//     benchmark_open --once WHAT DIRECTORY   open, verify, scopes or detect, once, for instruction
//                                            counters
//     benchmark_open --make DIRECTORY [LAYERS] [EXPERTS] [SHARDS] [narrow]
//                                            only makes the sparse checkpoint
#include <safefuse/read/checkpoint.hpp>

#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <safefuse/detect/detect.hpp>
#include <safefuse/plan/plan_form.hpp>
#include <safefuse/plan/scopes.hpp>

#include "heap.hpp"
#include "measure.hpp"
#include "synthetic.hpp"

namespace sf = safefuse;

namespace {

int failed(const sf::failure& why) {
    std::fprintf(stderr, "error: %s\n", why.message().c_str());
    return 1;
}

int once(const std::string& what, const std::string& directory) {
    if (what == "verify") {
        const auto report = sf::checkpoint::verify(directory);
        return report ? static_cast<int>(report->failures().size()) : failed(report.error());
    }
    const auto opened = sf::checkpoint::open(directory);
    if (!opened) return failed(opened.error());
    if (what == "scopes") {
        const auto scopes =
            sf::experts_scopes::find(*opened, sf::description_of<sf::families::qwen2_moe>);
        return scopes ? 0 : failed(scopes.error());
    }
    if (what == "detect") {
        const auto family = sf::detect_family(*opened);
        return family ? 0 : failed(family.error());
    }
    return 0;
}

/// Plans of all layers: each planned, and each bound to the form of the first.
void plan_layers(measure::program& program, const sf::checkpoint& opened, const std::string& size) {
    const sf::family_description& family = sf::description_of<sf::families::qwen2_moe>;
    const auto scopes = sf::experts_scopes::find(opened, family);
    if (!scopes || scopes->size() == 0) return program.fail("no experts");
    const auto first = sf::plan(opened, (*scopes)[0], family, sf::direction::forward);
    if (!first) return program.fail(first.error().message().c_str());
    const auto form = sf::plan_form::of(*first);
    if (!form) return program.fail(form.error().message().c_str());
    measure::race race{program, "plans of all layers, scopes known, " + size};
    const auto enter = [&](const char* name, const auto& plan_one) {
        race.add(name, [&program, &scopes, plan_one] {
            for (const sf::experts_scope& scope : *scopes)
                if (const sf::result<sf::copy_plan> plan = plan_one(scope); !plan)
                    program.fail(plan.error().message().c_str());
        });
    };
    enter("safefuse, planned one by one", [&](const sf::experts_scope& scope) {
        return sf::plan(opened, scope, family, sf::direction::forward);
    });
    enter("safefuse, the first one bound again (plan_form)",
          [&](const sf::experts_scope& scope) { return form->bind(opened, scope); });
    race.run().report(measure::milliseconds());
}

/// The index and all headers, as bytes: what any reader must look at.
std::uint64_t read_headers(const std::filesystem::path& directory, std::vector<char>& buffer) {
    std::uint64_t total = 0;
    for (const auto& each : std::filesystem::directory_iterator{directory}) {
        std::ifstream file{each.path(), std::ios::binary};
        std::uint64_t size = each.file_size();
        if (each.path().extension() == ".safetensors") {
            char length[8];
            file.read(length, 8);
            std::memcpy(&size, length, 8);
        }
        if (buffer.size() < size) buffer.resize(size);
        file.read(buffer.data(), static_cast<std::streamsize>(size));
        total += size;
    }
    return total;
}

}  // namespace

int main(int argc, char** argv) {
    measure::program program{"open", argc, argv};
    const auto& arguments = program.arguments;
    if (arguments.size() == 3 && arguments[0] == "--once") return once(arguments[1], arguments[2]);
    if (arguments.size() >= 2 && arguments[0] == "--make") {
        const std::uint64_t layers = program.number(2, 61);
        const auto made = synthetic::write_checkpoint(
            arguments[1], synthetic::kimi_k2(layers, program.number(3, 384),
                                             static_cast<std::uint32_t>(program.number(4, layers)),
                                             arguments.size() > 5));
        std::printf("%zu tensors, headers %.1f MB, index %.1f MB\n", made.tensors,
                    static_cast<double>(made.header_bytes) / 1e6,
                    static_cast<double>(made.index_bytes) / 1e6);
        return made.good ? 0 : 1;
    }

    const std::filesystem::path directory = program.work() / "checkpoint";
    const std::uint32_t layers = program.is_small() ? 7 : 61;
    const auto made =
        synthetic::write_checkpoint(directory, synthetic::kimi_k2(layers, 384, layers));
    if (!made.good) {
        program.fail("cannot write a sparse checkpoint into " + directory.string());
        return program.finish();
    }
    const std::string path = directory.string(), size = std::to_string(made.tensors) +
                                                        " tensors in " + std::to_string(layers) +
                                                        " shards";
    const double tensors = static_cast<double>(made.tensors);

    measure::python_peer python{program};
    {
        measure::race race{program, "open, " + size};
        std::vector<char> buffer;
        race.add("read index and headers, nothing more",
                 [&] { measure::keep(read_headers(directory, buffer)); });
        race.add("safefuse, mapped", [&] { measure::keep(sf::checkpoint::open(path)); });
        race.add("safefuse, positional",
                 [&] { measure::keep(sf::positional_checkpoint::open(path)); });
        race.add("safefuse, verify", [&] { measure::keep(sf::checkpoint::verify(path)); });
        python.enter(program, race, "Python's safetensors: index, safe_open", {"open", path});
        race.run().report(measure::milliseconds());
    }
    if (heap::is_watched) {
        const double headers = static_cast<double>(made.header_bytes + made.index_bytes);
        const auto mapped = heap::of([&] { measure::keep(sf::checkpoint::open(path)); });
        const auto positional =
            heap::of([&] { measure::keep(sf::positional_checkpoint::open(path)); });
        std::printf("headers and index: %.1f MB\n", headers / 1e6);
        for (const auto& [name, demand] : {std::pair{"safefuse, mapped", mapped},
                                           std::pair{"safefuse, positional", positional}}) {
            const double share = static_cast<double>(demand.peak_bytes) / headers;
            std::printf(
                "  %-44s %5.1f MB of memory at most, %.2f of headers and index, in %zu "
                "allocations\n",
                name, static_cast<double>(demand.peak_bytes) / 1e6, share, demand.calls);
            program.record(name, "memory to open, " + size, share, "of headers and index");
        }
    }

    const auto opened = sf::checkpoint::open(path);
    if (!opened) {
        program.fail(opened.error().message().c_str());
        return program.finish();
    }
    std::vector<std::string> names;
    for (std::size_t i = 0; i < opened->size(); ++i) names.emplace_back(opened->spec(i).name);
    {
        std::shuffle(names.begin(), names.end(), std::mt19937_64{1});
        std::string text;  // contiguous, so that no time is spent on finding the names to look up
        for (const std::string& name : names) text += name;
        std::vector<std::string_view> asked;
        for (std::size_t at = 0; const std::string& name : names)
            asked.push_back(std::string_view{text}.substr(at, name.size())), at += name.size();
        std::unordered_map<std::string_view, std::size_t> map;
        for (std::size_t i = 0; i < opened->size(); ++i) map.emplace(opened->spec(i).name, i);
        measure::race race{program, "find each name once, in random order, " + size};
        race.add("std::unordered_map<string_view>", [&] {
            for (const std::string_view name : asked) measure::keep(map.find(name)->second);
        });
        race.add("safefuse, index_of", [&] {
            for (const std::string_view name : asked) measure::keep(opened->index_of(name));
        });
        race.add("safefuse, find (a view)", [&] {
            for (const std::string_view name : asked) measure::keep(opened->find(name));
        });
        race.run().report(measure::nanoseconds_per("name", tensors));
        measure::race in_order{program, "find each name once, in the checkpoint's order, " + size};
        in_order.add("std::unordered_map<string_view>", [&] {
            for (std::size_t i = 0; i < opened->size(); ++i)
                measure::keep(map.find(opened->spec(i).name)->second);
        });
        in_order.add("safefuse, index_of", [&] {
            for (std::size_t i = 0; i < opened->size(); ++i)
                measure::keep(opened->index_of(opened->spec(i).name));
        });
        in_order.run().report(measure::nanoseconds_per("name", tensors));
    }
    {
        measure::race race{program, "experts of all layers, " + size};
        race.add("safefuse, scopes", [&] {
            measure::keep(
                sf::experts_scopes::find(*opened, sf::description_of<sf::families::qwen2_moe>));
        });
        race.add("safefuse, scopes and their plans", [&] {
            const auto scopes =
                sf::experts_scopes::find(*opened, sf::description_of<sf::families::qwen2_moe>);
            for (std::size_t i = 0; scopes && i < scopes->size(); ++i)
                if (const auto plan =
                        sf::plan(*opened, (*scopes)[i], sf::description_of<sf::families::qwen2_moe>,
                                 sf::direction::forward);
                    !plan)
                    program.fail(plan.error().message().c_str());
        });
        race.add("safefuse, family told by names alone", [&] {
            if (const auto family = sf::detect_family(*opened); !family)
                program.fail(family.error().message().c_str());
        });
        race.run().report(measure::milliseconds());
    }
    plan_layers(program, *opened, size);
    if (arguments.size() == 2 && arguments[0] == "--inspect" && std::system(nullptr) != 0) {
        const std::filesystem::path larger = program.work() / "larger";
        const std::uint32_t most_layers = program.is_small() ? 7 : 88;
        const auto all =
            synthetic::write_checkpoint(larger, synthetic::kimi_k2(most_layers, 384, most_layers));
        std::ofstream{larger / "config.json"} << "{\"model_type\": \"deepseek_v3\"}";
        const std::string command = "\"" + arguments[1] + "\" \"" + larger.string() + "\" > \"" +
                                    (program.work() / "said").string() + "\"";
        measure::race race{program,
                           "inspect, a whole process, " + std::to_string(all.tensors) + " tensors"};
        race.add("safefuse, inspect", [&] {
            if (!all.good || std::system(command.c_str()) != 0) program.fail("inspect failed");
        });
        race.run().report(measure::milliseconds());
    }
    return program.finish();
}
