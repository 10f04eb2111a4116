#include <safefuse/family.hpp>

#include <doctest/doctest.h>

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <safefuse/layouts/families.hpp>

namespace sf = safefuse;
using namespace sf::layouts;

namespace {

std::string new_name(const sf::family_description& family, std::string_view name) {
    auto out = sf::renamed(family, name);
    REQUIRE(out);
    return std::string{out->view()};
}

struct pair {
    std::string_view stored;
    std::string_view model;
};

template <class Family>
void check(const std::vector<pair>& names) {
    for (const pair& each : names) {
        INFO(std::string{each.stored});
        CHECK(new_name(sf::description_of<Family>, each.stored) == each.model);
        CHECK(new_name(sf::inverse_of<Family>, each.model) == each.stored);
    }
}

template <class... Family>
struct families {};
using all_families = families<qwen2_moe, ernie4_5_moe, exaone_moe, hy_v3, jamba, lfm2_moe, mixtral, phimoe, nemotron_h, granitemoe>;

template <class... Family, class F>
void for_each(families<Family...>, F&& f) {
    (f(sf::description_of<Family>, sf::inverse_of<Family>), ...);
}

// deliberately odd renames
struct odd : sf::family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "odd";
    using modules = sf::modules<"mlp.experts">;
    using renames = sf::renames<sf::rename<"^transformer.h", "model.layers">, sf::rename<"ffn", "mlp">, sf::rename<"mlp.gate", "mlp.router">>;
};

}  // namespace

TEST_CASE("family: names of the checkpoint become the model's, and back") {
    check<qwen2_moe>({{"model.layers.0.mlp.gate.weight", "model.layers.0.mlp.gate.weight"}, {"lm_head.weight", "lm_head.weight"}});
    check<mixtral>({
        {"model.layers.0.block_sparse_moe.gate.weight", "model.layers.0.mlp.gate.weight"},
        {"model.layers.0.block_sparse_moe.e_score_correction_bias", "model.layers.0.mlp.e_score_correction_bias"},
        {"model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.weight"},
        {"model.norm.weight", "model.norm.weight"},
    });
    check<phimoe>({
        {"model.layers.1.block_sparse_moe.gate.weight", "model.layers.1.mlp.router.weight"},
        {"model.layers.1.self_attn.o_proj.bias", "model.layers.1.self_attn.o_proj.bias"},
    });
    check<granitemoe>({
        {"model.layers.0.block_sparse_moe.router.layer.weight", "model.layers.0.block_sparse_moe.router.weight"},
        {"model.embed_tokens.weight", "model.embed_tokens.weight"},
    });
    check<nemotron_h>({
        {"backbone.embeddings.weight", "model.embeddings.weight"},
        {"backbone.layers.1.mixer.gate.e_score_correction_bias", "model.layers.1.mixer.gate.e_score_correction_bias"},
        {"backbone.norm_f.weight", "model.norm_f.weight"},
        {"lm_head.weight", "lm_head.weight"},
    });
    check<hy_v3>({
        {"model.layers.1.mlp.router.gate.weight", "model.layers.1.mlp.gate.weight"},
        {"model.layers.1.mlp.expert_bias", "model.layers.1.mlp.e_score_correction_bias"},
        {"model.layers.1.mlp.shared_mlp.up_proj.weight", "model.layers.1.mlp.shared_experts.up_proj.weight"},
        {"model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.gate_proj.weight"},
    });
    check<ernie4_5_moe>({
        {"model.layers.1.mlp.moe_statics.e_score_correction_bias", "model.layers.1.mlp.gate.moe_statics.e_score_correction_bias"},
        {"model.layers.1.mlp.gate.weight", "model.layers.1.mlp.gate.weight"},
    });
    check<exaone_moe>({{"model.layers.1.mlp.e_score_correction_bias", "model.layers.1.mlp.gate.e_score_correction_bias"}});
    check<jamba>({{"model.layers.1.feed_forward.router.weight", "model.layers.1.feed_forward.router.weight"}, {"model.final_layernorm.weight", "model.final_layernorm.weight"}});
}

TEST_CASE("family: renames take whole segments only") {
    const auto& mixtral_names = sf::description_of<mixtral>;
    for (const char* name : {"model.layers.0.xblock_sparse_moe.gate.weight", "model.layers.0.block_sparse_moe_x.gate.weight", "block_sparse_moeX", "Block_sparse_moe.gate", ""})
        CHECK(new_name(mixtral_names, name) == name);
    CHECK(new_name(mixtral_names, "block_sparse_moe") == "mlp");
    CHECK(new_name(mixtral_names, "block_sparse_moe.gate") == "mlp.gate");
    CHECK(new_name(mixtral_names, "a.block_sparse_moe") == "a.mlp");
    CHECK(new_name(mixtral_names, "a.block_sparse_moe.") == "a.mlp.");
    // a resembling segment before the right one does not hide it
    CHECK(new_name(mixtral_names, "block_sparse_moe_x.block_sparse_moe.gate") == "block_sparse_moe_x.mlp.gate");
    CHECK(new_name(mixtral_names, "xblock_sparse_moe.block_sparse_moe") == "xblock_sparse_moe.mlp");
    // once, the first
    CHECK(new_name(mixtral_names, "block_sparse_moe.block_sparse_moe") == "mlp.block_sparse_moe");
}

TEST_CASE("family: an anchored rename holds to the beginning of the name") {
    const auto& names = sf::description_of<nemotron_h>;
    CHECK(new_name(names, "backbone") == "model");
    CHECK(new_name(names, "backbone.x") == "model.x");
    CHECK(new_name(names, "backbones.x") == "backbones.x");
    CHECK(new_name(names, "model.backbone.x") == "model.backbone.x");
    CHECK(new_name(names, "x.backbone") == "x.backbone");
    CHECK(new_name(sf::inverse_of<nemotron_h>, "model.layers.0.model.x") == "backbone.layers.0.model.x");
    CHECK(new_name(sf::inverse_of<nemotron_h>, "lm_head.model.x") == "lm_head.model.x");
}

TEST_CASE("family: renames apply in turn, and their inverses in the opposite order") {
    check<odd>({
        {"transformer.h.3.ffn.gate.weight", "model.layers.3.mlp.router.weight"},
        {"transformer.h.3.ffn.up_proj.weight", "model.layers.3.mlp.up_proj.weight"},
        {"transformer.hx.3.ffn.up_proj.weight", "transformer.hx.3.mlp.up_proj.weight"},
    });
}

TEST_CASE("family: descriptions and their inverses mirror each other") {
    for_each(all_families{}, [](const sf::family_description& there, const sf::family_description& back) {
        INFO(std::string{there.name});
        CHECK_FALSE(there.name.empty());
        CHECK(there.name == back.name);
        CHECK(there.from == back.to);
        CHECK(there.to == back.from);
        CHECK(there.from_module == back.to_module);
        CHECK(there.to_module == back.from_module);
        REQUIRE(there.renames.size() == back.renames.size());
        for (std::size_t i = 0; i < there.renames.size(); ++i) {
            const auto& one = there.renames[i];
            const auto& other = back.renames[back.renames.size() - 1 - i];
            CHECK(one.from == other.to);
            CHECK(one.to == other.from);
            CHECK(one.at_start == other.at_start);
        }
        CHECK_FALSE(there.model_types.empty());
    });
}

TEST_CASE("family: a model type belongs to one family") {
    std::set<std::string> seen;
    for_each(all_families{}, [&](const sf::family_description& each, const sf::family_description&) {
        for (const std::string_view type : each.model_types) {
            INFO(std::string{type});
            CHECK(seen.insert(std::string{type}).second);
        }
    });
    CHECK(seen.size() >= 30);
}

TEST_CASE("family: names of experts tensors that keep their place keep their name") {
    // what a rewrite renames tensor by tensor and what a plan names by its scope must agree
    for_each(all_families{}, [](const sf::family_description& there, const sf::family_description& back) {
        INFO(std::string{there.name});
        const std::string scope = "model.layers.7." + std::string{there.from_module};
        const std::string moved = "model.layers.7." + std::string{there.to_module};
        if (there.name == "granitemoe") return;  // its module is not renamed, it gets one more segment
        CHECK(new_name(there, scope) == moved);
        if (there.name != "nemotron_h") CHECK(new_name(back, moved) == scope);
    });
}

TEST_CASE("family: the compiler can find segments") {
    static_assert(sf::detail::find_segments("a.b.c", "b") == 2);
    static_assert(sf::detail::find_segments("a.bb.b", "b") == 5);
    static_assert(sf::detail::find_segments("a.b.c", "b", true) == std::string_view::npos);
    static_assert(sf::detail::find_segments("a.b", "a.b.c") == std::string_view::npos);
    static_assert(sf::detail::find_segments("a.b", "") == std::string_view::npos);
    static_assert(sf::detail::find_segments("", "a") == std::string_view::npos);
    CHECK(sf::family_type<mixtral>);
    CHECK_FALSE(sf::family_type<per_expert>);
}
