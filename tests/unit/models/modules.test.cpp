#include <safefuse/models/transformers.hpp>

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include <safefuse/detect/detect.hpp>
#include <safefuse/plan/scopes.hpp>

#include "../../support/arrays.hpp"
#include "../../support/laws.hpp"
#include "../../support/modules.hpp"

namespace sf = safefuse;
using namespace modules;
using arrays::array;
using arrays::cat;
using arrays::cut;
using arrays::tensors;
using arrays::transposed;
using laws::packed_set;
using laws::u64;
using sf::dtype;
using sf::errc;
using sf::layouts::gate;
using sf::layouts::up;

TEST_CASE(
    "modules: convolutions are concatenated, a router is transposed, corrections are split, "
    "dense gate and up joined") {
    {
        packed_set set;
        for (const char* part : {"q", "k", "v"})
            set.add("model.layers.0.self_attn." + std::string{part} + "_conv1d.weight", dtype::bf16,
                    {5, 1, 4});
        set.add("model.layers.0.self_attn.q_proj.weight", dtype::bf16, {3, 3});
        const std::string scope = "model.layers.0.self_attn.";
        const tensors expected{{"conv1d.weight", cat(0, {at(set, scope + "q_conv1d.weight"),
                                                         at(set, scope + "k_conv1d.weight"),
                                                         at(set, scope + "v_conv1d.weight")})}};
        CHECK(planned(set, sf::description_of<sf::families::glm5_next>, 1) == expected);
        auto scopes = sf::experts_scopes::find(set, sf::description_of<sf::families::glm5_next>);
        REQUIRE(scopes);
        CHECK(scopes->experts_count() == 0);
        set.remove(scope + "k_conv1d.weight");
        auto again = sf::experts_scopes::find(set, sf::description_of<sf::families::glm5_next>);
        REQUIRE(again);
        auto plan = sf::plan(set, only(*again, 1), sf::description_of<sf::families::glm5_next>,
                             sf::direction::forward);
        REQUIRE_FALSE(plan);
        CHECK(plan.error().code == errc::missing_key);
        CHECK(std::string{plan.error().tensor.view()} == scope + "k_conv1d.weight");
    }
    {
        packed_set set = ernie(2, 2, 4, 2, 6);
        set.add(ernie_scope + ".gate.weight", dtype::bf16, {6, 2});
        set.add(ernie_scope + ".gate.weight_1", dtype::bf16, {6, 2});
        set.add(ernie_scope + ".moe_statics.e_score_correction_bias", dtype::bf16, {2, 2});
        const auto& family = sf::description_of<ernie_family>;
        auto scopes = sf::experts_scopes::find(set, family);
        REQUIRE(scopes);
        CHECK(scopes->experts_count() == 1);
        CHECK(scopes->size() == 4);
        CHECK(planned(set, family, 0) == ernie_fused(set, 2, 4, {"weight"}));
        CHECK(planned(set, family, 1) ==
              tensors{{"text_moe.gate.weight", transposed(at(set, ernie_scope + ".gate.weight"))}});
        CHECK(planned(set, family, 2) ==
              tensors{
                  {"vision_moe.gate.weight", transposed(at(set, ernie_scope + ".gate.weight_1"))}});
        const array both = at(set, ernie_scope + ".moe_statics.e_score_correction_bias");
        CHECK(planned(set, family, 3) ==
              tensors{{"text_moe.gate.moe_statics.e_score_correction_bias", cut(0, 0, 1, both)},
                      {"vision_moe.gate.moe_statics.e_score_correction_bias", cut(0, 1, 2, both)}});
    }
    {
        const auto& family = sf::description_of<sf::families::minimax_m3_vl>;
        packed_set set;
        const std::string dense = "language_model.model.layers.0.mlp.",
                          shared = "language_model.model.layers.1.block_sparse_moe.shared_experts.";
        for (const std::string& scope : {dense, shared}) {
            set.add(scope + "gate_proj.weight", dtype::bf16, {4, 6});
            set.add(scope + "up_proj.weight", dtype::bf16, {4, 6});
            set.add(scope + "down_proj.weight", dtype::bf16, {6, 4});
        }
        for (const auto& [module, scope] : {std::pair{1u, dense}, {2u, shared}})
            CHECK(planned(set, family, module) ==
                  tensors{{"gate_up_proj.weight", cat(0, {at(set, scope + "gate_proj.weight"),
                                                          at(set, scope + "up_proj.weight")})}});
    }
    {
        const auto& family = sf::description_of<sf::families::inkling_mm_model>;
        packed_set set;
        set.add("model.llm.layers.0.mlp.w13_dn.weight", dtype::bf16, {6, 2});
        const array both = at(set, "model.llm.layers.0.mlp.w13_dn.weight");
        std::vector<array> gates, ups;
        for (u64 r = 0; r < 6; r += 2) {
            gates.push_back(cut(0, r, r + 1, both));
            ups.push_back(cut(0, r + 1, r + 2, both));
        }
        CHECK(planned(set, family, 2) ==
              tensors{{"gate_proj.weight", cat(0, gates)}, {"up_proj.weight", cat(0, ups)}});
    }
}
