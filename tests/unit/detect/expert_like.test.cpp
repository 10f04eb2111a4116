// Which names look like experts, without any family or shape.
#include <safefuse/detect/unknown_experts.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include <safefuse/detect/detect.hpp>
#include <safefuse/read/checkpoint.hpp>
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

/// Two layers of Qwen3 with two experts each; `rename` changes the names of layer 1.
template <class F>
std::vector<support::tensor> two_layers(F&& rename) {
    std::vector<support::tensor> out{bf16("model.norm.weight", {4})};
    for (const char* layer : {"0", "1"})
        for (const char* expert : {"0", "1"})
            for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
                const std::string name = std::string{"model.layers."} + layer + ".mlp.experts." +
                                         expert + "." + part + ".weight";
                const bool down = part[0] == 'd';
                out.push_back(bf16(
                    layer[0] == '0' ? name : rename(name),
                    down ? std::vector<std::uint64_t>{4, 2} : std::vector<std::uint64_t>{2, 4}));
            }
    return out;
}

std::string replaced(std::string name, const std::string& from, const std::string& to) {
    const std::size_t at = name.find(from);
    return at == std::string::npos ? name : name.replace(at, from.size(), to);
}

/// A checkpoint of these tensors in a directory of its own: Windows lets nobody write to a file
/// that is mapped.
sf::checkpoint open_new(const std::vector<support::tensor>& tensors,
                        const temporary_directory& directory) {
    static int count = 0;
    const std::string place = directory / std::to_string(++count);
    std::filesystem::create_directories(place);
    support::write_tensor_file(place + "/model.safetensors", tensors);
    return std::move(sf::checkpoint::open(place)).value();
}

sf::result<sf::rewrite_plan> plan_of(const std::vector<support::tensor>& tensors,
                                     const temporary_directory& directory, sf::checkpoint& opened,
                                     sf::plan_options options = {}) {
    opened = open_new(tensors, directory);
    return sf::rewrite_plan::make(opened, sf::description_of<sf::families::qwen2_moe>,
                                  sf::direction::forward, options);
}

}  // namespace

TEST_CASE("kept forms are the tensors of the layouts of kept experts") {
    const auto in = [](const sf::layout_description& layout, std::string_view local) {
        return sf::detail::match(layout, local).verdict == sf::detail::name_verdict::tensor;
    };
    const std::string module = "encoder.layers.1.mlp.experts",
                      heads = "layers.1.self_attention.experts";
    std::vector<std::string> fields{"", ".", ".lora_A", ".weight.", "_weight", "weight"};
    for (const sf::field_suffix& each : sf::module_suffixes::fields)
        fields.emplace_back(each.suffix);
    std::size_t kept = 0;
    for (const char* tensor :
         {"expert_0.wi", "expert_12.wo", "expert_3.fc1", "expert_3.fc2", "expert_3.fc3",
          "expert_07.wi", "expert_.wi", "input_linear", "output_linear", "bias"})
        for (const std::string& field : fields) {
            const std::string local = tensor + field;
            CAPTURE(local);
            const bool is_kept = in(sf::layouts::kept_wi_wo::description, local) ||
                                 in(sf::layouts::kept_fc12::description, local);
            kept += is_kept;
            CHECK(sf::detail::is_kept_form(module + "." + local, module.size() + 1) == is_kept);
            CHECK(sf::detail::is_kept_form(heads + "." + local, heads.size()) ==
                  (local == "bias" || in(sf::layouts::kept_heads::description, local)));
        }
    CHECK(kept == 4 * std::size(sf::module_suffixes::fields));
}

TEST_CASE(
    "expert-like: numbered children, parameters and fields of modules that are named like "
    "experts") {
    for (const std::string name : {
             "model.layers.0.mlp.experts.0.gate_proj.weight",
             "model.layers.0.mlp.experts.00.gate_proj.weight",
             "model.layers.0.mlp.experts.0.gate_proj.base_layer.weight",
             "model.layers.0.mlp.experts.0.gate_proj.lora_A.default.weight",
             "model.layers.0.mlp.experts.0.mlp.gate_proj.weight",
             "model.layers.0.mlp.experts.gate_up_proj",
             "model.layers.0.mlp.experts.w13_weight",
             "model.layers.0.mlp.experts.w2_weight_scale",
             "model.layers.0.mlp.experts.gate_up_projs.0.weight.quant_map",
             "model.layers.0.mlp.experts.0.gate_proj._weight_qdata",
             "model.layers.0.mlp.deepspeed_moe.experts.deepspeed_experts.0.gate_proj.weight",
             "decoder.layers.0.mlp.experts.local_experts.0.linear_fc1.weight",
             "decoder.layers.0.mlp.experts.linear_fc1.weight0",
             "model.layers.0.mlp.switch_mlp.gate_proj.scales",
             "model.layers.0.mlp.switch_glu.up_proj.weight",
             "encoder.block.1.layer.1.mlp.experts.expert_7.wi.weight",
             "model.layers.0.block_sparse_moe.0.w1.weight",
             "model.layers.0.block_sparse_moe.input_linear.weight",
             "model.layers.0.moe.w13_weight",
             "model.layers.0.mlp.expert.3.up_proj.weight",
             "model.layers.0.mlp.Experts.3.up_proj.weight",
             "model.layers.0.mlp.experts",
             "model.layers.0.mlp.experts_w1",
         }) {
        CAPTURE(name);
        CHECK(sf::detail::looks_like_expert(name));
    }
}

TEST_CASE(
    "expert-like: routers, shared experts, whole networks and dense layers are not expert-like") {
    for (const std::string name : {
             "model.layers.0.mlp.gate.weight",
             "model.layers.0.mlp.gate_proj.weight",
             "model.layers.0.mlp.shared_experts.gate_proj.weight",
             "model.layers.0.mlp.shared_experts.0.gate_proj.weight",
             "model.layers.0.mlp.shared_expert_gate.weight",
             "model.layers.0.mlp.experts.e_score_correction_bias",
             "model.layers.0.mlp.expert_bias",
             "model.layers.0.mlp.experts.gate.weight",
             "model.layers.0.mlp.router.per_expert_scale",
             "model.layers.0.block_sparse_moe.gate.weight",
             "model.layers.0.block_sparse_moe.shared_experts.w1.weight",
             "paligemma_with_expert.gemma_expert.model.layers.0.mlp.up_proj.weight",
             "model.layers.0.block_sparse_moe.down_proj.weight",
             "vision_tower.layers.0.block_sparse_moe.fc1.bias",
             "model.vision_tower.conv.0.weight",
             "model.layers.0.expertise.weight",
             "",
             ".",
             "..experts..",
         }) {
        CAPTURE(name);
        CHECK_FALSE(sf::detail::looks_like_expert(name));
    }
}

TEST_CASE(
    "expert-like: of transformers' models only experts are expert-like, and those are planned") {
    // names.tsv: the tensors that are not experts, from a tiny checkpoint of each model type
    std::ifstream in{SAFEFUSE_TEST_DATA "/transformers/names.tsv"};
    REQUIRE(in);
    std::size_t count = 0;
    for (std::string line; std::getline(in, line);) {
        const std::size_t first = line.find('\t'), second = line.find('\t', first + 1);
        REQUIRE(second != std::string::npos);
        const std::string type = line.substr(0, first),
                          stored = line.substr(first + 1, second - first - 1),
                          model = line.substr(second + 1);
        const sf::family_description* const family = sf::find_family(type);
        REQUIRE(family != nullptr);
        CAPTURE(line);
        for (const std::string& name : {stored, model}) {
            ++count;
            if (!sf::detail::looks_like_expert(name)) continue;
            // then it must be in another module that the family plans
            bool planned = false;
            for (std::size_t m = 0; m < family->module_count(); ++m)
                planned = planned || sf::detail::read_scoped(name, family->module_at(m)).verdict ==
                                         sf::detail::name_verdict::tensor;
            CHECK(planned);
        }
    }
    CHECK(count > 1000);
}

TEST_CASE("unknown experts: a layer whose tensors all fit nothing is refused, named and counted") {
    const temporary_directory directory;
    sf::checkpoint opened = open_new({}, directory);
    const auto peft = [](const std::string& name) {
        return replaced(name, ".weight", ".base_layer.weight");
    };
    const auto refused = plan_of(two_layers(peft), directory, opened);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == sf::errc::unknown_experts);
    CHECK(refused.error().tensor.view().find("model.layers.1.mlp.experts.") == 0);
    CHECK(refused.error().tensor.view().find(".base_layer.weight") != std::string_view::npos);
    const std::string said{refused.error().message().view()};
    CHECK(said.find("6 such tensors") != std::string::npos);
    CHECK(said.find("PEFT") != std::string::npos);
    CHECK(said.find("mlp.experts.{i}.") != std::string::npos);

    const auto kept = plan_of(two_layers(peft), directory, opened, {.keep_unknown = true});
    REQUIRE(kept);
    CHECK(kept->tensors().size() == 1 + 2 + 6);
    CHECK(kept->scopes().experts_count() == 1);
}

TEST_CASE("unknown experts: with keep_unknown a layer with one odd tensor is kept whole") {
    const temporary_directory directory;
    sf::checkpoint opened = open_new({}, directory);
    auto tensors = two_layers([](const std::string& name) { return name; });
    tensors.push_back(bf16("model.layers.1.mlp.experts.0.gate_proj.lora_A.weight", {2, 2}));
    const auto refused = plan_of(tensors, directory, opened);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == sf::errc::unexpected_key);
    const auto kept = plan_of(tensors, directory, opened, {.keep_unknown = true});
    REQUIRE(kept);
    CHECK(kept->tensors().size() == 1 + 2 + 7);
}

TEST_CASE("unknown experts: forms that models keep are accepted") {
    const temporary_directory directory;
    sf::checkpoint opened = open_new({}, directory);
    const auto plan =
        plan_of({bf16("encoder.block.1.layer.1.mlp.experts.expert_0.wi.weight", {2, 4}),
                 bf16("encoder.layers.3.ffn.experts.expert_11.fc2.bias", {4}),
                 bf16("model.layers.0.self_attention.experts.input_linear.weight", {2, 4, 4}),
                 bf16("model.layers.0.self_attention.experts.bias", {4})},
                directory, opened);
    REQUIRE(plan);
    CHECK(plan->tensors().size() == 4);
}

TEST_CASE("unknown experts: matrices without elements are refused by name") {
    const temporary_directory directory;
    sf::checkpoint opened = open_new({}, directory);
    for (const std::vector<std::uint64_t>& shape :
         {std::vector<std::uint64_t>{0}, std::vector<std::uint64_t>{0, 4}}) {
        auto tensors = two_layers([](const std::string& name) { return name; });
        tensors[4] = bf16(tensors[4].name, shape);
        opened = open_new(tensors, directory);
        const sf::family_description& family = sf::description_of<sf::families::qwen2_moe>;
        const auto scopes = sf::experts_scopes::find(opened, family);
        REQUIRE(scopes);
        const auto refused = sf::check_experts_have_elements(opened, family, *scopes);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == sf::errc::shape_mismatch);
        CHECK(refused.error().tensor == tensors[4].name);
        CHECK(std::string{refused.error().message().view()}.find("ZeRO-3") != std::string::npos);
    }
}

TEST_CASE("kept plans: fused experts move whole, also with fields that cannot be split") {
    const temporary_directory directory;
    support::write_tensor_file(
        directory / "model.safetensors",
        {{"e.mlp.experts.gate_up_proj", "F8_E4M3", {2, 4, 4}, std::string(32, 'g')},
         {"e.mlp.experts.gate_up_proj_weight_scale", "F32", {2, 1, 1}, std::string(8, 's')},
         {"e.mlp.experts.down_proj", "F8_E4M3", {2, 4, 2}, std::string(16, 'd')},
         {"e.mlp.experts.down_proj_weight_scale", "F32", {2, 1, 1}, std::string(8, 't')}});
    const auto opened = sf::checkpoint::open(directory.string());
    const auto plan = sf::plan<sf::families::qwen2_moe>(*opened, "e.mlp.experts");
    REQUIRE(plan);
    CHECK(plan->source_form() == sf::scope_state::done);
    CHECK_FALSE(plan->kept_for().empty());
    CHECK(plan->expert_count() == 2);
    CHECK(plan->outputs().size() == 4);
    CHECK(plan->output("gate_up_proj_weight_scale")->size_bytes == 8);
    CHECK(plan->blocks().size() == 4);
    // the inverse would have to split the scale
    CHECK_FALSE(
        sf::plan<sf::families::qwen2_moe>(*opened, "e.mlp.experts", sf::direction::inverse));
    // so would a plan for some of the experts
    CHECK_FALSE(sf::plan<sf::families::qwen2_moe>(*opened, "e.mlp.experts", {.end_expert = 1}));
}

TEST_CASE("kept plans: number values must still have the shapes of the form") {
    const temporary_directory directory;
    support::write_tensor_file(directory / "model.safetensors",
                               {bf16("e.mlp.experts.gate_up_proj", {2, 4, 4}),
                                bf16("e.mlp.experts.down_proj", {2, 5, 2})});
    const auto opened = sf::checkpoint::open(directory.string());
    const auto plan = sf::plan<sf::families::qwen2_moe>(*opened, "e.mlp.experts");
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == sf::errc::shape_mismatch);
}
