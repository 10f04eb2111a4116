// What names alone say about a checkpoint, in which form experts are stored, and what is remembered
// of it.
#include <safefuse/detect/stored_spelling.hpp>

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <safefuse/detect/detect_experts.hpp>
#include <safefuse/detect/stored_form.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/read/model_config.hpp>
#include <safefuse/write/rewrite_plan.hpp>

#include "../../support/support.hpp"

namespace sf = safefuse;
using support::temporary_directory;

namespace {

support::tensor bf16(const std::string& name, std::vector<std::uint64_t> shape) {
    std::uint64_t size = 2;
    for (const std::uint64_t extent : shape) size *= extent;
    return {name, "BF16", std::move(shape), std::string(static_cast<std::size_t>(size), 'x')};
}

/// Two experts under `scope`, with one matrix for each part.
std::vector<support::tensor> experts(const std::string& scope,
                                     std::vector<std::string> parts = {"gate_proj", "up_proj",
                                                                       "down_proj"}) {
    std::vector<support::tensor> out;
    for (const char* expert : {"0", "1"})
        for (std::size_t p = 0; p < parts.size(); ++p)
            out.push_back(
                bf16(scope + "." + expert + "." + parts[p] + ".weight",
                     p == 2 ? std::vector<std::uint64_t>{6, 2} : std::vector<std::uint64_t>{2, 6}));
    return out;
}

sf::checkpoint opened(const temporary_directory& directory,
                      const std::vector<support::tensor>& tensors) {
    support::write_tensor_file(directory / "model.safetensors", tensors);
    return std::move(sf::checkpoint::open(directory.string())).value();
}

std::string name_of(const sf::result<sf::family_description>& family) {
    return family ? std::string{family->name}
                  : std::string{sf::sentence(family.error().code)} + ": " +
                        std::string{family.error().detail.view()};
}

}  // namespace

TEST_CASE("detect experts: gives what all matching families agree on, without a rename") {
    const temporary_directory directory;
    auto tensors = experts("model.layers.0.mlp.experts");
    tensors.push_back(bf16("model.layers.0.mlp.moe_statics.e_score_correction_bias",
                           {1, 2}));  // ERNIE renames it
    const auto checkpoint = opened(directory, tensors);
    const auto family = sf::detect_experts(checkpoint);
    REQUIRE(family);
    const auto plan = sf::rewrite_plan::make(checkpoint, *family);
    REQUIRE(plan);
    std::vector<std::string> names;
    for (const sf::tensor_spec& each : plan->tensors()) names.emplace_back(each.name);
    CHECK(names ==
          std::vector<std::string>{"model.layers.0.mlp.experts.down_proj",
                                   "model.layers.0.mlp.experts.gate_up_proj",
                                   "model.layers.0.mlp.moe_statics.e_score_correction_bias"});
}

TEST_CASE("detect experts: if experts would move to another module, the family must be named") {
    const temporary_directory directory;
    auto tensors = experts("model.layers.0.block_sparse_moe.experts", {"w1", "w3", "w2"});
    tensors.push_back(bf16("model.layers.0.block_sparse_moe.gate.weight", {2, 6}));
    const auto checkpoint = opened(directory, tensors);
    const auto found = name_of(sf::detect_experts(checkpoint));
    CHECK(found.find("more than one model family fits: ") == 0);
    CHECK(found.find("mixtral") != std::string::npos);
    CHECK(found.find("phimoe") != std::string::npos);
}

TEST_CASE(
    "detect experts: a checkpoint without experts is unknown_family, and fused experts are kept") {
    const temporary_directory directory;
    const auto dense = opened(directory, {bf16("model.layers.0.mlp.gate_proj.weight", {2, 6})});
    CHECK(sf::detect_experts(dense).error().code == sf::errc::unknown_family);
    CHECK(sf::detect_fused(dense).error().code == sf::errc::unknown_family);
    const temporary_directory other;
    const auto fused = opened(other, {bf16("a.mlp.experts.gate_up_proj", {2, 4, 6}),
                                      bf16("a.mlp.experts.down_proj", {2, 6, 2})});
    const auto kept = sf::detect_fused(fused);
    REQUIRE(kept);
    const auto plan = sf::rewrite_plan::make(fused, *kept);
    REQUIRE(plan);
    CHECK(plan->tensors()[1].name == "a.mlp.experts.gate_up_proj");
}

TEST_CASE(
    "stored forms: experts that a quantiser wrote one by one are found for each family that has "
    "the form") {
    const struct {
        const char* type;
        const char* scope;
    } all[] = {{"mixtral", "m.mlp.experts"},
               {"mixtral", "m.block_sparse_moe.experts"},
               {"qwen3_vl_moe", "m.mlp.experts"},
               {"llama4", "m.feed_forward.experts"},
               {"granitemoe", "m.block_sparse_moe.experts"},
               {"gpt_oss", "m.mlp.experts"},
               {"lara_mini", "m.mlp.experts"},
               {"step3p7", "m.mlp.experts"}};
    for (const auto& each : all) {
        CAPTURE(std::string{each.type});
        const temporary_directory directory;
        const auto checkpoint = opened(directory, experts(each.scope));
        const sf::family_description* const own = sf::find_family(each.type);
        const auto found = sf::with_stored_form_of(checkpoint, *own);
        REQUIRE(found);
        CHECK(found->from == &sf::layouts::per_expert::description);
        CHECK(found->to == own->to);
        CHECK(found->in(sf::direction::inverse).to == &sf::layouts::per_expert::description);
        const auto plan = sf::rewrite_plan::make(checkpoint, *found);
        REQUIRE(plan);
        CHECK(plan->tensors().size() == own->to->tensors.size());
        const auto named = sf::with_named_form(*own, "per-expert");
        REQUIRE(named);
        CHECK(named->in(sf::direction::inverse).to == &sf::layouts::per_expert::description);
        CHECK(sf::with_named_form(*own, "hub")->from == own->from);
        CHECK(name_of(sf::with_named_form(*own, "mine")).find("known are hub, per-expert") !=
              std::string::npos);
    }
}

TEST_CASE("stored forms: shared experts in a family that has none are unknown_experts") {
    const temporary_directory directory;
    auto tensors = experts("m.mlp.experts");
    tensors.push_back(bf16("m.mlp.shared_expert.gate_proj.weight", {2, 6}));
    const auto checkpoint = opened(directory, tensors);
    const auto found = sf::with_stored_form_of(checkpoint, *sf::find_family("mixtral"));
    REQUIRE(found);
    CHECK(found->from == sf::find_family("mixtral")->from);
    CHECK(sf::rewrite_plan::make(checkpoint, *found).error().code == sf::errc::unknown_experts);
}

TEST_CASE("stored spelling: an accepted spelling is recorded, and unfusing restores it") {
    const temporary_directory directory;
    auto tensors = experts("model.language_model.layers.0.mlp.experts");
    tensors.push_back(bf16("model.language_model.norm.weight", {6}));
    const auto checkpoint = opened(directory, tensors);
    const sf::family_description& own = *sf::find_family("qwen3_5_moe_text");
    const auto kept = sf::stored_spelling::of(checkpoint, own, own, true);
    REQUIRE(kept);
    CHECK(kept->lost_count == 0);
    CHECK(kept->value == "family=qwen3_5_moe_text;form=0;renames=^model.language_model>model");
    auto read = sf::stored_spelling::parse(kept->value);
    REQUIRE(read);
    const sf::stored_spelling moved = std::move(*read);  // family() points into it
    const auto back = moved.family();
    REQUIRE(back);
    CHECK(*sf::renamed(back->in(sf::direction::inverse), "model.norm.weight") ==
          "model.language_model.norm.weight");
    CHECK(*sf::renamed(*back, "model.language_model.norm.weight") == "model.norm.weight");
}

TEST_CASE("stored spelling: the hub's spelling is not recorded") {
    const temporary_directory directory;
    auto tensors = experts("model.layers.0.block_sparse_moe.experts", {"w1", "w3", "w2"});
    tensors.push_back(bf16("model.layers.0.block_sparse_moe.gate.weight", {2, 6}));
    const sf::family_description& own = *sf::find_family("mixtral");
    const auto checkpoint = opened(directory, tensors);
    const auto kept = sf::stored_spelling::of(checkpoint, own, own, true);
    REQUIRE(kept);
    CHECK(kept->value.empty());
}

TEST_CASE("stored spelling: names that cannot be restored are counted and one is named") {
    const temporary_directory directory;
    // two spellings in one checkpoint: no inverse restores both
    auto tensors = experts("model.layers.0.mlp.experts");
    tensors.push_back(bf16("model.language_model.norm.weight", {6}));
    const sf::family_description& own = *sf::find_family("qwen3_5_moe_text");
    const auto checkpoint = opened(directory, tensors);
    const auto kept = sf::stored_spelling::of(checkpoint, own, own, true);
    REQUIRE(kept);
    CHECK(kept->lost_count == 1);
    CHECK(kept->first_lost == "model.layers.0.");
    CHECK(kept->first_lost_becomes == "model.language_model.layers.0.");
}

TEST_CASE("stored spelling: malformed text and unknown families are refused") {
    for (const std::string value : {"", "family", "family=", "form=1", "family=mixtral;form=x",
                                    "family=mixtral;form=99999", "family=mixtral;renames=a",
                                    "family=mixtral;renames=a..b>c", "nonsense=1;family=mixtral"}) {
        CAPTURE(value);
        CHECK_FALSE(sf::stored_spelling::parse(value));
    }
    CHECK(sf::stored_spelling::parse("family=nobody;form=0")->family().error().code ==
          sf::errc::unknown_family);
    CHECK(sf::stored_spelling::parse("family=mixtral;form=7")->family().error().code ==
          sf::errc::unknown_family);
}

TEST_CASE("config: the count is the one under the model type's own key") {
    const auto count = [](const std::string& json, std::string_view type) {
        return sf::model_config::parse(support::bytes_of(json)).value().expert_count_for(type);
    };
    CHECK(count(R"({"n_routed_experts": 4, "num_experts": 1})", "deepseek_v3") == 4);
    CHECK(count(R"({"num_local_experts": 4, "num_experts": 0})", "mixtral") == 4);
    CHECK(count(R"({"num_local_experts": 8})", "deepseek_v3") == sf::unknown);
    CHECK(count(R"({"num_experts": 8})", "qwen3_moe") == 8);
    CHECK(count(R"({"num_local_experts": 8})", "qwen3_moe") == 8);
    CHECK(count(R"({"text_config": {"num_local_experts": 8}, "num_local_experts": 3})", "llama4") ==
          8);
    CHECK(count(R"({"llm_config": {"num_experts": 8}})", "qwen3_moe") == 8);
    // for an unknown type, all keys must agree
    CHECK(count(R"({"num_experts": 8, "n_routed_experts": 8})", "new") == 8);
    CHECK(count(R"({"num_experts": 8, "n_routed_experts": 4})", "new") == sf::unknown);
}

TEST_CASE("config: a file that is not JSON is described by its kind") {
    const auto why = [](const std::string& text) {
        return std::string{
            sf::model_config::parse(support::bytes_of(text)).error().message().view()};
    };
    CHECK(why("\xEF\xBB\xBF{}").find("byte order mark") != std::string::npos);
    CHECK(why("").find("empty") != std::string::npos);
    CHECK(why("version https://git-lfs.github.com/spec/v1\n").find("Git LFS pointer") !=
          std::string::npos);
}

TEST_CASE(
    "first bytes: other kinds of files are named, and broken headers are not taken for them") {
    const auto why = [](std::string bytes) {
        const temporary_directory directory;
        support::write_file(directory / "model.safetensors", bytes);
        const auto file = sf::checkpoint::open(directory.string());
        return file ? std::string{} : std::string{file.error().message().view()};
    };
    using namespace std::string_literals;
    CHECK(why("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
              .find("a Git LFS pointer") != std::string::npos);
    CHECK(why("<!DOCTYPE html><html></html>").find("HTML") != std::string::npos);
    CHECK(why("PK\x03\x04"s + std::string(60, '\0')).find("zip archive") != std::string::npos);
    CHECK(why("GGUF\x03\0\0\0"s + std::string(60, '\0')).find("GGUF") != std::string::npos);
    CHECK(why("\x1f\x8b\x08\0"s + std::string(60, 'x')).find("gzip") != std::string::npos);
    CHECK(why("").find("the file is empty") != std::string::npos);
    CHECK(why(std::string(300, '\0')).find("zeros") != std::string::npos);
    // the length 640 has the first bytes of a pickle
    CHECK(why("\x80\x02\0\0\0\0\0\0{\"a\":"s + std::string(640, ' ')).find("pickle") ==
          std::string::npos);
}
