#include <safefuse/detect/detect.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <safefuse/read/checkpoint.hpp>
#include <safefuse/run/fuse.hpp>
#include <safefuse/write/rewrite.hpp>

#include "../../support/laws.hpp"
#include "../../support/support.hpp"

namespace sf = safefuse;
using support::temporary_directory;

namespace {

const std::string fixtures = SAFEFUSE_TEST_DATA "/transformers/";

/// The result of detect_family for a checkpoint: a family's name, or the code of its failure.
std::string detected(const sf::checkpoint& checkpoint, sf::direction way = sf::direction::forward) {
    const auto family = sf::detect_family(checkpoint, way);
    if (family) return std::string{(*family)->name};
    CHECK(!family.error().detail.empty());
    return family.error().code == sf::errc::ambiguous_family
               ? "ambiguous: " + std::string{family.error().detail.view()}
           : family.error().code == sf::errc::unknown_family
               ? "unknown"
               : std::string{sf::sentence(family.error().code)};
}
std::string detected(const std::string& path, sf::direction way = sf::direction::forward) {
    return detected(sf::checkpoint::open(path).value(), way);
}

std::string detected_of(std::initializer_list<const char*> names,
                        sf::direction way = sf::direction::forward) {
    const temporary_directory directory;
    std::vector<support::tensor> tensors;
    for (const char* name : names) tensors.push_back(support::u8(name, {1, 1}));
    support::write_tensor_file(directory / "model.safetensors", tensors);
    return detected(directory.string(), way);
}

}  // namespace

TEST_CASE("known families: each name and each model type belongs to one family") {
    std::set<std::string_view> seen;
    for (const sf::family_description& each : sf::shipped_families::all) {
        CAPTURE(each.name);
        CHECK(sf::find_family(each.name) == &each);
        bool is_own_type = false;
        for (const std::string_view type : each.model_types) {
            CAPTURE(type);
            CHECK(sf::find_family(type) == &each);
            CHECK(seen.insert(type).second);
            is_own_type = is_own_type || type == each.name;
        }
        CHECK(is_own_type);
        CHECK(sf::family_names().view().find(each.name) != std::string_view::npos);
    }
}

TEST_CASE("known families: a name must match one of them completely") {
    CHECK(sf::find_family("glm_moe_dsa") == sf::find_family("qwen2_moe"));
    for (const char* name : {"", "gpt2", "qwen2_mo", "qwen2_moe_", "Qwen2_moe"})
        CHECK(sf::find_family(name) == nullptr);
}

TEST_CASE("known families: unfusing is the inverse of fusing") {
    for (const sf::family_description& each : sf::shipped_families::all) {
        CAPTURE(each.name);
        const sf::family_description inverse = each.in(sf::direction::inverse);
        CHECK(inverse.name == each.name);
        CHECK(inverse.from == each.to);
        CHECK(inverse.to == each.from);
        CHECK(inverse.from_module == each.to_module);
        CHECK(inverse.to_module == each.from_module);
        std::vector<sf::rename_description> there, back;
        for (const sf::rename_description rename : each.renames)
            if (!rename.one_way) there.push_back(rename);
        for (const sf::rename_description rename : inverse.renames) back.push_back(rename);
        REQUIRE(back.size() == there.size());
        std::reverse(back.begin(), back.end());
        for (std::size_t i = 0; i < there.size(); ++i) {
            // a name of an older version becomes the newer name in both directions
            CHECK(back[i].from == (there[i].is_older ? there[i].from : there[i].to));
            CHECK(back[i].to == (there[i].is_older ? there[i].to : there[i].from));
            CHECK(back[i].at_start == there[i].at_start);
        }
    }
}

TEST_CASE(
    "detect: the names of a stored checkpoint decide its family, or detect says that they "
    "cannot") {
    CHECK(detected(fixtures + "qwen3_moe/checkpoint") == "qwen2_moe");
    CHECK(detected(fixtures + "glm_moe_dsa/checkpoint") == "qwen2_moe");
    CHECK(detected(fixtures + "deepseek_v3/checkpoint") == "qwen2_moe");
    CHECK(detected(fixtures + "ernie4_5_moe/checkpoint") == "ernie4_5_moe");
    CHECK(detected(fixtures + "hy_v3/checkpoint") == "hy_v3");
    CHECK(detected(fixtures + "jamba/checkpoint") == "jamba");
    CHECK(detected(fixtures + "nemotron_h/checkpoint") == "nemotron_h");
    CHECK(detected(fixtures + "granitemoe/checkpoint") == "granitemoe");
    // These two store the same names and load them under different ones: a guess would be wrong
    // half of the time.
    CHECK(detected(fixtures + "mixtral/checkpoint") == "ambiguous: mixtral, phimoe");
    CHECK(detected(fixtures + "minimax_m2/checkpoint") == "ambiguous: mixtral, phimoe");
    CHECK(detected(fixtures + "phimoe/checkpoint") == "ambiguous: mixtral, phimoe");

    CHECK(detected_of({"model.layers.0.mlp.experts.0.up_proj.weight",
                       "model.layers.0.mlp.e_score_correction_bias"}) == "exaone_moe");
    CHECK(detected_of({"model.layers.0.feed_forward.experts.0.w1.weight"}) == "lfm2_moe");
    CHECK(detected_of({"model.layers.0.mixer.experts.0.up_proj.weight"}) == "nemotron_h");
}

TEST_CASE("detect: a family is never guessed from names that several families make") {
    for (const std::string type : {"qwen3_moe", "deepseek_v3", "mixtral", "phimoe", "ernie4_5_moe",
                                   "hy_v3", "nemotron_h", "granitemoe"}) {
        CAPTURE(type);
        const temporary_directory directory;
        const auto checkpoint = sf::checkpoint::open(fixtures + type + "/checkpoint");
        const auto plan = sf::rewrite_plan::make(*checkpoint, *sf::find_family(type));
        REQUIRE(plan);
        REQUIRE(sf::rewrite(*plan, directory / "out", {.wait = sf::durability::renamed}));
        const std::string found = detected(directory / "out", sf::direction::inverse);
        CAPTURE(found);
        if (type == "nemotron_h") {
            CHECK(found == type);
        } else {
            CHECK(found.starts_with("ambiguous: "));
            CHECK(found.find(sf::find_family(type)->name) != std::string::npos);
        }
        CHECK(detected(directory / "out") == "unknown");  // there is nothing to fuse
    }
}

TEST_CASE("detect: without known experts, the failure lists what is known") {
    CHECK(detected_of({}) == "unknown");
    CHECK(detected_of({"model.embed_tokens.weight"}) == "unknown");
    CHECK(detected_of({"model.layers.0.mlp.experts.0.wide_proj.weight"}) == "unknown");
    const temporary_directory directory;
    support::write_tensor_file(directory / "model.safetensors", {});
    const auto checkpoint = sf::checkpoint::open(directory.string());
    CHECK(sf::detect_family(*checkpoint).error().detail.view().find("qwen2_moe") !=
          std::string_view::npos);
}

TEST_CASE("known families: visit_family calls the function with the type of the named family") {
    for (const sf::family_description& each : sf::shipped_families::all)
        for (const std::string_view type : each.model_types) {
            CAPTURE(type);
            int calls = 0;
            const bool found = sf::visit_family(type, [&]<class Family>() {
                ++calls;
                CHECK(Family::name == each.name);
                CHECK(sf::description_of<Family>.from == each.from);
            });
            CHECK(found);
            CHECK(calls == 1);
        }
    for (const char* name : {"", "gpt2", "qwen2_mo"})
        CHECK_FALSE(
            sf::visit_family(name, []<class Family>() { FAIL("no family has this name"); }));

    // a plan whose family name is known only at run time
    laws::packed_set set;
    for (const char* name : {"x.mlp.experts.0.gate_proj.weight", "x.mlp.experts.0.up_proj.weight"})
        set.add(name, sf::dtype::bf16, {3, 4});
    set.add("x.mlp.experts.0.down_proj.weight", sf::dtype::bf16, {4, 3});
    std::size_t outputs = 0;
    sf::visit_family("glm4_moe", [&]<class Family>() {
        outputs = sf::plan<Family>(set, "x.mlp.experts")->outputs().size();
    });
    CHECK(outputs == 2);
}

TEST_CASE("known families: gpt-oss, MXFP4 or not, can become experts with gate after up") {
    using fields = sf::suffixes<sf::suffix<sf::weight, "">, sf::suffix<sf::bias, "_bias">,
                                sf::suffix<sf::mxfp4_blocks, "_blocks">,
                                sf::suffix<sf::mxfp4_scales, "_scales">>;
    using gpt_oss_behind = sf::layout<
        fields,
        sf::tensor<"gate_up_proj", sf::stack<sf::concat<0, sf::layouts::gate, sf::layouts::up>>>,
        sf::tensor<"down_proj", sf::stack<sf::layouts::down>>>;
    constexpr std::uint64_t E = 2, I = 32, H = 64;
    const auto made = [](const laws::packed_set& set, const char* name) {
        const bool quantised = !set.bytes_of("moe.gate_up_proj_blocks").empty();
        auto plan = quantised ? sf::plan<sf::families::gpt_oss_mxfp4, gpt_oss_behind>(set, "moe")
                              : sf::plan<sf::families::gpt_oss::model, gpt_oss_behind>(set, "moe");
        if (!plan) FAIL(std::string{plan.error().message().view()});
        const auto output = plan->output(name);
        REQUIRE(output);
        std::vector<std::byte> bytes(static_cast<std::size_t>(output->size_bytes));
        REQUIRE(sf::fuse(*plan, name, bytes));
        return bytes;
    };
    laws::packed_set codes;
    codes.add("moe.gate_up_proj_blocks", sf::dtype::u8, {E, 2 * I, H / 32, 16});
    codes.add("moe.gate_up_proj_scales", sf::dtype::u8, {E, 2 * I, H / 32});
    codes.add("moe.gate_up_proj_bias", sf::dtype::bf16, {E, 2 * I});
    codes.add("moe.down_proj_blocks", sf::dtype::u8, {E, H, I / 32, 16});
    codes.add("moe.down_proj_scales", sf::dtype::u8, {E, H, I / 32});
    codes.add("moe.down_proj_bias", sf::dtype::bf16, {E, H});
    for (const std::string field : {"blocks", "scales", "bias"}) {
        CAPTURE(field);
        const std::size_t row = field == "blocks" ? H / 2 : field == "scales" ? H / 32 : 2;
        const auto from = codes.bytes_of("moe.gate_up_proj_" + field);
        const auto to = made(codes, ("gate_up_proj_" + field).c_str());
        REQUIRE(to.size() == from.size());
        std::size_t wrong = 0;
        for (std::size_t e = 0; e < E; ++e)
            for (std::size_t i = 0; i < I; ++i)
                for (std::size_t half = 0; half < 2; ++half)
                    for (std::size_t b = 0; b < row; ++b)
                        wrong += to[((e * 2 + half) * I + i) * row + b] !=
                                 from[((e * I + i) * 2 + half) * row + b];
        CHECK(wrong == 0);
        const auto down = made(codes, ("down_proj_" + field).c_str());
        CHECK(
            std::equal(down.begin(), down.end(), codes.bytes_of("moe.down_proj_" + field).begin()));
    }
    // Not quantised: the columns alternate between gate and up.
    laws::packed_set numbers;
    numbers.add("moe.gate_up_proj", sf::dtype::bf16, {E, H, 2 * I});
    numbers.add("moe.gate_up_proj_bias", sf::dtype::bf16, {E, 2 * I});
    numbers.add("moe.down_proj", sf::dtype::bf16, {E, I, H});
    numbers.add("moe.down_proj_bias", sf::dtype::bf16, {E, H});
    const auto from = numbers.bytes_of("moe.gate_up_proj"),
               down_from = numbers.bytes_of("moe.down_proj");
    const auto to = made(numbers, "gate_up_proj"), down_to = made(numbers, "down_proj");
    std::size_t wrong = 0;
    for (std::size_t e = 0; e < E; ++e)
        for (std::size_t i = 0; i < I; ++i)
            for (std::size_t h = 0; h < H; ++h)
                for (std::size_t b = 0; b < 2; ++b) {
                    for (std::size_t half = 0; half < 2; ++half)
                        wrong += to[(((e * 2 + half) * I + i) * H + h) * 2 + b] !=
                                 from[((e * H + h) * 2 * I + 2 * i + half) * 2 + b];
                    wrong += down_to[((e * H + h) * I + i) * 2 + b] !=
                             down_from[((e * I + i) * H + h) * 2 + b];
                }
    CHECK(wrong == 0);
}

TEST_CASE("known families: what config.json must provide is declared") {
    std::set<std::string> told;
    for (const sf::family_description& each : sf::shipped_families::all) {
        CHECK(each.in(sf::direction::inverse).config_extents.data() == each.config_extents.data());
        for (const sf::config_extent& extent : each.config_extents)
            told.insert(std::string{each.name} + " " + std::string{extent.name});
    }
    CHECK(told == std::set<std::string>{"kimi_k25 N", "lara_mini D", "lara_mini K", "lara_mini P",
                                        "lara_mini V", "mistral_large4 N", "qwen4_exp S",
                                        "qwen4_exp_text S", "sarvam_moe K", "sarvam_moe N",
                                        "sarvam_moe P", "step3p7 N"});
}

TEST_CASE(
    "detect: experts in a form that only one family has decide, with any other tensors beside "
    "them") {
    CHECK(detected_of({"model.layers.0.ffn.experts.0.w1.weight"}) == "deepseek_v4");
    CHECK(detected_of({"model.layers.0.moe.gate_proj.weight",
                       "model.layers.0.moe.up_proj.weight"}) == "step3p7");
    CHECK(detected_of({"llm.model.layers.0.mixer.experts.gate_and_up_projs"}) == "nemo_speechlm");
    CHECK(detected_of({"model.layers.0.block_sparse_moe.input_linear.weight"}) == "granitemoe");
}

TEST_CASE(
    "detect: a name that another family renames does not count for it if this family has the "
    "name too") {
    const auto experts = [](const std::string& prefix, std::vector<support::tensor> more) {
        const temporary_directory directory;
        for (const char* part : {"gate_proj", "up_proj"})
            more.push_back(support::u8(prefix + ".mlp.experts.0." + part + ".weight", {3, 4}));
        more.push_back(support::u8(prefix + ".mlp.experts.0.down_proj.weight", {4, 3}));
        support::write_tensor_file(directory / "model.safetensors", more);
        return detected(directory.string());
    };
    CHECK(experts("model.layers.0", {}) == "qwen2_moe");
    CHECK(experts("model.language_model.layers.0", {}) == "qwen2_moe");
    CHECK(experts("model.layers.0", {support::u8("model.layers.0.mlp.shared_expert.up_proj.weight",
                                                 {3, 4})}) == "qwen2_moe");
    // AFMoE keeps this name, A.X-K1 does not.
    CHECK(experts("model.layers.0", {support::u8("model.layers.0.post_mlp_layernorm.weight",
                                                 {4})}) == "ambiguous: qwen2_moe, axk1");
    // Gates without down matrices: zero-computation experts.
    CHECK(experts("model.layers.0",
                  {support::u8("model.layers.0.mlp.experts.1.gate_proj.weight", {3, 4}),
                   support::u8("model.layers.0.mlp.experts.1.up_proj.weight", {3, 4})}) ==
          "longcat_flash");
    CHECK(experts("model.layers.0",
                  {support::u8("model.layers.1.ple.ple_embedding.ngram_embedding.shard_0.weight",
                               {2, 4})}) == "qwen4_exp");
}

TEST_CASE(
    "detect: experts that cannot be planned count for the likeliest family, so that its plan "
    "says why") {
    CHECK(detected_of({"model.layers.0.mlp.experts.0.gate_proj.weight"}) == "qwen2_moe");
    CHECK(detected_of({"model.layers.0.mlp.experts.1.gate_proj.weight",
                       "model.layers.0.mlp.experts.1.up_proj.weight"}) == "qwen2_moe");
}

TEST_CASE(
    "detect: if only shapes decide the form, families that keep the form are candidates too") {
    const auto fused = [](std::vector<std::uint64_t> gate_up, std::vector<std::uint64_t> down) {
        const temporary_directory directory;
        support::write_tensor_file(directory / "model.safetensors",
                                   {support::u8("model.layers.0.mlp.experts.gate_up_proj", gate_up),
                                    support::u8("model.layers.0.mlp.experts.down_proj", down)});
        return detected(directory.string());
    };
    CHECK(fused({2, 6, 4}, {2, 4, 3}) == "unknown");  // as transformers stores them
    CHECK(fused({2, 4, 6}, {2, 3, 4}) == "ambiguous: qwen3_vl_moe, gpt_oss, openai_privacy_filter");
}
