#include <safefuse/plan/scopes.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <safefuse/models/transformers.hpp>

#include "../../support/arrays.hpp"
#include "../../support/laws.hpp"
#include "../../support/modules.hpp"

namespace sf = safefuse;
using namespace modules;
using arrays::array;
using arrays::cat;
using arrays::cut;
using arrays::held;
using arrays::set_of;
using arrays::stack;
using arrays::tensors;
using laws::packed_set;
using laws::u64;
using sf::dtype;
using sf::errc;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

TEST_CASE(
    "groups: one list of experts is split in halves, the first rounded up, and joined again") {
    for (const u64 all : {u64{2}, u64{3}, u64{4}, u64{5}, u64{12}, u64{13}})
        for (const auto& size : {std::array<u64, 3>{4, 2, 6}, {4, 4, 4}, {2, 4, 8}, {1, 1, 1}})
            for (const bool with_bias : {false, true}) {
                const u64 i = size[0], j = size[1], h = size[2];
                const u64 text = (all + 1) / 2;
                INFO(all, " experts, I ", i, " J ", j, " H ", h);
                packed_set set = ernie(text, all - text, i, j, h, with_bias);
                auto plan = sf::plan(set, ernie_scope, ernie_from, ernie_to);
                if (!plan) FAIL(std::string{plan.error().message().view()});
                CHECK(plan->expert_count() == all);
                const tensors there = made_by(*plan, set);
                CHECK(there == ernie_fused(set, text, all,
                                           with_bias ? std::vector<std::string>{"weight", "bias"}
                                                     : std::vector<std::string>{"weight"}));
                packed_set fused = set_of(there, ernie_scope);
                auto back = sf::plan(fused, ernie_scope, ernie_to, ernie_from);
                if (!back) FAIL(std::string{back.error().message().view()});
                CHECK(back->expert_count() == all);
                CHECK(made_by(*back, fused) == held(set, ernie_scope));
                const std::vector<sf::known_extent> given{{"E", text}, {"V", all - text}, {"J", j}};
                CHECK(sf::plan(set, ernie_scope, ernie_from, ernie_to, {.known_extents = given})
                          .has_value());
                CHECK(sf::plan(fused, ernie_scope, ernie_to, ernie_from, {.known_extents = given})
                          .has_value());
            }
}

TEST_CASE("groups: an expert missing from any group is named by its number in the list") {
    const auto why_not = [](const packed_set& set) {
        auto plan = sf::plan(set, ernie_scope, ernie_from, ernie_to);
        REQUIRE_FALSE(plan);
        return std::move(plan).error();
    };
    for (u64 gone = 0; gone < 7; ++gone) {
        packed_set set = ernie(4, 3, 4, 2, 6);
        for (const char* part : {"gate_proj", "up_proj", "down_proj"})
            set.remove(ernie_scope + ".experts." + std::to_string(gone) + "." + part + ".weight");
        if (gone == 6) {
            // its number does not show that the last one is missing: the halves then have three
            // each, of different shapes
            const auto why = why_not(set);
            CHECK(why.code == errc::shape_mismatch);
            CHECK((why.expert >= 3 && why.expert < 6));
            continue;
        }
        INFO("without ", gone);
        const auto why = why_not(set);
        CHECK(why.code == errc::missing_expert);
        CHECK(why.expert == gone);
        CHECK(std::string{why.tensor.view()}.starts_with(ernie_scope + ".experts." +
                                                         std::to_string(gone) + "."));
        for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
            packed_set one = ernie(4, 3, 4, 2, 6);
            const std::string name =
                ernie_scope + ".experts." + std::to_string(gone) + "." + part + ".weight";
            one.remove(name);
            const auto of_one = why_not(one);
            CHECK(of_one.code == errc::missing_key);
            CHECK(of_one.expert == gone);
            CHECK(std::string{of_one.tensor.view()} == name);
        }
    }
    // a whole part of the second half
    packed_set set = ernie(2, 2, 4, 2, 6);
    set.remove(ernie_scope + ".experts.2.up_proj.weight");
    set.remove(ernie_scope + ".experts.3.up_proj.weight");
    CHECK(why_not(set).code == errc::missing_key);
    CHECK(std::string{why_not(set).tensor.view()} == ernie_scope + ".experts.2.up_proj.weight");
    // a field that only the first half has is fused for that half; a field of gate alone is not
    packed_set biased = ernie(2, 2, 4, 2, 6);
    for (const char* e : {"0", "1"})
        for (const char* part : {"gate_proj", "up_proj", "down_proj"})
            biased.add(ernie_scope + ".experts." + e + "." + part + ".bias", dtype::bf16,
                       {std::string_view{part} == "down_proj" ? u64{6} : u64{4}});
    auto plan = sf::plan(biased, ernie_scope, ernie_from, ernie_to);
    if (!plan) FAIL(std::string{plan.error().message().view()});
    CHECK(plan->output("text_moe.experts.gate_up_proj_bias"));
    CHECK_FALSE(plan->output("vision_moe.experts.gate_up_proj_bias"));
}

TEST_CASE("groups: a single expert cannot be split into two groups") {
    packed_set set = ernie(1, 0, 4, 2, 6);
    auto plan = sf::plan(set, ernie_scope, ernie_from, ernie_to);
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == errc::missing_key);
    // the number with which the second group would begin
    CHECK(std::string{plan.error().tensor.view()} == ernie_scope + ".experts.1.gate_proj.weight");
}

TEST_CASE("groups: fused groups of unequal size cannot become one list") {
    for (const auto& each :
         {std::array<u64, 3>{3, 3, 1}, {3, 2, 1}, {3, 1, 0}, {2, 3, 0}, {4, 2, 0}, {1, 0, 0}}) {
        const u64 text = each[0], vision = each[1];
        const bool fits = each[2] != 0;
        packed_set set;
        set.add(ernie_scope + ".text_moe.experts.gate_up_proj", dtype::bf16, {text, 8, 6});
        set.add(ernie_scope + ".text_moe.experts.down_proj", dtype::bf16, {text, 6, 4});
        set.add(ernie_scope + ".vision_moe.experts.gate_up_proj", dtype::bf16, {vision, 4, 6});
        set.add(ernie_scope + ".vision_moe.experts.down_proj", dtype::bf16, {vision, 6, 2});
        auto plan = sf::plan(set, ernie_scope, ernie_to, ernie_from);
        INFO(text, " and ", vision, ": ",
             plan ? std::string{} : std::string{plan.error().message().view()});
        if (text == 1) continue;  // no bytes: both are right
        CHECK(plan.has_value() == fits);
        if (!plan) CHECK(plan.error().code == errc::shape_mismatch);
        if (!plan)
            CHECK(std::string{plan.error().message().view()}.find("unequal") != std::string::npos);
    }
}

TEST_CASE("groups: a range of experts, and a rank of two extents at a time") {
    packed_set set = ernie(3, 2, 4, 2, 6);
    const tensors whole = ernie_fused(set, 3, 5, {"weight"});
    auto rank = sf::plan(set, ernie_scope, ernie_from, ernie_to,
                         {.sliced_extent = "I J", .slice_rank = 1, .slice_ranks = 2});
    if (!rank) FAIL(std::string{rank.error().message().view()});
    const tensors part = made_by(*rank, set);
    CHECK(part.at("text_moe.experts.down_proj") ==
          cut(2, 2, 4, whole.at("text_moe.experts.down_proj")));
    CHECK(part.at("vision_moe.experts.down_proj") ==
          cut(2, 1, 2, whole.at("vision_moe.experts.down_proj")));
    const array& both = whole.at("vision_moe.experts.gate_up_proj");
    CHECK(part.at("vision_moe.experts.gate_up_proj") ==
          cat(1, {cut(1, 1, 2, both), cut(1, 3, 4, both)}));
    // each group's own range
    auto range =
        sf::plan(set, ernie_scope, ernie_from, ernie_to, {.first_expert = 1, .end_expert = 3});
    if (!range) FAIL(std::string{range.error().message().view()});
    const tensors of_range = made_by(*range, set);
    CHECK(of_range.at("text_moe.experts.gate_up_proj") ==
          cut(0, 1, 3, whole.at("text_moe.experts.gate_up_proj")));
    CHECK(of_range.at("vision_moe.experts.gate_up_proj") ==
          cut(0, 1, 2, whole.at("vision_moe.experts.gate_up_proj")));
    auto too_far = sf::plan(set, ernie_scope, ernie_from, ernie_to, {.end_expert = 4});
    REQUIRE_FALSE(too_far);
    CHECK(too_far.error().code == errc::out_of_range);
    auto no_such = sf::plan(set, ernie_scope, ernie_from, ernie_to,
                            {.sliced_extent = "I K", .slice_ranks = 2});
    REQUIRE_FALSE(no_such);
    CHECK(no_such.error().code == errc::out_of_range);
}

TEST_CASE("groups: experts without a down matrix are counted separately") {
    using family = sf::families::longcat_flash;
    const auto source = [](u64 all, u64 real, u64 i, u64 h) {
        packed_set set;
        for (u64 e = 0; e < all; ++e) {
            const std::string name = "moe." + std::to_string(e);
            set.add(name + ".gate_proj.weight", dtype::bf16, {i, h});
            set.add(name + ".up_proj.weight", dtype::bf16, {i, h});
            if (e < real) set.add(name + ".down_proj.weight", dtype::bf16, {h, i});
        }
        return set;
    };
    const auto &from = family::stored::description, &to = family::model::description;
    for (const auto& [all, real] :
         {std::pair{u64{5}, u64{3}}, {u64{4}, u64{4}}, {u64{2}, u64{1}}, {u64{3}, u64{5}}}) {
        packed_set set = source(all, real, 4, 6);
        if (real > all)
            for (u64 e = all; e < real; ++e)
                set.add("moe." + std::to_string(e) + ".down_proj.weight", dtype::bf16, {6, 4});
        const tensors all_of_it = held(set, "moe");
        auto plan = sf::plan(set, "moe", from, to);
        if (!plan) FAIL(std::string{plan.error().message().view()});
        tensors expected;
        std::vector<array> both, other;
        for (u64 e = 0; e < all; ++e)
            both.push_back(cat(0, {all_of_it.at(std::to_string(e) + ".gate_proj.weight"),
                                   all_of_it.at(std::to_string(e) + ".up_proj.weight")}));
        for (u64 e = 0; e < real; ++e)
            other.push_back(all_of_it.at(std::to_string(e) + ".down_proj.weight"));
        expected["gate_up_proj"] = stack(both);
        expected["down_proj"] = stack(other);
        const tensors there = made_by(*plan, set);
        CHECK(there == expected);
        packed_set fused = set_of(there, "moe");
        auto back = sf::plan(fused, "moe", to, from);
        REQUIRE(back);
        CHECK(made_by(*back, fused) == all_of_it);
    }
    packed_set gap = source(5, 3, 4, 6);
    gap.remove("moe.1.down_proj.weight");
    auto plan = sf::plan(gap, "moe", from, to);
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == errc::missing_expert);
    CHECK(plan.error().expert == 1);
    CHECK(std::string{plan.error().tensor.view()} == "moe.1.down_proj.weight");
    packed_set no_up = source(5, 3, 4, 6);
    no_up.remove("moe.4.up_proj.weight");
    auto other = sf::plan(no_up, "moe", from, to);
    REQUIRE_FALSE(other);
    CHECK(other.error().code == errc::missing_key);
    CHECK(std::string{other.error().tensor.view()} == "moe.4.up_proj.weight");
}

TEST_CASE("groups: three groups share a list in equal shares") {
    using second = sf::expert_range<"F", "E">;
    using third = sf::expert_range<"G", "F">;
    using a = sf::part<"a", "I", "H">;
    using b = sf::part_of<second, "b", "J", "H">;
    using c = sf::part_of<third, "c", "K", "H">;
    using list = sf::layout<sf::module_suffixes, sf::tensor<"{i}.w", a>, sf::tensor<"{i}.w", b>,
                            sf::tensor<"{i}.w", c>>;
    using apart_by_group =
        sf::layout<sf::parameter_suffixes, sf::tensor<"first", sf::stack<a>>,
                   sf::tensor<"second", sf::stack<b>>, sf::tensor<"third", sf::stack<c>>>;
    for (u64 all = 3; all <= 11; ++all) {
        const u64 share = (all + 2) / 3;
        const u64 counts[] = {share, share < all - share ? share : all - share,
                              all - 2 * share <= all ? all - 2 * share : 0};
        packed_set set;
        std::vector<std::vector<array>> expected(3);
        u64 e = 0;
        for (std::size_t g = 0; g < 3; ++g)
            for (u64 i = 0; i < counts[g]; ++i, ++e) {
                const std::string name = "moe." + std::to_string(e) + ".w.weight";
                set.add(name, dtype::bf16, {g + 2, 3});
                expected[g].push_back(held(set).at(name));
            }
        INFO(all, " experts");
        auto plan = sf::plan(set, "moe", list::description, apart_by_group::description);
        if (counts[2] == 0) {
            CHECK_FALSE(plan);
            continue;
        }
        if (!plan) FAIL(std::string{plan.error().message().view()});
        CHECK(plan->expert_count() == all);
        const tensors there = made_by(*plan, set);
        CHECK(there == tensors{{"first", stack(expected[0])},
                               {"second", stack(expected[1])},
                               {"third", stack(expected[2])}});
        packed_set fused = set_of(there, "moe");
        auto back = sf::plan(fused, "moe", apart_by_group::description, list::description);
        if (!back) FAIL(std::string{back.error().message().view()});
        CHECK(made_by(*back, fused) == held(set, "moe"));
    }
}

TEST_CASE("groups: a group after an absent one is numbered only if the other's count is known") {
    using second = sf::expert_range<"V", "E">;
    using w = sf::part_of<second, "w", "J", "H">;
    using stacked = sf::layout<sf::parameter_suffixes, sf::tensor<"second", sf::stack<w>>>;
    using list = sf::layout<sf::module_suffixes, sf::tensor<"{i}.w", w>>;
    packed_set set;
    set.add("moe.second", dtype::bf16, {2, 3, 4});
    auto plan = sf::plan(set, "moe", stacked::description, list::description);
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == errc::shape_mismatch);
    const std::vector<sf::known_extent> given{{"E", 3}};
    auto told =
        sf::plan(set, "moe", stacked::description, list::description, {.known_extents = given});
    if (!told) FAIL(std::string{told.error().message().view()});
    CHECK(told->outputs().size() == 2);
    CHECK(told->output("3.w.weight"));
    CHECK(told->output("4.w.weight"));
    CHECK(made_by(*told, set).at("4.w.weight").bytes == cut(0, 1, 2, at(set, "moe.second")).bytes);
    // only the second half of a list
    packed_set both = ernie(3, 2, 4, 2, 6);
    using vision =
        sf::layout<sf::parameter_suffixes,
                   sf::tensor<"vision.down_proj", sf::stack<sf::families::ernie_vl_image_down>>>;
    // sf::plan refuses a destination that leaves out parts: this is the stage after that check
    auto members = sf::detail::tensors_under(both, ernie_scope);
    REQUIRE(members);
    auto half = sf::detail::plan_members(both, members->view(), ernie_scope, ernie_from,
                                         vision::description, {});
    if (!half) FAIL(std::string{half.error().message().view()});
    CHECK(made_by(*half, both).at("vision.down_proj") ==
          ernie_fused(both, 3, 5, {"weight"}).at("vision_moe.experts.down_proj"));
}
