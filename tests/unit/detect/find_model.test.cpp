#include <safefuse/detect/find_model.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <safefuse/models/engines.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/run/fuse_model.hpp>
#include <safefuse/run/fuse_scope.hpp>
#include <safefuse/write/rewrite_plan.hpp>

#include "../../support/laws.hpp"
#include "../../support/support.hpp"

namespace sf = safefuse;
using laws::packed_set;
using laws::u64;
using sf::errc;
using sf::families::mixtral;
using sf::families::qwen2_moe;

namespace {

/// Two layers of Mixtral, whose gate is renamed, and what is beside them.
packed_set mixtral_model() {
    packed_set set;
    set.add("lm_head.weight", sf::dtype::bf16, {5, 6});
    for (const u64 number : {u64{10}, u64{2}}) {
        const std::string moe = "model.layers." + std::to_string(number) + ".block_sparse_moe";
        for (u64 e = 0; e < 2; ++e)
            for (const char* part : {".w1", ".w2", ".w3"})
                set.add(moe + ".experts." + std::to_string(e) + part + ".weight", sf::dtype::bf16,
                        part[2] == '2' ? std::vector<u64>{6, 4} : std::vector<u64>{4, 6});
        set.add(moe + ".gate.weight", sf::dtype::bf16, {2, 6});
    }
    set.add("model.norm.weight", sf::dtype::bf16, {0});
    return set;
}
std::string sentence(const auto& failed) {
    REQUIRE(!failed);
    return std::string{failed.error().message().view()};
}

using made_tensors = std::map<std::string, std::vector<std::byte>>;
struct keeper {
    made_tensors made{};
    std::span<std::byte> operator()(const sf::model_tensor& tensor) {
        auto& buffer = made[std::string{tensor.name}];
        buffer.resize(static_cast<std::size_t>(tensor.size_bytes));
        return buffer;
    }
};

static_assert(std::forward_iterator<sf::index_iterator<sf::model_tensors>>);
static_assert(std::forward_iterator<sf::index_iterator<sf::experts_scopes>>);
static_assert(std::forward_iterator<sf::tensor_iterator<sf::checkpoint>>);

}  // namespace

TEST_CASE("find_scopes: a family that does not fit is a failure that names the families that do") {
    const packed_set set = mixtral_model();
    const auto right = sf::find_scopes(set, sf::description_of<mixtral>);
    REQUIRE(right);
    CHECK(right->experts_count() == 2);
    CHECK(sentence(sf::find_scopes(set, sf::description_of<qwen2_moe>)) ==
          "no experts of this layout found (family qwen2_moe has them as "
          "\"mlp.experts.{i}.gate_proj.weight\"; the names fit kimi_linear, minimax_m3_vl, "
          "mistral_large4, mistral_large4_text, mixtral, phimoe)");
    packed_set dense;
    dense.add("model.embed_tokens.weight", sf::dtype::bf16, {4, 4});
    CHECK(sentence(sf::find_scopes(dense, sf::description_of<mixtral>)) ==
          "no experts of this layout found (family mixtral has them as "
          "\"block_sparse_moe.experts.{i}.w1.weight\"; no known family fits the names)");
    const auto asked = sf::find_scopes(dense, sf::description_of<mixtral>, sf::direction::forward,
                                       {.allow_no_experts = true});
    REQUIRE(asked);
    CHECK(asked->size() == 0);
    // experts of another family are not passed over, even where none are wanted
    CHECK(sf::find_scopes(set, sf::description_of<qwen2_moe>, sf::direction::forward,
                          {.allow_no_experts = true})
              .error()
              .code == errc::unknown_experts);
}

TEST_CASE(
    "find_scopes: with the caller's own list of families, a failure names only families of "
    "that list") {
    const packed_set set = mixtral_model();
    using mine = sf::family_list<qwen2_moe>;
    CHECK(sentence(sf::find_scopes<mine>(set, sf::description_of<qwen2_moe>)) ==
          "no experts of this layout found (family qwen2_moe has them as "
          "\"mlp.experts.{i}.gate_proj.weight\"; no known family fits the names)");
}

TEST_CASE("find_scopes: unfusing has a direction of its own") {
    packed_set set;
    set.add("model.layers.0.mlp.experts.gate_up_proj", sf::dtype::bf16, {2, 8, 6});
    set.add("model.layers.0.mlp.experts.down_proj", sf::dtype::bf16, {2, 6, 4});
    CHECK(sf::find_scopes(set, sf::description_of<qwen2_moe>, sf::direction::inverse));
    const auto none =
        sf::find_scopes(set, sf::description_of<sf::families::dbrx>, sf::direction::inverse);
    REQUIRE(!none);
    CHECK(none.error().detail.view().find("the names fit qwen2_moe") != std::string_view::npos);
}

TEST_CASE("find_model: lists every tensor by its new name, copied as it is or made by a plan") {
    const packed_set set = mixtral_model();
    const auto model = sf::find_model(set, sf::description_of<mixtral>);
    REQUIRE(model);
    std::vector<std::string> names;
    std::size_t i = 0;
    u64 total = 0;
    for (const sf::model_tensor& tensor : *model) {
        names.push_back(std::string{tensor.name} + (tensor.from.is_stored() ? "" : " *"));
        CHECK(model->index_of(tensor.name) == i);
        CHECK((*model)[i].name == tensor.name);
        CHECK(model->tensors()[i++].name == tensor.name);
        total += tensor.size_bytes;
    }
    CHECK(names == std::vector<std::string>{
                       "lm_head.weight", "model.layers.2.mlp.experts.down_proj *",
                       "model.layers.2.mlp.experts.gate_up_proj *",
                       "model.layers.2.mlp.gate.weight", "model.layers.10.mlp.experts.down_proj *",
                       "model.layers.10.mlp.experts.gate_up_proj *",
                       "model.layers.10.mlp.gate.weight", "model.norm.weight"});
    CHECK(total == model->total_bytes());
    CHECK(model->index_of("model.layers.2.block_sparse_moe.gate.weight") ==
          sf::model_tensors::npos);
    CHECK(model->index_of("") == sf::model_tensors::npos);
    CHECK(model->index_of("zzz") == sf::model_tensors::npos);

    // a stored tensor is a view under its new name, an output is not
    const auto gate = sf::view(*model, model->index_of("model.layers.10.mlp.gate.weight"));
    REQUIRE(gate);
    CHECK(std::ranges::equal(gate->bytes(),
                             set.bytes_of("model.layers.10.block_sparse_moe.gate.weight")));
    CHECK(
        sentence(sf::view(*model, 1)) ==
        "tensor \"model.layers.2.mlp.experts.down_proj\": the bytes are not in memory (it is made "
        "of several tensors)");
    CHECK(sf::view(*model, 7)->size_bytes() == 0);
    CHECK(sf::view(*model, 8).error().code == errc::out_of_range);
}

TEST_CASE("find_model: a rewrite plan lists the same tensors, for families, unfusing and engines") {
    const auto check = [](const sf::model_tensors& model, const sf::rewrite_plan& plan) {
        REQUIRE(model.size() == plan.tensors().size());
        CHECK(model.total_bytes() == plan.total_bytes());
        for (std::size_t i = 0; i < model.size(); ++i) {
            CHECK(model[i].name == plan.tensors()[i].name);
            CHECK(model[i].type == plan.tensors()[i].type);
            CHECK(model[i].from.scope == plan.origin_of(i).scope);
            CHECK(model[i].from.number == plan.origin_of(i).number);
        }
    };
    const packed_set set = mixtral_model();
    const auto& there = sf::description_of<mixtral>;
    check(*sf::find_model(set, there), *sf::rewrite_plan::make(set, there));
    // the description may be a temporary, for it is copied
    const auto plan =
        sf::rewrite_plan::make(set, sf::description_of<mixtral>.in(sf::direction::forward));
    REQUIRE(plan);
    CHECK(plan->plan_of(0));
    const sf::engine_entry* const vllm = sf::find_engine("vllm");
    REQUIRE(vllm != nullptr);
    check(*sf::find_model(set, sf::description_of<mixtral>, *vllm),
          *sf::rewrite_plan::make(set, sf::description_of<mixtral>, *vllm));
}

TEST_CASE("find_model: unknown tensors, two tensors for one name and a wrong family are refused") {
    packed_set set = mixtral_model();
    CHECK(sf::find_model(set, sf::description_of<qwen2_moe>).error().code == errc::no_experts);
    set.add("model.layers.2.mlp.gate.weight", sf::dtype::bf16, {1});
    CHECK(sf::find_model(set, sf::description_of<mixtral>).error().code == errc::duplicate_tensor);
    set = mixtral_model();
    set.add("model.layers.3.mlp.experts.0.w9.weight", sf::dtype::bf16, {1});
    CHECK(sf::find_model(set, sf::description_of<mixtral>).error().code == errc::unknown_experts);
    CHECK(sf::find_model(set, sf::description_of<mixtral>, sf::direction::forward,
                         {.keep_unknown = true}));
}

TEST_CASE(
    "fuse_model: one call makes all tensors, with progress; fusing and unfusing give the same "
    "bytes") {
    for (const bool resident : {true, false}) {
        packed_set set = mixtral_model();
        set.resident = resident;
        const auto model = sf::find_model(set, sf::description_of<mixtral>);
        REQUIRE(model);
        keeper out;
        u64 done = 0, calls = 0;
        REQUIRE(sf::fuse(*model, out, [&](const sf::run_progress& at) {
            CHECK(at.total_bytes == model->total_bytes());
            CHECK(at.done_bytes >= done);
            done = at.done_bytes;
            ++calls;
            return true;
        }));
        CHECK(done == model->total_bytes());
        CHECK(calls == model->size() - 1);  // one has no bytes
        REQUIRE(out.made.size() == model->size());

        packed_set fused;
        for (const sf::model_tensor& each : *model)
            fused.add(std::string{each.name}, each.type, {each.shape.begin(), each.shape.end()},
                      out.made.at(std::string{each.name}));
        const auto back =
            sf::find_model(fused, sf::description_of<mixtral>, sf::direction::inverse);
        REQUIRE(back);
        keeper again;
        REQUIRE(sf::fuse(*back, again));
        REQUIRE(again.made.size() == set.size());
        for (const auto& each : again.made) {
            CAPTURE(each.first);
            CHECK(std::ranges::equal(each.second, set.bytes_of(each.first)));
        }
    }
}

TEST_CASE("fuse_model: a buffer of the wrong size is named, and progress can cancel") {
    const packed_set set = mixtral_model();
    const auto model = sf::find_model(set, sf::description_of<mixtral>);
    REQUIRE(model);
    keeper out;
    CHECK(sentence(sf::fuse(*model,
                            [&](const sf::model_tensor& tensor) -> std::span<std::byte> {
                                return tensor.name == "model.layers.2.mlp.gate.weight"
                                           ? std::span<std::byte>{}
                                           : out(tensor);
                            })) ==
          "tensor \"model.layers.2.mlp.gate.weight\": the buffer does not have the size of "
          "the tensor, expected 24, found 0");
    u64 calls = 0;
    const auto stopped =
        sf::fuse(*model, out, [&](const sf::run_progress&) { return ++calls < 3; });
    REQUIRE(!stopped);
    CHECK(stopped.error().code == errc::canceled);
    CHECK(calls == 3);
}

TEST_CASE("range-for: works on a checkpoint, its names and its scopes") {
    const support::temporary_directory directory;
    std::vector<support::tensor> tensors{support::bf16("a.weight", {2})};
    for (const char* part : {"gate_proj", "up_proj", "down_proj"})
        tensors.push_back(
            support::bf16("model.layers.0.mlp.experts.0." + std::string{part} + ".weight", {2, 2}));
    support::write_tensor_file(directory / "model.safetensors", tensors);
    const auto checkpoint = sf::checkpoint::open(directory.string());
    REQUIRE(checkpoint);
    std::size_t i = 0;
    for (const sf::tensor_spec& each : *checkpoint) {
        CHECK(each.name == checkpoint->spec(i).name);
        CHECK(std::ranges::equal(each.shape, checkpoint->spec(i++).shape));
    }
    CHECK(i == 4);
    for (const std::string_view name : checkpoint->names())
        CHECK(name == checkpoint->spec(4 - i--).name);
    CHECK(i == 0);
    CHECK(checkpoint->names().size() == 4);
    CHECK(checkpoint->names()[0] == checkpoint->spec(0).name);

    // the loop of an engine: open, detect, every layer
    const auto family = sf::detect_family(*checkpoint);
    REQUIRE(family);
    const auto scopes = sf::find_scopes(*checkpoint, **family);
    REQUIRE(scopes);
    for (const sf::experts_scope& scope : *scopes) {
        std::vector<std::byte> buffer;
        CHECK(scope.name == "model.layers.0.mlp.experts");
        REQUIRE(sf::fuse(*checkpoint, scope, **family, sf::direction::forward,
                         [&](const sf::plan_output& output) -> std::vector<std::byte>& {
                             buffer.resize(static_cast<std::size_t>(output.size_bytes));
                             return buffer;
                         }));
        CHECK(buffer.size() == 8);
        ++i;
    }
    CHECK(i == 1);
}
