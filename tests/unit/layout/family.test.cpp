#include <safefuse/layout/family.hpp>

#include <doctest/doctest.h>

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <safefuse/detect/detect.hpp>
#include <safefuse/plan/scopes.hpp>

namespace sf = safefuse;
using namespace sf::families;
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
        CHECK(new_name(sf::description_of<Family>.in(sf::direction::inverse), each.model) ==
              each.stored);
    }
}

template <class... Family>
struct family_types {};
using all_families = family_types<qwen2_moe, ernie4_5_moe, exaone_moe, hy_v3, jamba, lfm2_moe,
                                  mixtral, phimoe, nemotron_h, granitemoe>;

template <class... Family, class F>
void for_each(family_types<Family...>, F&& f) {
    (f(sf::description_of<Family>, sf::description_of<Family>.in(sf::direction::inverse)), ...);
}

}  // namespace

TEST_CASE("family: names of the checkpoint become the model's, and back") {
    check<qwen2_moe>({{"model.layers.0.mlp.gate.weight", "model.layers.0.mlp.gate.weight"},
                      {"lm_head.weight", "lm_head.weight"}});
    check<mixtral>({
        {"model.layers.0.block_sparse_moe.gate.weight", "model.layers.0.mlp.gate.weight"},
        {"model.layers.0.block_sparse_moe.e_score_correction_bias",
         "model.layers.0.mlp.e_score_correction_bias"},
        {"model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.weight"},
        {"model.norm.weight", "model.norm.weight"},
    });
    check<phimoe>({
        {"model.layers.1.block_sparse_moe.gate.weight", "model.layers.1.mlp.router.weight"},
        {"model.layers.1.self_attn.o_proj.bias", "model.layers.1.self_attn.o_proj.bias"},
    });
    check<granitemoe>({
        {"model.layers.0.block_sparse_moe.router.layer.weight",
         "model.layers.0.block_sparse_moe.router.weight"},
        {"model.embed_tokens.weight", "model.embed_tokens.weight"},
    });
    check<nemotron_h>({
        {"backbone.embeddings.weight", "model.embeddings.weight"},
        {"backbone.layers.1.mixer.gate.e_score_correction_bias",
         "model.layers.1.mixer.gate.e_score_correction_bias"},
        {"backbone.norm_f.weight", "model.norm_f.weight"},
        {"lm_head.weight", "lm_head.weight"},
    });
    check<hy_v3>({
        {"model.layers.1.mlp.router.gate.weight", "model.layers.1.mlp.gate.weight"},
        {"model.layers.1.mlp.expert_bias", "model.layers.1.mlp.e_score_correction_bias"},
        {"model.layers.1.mlp.shared_mlp.up_proj.weight",
         "model.layers.1.mlp.shared_experts.up_proj.weight"},
        {"model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.gate_proj.weight"},
    });
    check<ernie4_5_moe>({
        {"model.layers.1.mlp.moe_statics.e_score_correction_bias",
         "model.layers.1.mlp.gate.moe_statics.e_score_correction_bias"},
        {"model.layers.1.mlp.gate.weight", "model.layers.1.mlp.gate.weight"},
    });
    check<exaone_moe>({{"model.layers.1.mlp.e_score_correction_bias",
                        "model.layers.1.mlp.gate.e_score_correction_bias"}});
    check<jamba>(
        {{"model.layers.1.feed_forward.router.weight", "model.layers.1.feed_forward.router.weight"},
         {"model.final_layernorm.weight", "model.final_layernorm.weight"}});
}

TEST_CASE("family: a description and its inverse swap stored and model side") {
    for_each(all_families{},
             [](const sf::family_description& there, const sf::family_description& back) {
                 INFO(std::string{there.name});
                 CHECK_FALSE(there.name.empty());
                 CHECK(there.name == back.name);
                 CHECK(there.from == back.to);
                 CHECK(there.to == back.from);
                 CHECK(there.from_module == back.to_module);
                 CHECK(there.to_module == back.from_module);
                 CHECK_FALSE(there.model_types.empty());
             });
}

TEST_CASE("family: a model type belongs to one family") {
    std::set<std::string> seen;
    for_each(all_families{},
             [&](const sf::family_description& each, const sf::family_description&) {
                 for (const std::string_view type : each.model_types) {
                     INFO(std::string{type});
                     CHECK(seen.insert(std::string{type}).second);
                 }
             });
    CHECK(seen.size() >= 30);
}

TEST_CASE("family: scopes get the model's prefix and path, and get their own back") {
    const std::map<std::string_view, std::string> layers{
        {"aria", "language_model.model.layers.7."},
        {"dbrx", "transformer.blocks.7."},
        {"deepseek_v4", "layers.7."},
        {"dots3_note", "model."},
        {"inkling2", "model.llm.layers.7."},
        {"inkling2_loop", "model.llm.layers.7."},
        {"inkling2_loop_text", "model.llm.layers.7."},
        {"inkling2_text", "model.llm.layers.7."},
        {"inkling_mm_model", "model.llm.layers.7."},
        {"kimi_k25", "language_model.model.layers.7."},
        {"minimax_m3_vl", "language_model.model.layers.7."},
        {"mistral_large4", "layers.7."},
        {"mistral_large4_text", "layers.7."},
        {"nemo_speechlm", "llm.model.layers.7."},
        {"nemotron_h", "backbone.layers.7."},
        {"nemotron_h_omni", "language_model.backbone.layers.7."},
        {"qwen3_omni_moe", "thinker.model.layers.7."},
    };
    const auto with_number = [](std::string path) {
        if (const auto at = path.find("{i}"); at != std::string::npos) path.replace(at, 3, "7");
        return path;
    };
    for (const sf::family_description& each : sf::shipped_families::all) {
        CAPTURE(each.name);
        const auto at = layers.find(each.name);
        const std::string prefix = at == layers.end() ? "model.layers.7." : at->second;
        const std::string stored = prefix + with_number(std::string{each.from_module});
        const auto model = sf::detail::destination_scope(each, each.module_at(0), stored);
        REQUIRE(model);
        CHECK(model->view() == new_name(each, prefix) + with_number(std::string{each.to_module}));
        const auto inverse = each.in(sf::direction::inverse);
        const auto again = sf::detail::destination_scope(inverse, inverse.module_at(0), *model);
        REQUIRE(again);
        CHECK(again->view() == stored);
    }
}

TEST_CASE("family: the concept family_type recognises families") {
    CHECK(sf::family_type<mixtral>);
    CHECK_FALSE(sf::family_type<per_expert>);
}

TEST_CASE("family: one description, read in a direction; inverse twice is the family itself") {
    const auto inverse = sf::direction::inverse;
    const auto check_module = [](const sf::module_description& a, const sf::module_description& b) {
        CHECK(a.from == b.from);
        CHECK(a.to == b.to);
        CHECK(a.from_path == b.from_path);
        CHECK(a.to_path == b.to_path);
    };
    const auto renames_of = [](const sf::family_description& family) {
        std::vector<std::string> out;
        for (const sf::rename_description each : family.renames)
            out.push_back(std::string{each.from} + ">" + std::string{each.to});
        return out;
    };
    const auto check_same = [&](const sf::family_description& a, const sf::family_description& b) {
        CHECK(a.name == b.name);
        CHECK(a.way() == b.way());
        CHECK(renames_of(a) == renames_of(b));
        REQUIRE(a.module_count() == b.module_count());
        for (std::size_t m = 0; m < a.module_count(); ++m)
            check_module(a.module_at(m), b.module_at(m));
    };
    for (const sf::family_description& each : sf::shipped_families::all) {
        CAPTURE(each.name);
        const sf::family_description back = each.in(inverse);
        CHECK(each.way() == sf::direction::forward);
        CHECK(back.way() == inverse);
        for (std::size_t m = 0; m < each.module_count(); ++m)
            check_module(back.module_at(m), each.module_at(m).reversed());
        check_same(each.in(sf::direction::forward), each);
        check_same(back.in(sf::direction::forward), back);
        check_same(back.in(inverse), each);
        check_same(each.inverse(), back);
        check_same(back.inverse(), back);
        // a form and a direction can be chosen in either order
        for (std::size_t i = 0; i < each.forms.size(); ++i)
            check_same(sf::with_stored_form(back, each.forms[i]),
                       sf::with_stored_form(each, each.forms[i]).in(inverse));
        CHECK(renames_of(sf::experts_only(back)) == renames_of(sf::experts_only(each).in(inverse)));
    }
}
