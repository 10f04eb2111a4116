#include <safefuse/models/transformers.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <map>
#include <set>
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
using arrays::held;
using arrays::set_of;
using arrays::tensors;
using laws::packed_set;
using laws::u64;
using sf::errc;
using sf::scope_state;
using sf::layouts::down;
using sf::layouts::gate;

TEST_CASE(
    "families: every module of every family is fused and unfused by shapes and names alone, "
    "with any extents") {
    std::size_t modules = 0, passed_through = 0;
    for (const sf::family_description& family : sf::shipped_families::all)
        for (std::size_t m = 0; m < family.module_count(); ++m) {
            ++modules;
            for (const auto& size : sizes)
                for (const auto& number : numbers)
                    for (const bool with_bias : {false, true}) {
                        const extents values = extents_of(size, number);
                        const sf::module_description module = family.module_at(m);
                        const std::string scope = scope_of(module.from_path);
                        packed_set set;
                        add_module(set, *module.from, scope, values, with_bias);
                        INFO(family.name, " module ", m, " I ", size[0], " H ", size[1], " E ",
                             number[0], " V ", number[1], " T ", number[2],
                             with_bias ? " with biases" : "");
                        const tensors source = held(set, scope);
                        REQUIRE(source.size() == set.size());
                        auto scopes = sf::experts_scopes::find(set, family);
                        REQUIRE(scopes);
                        std::size_t at = scopes->size();
                        for (std::size_t s = 0; s < scopes->size(); ++s)
                            if ((*scopes)[s].module == m) at = s;
                        if (at == scopes->size()) FAIL("the module is not found");
                        CHECK(std::string{(*scopes)[at].name} == scope);
                        const auto given = known(values);
                        auto plan = sf::plan(set, (*scopes)[at], family, sf::direction::forward,
                                             {.known_extents = given});
                        if (!plan) {
                            // biases are only for layouts that name them on both sides
                            INFO(std::string{plan.error().message().view()});
                            CHECK(with_bias);
                            CHECK(plan.error().code == errc::unexpected_key);
                            continue;
                        }
                        CHECK((plan->source_form() == scope_state::done) == module.is_same());
                        if (module.is_same()) ++passed_through;
                        const tensors there = made_by(*plan, set);
                        if (module.is_same()) CHECK(there == source);

                        const std::string destination{(*scopes)[at].destination_name};
                        packed_set made = set_of(there, destination);
                        auto back_scopes =
                            sf::experts_scopes::find(made, family, sf::direction::inverse);
                        REQUIRE(back_scopes);
                        for (at = 0; at < back_scopes->size() && (*back_scopes)[at].module != m;)
                            ++at;
                        if (at == back_scopes->size())
                            FAIL("the module is not found on the way back");
                        auto back =
                            sf::plan(made, (*back_scopes)[at], family, sf::direction::inverse,
                                     {.destination_scope = scope, .known_extents = given});
                        if (!back) FAIL(std::string{back.error().message().view()});
                        CHECK(made_by(*back, made) == source);
                    }
        }
    MESSAGE(modules, " modules of ", sf::shipped_families::all.size(), " families, ",
            passed_through, " plans of what the model holds already");
    CHECK(modules > sf::shipped_families::all.size());
    CHECK(passed_through > 0);
}

namespace {

bool counts_by_e(const sf::layout_description& layout) {
    for (const sf::tensor_description& tensor : layout.tensors) {
        const sf::mapping placed = tensor.place({});
        for (std::size_t p = 0; p < placed.part_count; ++p)
            if (placed.parts[p].experts != "E" || !placed.parts[p].after.empty()) return false;
    }
    return true;
}
bool has_gate(const sf::layout_description& layout) {
    for (const sf::tensor_description& tensor : layout.tensors) {
        const sf::mapping placed = tensor.place({});
        for (std::size_t p = 0; p < placed.part_count; ++p)
            if (placed.parts[p].part == "gate") return true;
    }
    return false;
}

}  // namespace

TEST_CASE(
    "families: ranks of I and ranges of experts are slices of every family's experts, and "
    "together the whole") {
    std::size_t families = 0;
    std::set<std::string> others;
    for (const sf::family_description& family : sf::shipped_families::all) {
        const sf::layout_description &from = *family.from, &to = *family.to;
        if (!counts_by_e(from)) {
            others.insert(std::string{family.name});
            continue;
        }
        ++families;
        const sf::layout_description& parts =
            has_gate(from) ? apart::description : apart_ungated::description;
        for (const auto& size : sizes) {
            const u64 one[3] = {3, 0, 0};
            const extents values = extents_of(size, one);
            const auto given = known(values);
            packed_set set;
            add_module(set, from, "moe", values, false);
            INFO(family.name, " I ", size[0], " H ", size[1]);
            auto split = sf::plan(set, "moe", from, parts, {.known_extents = given});
            if (!split) FAIL(std::string{split.error().message().view()});
            const tensors all = made_by(*split, set);
            auto whole = sf::plan(set, "moe", from, to, {.known_extents = given});
            REQUIRE(whole);
            const tensors fused = made_by(*whole, set);

            for (const u64 ranks : {u64{2}, u64{4}}) {
                if (size[0] % ranks != 0) continue;
                for (u64 rank = 0; rank < ranks; ++rank) {
                    INFO("rank ", rank, " of ", ranks);
                    auto plan = sf::plan(set, "moe", from, to,
                                         {.sliced_extent = "I",
                                          .slice_rank = rank,
                                          .slice_ranks = ranks,
                                          .known_extents = given});
                    if (!plan) FAIL(std::string{plan.error().message().view()});
                    const tensors part = made_by(*plan, set);
                    packed_set part_set = set_of(part, "moe");
                    extents smaller = values;
                    smaller["I"] = size[0] / ranks;
                    const auto given_part = known(smaller);
                    auto read = sf::plan(part_set, "moe", to, parts, {.known_extents = given_part});
                    if (!read) FAIL(std::string{read.error().message().view()});
                    tensors expected;
                    const u64 each = size[0] / ranks;
                    for (const auto& [name, tensor] : all)
                        expected[name] =
                            cut(name == "down" ? 2 : 1, rank * each, (rank + 1) * each, tensor);
                    CHECK(made_by(*read, part_set) == expected);
                }
            }
            for (u64 middle = 0; middle <= 3; ++middle) {
                std::map<std::string, std::vector<array>> modes;
                for (const auto& [first, end] :
                     {std::pair{u64{0}, middle}, std::pair{middle, u64{3}}}) {
                    auto plan = sf::plan(
                        set, "moe", from, to,
                        {.first_expert = first, .end_expert = end, .known_extents = given});
                    if (!plan) FAIL(std::string{plan.error().message().view()});
                    for (auto& [name, tensor] : made_by(*plan, set)) modes[name].push_back(tensor);
                }
                REQUIRE(modes.size() == fused.size());
                for (const auto& [name, tensor] : fused) CHECK(cat(0, modes.at(name)) == tensor);
            }
        }
    }
    std::string listed;
    for (const std::string& each : others) listed += " " + each;
    MESSAGE(families, " families; with groups of their own, below:", listed);
    CHECK(others == std::set<std::string>{"ernie4_5_vl_moe", "longcat_flash"});
}

TEST_CASE("forms: experts that are fused already are planned as they are, in every family") {
    for (const sf::family_description& family : sf::shipped_families::all) {
        const extents values = extents_of(sizes[0], numbers[0]);
        // if models move the language model whatever form its experts have, it is there already
        const bool inside = family.name == "hy_v4_vl" || family.name == "qwen3_omni_moe_thinker";
        const std::string scope = (inside ? "model.language_model.layers.3." : "model.layers.3.") +
                                  laws::with_numbers(family.to_module);
        packed_set set;
        add_module(set, *family.to, scope, values, false);
        INFO(family.name);
        const auto given = known(values);
        auto scopes = sf::experts_scopes::find(set, family);
        REQUIRE(scopes);
        REQUIRE(scopes->experts_count() == 1);
        auto plan =
            sf::plan(set, (*scopes)[0], family, sf::direction::forward, {.known_extents = given});
        if (!plan) FAIL(std::string{plan.error().message().view()});
        CHECK(plan->source_form() == scope_state::done);
        CHECK(made_by(*plan, set) == held(set, scope));
        CHECK(std::string{(*scopes)[0].destination_name} == scope);
        for (std::size_t i = 0; i < plan->outputs().size(); ++i)
            CHECK(plan->single_run(i) != nullptr);
    }
}
