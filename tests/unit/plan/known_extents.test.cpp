#include <safefuse/plan/plan.hpp>

#include <doctest/doctest.h>

#include <array>
#include <string>
#include <string_view>
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
using arrays::stack;
using arrays::tensors;
using arrays::transposed;
using laws::packed_set;
using laws::u64;
using sf::dtype;
using sf::errc;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

TEST_CASE(
    "known extents: experts flattened into rows are separated by their number, and a wrong "
    "number is refused") {
    const auto& family = sf::description_of<sf::families::dbrx>;
    const auto &from = *family.from, &to = apart::description;
    for (const auto& size : {std::array<u64, 3>{4, 6, 5}, {2, 2, 2}, {1, 3, 3}, {6, 1, 4}}) {
        const u64 e = size[0], i = size[1], h = size[2];
        packed_set set;
        for (const char* name : {"w1", "v1", "w2"})
            set.add("moe." + std::string{name}, dtype::bf16, {e * i, h});
        INFO("E ", e, " I ", i, " H ", h);
        // without the number nothing tells it, not even if everything is passed through
        auto untold = sf::plan(set, "moe", from, to);
        REQUIRE_FALSE(untold);
        CHECK(untold.error().code == errc::shape_mismatch);
        for (u64 number = 1; number <= e * i + 1; ++number) {
            const std::vector<sf::known_extent> given{{"E", number}};
            auto plan = sf::plan(set, "moe", from, to, {.known_extents = given});
            REQUIRE(plan.has_value() == (e * i % number == 0));
            if (!plan) {
                CHECK(plan.error().code == errc::shape_mismatch);
                CHECK(std::string{plan.error().tensor.view()} == "moe.w1");
                continue;
            }
            const u64 rows = e * i / number;
            std::vector<array> downs;
            for (u64 n = 0; n < number; ++n)
                downs.push_back(transposed(cut(0, n * rows, (n + 1) * rows, at(set, "moe.w2"))));
            array gates = at(set, "moe.w1"), ups = at(set, "moe.v1");
            gates.shape = ups.shape = {number, rows, h};
            const tensors there = made_by(*plan, set);
            CHECK(there == tensors{{"gate", gates}, {"up", ups}, {"down", stack(downs)}});
            packed_set split = set_of(there, "moe");
            auto back = sf::plan(split, "moe", to, from);
            if (!back) FAIL(std::string{back.error().message().view()});
            CHECK(made_by(*back, split) == held(set, "moe"));
            // known H and I must agree, too
            const std::vector<sf::known_extent> right{
                {"E", number}, {"I", rows}, {"H", h}, {"K", 77}},
                wrong{{"E", number}, {"I", rows + 1}};
            CHECK(sf::plan(set, "moe", from, to, {.known_extents = right}).has_value());
            auto refused = sf::plan(set, "moe", from, to, {.known_extents = wrong});
            REQUIRE_FALSE(refused);
            CHECK(refused.error().code == errc::shape_mismatch);
        }
        const std::vector<sf::known_extent> by_rows{{"I", i}};
        auto plan = sf::plan(set, "moe", from, to, {.known_extents = by_rows});
        REQUIRE(plan);
        CHECK(plan->expert_count() == e);
        const std::vector<sf::known_extent> none{{"E", 0}};
        auto nothing = sf::plan(set, "moe", from, to, {.known_extents = none});
        REQUIRE_FALSE(nothing);
        CHECK(nothing.error().code == errc::shape_mismatch);
    }
}

TEST_CASE("known extents: a number of experts that the names do not have is refused") {
    packed_set set;
    add_module(set, sf::layouts::per_expert::description, "moe", {{"E", 3}, {"I", 4}, {"H", 6}},
               false);
    const auto &from = sf::layouts::per_expert::description,
               &to = sf::layouts::gate_up_fused::description;
    struct one_case {
        std::string_view name;
        u64 value;
        bool right;
    };
    for (const one_case& each : {one_case{"E", 3, true},
                                 {"E", 4, false},
                                 {"E", 2, false},
                                 {"I", 4, true},
                                 {"I", 5, false},
                                 {"H", 12, false},
                                 {"X", 9, true}}) {
        const auto name = each.name;
        const u64 value = each.value;
        const bool right = each.right;
        const std::vector<sf::known_extent> given{{name, value}};
        auto plan = sf::plan(set, "moe", from, to, {.known_extents = given});
        INFO(name, " ", value);
        REQUIRE(plan.has_value() == right);
        if (plan) continue;
        INFO(std::string{plan.error().message().view()});
        CHECK(plan.error().code == (name == "E" ? errc::unexpected_extent : errc::shape_mismatch));
        if (plan.error().code == errc::unexpected_extent) {
            CHECK(plan.error().expected == value);
            CHECK(plan.error().actual == 3);
            CHECK(std::string{plan.error().message().view()}.find('E') != std::string::npos);
        }
    }
    const std::vector<sf::known_extent> twice{{"E", 3}, {"E", 4}};
    CHECK_FALSE(sf::plan(set, "moe", from, to, {.known_extents = twice}).has_value());
    packed_set fused;
    add_module(fused, to, "moe", {{"E", 3}, {"I", 4}, {"H", 6}}, false);
    const std::vector<sf::known_extent> wrong{{"E", 4}};
    auto plan = sf::plan(fused, "moe", to, from, {.known_extents = wrong});
    REQUIRE_FALSE(plan);
    CHECK((plan.error().code == errc::shape_mismatch ||
           plan.error().code == errc::unexpected_extent));
}
