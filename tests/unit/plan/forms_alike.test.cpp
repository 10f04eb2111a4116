#include <safefuse/plan/scopes.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include <safefuse/detect/detect.hpp>
#include <safefuse/models/transformers.hpp>

#include "../../support/arrays.hpp"
#include "../../support/laws.hpp"
#include "../../support/modules.hpp"

namespace sf = safefuse;
using namespace modules;
using arrays::array;
using arrays::cut;
using arrays::held;
using arrays::set_of;
using arrays::tensors;
using arrays::transposed;
using laws::packed_set;
using laws::u64;
using sf::dtype;
using sf::errc;
using sf::scope_state;

TEST_CASE("forms with the same names: no shapes fit both, unless they have no bytes") {
    using family = sf::families::qwen3_vl_moe;
    const auto &from = family::stored::description, &to = family::model::description;
    std::size_t fit_one = 0, fit_both = 0;
    for (u64 e = 0; e <= 2; ++e)
        for (u64 a = 0; a <= 8; ++a)
            for (u64 b = 0; b <= 8; ++b)
                for (u64 c = 0; c <= 8; ++c)
                    for (u64 d = 0; d <= 8; ++d) {
                        packed_set set;
                        set.add("moe.gate_up_proj", dtype::u8, {e, a, b});
                        set.add("moe.down_proj", dtype::u8, {e, c, d});
                        const sf::plan_options options{.allow_missing_scales = true};
                        auto turned_plan = sf::plan(set, "moe", from, to, options),
                             straight = sf::plan(set, "moe", to, to, options);
                        if (turned_plan && straight) {
                            ++fit_both;
                            REQUIRE(
                                (turned_plan->size_bytes() == 0 || straight->size_bytes() == 0));
                        } else if (turned_plan || straight) {
                            ++fit_one;
                        }
                    }
    MESSAGE(fit_one, " fit one form, ", fit_both, " without bytes both");
    CHECK(fit_one > 100);
}

TEST_CASE(
    "forms with the same names: each becomes the other, and the model's form stays as it is") {
    const auto& family = sf::description_of<sf::families::qwen3_vl_moe>;
    const auto inverse = family.in(sf::direction::inverse);
    const std::string scope = "model.language_model.layers.0.mlp.experts";
    for (const auto& size : {std::array<u64, 2>{4, 6}, {4, 4}, {4, 8}, {8, 4}, {1, 1}, {1, 2}}) {
        const u64 i = size[0], h = size[1];
        packed_set stored, loaded;
        add_module(stored, *family.from, scope, {{"E", 3}, {"I", i}, {"H", h}}, false);
        add_module(loaded, *family.to, scope, {{"E", 3}, {"I", i}, {"H", h}}, false);
        INFO("I ", i, " H ", h);
        const auto plan_only = [&](packed_set& set, const sf::family_description& of) {
            auto scopes = sf::experts_scopes::find(set, of);
            REQUIRE(scopes);
            REQUIRE(scopes->size() == 1);
            return sf::plan(set, (*scopes)[0], of, sf::direction::forward);
        };
        auto there = plan_only(stored, family);
        if (!there) FAIL(std::string{there.error().message().view()});
        CHECK(there->source_form() == scope_state::pending);
        tensors made = made_by(*there, stored);
        for (u64 e = 0; e < 3; ++e)
            for (const char* name : {"gate_up_proj", "down_proj"}) {
                array disk = cut(0, e, e + 1, held(stored, scope).at(name)),
                      model = cut(0, e, e + 1, made.at(name));
                disk.shape.erase(disk.shape.begin());
                model.shape.erase(model.shape.begin());
                CHECK(transposed(disk) == model);
            }
        auto same = plan_only(loaded, family);
        REQUIRE(same);
        CHECK(same->source_form() == scope_state::done);
        CHECK(made_by(*same, loaded) == held(loaded, scope));
        packed_set fused = set_of(made, scope);
        auto back = plan_only(fused, inverse);
        REQUIRE(back);
        CHECK(back->source_form() == scope_state::pending);
        CHECK(made_by(*back, fused) == held(stored, scope));
        auto stays = plan_only(stored, inverse);
        REQUIRE(stays);
        CHECK(stays->source_form() == scope_state::done);
        // with the templates
        auto named = sf::plan<sf::families::qwen3_vl_moe>(stored, scope);
        REQUIRE(named);
        CHECK(made_by(*named, stored) == made);
        auto named_same = sf::plan<sf::families::qwen3_vl_moe>(loaded, scope);
        REQUIRE(named_same);
        CHECK(named_same->source_form() == scope_state::done);
        auto named_back =
            sf::plan<sf::families::qwen3_vl_moe>(loaded, scope, sf::direction::inverse);
        REQUIRE(named_back);
        CHECK(named_back->source_form() == scope_state::pending);
    }
    // neither form
    packed_set neither;
    neither.add(scope + ".gate_up_proj", dtype::bf16, {3, 8, 6});
    neither.add(scope + ".down_proj", dtype::bf16, {3, 5, 4});
    auto plan = sf::plan<sf::families::qwen3_vl_moe>(neither, scope);
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == errc::shape_mismatch);
}
