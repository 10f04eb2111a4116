// Ground truth: tests/data/transformers contains checkpoints as the hub stores them and, beside
// each, what transformers 5.17.0 made of it (see README.md there). A rewritten checkpoint must
// equal that in every byte and name.
#include <safefuse/write/rewrite.hpp>
#include <safefuse/write/verify.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <span>
#include <type_traits>

#include <safefuse/detect/detect.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/read/model_config.hpp>
#include <safefuse/run/fuse.hpp>

#include "../../support/support.hpp"

#if defined(__unix__)
#include <unistd.h>
#endif

namespace sf = safefuse;
using support::bytes_of;
using support::path_of;
using support::read_file;
using support::string_of;
using support::temporary_directory;
using support::write_file;

static_assert(std::is_nothrow_move_constructible_v<sf::rewrite_plan>);

namespace {

using shape = std::vector<std::uint64_t>;

struct stored {
    sf::dtype type{};
    shape extents;
    std::string data;
    bool operator==(const stored&) const = default;
};
using tensors = std::map<std::string, stored>;

template <class Set>
tensors tensors_of(const Set& set) {
    tensors out;
    for (std::size_t i = 0; i < set.size(); ++i) {
        const sf::tensor_spec spec = set.spec(i);
        const sf::tensor_location place = set.place(i);
        stored each{spec.type,
                    {spec.shape.begin(), spec.shape.end()},
                    std::string(static_cast<std::size_t>(place.size_bytes), '\0')};
        REQUIRE(set.read(place.source, place.offset, std::as_writable_bytes(std::span{each.data})));
        REQUIRE(out.emplace(spec.name, std::move(each)).second);
    }
    return out;
}
tensors tensors_at(const std::string& path) {
    return tensors_of(sf::checkpoint::open(path).value());
}

std::vector<std::string> names_of(const tensors& set) {
    std::vector<std::string> names;
    for (const auto& each : set) names.push_back(each.first);
    return names;
}

/// Checks that tensors are equal. Names each one that differs.
void check_same(const tensors& found, const tensors& expected) {
    CHECK(names_of(found) == names_of(expected));
    for (const auto& entry : expected) {
        // No structured binding: clang 14 does not let a lambda capture one, and CAPTURE contains a
        // lambda.
        const auto& name = entry.first;
        const stored& each = entry.second;
        CAPTURE(name);
        const auto at = found.find(name);
        if (at == found.end()) continue;
        CHECK(sf::name(at->second.type) == sf::name(each.type));
        CHECK(at->second.extents == each.extents);
        CHECK_MESSAGE(at->second.data == each.data, "the bytes differ");
    }
}

/// Writes tensors as a checkpoint of one file.
void write_model(const std::string& directory, const tensors& all) {
    std::vector<support::tensor> list;
    for (const auto& [name, each] : all)
        list.push_back({name, std::string{sf::name(each.type)}, each.extents, each.data});
    std::filesystem::create_directories(directory);
    support::write_tensor_file(directory + "/model.safetensors", list);
}

stored bf16(std::string_view name, shape extents, std::size_t element_bytes = 2,
            sf::dtype type = sf::dtype::bf16) {
    std::size_t size = element_bytes;
    for (const std::uint64_t extent : extents) size *= static_cast<std::size_t>(extent);
    return {type, std::move(extents), support::pattern(name, size)};
}

/// One layer of experts as the hub stores them, and a tensor beside them.
void add_layer(tensors& to, const std::string& layer, std::uint64_t experts, std::uint64_t inner,
               std::uint64_t hidden, std::size_t element_bytes = 2,
               sf::dtype type = sf::dtype::bf16) {
    const std::string scope = layer + ".mlp.experts.";
    for (std::uint64_t e = 0; e < experts; ++e)
        for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
            const std::string name = scope + std::to_string(e) + '.' + part + ".weight";
            to[name] = bf16(
                name,
                std::string_view{part} == "down_proj" ? shape{hidden, inner} : shape{inner, hidden},
                element_bytes, type);
        }
    to[layer + ".mlp.gate.weight"] = bf16(layer, {experts, hidden});
}

std::vector<std::string> files_in(const std::filesystem::path& directory) {
    std::set<std::string> names;
    if (std::filesystem::exists(directory))
        for (const auto& entry : std::filesystem::directory_iterator{directory})
            names.insert(entry.path().filename().string());
    return {names.begin(), names.end()};
}

const std::string fixtures = SAFEFUSE_TEST_DATA "/transformers/";
constexpr const char* model_types[] = {"qwen3_moe",    "glm_moe_dsa", "deepseek_v3", "mixtral",
                                       "minimax_m2",   "phimoe",      "nemotron_h",  "granitemoe",
                                       "ernie4_5_moe", "hy_v3",       "jamba"};

/// The family that a fixture's config.json names.
const sf::family_description& family_of(const std::string& type) {
    const auto config = sf::read_model_config(fixtures + type + "/checkpoint");
    REQUIRE(config);
    CHECK(config->model_type == type);
    const sf::family_description* family = sf::find_family(config->model_type);
    REQUIRE(family != nullptr);
    return *family;
}

constexpr sf::rewrite_options quick{.wait = sf::durability::renamed};
constexpr sf::rewrite_options in_shards_of(std::uint64_t most) {
    return {.max_shard_bytes = most, .wait = sf::durability::renamed};
}

/// Rewrites the checkpoint at `from` to the directory `to`.
template <class Source = sf::mapped_file>
sf::result<void> rewrite_at(const std::string& from, const std::string& to,
                            const sf::family_description& family,
                            const sf::rewrite_options& options = quick,
                            const sf::plan_options& plans = {}) {
    const auto checkpoint = sf::basic_checkpoint<Source>::open(from);
    if (!checkpoint) return checkpoint.error();
    const auto plan = sf::rewrite_plan::make(*checkpoint, family, sf::direction::forward, plans);
    if (!plan) return plan.error();
    if (auto done = sf::rewrite(*plan, to, options); !done) return std::move(done).error();
    return {};
}
/// What transformers loaded, converted to what a rewrite must contain.
tensors loaded_by_transformers(const std::string& type, const tensors& on_disk) {
    tensors loaded = tensors_at(fixtures + type + "/loaded.safetensors");
    // lm_head is tied to the embeddings and not stored; the model has it under both names
    if (type == "ernie4_5_moe") {
        REQUIRE(loaded.at("lm_head.weight") == loaded.at("model.embed_tokens.weight"));
        REQUIRE(!on_disk.contains("lm_head.weight"));
        loaded.erase("lm_head.weight");
    }
    // these routers are kept in F32 by the model and stored in BF16: widened exactly, so the upper
    // halves are the stored ones
    const std::multimap<std::string, std::string> widened{
        {"deepseek_v3", "model.layers.1.mlp.gate.e_score_correction_bias"},
        {"deepseek_v3", "model.layers.1.mlp.gate.weight"},
        {"hy_v3", "model.layers.1.mlp.e_score_correction_bias"},
        {"hy_v3", "model.layers.1.mlp.gate.weight"},
        {"nemotron_h", "model.layers.1.mixer.gate.e_score_correction_bias"},
        {"nemotron_h", "model.layers.1.mixer.gate.weight"}};
    const auto [first, last] = widened.equal_range(type);
    for (auto at = first; at != last; ++at) {
        stored& router = loaded.at(at->second);
        REQUIRE(router.type == sf::dtype::f32);
        std::string upper;
        for (std::size_t i = 0; i < router.data.size(); i += 4) {
            REQUIRE(router.data.substr(i, 2) == std::string(2, '\0'));
            upper += router.data.substr(i + 2, 2);
        }
        router.type = sf::dtype::bf16;
        router.data = upper;
    }
    return loaded;
}

/// Buffers of 12 MiB, a piece of 512 KiB and some names; the address sanitizer keeps freed memory
/// for a while. Clang announces it with __has_feature.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SAFEFUSE_TEST_KEEPS_FREED_MEMORY
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define SAFEFUSE_TEST_KEEPS_FREED_MEMORY
#endif
#if defined(SAFEFUSE_TEST_KEEPS_FREED_MEMORY)
[[maybe_unused]] constexpr std::uint64_t most_grown_kib = 96 * 1024;
#else
[[maybe_unused]] constexpr std::uint64_t most_grown_kib = 13 * 1024;
#endif

/// Memory of this process in bytes, anonymous and resident. 0 if the OS does not tell.
struct memory_in_use {
    std::uint64_t anonymous = 0;
    std::uint64_t resident = 0;
};
[[maybe_unused]] memory_in_use memory_now() {
    memory_in_use now;
    std::ifstream status{"/proc/self/status"};
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with("RssAnon:")) now.anonymous = std::stoull(line.substr(8)) * 1024;
        if (line.starts_with("VmRSS:")) now.resident = std::stoull(line.substr(6)) * 1024;
    }
    return now;
}

}  // namespace

TEST_CASE_TEMPLATE(
    "rewrite: every family gives what transformers loaded, and unfusing gives what the hub "
    "stores",
    Source, sf::mapped_file, sf::positional_file) {
    for (const std::string type : model_types) {
        CAPTURE(type);
        const sf::family_description& family = family_of(type);
        const tensors on_disk = tensors_at(fixtures + type + "/checkpoint");
        const tensors loaded = loaded_by_transformers(type, on_disk);
        for (const std::uint64_t most : {sf::default_shard_bytes, std::uint64_t{0},
                                         std::uint64_t{1023}, std::uint64_t{7777}}) {
            CAPTURE(most);
            const temporary_directory directory;
            REQUIRE(rewrite_at<Source>(fixtures + type + "/checkpoint", directory / "fused", family,
                                       in_shards_of(most)));
            const auto fused = sf::basic_checkpoint<Source>::open(directory / "fused");
            REQUIRE(fused);
            check_same(tensors_of(*fused), loaded);
            CHECK(fused->index_path().empty() == (most == sf::default_shard_bytes));
            if (most == 0) CHECK(fused->file_count() == loaded.size());
            for (std::size_t i = 0; i < fused->file_count(); ++i) {
                std::string_view format;
                CHECK((fused->file(i).header().find_metadata("format", format) && format == "pt"));
            }
            const auto report = sf::basic_checkpoint<Source>::verify(directory / "fused");
            REQUIRE(report);
            CHECK(report->is_sound());
            CHECK(report->notes().empty());
            CHECK(report->tensor_count() == loaded.size());

            REQUIRE(rewrite_at<Source>(directory / "fused", directory / "back",
                                       family.in(sf::direction::inverse), in_shards_of(most)));
            check_same(tensors_at(directory / "back"), on_disk);

            const auto original =
                sf::basic_checkpoint<Source>::open(fixtures + type + "/checkpoint");
            const auto plan = sf::rewrite_plan::make(*original, family);
            REQUIRE(plan);
            CHECK(sf::verify_rewritten(*plan, *fused));
            const auto back = sf::basic_checkpoint<Source>::open(directory / "back");
            const auto same = sf::rewrite_plan::make(*back, family);
            REQUIRE(same);
            CHECK(sf::verify_rewritten(*same, *fused));
        }
    }
}

TEST_CASE(
    "rewrite: each generated fixture becomes what transformers loads from it, and is restored "
    "byte for byte") {
    for (const char* const type :
         {"dots3_note", "inkling2_loop_text", "lara_mini", "mistral_large4", "sarvam_moe"}) {
        CAPTURE(type);
        const std::string fixture = fixtures + "generated/" + type,
                          stored_at = fixture + "/checkpoint";
        const sf::family_description* const family = sf::find_family(type);
        REQUIRE(family != nullptr);
        std::vector<sf::known_extent> extents;
        for (const sf::config_extent& each : family->config_extents) {
            const auto number = sf::read_config_number(stored_at, each.key);
            REQUIRE(number);
            REQUIRE(*number != sf::unknown);
            extents.push_back({each.name, *number});
        }
        const sf::plan_options plans{.known_extents = {extents.data(), extents.size()}};
        const tensors on_disk = tensors_at(stored_at);
        tensors loaded = tensors_at(fixture + "/loaded.safetensors");
        if (!on_disk.contains("lm_head.weight") && loaded.contains("lm_head.weight") &&
            std::string_view{type} == "lara_mini") {
            REQUIRE(loaded.at("lm_head.weight") ==
                    loaded.at("model.embed_tokens.weight"));  // tied, and not stored
            loaded.erase("lm_head.weight");
        }
        const temporary_directory directory;
        REQUIRE(rewrite_at(stored_at, directory / "fused", *family, quick, plans));
        check_same(tensors_at(directory / "fused"), loaded);
        REQUIRE(rewrite_at(directory / "fused", directory / "back",
                           family->in(sf::direction::inverse), quick, plans));
        check_same(tensors_at(directory / "back"), on_disk);
    }
}

TEST_CASE("rewrite: a checkpoint that is already fused, or already unfused, stays unchanged") {
    for (const std::string type : model_types) {
        CAPTURE(type);
        const sf::family_description& family = family_of(type);
        const temporary_directory directory;
        REQUIRE(rewrite_at(fixtures + type + "/checkpoint", directory / "fused", family));
        REQUIRE(rewrite_at(directory / "fused", directory / "again", family));
        CHECK(read_file(directory / "again/model.safetensors") ==
              read_file(directory / "fused/model.safetensors"));
        REQUIRE(rewrite_at(fixtures + type + "/checkpoint", directory / "unfused",
                           family.in(sf::direction::inverse)));
        check_same(tensors_at(directory / "unfused"), tensors_at(fixtures + type + "/checkpoint"));
    }
}

TEST_CASE("rewrite: the tensors of a plan are in natural order, with the sizes that are written") {
    for (const std::string type : model_types) {
        CAPTURE(type);
        const auto checkpoint = sf::checkpoint::open(fixtures + type + "/checkpoint");
        REQUIRE(checkpoint);
        auto made = sf::rewrite_plan::make(*checkpoint, family_of(type));
        REQUIRE(made);
        const auto plan = std::move(*made);  // a moved plan works, too
        std::uint64_t total = 0;
        for (std::size_t i = 0; i < plan.tensors().size(); ++i) {
            std::uint64_t size_bytes = 0;
            CHECK(sf::tensor_size(plan.tensors()[i].type, plan.tensors()[i].shape, size_bytes) ==
                  sf::size_verdict::fits);
            total += size_bytes;
            if (i > 0) CHECK(sf::natural_less(plan.tensors()[i - 1].name, plan.tensors()[i].name));
        }
        CHECK(plan.total_bytes() == total);
        CHECK(plan.scopes().size() > 0);
    }
}

TEST_CASE("rewrite: the files are the same on every run, from every kind of source") {
    const temporary_directory directory;
    const auto& family = family_of("minimax_m2");
    REQUIRE(rewrite_at<sf::mapped_file>(fixtures + "minimax_m2/checkpoint", directory / "a", family,
                                        in_shards_of(9999)));
    REQUIRE(rewrite_at<sf::positional_file>(fixtures + "minimax_m2/checkpoint", directory / "b",
                                            family, in_shards_of(9999)));
    const auto files = files_in(directory / "a");
    CHECK(files.size() > 3);
    CHECK(files == files_in(directory / "b"));
    for (const std::string& file : files)
        CHECK(read_file(directory / ("a/" + file)) == read_file(directory / ("b/" + file)));
}

TEST_CASE(
    "rewrite: layers may be in either form, one fused and another not, an MTP layer among them") {
    for (const std::string type : {"qwen3_moe", "mixtral", "phimoe", "nemotron_h", "granitemoe"}) {
        CAPTURE(type);
        const sf::family_description& family = family_of(type);
        const tensors unfused = tensors_at(fixtures + type + "/checkpoint");
        const temporary_directory directory;
        REQUIRE(rewrite_at(fixtures + type + "/checkpoint", directory / "fused", family));
        const tensors fused = tensors_at(directory / "fused");
        // layer 1 from one file, all else from the other, and a layer with another prefix and a
        // two-digit number
        const auto is_first = [](const std::string& name) {
            return name.find("layers.1.") != std::string::npos;
        };
        const auto moved = [](std::string name) {
            return "mtp.layers.10." + name.substr(name.find("layers.1.") + 9);
        };
        for (const bool first_is_fused : {true, false}) {
            tensors mixed, expected, reverse;
            for (const auto& [name, each] : unfused) {
                if (is_first(name) != first_is_fused) mixed[name] = each;
                reverse[name] = each;
                if (is_first(name)) mixed[moved(name)] = reverse[moved(name)] = each;
            }
            for (const auto& [name, each] : fused) {
                if (is_first(name) == first_is_fused) mixed[name] = each;
                expected[name] = each;
                if (is_first(name)) expected[moved(name)] = each;
            }
            const std::string number = first_is_fused ? "1" : "0";
            write_model(directory / ("mixed" + number), mixed);
            REQUIRE(
                rewrite_at(directory / ("mixed" + number), directory / ("all" + number), family));
            check_same(tensors_at(directory / ("all" + number)), expected);
            REQUIRE(rewrite_at<sf::positional_file>(directory / ("all" + number),
                                                    directory / ("none" + number),
                                                    family.in(sf::direction::inverse)));
            check_same(tensors_at(directory / ("none" + number)), reverse);
        }
    }
}

TEST_CASE("rewrite: tensors in memory can be the source and the other side of verify") {
    tensors unfused;
    add_layer(unfused, "model.layers.0", 11, 6, 10);
    unfused["empty"] = bf16("empty", {0, 3});
    unfused["scalar"] = bf16("scalar", {});
    const temporary_directory directory;
    write_model(directory / "in", unfused);
    REQUIRE(rewrite_at(directory / "in", directory / "out",
                       sf::description_of<sf::families::qwen2_moe>));
    const tensors fused = tensors_at(directory / "out");

    const auto list_of = [](const tensors& all) {
        std::vector<sf::named_tensor> views;
        for (const auto& [name, each] : all)
            views.push_back(
                {name, sf::tensor_view::of(each.type, each.extents, bytes_of(each.data)).value()});
        return views;
    };
    const auto views = list_of(unfused), fused_views = list_of(fused);
    const sf::tensor_list set{views}, other{fused_views};
    const auto plan = sf::rewrite_plan::make(set, sf::description_of<sf::families::qwen2_moe>);
    REQUIRE(plan);
    CHECK(sf::verify_rewritten(*plan, other));
    REQUIRE(sf::rewrite(*plan, directory / "from_memory", quick));
    check_same(tensors_at(directory / "from_memory"), fused);
}

TEST_CASE_TEMPLATE(
    "rewrite: experts may be in any order in any shards, among tensors that the index does not "
    "list",
    Source, sf::mapped_file, sf::positional_file) {
    std::mt19937 random{8};
    for (int round = 0; round < 20; ++round) {
        CAPTURE(round);
        const std::size_t shard_count = 1 + random() % 5, experts = 1 + random() % 13;
        std::vector<support::shard> shards(shard_count);
        for (std::size_t i = 0; i < shard_count; ++i)
            shards[i].file = "part" + std::to_string(i) + ".safetensors";
        std::vector<support::tensor> all;
        tensors expected;
        for (const char* layer : {"model.layers.2", "model.layers.10", "mtp.layers.0"}) {
            const std::string scope = std::string{layer} + ".mlp.experts.";
            const std::uint64_t inner = 1 + random() % 5, hidden = 1 + random() % 5;
            std::string gate_up, down;
            for (std::size_t e = 0; e < experts; ++e) {
                const std::string one = scope + std::to_string(e);
                all.push_back(support::bf16(one + ".gate_proj.weight", {inner, hidden}));
                gate_up += all.back().data;
                all.push_back(support::bf16(one + ".up_proj.weight", {inner, hidden}));
                gate_up += all.back().data;
                all.push_back(support::bf16(one + ".down_proj.weight", {hidden, inner}));
                down += all.back().data;
            }
            expected[scope + "gate_up_proj"] = {
                sf::dtype::bf16, {experts, 2 * inner, hidden}, gate_up};
            expected[scope + "down_proj"] = {sf::dtype::bf16, {experts, hidden, inner}, down};
            all.push_back(
                support::u8(std::string{layer} + ".mlp.shared_experts.gate_proj.weight", {3}));
            expected[all.back().name] = {sf::dtype::u8, {3}, all.back().data};
        }
        std::shuffle(all.begin(), all.end(), random);
        for (const support::tensor& each : all)
            shards[random() % shard_count].tensors.push_back(each);

        const temporary_directory directory;
        const std::string index = support::index_text(shards);
        // the same experts again with other bytes, in a file that the index does not name
        std::vector<support::shard> on_disk = shards;
        for (const support::tensor& each : all)
            for (support::shard& shard : on_disk)
                if (random() % 4 == 0 &&
                    std::none_of(shard.tensors.begin(), shard.tensors.end(),
                                 [&](const auto& held) { return held.name == each.name; })) {
                    shard.tensors.push_back(each);
                    shard.tensors.back().data.assign(each.data.size(), '!');
                }
        on_disk.push_back(
            {"stray.safetensors",
             {support::bf16("model.layers.2.mlp.experts.99.gate_proj.weight", {1, 1})}});
        support::write_shards(directory.path() / "in", on_disk);
        write_file(directory / "in/model.safetensors.index.json", index);

        REQUIRE(rewrite_at<Source>(directory / "in", directory / "out",
                                   sf::description_of<sf::families::qwen2_moe>,
                                   in_shards_of(random() % 300)));
        check_same(tensors_at(directory / "out"), expected);
        CHECK(sf::checkpoint::verify(directory / "out").value().is_sound());
    }
}

TEST_CASE("rewrite: page advice does not change the result") {
    for (const sf::advice hint : {sf::advice::release, sf::advice::done_with, sf::advice::will_need,
                                  sf::advice::sequential}) {
        const temporary_directory directory;
        const sf::rewrite_options options{.wait = sf::durability::renamed, .used_source = hint};
        REQUIRE(rewrite_at<sf::mapped_file>(fixtures + "jamba/checkpoint", directory / "mapped",
                                            family_of("jamba"), options));
        REQUIRE(rewrite_at<sf::positional_file>(
            fixtures + "jamba/checkpoint", directory / "positional", family_of("jamba"), options));
        check_same(tensors_at(directory / "mapped"),
                   tensors_at(fixtures + "jamba/loaded.safetensors"));
        CHECK(read_file(directory / "mapped/model.safetensors") ==
              read_file(directory / "positional/model.safetensors"));
    }
}

TEST_CASE_TEMPLATE("verify: every byte that is flipped is found and named", Source, sf::mapped_file,
                   sf::positional_file) {
    std::mt19937 random{7};
    for (const std::string type : {"qwen3_moe", "nemotron_h", "granitemoe"}) {
        CAPTURE(type);
        const temporary_directory directory;
        const auto& family = family_of(type);
        REQUIRE(rewrite_at(fixtures + type + "/checkpoint", directory / "fused", family));
        const auto path = directory / "fused/model.safetensors";
        const std::string file = read_file(path);
        const auto original = sf::basic_checkpoint<Source>::open(fixtures + type + "/checkpoint");
        const auto plan = sf::rewrite_plan::make(*original, family);
        REQUIRE(plan);
        const std::uint64_t data_begin =
            [&] {  // closed: Windows does not allow writing to a mapped file
                const auto written = sf::tensor_file::open(path);
                return written ? written->header().header_bytes() : 0;
            }();
        REQUIRE(data_begin > 0);
        for (int round = 0; round < 150; ++round) {
            std::size_t at = data_begin + random() % (file.size() - data_begin);
            if (round == 0) at = static_cast<std::size_t>(data_begin);
            if (round == 1) at = file.size() - 1;
            std::string changed = file;
            changed[at] = static_cast<char>(changed[at] ^ (1 << random() % 8));
            write_file(path, changed);
            const auto fused = sf::basic_checkpoint<Source>::open(directory / "fused");
            REQUIRE(fused);
            const auto same = sf::verify_rewritten(*plan, *fused);
            REQUIRE(!same);
            CHECK(same.error().code == sf::errc::bytes_differ);
            CHECK(same.error().file == path);
            const std::size_t tensor = fused->index_of(same.error().tensor);
            REQUIRE(tensor != fused->npos);
            CHECK(fused->place(tensor).offset + same.error().offset == at);
        }
    }
}

TEST_CASE(
    "verify: a missing tensor, one too many, another dtype, another shape are found and named") {
    const temporary_directory directory;
    const auto& family = family_of("qwen3_moe");
    REQUIRE(rewrite_at(fixtures + "qwen3_moe/checkpoint", directory / "fused", family));
    const tensors fused = tensors_at(directory / "fused");
    const auto original = sf::checkpoint::open(fixtures + "qwen3_moe/checkpoint");
    const auto plan = sf::rewrite_plan::make(*original, family);
    REQUIRE(plan);
    const auto verdict = [&](const tensors& changed) {
        write_model(directory / "changed", changed);
        const auto checkpoint = sf::checkpoint::open(directory / "changed");
        auto same = sf::verify_rewritten(*plan, *checkpoint);
        return same ? sf::failure{.code = sf::errc::canceled} : std::move(same).error();
    };
    CHECK(verdict(fused).code == sf::errc::canceled);
    for (const auto& entry : fused) {
        const auto& name = entry.first;
        const stored& each = entry.second;
        CAPTURE(name);
        tensors changed = fused;
        changed.erase(name);
        CHECK((verdict(changed).code == sf::errc::tensor_not_found &&
               verdict(changed).tensor == name));
        changed[name] = each;
        changed[name].type = sf::dtype::f16;
        CHECK(
            (verdict(changed).code == sf::errc::dtype_mismatch && verdict(changed).tensor == name));
        changed[name] = each;
        changed[name].extents.push_back(1);
        CHECK(
            (verdict(changed).code == sf::errc::shape_mismatch && verdict(changed).tensor == name));
        if (each.extents.size() > 1 && each.extents[0] != each.extents[1]) {
            changed[name].extents = each.extents;
            std::swap(changed[name].extents[0], changed[name].extents[1]);
            CHECK((verdict(changed).code == sf::errc::shape_mismatch &&
                   verdict(changed).tensor == name));
        }
    }
    tensors more = fused;
    more["model.layers.0.mlp.experts.extra"] = bf16("extra", {2});
    const sf::failure extra = verdict(more);
    CHECK(extra.code == sf::errc::unexpected_tensor);
    CHECK(extra.tensor == "model.layers.0.mlp.experts.extra");
    CHECK(extra.file == directory / "changed/model.safetensors");
    // unfused experts differ from the fused result
    CHECK(verdict(tensors_at(fixtures + "qwen3_moe/checkpoint")).code ==
          sf::errc::unexpected_tensor);
}

TEST_CASE(
    "progress: grows, names tensors of the plan and ends at the total, for rewrite and verify") {
    for (const std::string type : model_types) {
        CAPTURE(type);
        const temporary_directory directory;
        const auto original = sf::checkpoint::open(fixtures + type + "/checkpoint");
        const auto plan = sf::rewrite_plan::make(*original, family_of(type));
        REQUIRE(plan);
        std::set<std::string_view> names, seen;
        for (const sf::tensor_spec& each : plan->tensors()) names.insert(each.name);
        std::uint64_t done = 0;
        bool grows = true;
        auto watch = [&](const sf::run_progress& at) {
            grows = grows && at.done_bytes > done && at.total_bytes == plan->total_bytes() &&
                    names.contains(at.tensor);
            done = at.done_bytes;
            seen.insert(at.tensor);
            return true;
        };
        REQUIRE(sf::rewrite(*plan, directory / "out", in_shards_of(5000), watch));
        CHECK(grows);
        CHECK(done == plan->total_bytes());
        CHECK(seen == names);
        done = 0;
        const auto out = sf::checkpoint::open(directory / "out");
        REQUIRE(sf::verify_rewritten(*plan, *out, watch));
        CHECK(grows);
        CHECK(done == plan->total_bytes());
    }
}

TEST_CASE(
    "progress: returning false cancels at any time; what is left never opens as a checkpoint") {
    const auto original = sf::checkpoint::open(fixtures + "qwen3_moe/checkpoint");
    const auto plan = sf::rewrite_plan::make(*original, family_of("qwen3_moe"));
    REQUIRE(plan);
    for (const std::uint64_t most : {sf::default_shard_bytes, std::uint64_t{4000}}) {
        std::size_t calls = 0;
        auto count = [&](const sf::run_progress&) { return ++calls > 0; };
        const temporary_directory whole;
        REQUIRE(sf::rewrite(*plan, whole / "out", in_shards_of(most), count));
        for (std::size_t stop = 1; stop <= calls; ++stop) {
            CAPTURE(stop);
            const temporary_directory directory;
            std::size_t left = stop;
            auto cancel = [&](const sf::run_progress&) { return --left > 0; };
            const auto done = sf::rewrite(*plan, directory / "out", in_shards_of(most), cancel);
            REQUIRE(!done);
            CHECK(done.error().code == sf::errc::canceled);
            CHECK(left == 0);
            const auto files = files_in(directory / "out");
            for (const std::string& name : files) {
                if (name == sf::writer_state_file && files.size() > 1) continue;  // the state file
                CHECK(!name.starts_with('.'));
                CHECK(sf::tensor_file::open(directory /
                                            ("out/" + name)));  // a shard that exists is complete
            }
            CHECK(!sf::checkpoint::open(directory / "out"));
        }
        const auto out = sf::checkpoint::open(whole / "out");
        std::size_t left = calls / 2;
        auto cancel = [&](const sf::run_progress&) { return --left > 0; };
        CHECK(sf::verify_rewritten(*plan, *out, cancel).error().code == sf::errc::canceled);
    }
}

TEST_CASE(
    "rewrite: different group indexes of gate and up are refused, and no loadable file is "
    "left; a shared one comes back") {
    const temporary_directory directory;
    tensors gptq;
    for (const char* expert : {"0.", "1."})
        for (const std::string part : {"gate_proj", "up_proj", "down_proj"}) {
            const std::string name = "model.layers.0.mlp.experts." + (expert + part);
            const std::uint64_t rows = part == "down_proj" ? 64 : 32,
                                columns = part == "down_proj" ? 32 : 64;
            gptq[name + ".qweight"] = bf16(name, {columns / 8, rows}, 4, sf::dtype::i32);
            gptq[name + ".scales"] = bf16(name + "s", {1, rows}, 2, sf::dtype::f16);
            gptq[name + ".g_idx"] =
                bf16(part == "down_proj" ? name : expert, {columns}, 4, sf::dtype::i32);
        }
    const auto& qwen = sf::description_of<sf::families::qwen2_moe>;
    const auto back = qwen.in(sf::direction::inverse);
    write_model(directory / "in", gptq);
    REQUIRE(rewrite_at<sf::mapped_file>(directory / "in", directory / "out", qwen));
    CHECK(
        tensors_at(directory / "out").at("model.layers.0.mlp.experts.gate_up_proj_g_idx").extents ==
        shape{2, 64});
    REQUIRE(rewrite_at<sf::mapped_file>(directory / "out", directory / "back", back));
    check_same(tensors_at(directory / "back"), gptq);

    gptq["model.layers.0.mlp.experts.1.up_proj.g_idx"].data[17] ^= 1;
    write_model(directory / "differs", gptq);
    for (const bool mapped : {true, false}) {
        const std::string to = directory / (mapped ? "mapped" : "positional");
        const auto refused = mapped
                                 ? rewrite_at<sf::mapped_file>(directory / "differs", to, qwen)
                                 : rewrite_at<sf::positional_file>(directory / "differs", to, qwen);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == sf::errc::parts_differ);
        CHECK(refused.error().tensor == "model.layers.0.mlp.experts.gate_up_proj_g_idx");
        CHECK_FALSE(sf::checkpoint::open(to));
    }
}

TEST_CASE("rewrite: a checkpoint that cannot be planned names the tensor") {
    const temporary_directory directory;
    const auto verdict = [&](const tensors& all, const sf::family_description& family) {
        write_model(directory / "in", all);
        const auto checkpoint = sf::checkpoint::open(directory / "in");
        auto plan = sf::rewrite_plan::make(*checkpoint, family);
        return plan ? sf::failure{.code = sf::errc::canceled} : std::move(plan).error();
    };
    const tensors mixtral = tensors_at(fixtures + "mixtral/checkpoint"),
                  qwen = tensors_at(fixtures + "qwen3_moe/checkpoint");

    tensors changed = mixtral;
    changed["model.layers.0.mlp.gate.weight"] = bf16("x", {12, 16});
    CHECK(verdict(changed, sf::description_of<sf::families::mixtral>).code ==
          sf::errc::duplicate_tensor);
    CHECK(verdict(changed, sf::description_of<sf::families::mixtral>).tensor ==
          "model.layers.0.mlp.gate.weight");

    // experts that do not fit this family are refused; without any there is nothing to do
    CHECK(verdict(mixtral, sf::description_of<sf::families::qwen2_moe>).code ==
          sf::errc::unknown_experts);
    CHECK(verdict({}, sf::description_of<sf::families::qwen2_moe>).code == sf::errc::canceled);
    CHECK(verdict({{"model.embed_tokens.weight", bf16("x", {2})}},
                  sf::description_of<sf::families::qwen2_moe>)
              .code == sf::errc::canceled);

    changed = qwen;
    changed.erase("model.layers.1.mlp.experts.7.up_proj.weight");
    CHECK(verdict(changed, sf::description_of<sf::families::qwen2_moe>).code ==
          sf::errc::missing_key);
    CHECK(verdict(changed, sf::description_of<sf::families::qwen2_moe>).tensor ==
          "model.layers.1.mlp.experts.7.up_proj.weight");

    changed = qwen;
    changed["model.layers.1.mlp.experts.gate_up_proj"] = bf16("x", {12, 16, 16});
    CHECK(verdict(changed, sf::description_of<sf::families::qwen2_moe>).code ==
          sf::errc::both_layouts);
    CHECK(verdict(changed, sf::description_of<sf::families::qwen2_moe>).scope ==
          "model.layers.1.mlp.experts");

    changed = qwen;
    changed["model.layers.1.mlp.experts.3.gate_proj.weird"] = bf16("x", {1});
    CHECK(verdict(changed, sf::description_of<sf::families::qwen2_moe>).code ==
          sf::errc::unexpected_key);
}

namespace {

/// Tensors without bytes. Each claims a size and a place.
class claimed_set {
public:
    struct claim {
        std::string name;
        std::vector<std::uint64_t> shape;
        sf::tensor_location place;
    };
    std::vector<claim> claims;

    std::size_t size() const noexcept { return claims.size(); }
    sf::tensor_spec spec(std::size_t i) const noexcept {
        return {claims[i].name, sf::dtype::u8, claims[i].shape};
    }
    sf::tensor_location place(std::size_t i) const noexcept { return claims[i].place; }
    std::string_view source_name(std::uint32_t) const noexcept { return "claimed"; }
    sf::span<const std::byte> source_bytes(std::uint32_t) const noexcept { return {}; }
    sf::result<void> read(std::uint32_t, std::uint64_t, sf::span<std::byte>) const noexcept {
        return sf::failure{.code = sf::errc::read_past_end};
    }
};

}  // namespace

TEST_CASE("rewrite: tensors whose sizes or offsets exceed 64 bits are refused") {
    const std::uint64_t most = (std::uint64_t{1} << 61) - 1;
    claimed_set set;
    set.claims = {{"m.mlp.experts.gate_up_proj", {2, 8, 3}, {0, 0, 48}},
                  {"m.mlp.experts.down_proj", {2, 3, 4}, {0, 48, 24}}};
    const auto plan_of = [&] {
        return sf::rewrite_plan::make(set, sf::description_of<sf::families::qwen2_moe>,
                                      sf::direction::inverse, {.allow_missing_scales = true});
    };
    for (std::uint32_t i = 0; i < 8; ++i)
        set.claims.push_back({"x" + std::to_string(i), {most}, {i + 1, 0, most}});
    CHECK_FALSE(plan_of());  // 2^64 - 8 and 72
    CHECK(plan_of().error().code == sf::errc::size_overflow);
    set.claims.pop_back();
    REQUIRE(plan_of());
    CHECK(plan_of()->total_bytes() == 7 * most + 72);

    set.claims.back().place.size_bytes = most - 1;
    CHECK(plan_of().error().code == sf::errc::size_mismatch);
    CHECK(plan_of().error().tensor == "x6");
    set.claims.back().place = {7, ~std::uint64_t{0} - 4, most};
    CHECK(plan_of().error().code == sf::errc::size_mismatch);
}

TEST_CASE("rewrite: a destination that cannot be written to is named, and the source stays") {
    const temporary_directory directory;
    tensors unfused;
    add_layer(unfused, "model.layers.0", 2, 4, 4);
    write_model(directory / "in", unfused);
    const auto checkpoint = sf::checkpoint::open(directory / "in");
    const auto plan =
        sf::rewrite_plan::make(*checkpoint, sf::description_of<sf::families::qwen2_moe>);
    REQUIRE(plan);
    const auto code_of = [&](const std::string& to) {
        const auto done = sf::rewrite(*plan, to, quick);
        REQUIRE(!done);
        CHECK(!done.error().file.empty());
        return done.error().code;
    };
    write_file(directory / "file", "x");
    CHECK(code_of(directory / "file") == sf::errc::not_a_directory);
    CHECK(code_of(directory / "file/out") == sf::errc::not_a_directory);
    CHECK(code_of(directory / "absent/out") == sf::errc::file_not_found);
    CHECK(code_of(directory / "in") == sf::errc::destination_in_source);
    CHECK(read_file(directory / "file") == "x");
    check_same(tensors_at(directory / "in"), unfused);
#if defined(__unix__)
    if (::geteuid() != 0) {  // root may write everywhere
        std::filesystem::create_directory(directory / "closed");
        std::filesystem::permissions(directory / "closed", std::filesystem::perms::owner_read |
                                                               std::filesystem::perms::owner_exec);
        CHECK(code_of(directory / "closed") == sf::errc::permission_denied);
        CHECK(code_of(directory / "closed/out") == sf::errc::permission_denied);
        std::filesystem::permissions(directory / "closed", std::filesystem::perms::owner_all);
    }
#endif
    // a shard cannot be written if a directory has its name
    std::filesystem::create_directories(directory / "taken/model.safetensors");
    CHECK(code_of(directory / "taken") == sf::errc::not_a_file);
    CHECK(files_in(directory / "taken") == std::vector<std::string>{"model.safetensors"});
}

TEST_CASE(
    "rewrite: source and destination may not contain each other, with any spelling of the "
    "path; the source stays") {
    const temporary_directory directory;
    std::filesystem::create_directories(directory / "models/in/below");
    std::filesystem::create_directory(directory / "models/in-other");
    tensors unfused;
    add_layer(unfused, "model.layers.0", 2, 4, 4);
    write_model(directory / "models/in", unfused);
    std::error_code refused_link;  // Windows lets few users make links
    std::filesystem::create_directory_symlink(directory / "models", directory / "link",
                                              refused_link);
    const auto exists = [&](std::string_view path) {
        return !refused_link || !path.starts_with("link");
    };
    const std::vector<std::string> before = files_in(directory / "models/in");
    const auto refused = [&](const std::string& from, const std::string& to) {
        CAPTURE(from);
        CAPTURE(to);
        const auto done = rewrite_at(from, to, sf::description_of<sf::families::qwen2_moe>);
        REQUIRE(!done);
        CHECK(done.error().code == sf::errc::destination_in_source);
        CHECK(done.error().file == to);
    };
    for (const char* from :
         {"models/in", "link/in", "models/in/model.safetensors", "models/in/below/../../in"})
        for (const char* to :
             {"models/in", "models/in/", "link/in", "models/in/below", "models/in/below/.",
              "models/in/new", "link/in/new", "models", "models/in/..", "link", "."})
            if (exists(from) && exists(to)) refused(directory / from, directory / to);
    CHECK(files_in(directory / "models/in") == before);
    check_same(tensors_at(directory / "models/in"), unfused);
    for (const char* to : {"models/in-other", "models/out", "link/out2", "models/in/../out3"})
        if (exists(to))
            CHECK(rewrite_at(directory / "models/in", directory / to,
                             sf::description_of<sf::families::qwen2_moe>));

    // a single tensor file may have its rewrite beside it
    std::filesystem::copy_file(directory / "models/in/model.safetensors",
                               directory / "models/alone.safetensors");
    CHECK(rewrite_at(directory / "models/alone.safetensors", directory / "models/fused",
                     sf::description_of<sf::families::qwen2_moe>));
    refused(directory / "models/alone.safetensors", directory / "models");
}

TEST_CASE_TEMPLATE(
    "rewrite: directories and files may be named in any language, in the index and in every path",
    Source, sf::mapped_file, sf::positional_file) {
    const temporary_directory directory;
    constexpr std::u8string_view letters = u8"\u00E4\u00DF-\u0436-\u4E2D\u6587-\U0001F9E0";
    const std::string name{letters.begin(), letters.end()}, from = directory / name,
                                                            to = directory / ("fused-" + name),
                                                            first = name + "-1.safetensors";
    tensors unfused;
    for (const char* layer : {"model.layers.0", "model.layers.1"})
        add_layer(unfused, layer, 2, 4, 4);
    std::vector<support::shard> shards{{first, {}}, {"below-" + name + "/2.safetensors", {}}};
    for (const auto& [tensor_name, each] : unfused)
        shards[shards[0].tensors.size() < 7 ? 0 : 1].tensors.push_back(
            {tensor_name, std::string{sf::name(each.type)}, each.extents, each.data});
    std::filesystem::create_directory(path_of(from));
    support::write_checkpoint(path_of(from), shards);
    const auto& family = sf::description_of<sf::families::qwen2_moe>;

    const auto checkpoint = sf::basic_checkpoint<Source>::open(from);
    REQUIRE(checkpoint);
    CHECK(checkpoint->file_count() == 2);
    check_same(tensors_of(*checkpoint), unfused);
    const auto plan = sf::rewrite_plan::make(*checkpoint, family);
    REQUIRE(plan);
    REQUIRE(sf::rewrite(*plan, to, in_shards_of(300)));
    const auto fused = sf::basic_checkpoint<Source>::open(to + "/model.safetensors.index.json");
    REQUIRE(fused);
    CHECK(sf::verify_rewritten(*plan, *fused));
    REQUIRE(
        rewrite_at<Source>(to, directory / ("back-" + name),
                           sf::description_of<sf::families::qwen2_moe>.in(sf::direction::inverse)));
    check_same(tensors_at(directory / ("back-" + name)), unfused);
    sf::rewrite_options links = in_shards_of(300);
    links.share = sf::sharing::files;
    REQUIRE(rewrite_at<Source>(to, directory / ("links-" + name), family, links));
    check_same(tensors_at(directory / ("links-" + name)), tensors_at(to));

    const auto inside = rewrite_at<Source>(from, from + "/below-" + name, family);
    REQUIRE(!inside);
    CHECK(inside.error().code == sf::errc::destination_in_source);
    CHECK(inside.error().message().view().find(name) != std::string_view::npos);
    const auto missing = [&] {
        const temporary_directory other;
        support::write_checkpoint(other.path(), shards);
        std::filesystem::remove(path_of(other / first));
        return sf::basic_checkpoint<Source>::open(other.string()).error();
    }();
    CHECK(missing.code == sf::errc::missing_shard);
    CHECK(missing.message().view().find(first) != std::string_view::npos);
}

TEST_CASE("rewrite: on request, every tensor gets a file of its own") {
    for (const std::string type : {"qwen3_moe", "jamba"}) {
        CAPTURE(type);
        const temporary_directory directory;
        REQUIRE(rewrite_at(fixtures + type + "/checkpoint", directory / "out", family_of(type),
                           in_shards_of(sf::one_tensor_per_file)));
        const auto out = sf::checkpoint::open(directory / "out");
        REQUIRE(out);
        CHECK(out->file_count() == out->size());
        for (std::size_t i = 0; i < out->file_count(); ++i) CHECK(out->file(i).size() == 1);
        check_same(tensors_of(*out),
                   loaded_by_transformers(type, tensors_at(fixtures + type + "/checkpoint")));
    }
}

TEST_CASE("rewrite: the written files are those of the outline") {
    const auto checkpoint = sf::checkpoint::open(fixtures + "mixtral/checkpoint");
    const auto plan = sf::rewrite_plan::make(*checkpoint, family_of("mixtral"));
    REQUIRE(plan);
    for (const std::uint64_t most :
         {sf::default_shard_bytes, std::uint64_t{4000}, sf::one_tensor_per_file})
        for (const std::uint64_t alignment : {std::uint64_t{8}, std::uint64_t{4096}}) {
            sf::rewrite_options options = in_shards_of(most);
            options.data_alignment = alignment;
            const auto outline = sf::outline_of(*plan, options);
            REQUIRE(outline);
            const temporary_directory directory;
            const auto done = sf::rewrite(*plan, directory / "out", options);
            REQUIRE(done);
            CHECK(done->shard_count == outline->shard_count());
            std::set<std::string> names;
            for (std::uint32_t shard = 0; shard < outline->shard_count(); ++shard) {
                const std::string path =
                    directory / ("out/" + std::string{outline->shard_file(shard).view()});
                names.insert(std::string{outline->shard_file(shard).view()});
                const auto file = sf::tensor_file::open(path);
                REQUIRE(file);
                CHECK(file->header().header_bytes() % alignment == 0);
                const auto header = outline->header_of(shard);
                CHECK(header->file_bytes == std::filesystem::file_size(path));
                CHECK(string_of(header->bytes.view()) ==
                      read_file(path).substr(0, header->bytes.size()));
                REQUIRE(file->size() == outline->tensors_of(shard).size());
                for (std::size_t i = 0; i < file->size(); ++i)
                    CHECK(file->offset_bytes(file->index_of(
                              plan->tensors()[outline->tensors_of(shard)[i]].name)) ==
                          header->offsets[i]);
            }
            const auto index = outline->index();
            if (outline->shard_count() > 1) {
                CHECK(string_of(index->view()) ==
                      read_file(directory / "out/model.safetensors.index.json"));
                names.insert("model.safetensors.index.json");
            } else {
                CHECK(index->empty());
            }
            CHECK(files_in(directory / "out") ==
                  std::vector<std::string>{names.begin(), names.end()});
        }
}

TEST_CASE(
    "rewrite: shards that equal files of the source are reported, and may become hard links") {
    // layer 0 is fused already and fills shards of its own; layer 1 is not
    const temporary_directory directory;
    tensors unfused;
    for (const char* layer : {"model.layers.0", "model.layers.1"})
        add_layer(unfused, layer, 4, 16, 16);
    write_model(directory / "unfused", unfused);
    const auto& family = sf::description_of<sf::families::qwen2_moe>;
    REQUIRE(rewrite_at(directory / "unfused", directory / "fused", family, in_shards_of(5000)));
    const auto fused = sf::checkpoint::open(directory / "fused");
    const auto same = sf::rewrite_plan::make(*fused, family),
               changed = sf::rewrite_plan::make(*fused, family, sf::direction::inverse);
    // fused experts are outputs of a scope, the others pass through; the inverse of a fused
    // checkpoint passes all through
    const auto passes = sf::rewrite_plan::make(*fused, family, sf::direction::inverse);
    REQUIRE((same && changed && passes));
    const auto counted = [&](const sf::rewrite_plan& plan, const sf::rewrite_options& options) {
        const auto outline = sf::outline_of(plan, options);
        REQUIRE(outline);
        std::uint32_t unchanged = 0;
        for (std::uint32_t shard = 0; shard < outline->shard_count(); ++shard) {
            const auto source = sf::unchanged_source(plan, *outline, shard);
            REQUIRE(source);
            if (*source == sf::no_source) continue;
            ++unchanged;
            CHECK(std::filesystem::path{std::string{plan.set().source_name(*source)}}.filename() ==
                  std::string{outline->shard_file(shard).view()});
        }
        return unchanged;
    };
    const std::uint32_t shards = static_cast<std::uint32_t>(fused->file_count());
    REQUIRE(shards > 2);
    CHECK(counted(*same, in_shards_of(5000)) == shards);
    CHECK(counted(*same, in_shards_of(sf::default_shard_bytes)) == 0);
    sf::rewrite_options other = in_shards_of(5000);
    other.metadata = {};
    CHECK(counted(*same, other) == 0);
    CHECK(counted(*changed, in_shards_of(5000)) < shards);

    for (const sf::sharing share : {sf::sharing::nothing, sf::sharing::blocks, sf::sharing::files})
        for (const sf::durability wait : {sf::durability::renamed, sf::durability::synced}) {
            const std::string to = directory / ("out" + std::to_string(static_cast<int>(share)) +
                                                std::to_string(static_cast<int>(wait)));
            sf::rewrite_options options = in_shards_of(5000);
            options.share = share;
            options.wait = wait;
            const auto done = sf::rewrite(*same, to, options);
            REQUIRE(done);
            CHECK(done->linked_shard_count == (share == sf::sharing::files ? shards : 0));
            for (const std::string& name : files_in(directory / "fused")) {
                CHECK(read_file(to + '/' + name) == read_file(directory / ("fused/" + name)));
                if (name.ends_with(".safetensors"))
                    CHECK(std::filesystem::equivalent(to + '/' + name,
                                                      directory / ("fused/" + name)) ==
                          (share == sf::sharing::files));
            }
            // some shards are linked, the others are written
            options.max_shard_bytes = 5000;
            const auto partly = sf::rewrite(*changed, to + "-changed", options);
            REQUIRE(partly);
            const auto out = sf::checkpoint::open(to + "-changed");
            REQUIRE(out);
            CHECK(sf::verify_rewritten(*changed, *out));
        }
}

TEST_CASE("rewrite: a source that is truncated meanwhile is a failure, and leaves no file") {
    const temporary_directory directory;
    tensors unfused;
    add_layer(unfused, "model.layers.0", 4, 16, 16);
    for (const std::uint64_t keep :
         {std::uint64_t{0}, std::uint64_t{100}, std::uint64_t{4000}, std::uint64_t{6000}}) {
        CAPTURE(keep);
        write_model(directory / "in", unfused);
        const auto checkpoint = sf::positional_checkpoint::open(directory / "in");
        const auto plan =
            sf::rewrite_plan::make(*checkpoint, sf::description_of<sf::families::qwen2_moe>);
        REQUIRE(plan);
        std::filesystem::resize_file(directory / "in/model.safetensors", keep);
        const auto done = sf::rewrite(*plan, directory / "out", quick);
        REQUIRE(!done);
        CHECK(done.error().code == sf::errc::file_changed);
        CHECK(done.error().file == directory / "in/model.safetensors");
        CHECK(files_in(directory / "out").empty());
        CHECK(!sf::checkpoint::open(directory / "out"));
    }
}

namespace {

// Layouts with strided copies: those of engines, and that of gpt-oss.
using gate = sf::layouts::gate;
using up = sf::layouts::up;
using down = sf::layouts::down;
template <class GateUp, class Down>
using into = sf::layout<sf::parameter_suffixes, sf::tensor<"gate_up_proj", GateUp>,
                        sf::tensor<"down_proj", Down>>;

template <class Model>
struct strided : sf::family<"strided", sf::layouts::per_expert, Model> {};
struct rows_in_turn : strided<into<sf::stack<sf::interleave<0, 1, gate, up>>, sf::stack<down>>> {};
struct groups_in_turn
    : strided<
          into<sf::stack<sf::interleave<0, 4, up, gate>>, sf::stack<sf::transpose<0, 1, down>>>> {};
struct transposed : strided<into<sf::stack<sf::transpose<0, 1, sf::concat<0, gate, up>>>,
                                 sf::stack<sf::transpose<0, 1, down>>>> {};
struct columns_in_turn
    : strided<into<sf::stack<sf::transpose<0, 1, sf::interleave<0, 1, gate, up>>>,
                   sf::stack<sf::transpose<0, 1, down>>>> {};
struct experts_inside : strided<into<sf::transpose<0, 1, sf::stack<sf::concat<0, gate, up>>>,
                                     sf::transpose<0, 2, sf::stack<down>>>> {};

/// Checks that rewrites with strided copies equal fuse() in memory, and can be inverted.
template <class Family>
void check_strided(const tensors& unfused, const sf::plan_options& options = {}) {
    const temporary_directory directory;
    write_model(directory / "in", unfused);
    const auto checkpoint = sf::checkpoint::open(directory / "in");
    REQUIRE(checkpoint);

    const auto scopes = sf::experts_scopes::find(*checkpoint, sf::description_of<Family>);
    REQUIRE(scopes);
    tensors expected;
    for (const auto& [name, each] : unfused)
        if (name.find(".experts.") == std::string::npos) expected[name] = each;
    for (std::size_t s = 0; s < scopes->size(); ++s) {
        const auto plan = sf::plan(*checkpoint, (*scopes)[s], sf::description_of<Family>,
                                   sf::direction::forward, options);
        REQUIRE(plan);
        for (const sf::plan_output& output : plan->outputs()) {
            stored made{output.type,
                        {output.shape.begin(), output.shape.end()},
                        std::string(static_cast<std::size_t>(output.size_bytes), '?')};
            REQUIRE(
                sf::fuse(*plan, output.local_name, std::as_writable_bytes(std::span{made.data})));
            expected[std::string{output.name}] = std::move(made);
        }
    }
    REQUIRE(rewrite_at<sf::mapped_file>(directory / "in", directory / "mapped",
                                        sf::description_of<Family>, quick, options));
    check_same(tensors_at(directory / "mapped"), expected);
    REQUIRE(rewrite_at<sf::positional_file>(directory / "in", directory / "positional",
                                            sf::description_of<Family>, in_shards_of(1000),
                                            options));
    check_same(tensors_at(directory / "positional"), expected);
    if (options.end_expert != sf::unknown || !options.sliced_extent.empty()) return;
    REQUIRE(rewrite_at<sf::mapped_file>(directory / "positional", directory / "back",
                                        sf::description_of<Family>.in(sf::direction::inverse)));
    check_same(tensors_at(directory / "back"), unfused);
    REQUIRE(rewrite_at<sf::positional_file>(directory / "mapped", directory / "back_again",
                                            sf::description_of<Family>.in(sf::direction::inverse),
                                            in_shards_of(1000)));
    check_same(tensors_at(directory / "back_again"), unfused);
    const auto mapped = sf::positional_checkpoint::open(directory / "mapped");
    const auto plan = sf::rewrite_plan::make(*checkpoint, sf::description_of<Family>);
    CHECK(sf::verify_rewritten(*plan, *mapped));
}

}  // namespace

TEST_CASE_TEMPLATE("rewrite: strided layouts give what fuse gives, and unfuse to the source",
                   Family, rows_in_turn, groups_in_turn, transposed, columns_in_turn,
                   experts_inside) {
    for (const std::uint64_t experts : {1u, 2u, 11u})
        for (const auto& extents : {std::pair{4u, 6u}, std::pair{8u, 1u}, std::pair{12u, 5u}}) {
            const std::uint64_t inner = extents.first, hidden = extents.second;
            CAPTURE(experts);
            CAPTURE(inner);
            tensors unfused;
            add_layer(unfused, "model.layers.0", experts, inner, hidden);
            add_layer(unfused, "model.layers.1", experts, inner, hidden, 1, sf::dtype::boolean);
            check_strided<Family>(unfused);
        }
}

TEST_CASE_TEMPLATE("rewrite: strided outputs larger than the buffer are complete", Family,
                   rows_in_turn, groups_in_turn, transposed, experts_inside) {
    // gate_up_proj: 3 x 800 x 260 x 8 bytes: larger than the buffer and no multiple of it.
    tensors unfused;
    add_layer(unfused, "model.layers.0", 3, 400, 260, 8, sf::dtype::f64);
    REQUIRE(3 * 800 * 260 * 8 > sf::rewrite_buffer_bytes);
    check_strided<Family>(unfused);
}

namespace {

/// A file that counts how often each of its bytes is read.
class counting_file {
public:
    static inline std::map<std::string, std::vector<std::uint8_t>> counts;

    static sf::result<counting_file> open(std::string_view path) noexcept {
        auto opened = sf::positional_file::open(path);
        if (!opened) return std::move(opened).error();
        counting_file made;
        made.file_ = std::move(*opened);
        counts[std::string{path}].assign(static_cast<std::size_t>(made.file_.size_bytes()), 0);
        return made;
    }
    std::uint64_t size_bytes() const noexcept { return file_.size_bytes(); }
    std::span<const std::byte> bytes() const noexcept { return {}; }
    sf::result<void> read(std::uint64_t offset, std::span<std::byte> out) const noexcept {
        auto done = file_.read(offset, out);
        for (std::size_t i = 0; done && i < out.size(); ++i)
            ++counts[std::string{file_.path()}][static_cast<std::size_t>(offset) + i];
        return done;
    }
    void advise(std::uint64_t, std::uint64_t, sf::advice) const noexcept {}

private:
    sf::positional_file file_;
};
static_assert(sf::file_source<counting_file>);

}  // namespace

TEST_CASE_TEMPLATE("rewrite: every byte of the source is read once", Family,
                   sf::families::qwen2_moe, rows_in_turn, groups_in_turn, transposed,
                   columns_in_turn, experts_inside) {
    tensors unfused;  // several buffers, and no multiple of one
    add_layer(unfused, "model.layers.0", 3, 400, 260, 8, sf::dtype::f64);
    add_layer(unfused, "model.layers.1", 2, 20, 30);
    const temporary_directory directory;
    write_model(directory / "in", unfused);
    const std::string file = directory / "in/model.safetensors";
    const auto checkpoint = sf::basic_checkpoint<counting_file>::open(directory / "in");
    REQUIRE(checkpoint);
    const auto plan = sf::rewrite_plan::make(*checkpoint, sf::description_of<Family>);
    REQUIRE(plan);
    const auto header_bytes =
        static_cast<std::ptrdiff_t>(checkpoint->file(0).header().header_bytes());
    std::vector<std::uint8_t>& counts = counting_file::counts[file];
    std::fill(counts.begin(), counts.end(), std::uint8_t{0});
    REQUIRE(sf::rewrite(*plan, directory / "out", quick));
    CHECK(std::all_of(counts.begin(), counts.begin() + header_bytes,
                      [](std::uint8_t count) { return count == 0; }));
    const auto twice = std::count_if(counts.begin() + header_bytes, counts.end(),
                                     [](std::uint8_t count) { return count != 1; });
    CHECK(twice == 0);
    counting_file::counts.clear();
}

TEST_CASE_TEMPLATE("rewrite: experts without elements stay experts without elements", Family,
                   sf::families::qwen2_moe, rows_in_turn, transposed) {
    tensors unfused;
    add_layer(unfused, "model.layers.0", 2, 0, 3);
    add_layer(unfused, "model.layers.1", 2, 4, 0);
    add_layer(unfused, "model.layers.2", 1, 0, 0);
    check_strided<Family>(unfused);
}

TEST_CASE("rewrite: a range of experts and one rank's slice are rewritten like whole experts") {
    tensors unfused;
    add_layer(unfused, "model.layers.0", 11, 8, 6);
    add_layer(unfused, "model.layers.1", 11, 8, 6);
    check_strided<sf::families::qwen2_moe>(unfused, {.first_expert = 3, .end_expert = 9});
    check_strided<sf::families::qwen2_moe>(
        unfused, {.sliced_extent = "I", .slice_first = 2, .slice_end = 5});
    check_strided<transposed>(unfused, {.first_expert = 10,
                                        .end_expert = 11,
                                        .sliced_extent = "H",
                                        .slice_first = 0,
                                        .slice_end = 1});
}

#if defined(__linux__)
TEST_CASE_TEMPLATE(
    "rewrite: memory does not grow with the checkpoint, neither anonymous nor the mapped pages of "
    "the source",
    Source, sf::mapped_file, sf::positional_file) {
    // 151 MB of holes: 2 layers of 4 experts of 3 matrices of 6.3 MB
    const temporary_directory directory;
    std::string header{"{"};
    std::uint64_t end = 0;
    for (int layer = 0; layer < 2; ++layer)
        for (int e = 0; e < 4; ++e)
            for (const std::string part : {"gate_proj", "up_proj", "down_proj"}) {
                const std::uint64_t begin = end;
                end += 2048 * 1536 * 2;
                header += (header.size() > 1 ? ",\"" : "\"") +
                          ("model.layers." + std::to_string(layer) + ".mlp.experts." +
                           std::to_string(e) + '.') +
                          part + R"(.weight":{"dtype":"BF16","shape":)" +
                          (part == "down_proj" ? "[2048,1536]" : "[1536,2048]") +
                          ",\"data_offsets\":[" + std::to_string(begin) + ',' +
                          std::to_string(end) + "]}";
            }
    const std::string start = support::framed(header + '}');
    std::filesystem::create_directory(directory / "in");
    write_file(directory / "in/model.safetensors", start);
    std::filesystem::resize_file(directory / "in/model.safetensors", start.size() + end);

    const auto run = [&](const std::string& from, const std::string& to,
                         const sf::family_description& family, std::uint64_t most_resident_mib) {
        const memory_in_use before = memory_now();
        REQUIRE(before.anonymous > 0);
        memory_in_use most;
        auto watch = [&](const sf::run_progress&) {
            const memory_in_use now = memory_now();
            most.anonymous = std::max(most.anonymous, now.anonymous);
            most.resident = std::max(most.resident, now.resident);
            return true;
        };
        {
            const auto checkpoint = sf::basic_checkpoint<Source>::open(from);
            REQUIRE(checkpoint);
            const auto plan = sf::rewrite_plan::make(*checkpoint, family);
            REQUIRE(plan);
            REQUIRE(sf::rewrite(*plan, to, in_shards_of(60'000'000), watch));
            const auto other = sf::basic_checkpoint<Source>::open(to);
            REQUIRE(sf::verify_rewritten(*plan, *other, watch));
        }
        const std::uint64_t anonymous_kib =
            (most.anonymous - std::min(most.anonymous, before.anonymous)) / 1024;
        const std::uint64_t resident_kib =
            (most.resident - std::min(most.resident, before.resident)) / 1024;
        CAPTURE(family.name);
        CAPTURE(anonymous_kib);
        CAPTURE(resident_kib);
        CHECK(most.resident > 0);
        CHECK(anonymous_kib < most_grown_kib);
        CHECK(resident_kib < most_grown_kib + most_resident_mib * 1024);
    };
    run(directory / "in", directory / "transposed", sf::description_of<transposed>,
        56);  // a matrix of gate, one of up, and those in the other file
    std::filesystem::remove_all(directory / "transposed");
    run(directory / "in", directory / "fused", sf::description_of<sf::families::qwen2_moe>,
        36);  // 8 MiB of each of two files, and other memory
    std::filesystem::remove_all(directory / "in");
    run(directory / "fused", directory / "back",
        sf::description_of<sf::families::qwen2_moe>.in(sf::direction::inverse), 36);
}
#endif
