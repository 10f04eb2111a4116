#include <safefuse/layouts/known.hpp>

#include <doctest/doctest.h>

#include <set>
#include <string>
#include <string_view>

#include <safefuse/checkpoint.hpp>
#include <safefuse/rewrite.hpp>

#include "support.hpp"

namespace sf = safefuse;
using support::temporary_directory;

namespace {

const std::string fixtures = SAFEFUSE_TEST_DATA "/transformers/";

/// What detect_family makes of a checkpoint: a family's name, or the code of its failure.
std::string detected(const sf::checkpoint& checkpoint, bool unfuse = false) {
    const auto family = sf::detect_family(checkpoint, unfuse);
    if (family) return std::string{(*family)->fuse.name};
    CHECK(!family.error().detail.empty());
    return family.error().code == sf::errc::ambiguous_family ? "ambiguous: " + std::string{family.error().detail.view()}
           : family.error().code == sf::errc::unknown_family ? "unknown"
                                                              : std::string{sf::sentence(family.error().code)};
}
std::string detected(const std::string& path, bool unfuse = false) { return detected(sf::checkpoint::open(path).value(), unfuse); }

std::string detected_of(std::initializer_list<const char*> names, bool unfuse = false) {
    const temporary_directory directory;
    std::vector<support::tensor> tensors;
    for (const char* name : names) tensors.push_back(support::u8(name, {1, 1}));
    support::write_tensor_file(directory / "model.safetensors", tensors);
    return detected(directory.string(), unfuse);
}

}  // namespace

TEST_CASE("known families: each name and each model type belongs to one family") {
    std::set<std::string_view> seen;
    for (const sf::known_family& each : sf::known_families) {
        CAPTURE(each.fuse.name);
        CHECK(sf::find_family(each.fuse.name) == &each);
        bool is_own_type = false;
        for (const std::string_view type : each.fuse.model_types) {
            CAPTURE(type);
            CHECK(sf::find_family(type) == &each);
            CHECK(seen.insert(type).second);
            is_own_type = is_own_type || type == each.fuse.name;
        }
        CHECK(is_own_type);
        CHECK(sf::known_family_names().view().find(each.fuse.name) != std::string_view::npos);
    }
}

TEST_CASE("known families: a name must be one of them, whole") {
    CHECK(sf::find_family("glm_moe_dsa") == sf::find_family("qwen2_moe"));
    for (const char* name : {"", "gpt2", "qwen2_mo", "qwen2_moe_", "Qwen2_moe"}) CHECK(sf::find_family(name) == nullptr);
}

TEST_CASE("known families: the way back is the way there, turned round") {
    for (const sf::known_family& each : sf::known_families) {
        CAPTURE(each.fuse.name);
        CHECK(each.unfuse.name == each.fuse.name);
        CHECK(each.unfuse.from == each.fuse.to);
        CHECK(each.unfuse.to == each.fuse.from);
        CHECK(each.unfuse.from_module == each.fuse.to_module);
        CHECK(each.unfuse.to_module == each.fuse.from_module);
        REQUIRE(each.unfuse.renames.size() == each.fuse.renames.size());
        for (std::size_t i = 0; i < each.fuse.renames.size(); ++i) {
            const auto& there = each.fuse.renames[i];
            const auto& back = each.unfuse.renames[each.fuse.renames.size() - 1 - i];
            CHECK(back.from == there.to);
            CHECK(back.to == there.from);
            CHECK(back.at_start == there.at_start);
        }
    }
}

TEST_CASE("detect: the names of a stored checkpoint tell its family, or that they cannot") {
    CHECK(detected(fixtures + "qwen3_moe/checkpoint") == "qwen2_moe");
    CHECK(detected(fixtures + "glm_moe_dsa/checkpoint") == "qwen2_moe");
    CHECK(detected(fixtures + "deepseek_v3/checkpoint") == "qwen2_moe");
    CHECK(detected(fixtures + "ernie4_5_moe/checkpoint") == "ernie4_5_moe");
    CHECK(detected(fixtures + "hy_v3/checkpoint") == "hy_v3");
    CHECK(detected(fixtures + "jamba/checkpoint") == "jamba");
    CHECK(detected(fixtures + "nemotron_h/checkpoint") == "nemotron_h");
    CHECK(detected(fixtures + "granitemoe/checkpoint") == "granitemoe");
    // these two store the same names and load them under different ones: a guess would be wrong half of the time
    CHECK(detected(fixtures + "mixtral/checkpoint") == "ambiguous: mixtral, phimoe");
    CHECK(detected(fixtures + "minimax_m2/checkpoint") == "ambiguous: mixtral, phimoe");
    CHECK(detected(fixtures + "phimoe/checkpoint") == "ambiguous: mixtral, phimoe");

    CHECK(detected_of({"model.layers.0.mlp.experts.0.up_proj.weight", "model.layers.0.mlp.e_score_correction_bias"}) == "exaone_moe");
    CHECK(detected_of({"model.layers.0.feed_forward.experts.0.w1.weight"}) == "lfm2_moe");
    CHECK(detected_of({"model.layers.0.mixer.experts.0.up_proj.weight"}) == "nemotron_h");
}

TEST_CASE("detect: a family is never guessed from the model's names where several make them") {
    for (const std::string type : {"qwen3_moe", "deepseek_v3", "mixtral", "phimoe", "ernie4_5_moe", "hy_v3", "nemotron_h", "granitemoe"}) {
        CAPTURE(type);
        const temporary_directory directory;
        const auto checkpoint = sf::checkpoint::open(fixtures + type + "/checkpoint");
        const auto plan = sf::rewrite_plan::make(*checkpoint, sf::find_family(type)->fuse);
        REQUIRE(plan);
        REQUIRE(sf::rewrite(*plan, directory / "out", {.wait = sf::durability::renamed}));
        const std::string found = detected(directory / "out", true);
        CAPTURE(found);
        if (type == "nemotron_h" || type == "granitemoe") {
            CHECK(found == type);
        } else {
            CHECK(found.starts_with("ambiguous: "));
            CHECK(found.find(sf::find_family(type)->fuse.name) != std::string::npos);
        }
        CHECK(detected(directory / "out") == "unknown");  // there is nothing to fuse
    }
}

TEST_CASE("detect: without experts that it knows, it says what it knows") {
    CHECK(detected_of({}) == "unknown");
    CHECK(detected_of({"model.embed_tokens.weight"}) == "unknown");
    CHECK(detected_of({"model.layers.0.mlp.experts.0.wide_proj.weight"}) == "unknown");
    const temporary_directory directory;
    support::write_tensor_file(directory / "model.safetensors", {});
    const auto checkpoint = sf::checkpoint::open(directory.string());
    CHECK(sf::detect_family(*checkpoint).error().detail.view().find("qwen2_moe") != std::string_view::npos);
}
