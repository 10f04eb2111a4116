#include <safefuse/plan/scopes.hpp>

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include <safefuse/models/transformers.hpp>
#include <safefuse/run/fuse.hpp>

#include "../../support/laws.hpp"

namespace sf = safefuse;
using laws::packed_set;
using laws::u64;
using sf::errc;
using sf::scope_state;
using sf::families::granitemoe;
using sf::families::mixtral;
using sf::families::nemotron_h;
using sf::families::qwen2_moe;

namespace {

void add_experts(packed_set& set, const std::string& scope, u64 count) {
    for (u64 e = 0; e < count; ++e) {
        const std::string name = scope + "." + std::to_string(e);
        set.add(name + ".down_proj.weight", sf::dtype::bf16, {6, 4});
        set.add(name + ".gate_proj.weight", sf::dtype::bf16, {4, 6});
        set.add(name + ".up_proj.weight", sf::dtype::bf16, {4, 6});
    }
}
void add_w123(packed_set& set, const std::string& scope, u64 count) {
    for (u64 e = 0; e < count; ++e) {
        const std::string name = scope + "." + std::to_string(e);
        set.add(name + ".w1.weight", sf::dtype::bf16, {4, 6});
        set.add(name + ".w2.weight", sf::dtype::bf16, {6, 4});
        set.add(name + ".w3.weight", sf::dtype::bf16, {4, 6});
    }
}
void add_fused(packed_set& set, const std::string& scope, u64 count) {
    set.add(scope + ".gate_up_proj", sf::dtype::bf16, {count, 8, 6});
    set.add(scope + ".down_proj", sf::dtype::bf16, {count, 6, 4});
}
void add_others(packed_set& set, const std::string& layer) {
    for (const char* name : {".mlp.gate.weight", ".mlp.shared_experts.gate_proj.weight",
                             ".mlp.shared_expert.up_proj.weight", ".self_attn.q_proj.weight",
                             ".input_layernorm.weight"})
        set.add(layer + name, sf::dtype::bf16, {2});
}

struct found {
    std::string name;
    std::string destination;
    scope_state form;
    std::size_t tensors;
    bool operator==(const found&) const = default;
};
std::vector<found> find(const packed_set& set, const sf::family_description& family) {
    auto scopes = sf::experts_scopes::find(set, family);
    REQUIRE(scopes);
    std::vector<found> out;
    for (std::size_t i = 0; i < scopes->size(); ++i) {
        const sf::experts_scope each = (*scopes)[i];
        out.push_back({std::string{each.name}, std::string{each.destination_name}, each.form,
                       each.tensors.size()});
        for (const std::uint32_t t : each.tensors)
            CHECK(set.spec(t).name.starts_with(std::string{each.name} + "."));
    }
    return out;
}

}  // namespace

TEST_CASE("scopes: every layer's experts are found, in the order in which the set names them") {
    packed_set set;
    set.add("model.embed_tokens.weight", sf::dtype::bf16, {2});
    for (const char* layer : {"model.layers.0", "model.layers.1", "model.layers.10",
                              "model.layers.11", "model.layers.2"}) {
        add_others(set, layer);
        if (std::string_view{layer} != "model.layers.0")
            add_experts(set, std::string{layer} + ".mlp.experts", 3);
    }
    const auto scopes = find(set, sf::description_of<qwen2_moe>);
    REQUIRE(scopes.size() == 4);
    CHECK(scopes[0] == found{"model.layers.1.mlp.experts", "model.layers.1.mlp.experts",
                             scope_state::pending, 9});
    CHECK(scopes[1].name == "model.layers.10.mlp.experts");
    CHECK(scopes[3].name == "model.layers.2.mlp.experts");
}

TEST_CASE("scopes: tensors of two layers may alternate") {
    packed_set one, two, set;
    add_experts(one, "model.layers.0.mlp.experts", 4);
    add_experts(two, "model.layers.1.mlp.experts", 4);
    for (std::size_t i = 0; i < one.size(); ++i)
        for (const packed_set* each : {&one, &two}) {
            const auto spec = each->spec(i);
            set.add(std::string{spec.name}, spec.type, {spec.shape.begin(), spec.shape.end()});
        }
    const auto scopes = find(set, sf::description_of<qwen2_moe>);
    REQUIRE(scopes.size() == 2);
    CHECK(scopes[0].tensors == 12);
    CHECK(scopes[1].tensors == 12);
    CHECK(sf::plan<qwen2_moe>(set, "model.layers.1.mlp.experts"));
}

TEST_CASE("scopes: a checkpoint may be fused in one layer, not in another, and both in a third") {
    packed_set set;
    add_experts(set, "model.layers.0.mlp.experts", 2);
    add_fused(set, "model.layers.1.mlp.experts", 2);
    add_experts(set, "model.layers.2.mlp.experts", 2);
    add_fused(set, "model.layers.2.mlp.experts", 2);
    const auto scopes = find(set, sf::description_of<qwen2_moe>);
    REQUIRE(scopes.size() == 3);
    CHECK(scopes[0].form == scope_state::pending);
    CHECK(scopes[1].form == scope_state::done);
    CHECK(scopes[2].form == scope_state::mixed);
    CHECK(scopes[2].tensors == 8);

    auto found = sf::experts_scopes::find(set, sf::description_of<qwen2_moe>);
    REQUIRE(found);
    auto fuses = sf::plan(set, (*found)[0], sf::description_of<qwen2_moe>, sf::direction::forward);
    REQUIRE(fuses);
    CHECK(fuses->source_form() == scope_state::pending);
    auto passes = sf::plan(set, (*found)[1], sf::description_of<qwen2_moe>, sf::direction::forward);
    REQUIRE(passes);
    CHECK(passes->source_form() == scope_state::done);
    CHECK(passes->outputs()[0].name == "model.layers.1.mlp.experts.gate_up_proj");
    CHECK(passes->single_run(0) != nullptr);
    CHECK(sf::view(*passes, "gate_up_proj"));
    auto both = sf::plan(set, (*found)[2], sf::description_of<qwen2_moe>, sf::direction::forward);
    REQUIRE_FALSE(both);
    CHECK(both.error().code == errc::both_layouts);
    CHECK(both.error().scope == "model.layers.2.mlp.experts");

    // by name, without the list of all scopes: the same plan
    auto named = sf::plan<qwen2_moe>(set, "model.layers.0.mlp.experts");
    REQUIRE(named);
    CHECK(named->source_form() == scope_state::pending);
    named = sf::plan<qwen2_moe>(set, "model.layers.1.mlp.experts");
    REQUIRE(named);
    CHECK(named->source_form() == scope_state::done);
    named = sf::plan<qwen2_moe>(set, "model.layers.2.mlp.experts");
    REQUIRE_FALSE(named);
    CHECK(named.error().code == errc::both_layouts);
    named = sf::plan<qwen2_moe>(set, "model.layers.3.mlp.experts");
    REQUIRE_FALSE(named);
    CHECK(named.error().code == errc::no_experts);
    CHECK(named.error().scope == "model.layers.3.mlp.experts");

    // inverse direction: plans start from the fused form, and the other form is done
    auto back = sf::plan<qwen2_moe>(set, "model.layers.1.mlp.experts", sf::direction::inverse);
    REQUIRE(back);
    CHECK(back->source_form() == scope_state::pending);
    CHECK(back->outputs().size() == 6);
    back = sf::plan<qwen2_moe>(set, "model.layers.0.mlp.experts", sf::direction::inverse);
    REQUIRE(back);
    CHECK(back->source_form() == scope_state::done);
    back = sf::plan<qwen2_moe>(set, "model.layers.2.mlp.experts", sf::direction::inverse);
    REQUIRE_FALSE(back);
    CHECK(back.error().code == errc::both_layouts);
}

TEST_CASE(
    "scopes: where the experts module has another name in the model, the scope changes its name") {
    packed_set set;
    add_w123(set, "model.layers.0.block_sparse_moe.experts", 2);
    set.add("model.layers.0.block_sparse_moe.gate.weight", sf::dtype::bf16, {2, 6});
    add_fused(set, "model.layers.1.mlp.experts", 2);
    add_w123(set, "model.layers.2.block_sparse_moe.experts", 2);
    add_fused(set, "model.layers.2.mlp.experts", 2);
    const auto scopes = find(set, sf::description_of<mixtral>);
    REQUIRE(scopes.size() == 4);
    CHECK(scopes[0] == found{"model.layers.0.block_sparse_moe.experts",
                             "model.layers.0.mlp.experts", scope_state::pending, 6});
    CHECK(scopes[1] ==
          found{"model.layers.1.mlp.experts", "model.layers.1.mlp.experts", scope_state::done, 2});
    CHECK(scopes[2].form == scope_state::mixed);
    CHECK(scopes[3].name == "model.layers.2.mlp.experts");

    auto plan = sf::plan<mixtral>(set, "model.layers.0.block_sparse_moe.experts");
    REQUIRE(plan);
    CHECK(plan->scope() == "model.layers.0.block_sparse_moe.experts");
    REQUIRE(plan->outputs().size() == 2);
    CHECK(plan->outputs()[0].name == "model.layers.0.mlp.experts.gate_up_proj");
    CHECK(plan->outputs()[1].name == "model.layers.0.mlp.experts.down_proj");
    CHECK(plan->index_of("down_proj") == 1);
    // w1 is gate, w3 is up
    std::vector<std::byte> made(2 * 8 * 6 * 2);
    REQUIRE(sf::fuse(*plan, "gate_up_proj", made));
    const auto w3 = set.bytes_of("model.layers.0.block_sparse_moe.experts.1.w3.weight");
    CHECK(std::vector<std::byte>(made.begin() + 144, made.end()) ==
          std::vector<std::byte>(w3.begin(), w3.end()));

    auto both = sf::plan<mixtral>(set, "model.layers.2.block_sparse_moe.experts");
    REQUIRE_FALSE(both);
    CHECK(both.error().code == errc::both_layouts);
    auto done = sf::plan<mixtral>(set, "model.layers.1.mlp.experts");
    REQUIRE(done);
    CHECK(done->source_form() == scope_state::done);
    auto back = sf::plan<mixtral>(set, "model.layers.1.mlp.experts", sf::direction::inverse);
    REQUIRE(back);
    CHECK(back->outputs().size() == 6);
    CHECK(back->outputs()[0].name == "model.layers.1.block_sparse_moe.experts.0.w1.weight");
}

TEST_CASE("scopes: granite is fused on disk, and its module is not what the model calls experts") {
    packed_set set;
    for (const char* layer : {"model.layers.0", "model.layers.1"}) {
        const std::string moe = std::string{layer} + ".block_sparse_moe";
        set.add(moe + ".input_linear.weight", sf::dtype::bf16, {4, 8, 6});
        set.add(moe + ".output_linear.weight", sf::dtype::bf16, {4, 6, 4});
        set.add(moe + ".router.layer.weight", sf::dtype::bf16, {4, 6});
    }
    const auto scopes = find(set, sf::description_of<granitemoe>);
    REQUIRE(scopes.size() == 2);
    CHECK(scopes[0] == found{"model.layers.0.block_sparse_moe",
                             "model.layers.0.block_sparse_moe.experts", scope_state::pending, 2});
    auto plan = sf::plan<granitemoe>(set, "model.layers.1.block_sparse_moe");
    REQUIRE(plan);
    CHECK(plan->outputs()[0].name == "model.layers.1.block_sparse_moe.experts.gate_up_proj");
    CHECK(plan->single_run(0) != nullptr);
    CHECK(plan->single_run(1) != nullptr);

    packed_set loaded;
    loaded.add("model.layers.1.block_sparse_moe.experts.gate_up_proj", sf::dtype::bf16, {4, 8, 6});
    loaded.add("model.layers.1.block_sparse_moe.experts.down_proj", sf::dtype::bf16, {4, 6, 4});
    loaded.add("model.layers.1.block_sparse_moe.router.weight", sf::dtype::bf16, {4, 6});
    const auto done = find(loaded, sf::description_of<granitemoe>);
    REQUIRE(done.size() == 1);
    CHECK(done[0] == found{"model.layers.1.block_sparse_moe.experts",
                           "model.layers.1.block_sparse_moe.experts", scope_state::done, 2});
    const auto back = find(loaded, sf::description_of<granitemoe>.in(sf::direction::inverse));
    REQUIRE(back.size() == 1);
    CHECK(back[0] == found{"model.layers.1.block_sparse_moe.experts",
                           "model.layers.1.block_sparse_moe", scope_state::pending, 2});
}

TEST_CASE("scopes: multi-token-prediction layers have forms of their own") {
    packed_set set;
    add_fused(set, "model.language_model.layers.0.mlp.experts", 2);
    add_experts(set, "mtp.layers.0.mlp.experts", 2);
    add_experts(set, "model.layers.61.mlp.experts", 2);
    const auto scopes = find(set, sf::description_of<qwen2_moe>);
    REQUIRE(scopes.size() == 3);
    CHECK(scopes[0].form == scope_state::done);
    CHECK(scopes[1] ==
          found{"mtp.layers.0.mlp.experts", "mtp.layers.0.mlp.experts", scope_state::pending, 6});
    CHECK(scopes[2].form == scope_state::pending);
}

TEST_CASE("scopes: experts without a gate, and a prefix that changes") {
    packed_set set;
    for (const char* part : {"0.up_proj", "0.down_proj", "1.up_proj", "1.down_proj"})
        set.add("backbone.layers.1.mixer.experts." + std::string{part} + ".weight", sf::dtype::bf16,
                part[2] == 'u' ? std::vector<u64>{4, 6} : std::vector<u64>{6, 4});
    const auto scopes = find(set, sf::description_of<nemotron_h>);
    REQUIRE(scopes.size() == 1);
    CHECK(scopes[0] == found{"backbone.layers.1.mixer.experts", "model.layers.1.mixer.experts",
                             scope_state::pending, 4});
    auto plan = sf::plan<nemotron_h>(set, "backbone.layers.1.mixer.experts");
    REQUIRE(plan);
    CHECK(plan->outputs()[0].name == "model.layers.1.mixer.experts.up_proj");
    CHECK(plan->outputs()[0].shape.size() == 3);
}

TEST_CASE("scopes: modules that only resemble experts are not found") {
    packed_set set;
    for (const char* name :
         {"model.layers.0.mlp.experts_extra.0.gate_proj.weight",
          "model.layers.0.xmlp.experts.0.gate_proj.weight", "model.layers.0.mlp.experts",
          "model.layers.0.mlp.expertsX.0.gate_proj.weight",
          "model.layers.0.mlp.shared_experts.gate_proj.weight", "mlp.experts", "mlp.experts.",
          "model.layers.0.mlp.experts.bias", "model.layers.0.mlp.experts.gate_proj.weight",
          "model.layers.0.mlp..experts.0.gate_proj.weight", ""})
        set.add(name, sf::dtype::bf16, {2, 2});
    CHECK(find(set, sf::description_of<qwen2_moe>).empty());
    // only a leftover, without a single part: not an experts module of this family
    set.add("model.layers.0.mlp.experts.0.gate_proj.absmax", sf::dtype::i32, {2, 2});
    CHECK(find(set, sf::description_of<qwen2_moe>).empty());
}

TEST_CASE("scopes: unknown tensors among experts belong to the scope, and planning refuses them") {
    packed_set set;
    add_experts(set, "model.layers.0.mlp.experts", 2);
    for (const char* local :
         {"1.gate_proj.absmax", "01.gate_proj.weight", "18446744073709551616.gate_proj.weight"}) {
        packed_set each = set;
        each.add("model.layers.0.mlp.experts." + std::string{local}, sf::dtype::bf16, {4, 6});
        const auto scopes = find(each, sf::description_of<qwen2_moe>);
        REQUIRE(scopes.size() == 1);
        CHECK(scopes[0].tensors == 7);
        for (auto plan :
             {sf::plan(each, (*sf::experts_scopes::find(each, sf::description_of<qwen2_moe>))[0],
                       sf::description_of<qwen2_moe>, sf::direction::forward)
                  .has_value(),
              sf::plan<qwen2_moe>(each, "model.layers.0.mlp.experts").has_value()})
            CHECK_FALSE(plan);
        auto refused = sf::plan<qwen2_moe>(each, "model.layers.0.mlp.experts");
        CHECK(refused.error().code == errc::unexpected_key);
        CHECK(std::string{refused.error().tensor.view()} ==
              "model.layers.0.mlp.experts." + std::string{local});
    }
}

TEST_CASE("scopes: an experts module inside of another is found, the longest name that fits") {
    packed_set set;
    add_experts(set, "wrapper.mlp.experts.inner.mlp.experts", 2);
    auto scopes = find(set, sf::description_of<qwen2_moe>);
    REQUIRE(scopes.size() == 1);
    CHECK(scopes[0].name == "wrapper.mlp.experts.inner.mlp.experts");
    packed_set numbered;
    add_experts(numbered, "wrapper.mlp.experts.0.mlp.experts", 2);
    scopes = find(numbered, sf::description_of<qwen2_moe>);
    REQUIRE(scopes.size() == 1);
    CHECK(scopes[0].name == "wrapper.mlp.experts.0.mlp.experts");
}

TEST_CASE("scopes: experts at the top of a set have no prefix before their module") {
    packed_set set;
    add_experts(set, "mlp.experts", 2);
    const auto scopes = find(set, sf::description_of<qwen2_moe>);
    REQUIRE(scopes.size() == 1);
    CHECK(scopes[0] == found{"mlp.experts", "mlp.experts", scope_state::pending, 6});
    CHECK(sf::plan<qwen2_moe>(set, "mlp.experts"));
    packed_set top;
    add_w123(top, "block_sparse_moe.experts", 2);
    const auto renamed = find(top, sf::description_of<mixtral>);
    REQUIRE(renamed.size() == 1);
    CHECK(renamed[0].destination == "mlp.experts");
}

TEST_CASE("scopes: an empty set has no scopes") {
    const packed_set set;
    CHECK(find(set, sf::description_of<qwen2_moe>).empty());
    auto plan = sf::plan<qwen2_moe>(set, "model.layers.0.mlp.experts");
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == errc::no_experts);
}

TEST_CASE("scopes: options hold for each scope") {
    packed_set set;
    add_w123(set, "model.layers.0.block_sparse_moe.experts", 4);
    auto scopes = sf::experts_scopes::find(set, sf::description_of<mixtral>);
    REQUIRE(scopes);
    auto plan = sf::plan(set, (*scopes)[0], sf::description_of<mixtral>, sf::direction::forward,
                         {.destination_scope = "here", .first_expert = 2, .end_expert = 4});
    REQUIRE(plan);
    CHECK(plan->outputs()[0].name == "here.gate_up_proj");
    CHECK(plan->outputs()[0].shape[0] == 2);
    CHECK(plan->expert_count() == 2);
}

TEST_CASE("scopes: the work grows linearly with the number of tensors") {
    const auto questions = [](u64 layers) {
        packed_set set;
        for (u64 layer = 0; layer < layers; ++layer)
            add_experts(set, "model.layers." + std::to_string(layer) + ".mlp.experts", 33);
        set.spec_calls = 0;
        auto scopes = sf::experts_scopes::find(set, sf::description_of<qwen2_moe>);
        REQUIRE(scopes);
        CHECK(scopes->size() == layers);
        CHECK(set.spec_calls <= set.size());
        for (std::size_t i = 0; i < scopes->size(); ++i)
            CHECK(
                sf::plan(set, (*scopes)[i], sf::description_of<qwen2_moe>, sf::direction::forward));
        return static_cast<double>(set.spec_calls) / static_cast<double>(set.size());
    };
    const double few = questions(10), many = questions(100);
    CHECK(many < few * 1.01);
    CHECK(many < 8);
}

TEST_CASE("scopes: many layers at once, each fused like the first") {
    packed_set set;
    for (u64 layer = 0; layer < 30; ++layer)
        add_experts(set, "model.layers." + std::to_string(layer) + ".mlp.experts", 3);
    auto scopes = sf::experts_scopes::find(set, sf::description_of<qwen2_moe>);
    REQUIRE(scopes);
    for (std::size_t i = 0; i < scopes->size(); ++i) {
        auto plan =
            sf::plan(set, (*scopes)[i], sf::description_of<qwen2_moe>, sf::direction::forward);
        REQUIRE(plan);
        std::vector<std::byte> made(3 * 8 * 6 * 2);
        REQUIRE(sf::fuse(*plan, "gate_up_proj", made));
        const auto last =
            set.bytes_of("model.layers." + std::to_string(i) + ".mlp.experts.2.up_proj.weight");
        CHECK(std::vector<std::byte>(made.end() - 48, made.end()) ==
              std::vector<std::byte>(last.begin(), last.end()));
    }
}
