// The first stage of a plan: names become an inventory. Each case shows one step with a few names;
// shapes and dtypes do not matter here.
#include <safefuse/plan/detail/inventory.hpp>

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "../../support/laws.hpp"

namespace sf = safefuse;
namespace detail = safefuse::detail;
using errc = sf::errc;

namespace {

using names = std::vector<std::string>;
using per_expert = sf::layouts::per_expert;
using fused = sf::layouts::gate_up_fused;

/// Two groups of experts that share their numbers: the first half has small experts.
using small_gate = sf::part_of<sf::expert_range<"S">, "small", "I", "H">;
using large_gate = sf::part_of<sf::expert_range<"L", "S">, "large", "J", "H">;
using two_groups = sf::layout<sf::module_suffixes, sf::tensor<"{i}.gate", small_gate>,
                              sf::tensor<"{i}.gate", large_gate>>;

laws::packed_set set_of(const names& all) {
    laws::packed_set set;
    for (const std::string& each : all) set.add(each, sf::dtype::bf16, {1, 1});
    return set;
}
sf::result<detail::inventory> take(const laws::packed_set& set, const sf::layout_description& from,
                                   sf::span<const sf::known_extent> known = {}) {
    std::vector<std::uint32_t> members;
    for (std::uint32_t i = 0; i < set.size(); ++i) members.push_back(i);
    return detail::take_inventory(set, members, "m", from, fused::description, false, known);
}
names experts(std::initializer_list<int> numbers) {
    names out;
    for (const int e : numbers)
        for (const char* part : {"gate", "up", "down"})
            out.push_back("m." + std::to_string(e) + "." + part + "_proj.weight");
    return out;
}

}  // namespace

TEST_CASE("inventory: extents are numbered as the layouts mention them, E first") {
    detail::extent_table extents;
    detail::expert_groups groups;
    REQUIRE(detail::name_dims(extents, groups, per_expert::description, fused::description));
    CHECK(extents.x.dim_count == 3);
    CHECK(detail::symbol_of(extents.x, "E") == 0);
    CHECK(detail::symbol_of(extents.x, "I") == 1);
    CHECK(detail::symbol_of(extents.x, "H") == 2);
    CHECK(detail::symbol_of(extents.x, "J") == detail::no_dim);
    CHECK(extents.used == 7);
    CHECK(extents.known == 0);
    CHECK(groups.of_tensor.size() == 3);
}

TEST_CASE("inventory: every tensor of the set is found by tensor, field and expert") {
    names all = experts({1, 0, 2});
    all.push_back("m.2.down_proj.bias");
    all.push_back("m.0.down_proj.bias");
    all.push_back("m.1.down_proj.bias");
    const auto set = set_of(all);
    const auto found = take(set, per_expert::description);
    REQUIRE(found);
    CHECK(found->extents.x.values[0] == 3);
    CHECK(found->extents.is_known(0));
    CHECK_FALSE(found->extents.is_known(1));
    for (std::uint32_t t = 0; t < 3; ++t) {
        CHECK(found->has(t, 0));
        CHECK(found->has(t, 1) == (t == 2));
        for (std::uint64_t e = 0; e < 3; ++e) {
            const char* const part[] = {"gate", "up", "down"};
            CHECK(set.spec(found->at(t, 0, e)).name ==
                  "m." + std::to_string(e) + "." + part[t] + "_proj.weight");
        }
    }
    CHECK(set.spec(found->at(2, 1, 2)).name == "m.2.down_proj.bias");
}

TEST_CASE("inventory: a number without a name is missing, and the first such number is named") {
    const auto set = set_of(experts({0, 1, 3}));
    const auto found = take(set, per_expert::description);
    REQUIRE_FALSE(found);
    CHECK(found.error().code == errc::missing_expert);
    CHECK(found.error().expert == 2);
    CHECK(found.error().tensor == "m.2.gate_proj.weight");
}

TEST_CASE("inventory: an expert lacks one part, or all of them") {
    names all = experts({0, 1});
    all.erase(all.begin() + 4);
    const auto without_up = set_of(all);
    auto found = take(without_up, per_expert::description);
    REQUIRE_FALSE(found);
    CHECK(found.error().code == errc::missing_key);
    CHECK(found.error().tensor == "m.1.up_proj.weight");
    CHECK(found.error().expert == 1);

    all = {"m.0.gate_proj.weight", "m.0.gate_proj.bias", "m.1.gate_proj.weight"};
    const auto without_bias = set_of(all);
    found = take(without_bias, per_expert::description);
    REQUIRE_FALSE(found);
    CHECK(found.error().code == errc::missing_key);
    CHECK(found.error().tensor == "m.1.gate_proj.bias");
}

TEST_CASE("inventory: two tensors for one place, a stranger, the other layout's tensors") {
    names all = experts({0});
    all.push_back("m.0.up_proj.weight");
    const auto twice = set_of(all);
    CHECK(take(twice, per_expert::description).error().code == errc::duplicate_expert);

    all.back() = "m.0.up_proj.colour";
    const auto stranger = set_of(all);
    CHECK(take(stranger, per_expert::description).error().code == errc::unexpected_key);

    all.back() = "m.gate_up_proj";
    const auto both = set_of(all);
    const auto found = take(both, per_expert::description);
    REQUIRE_FALSE(found);
    CHECK(found.error().code == errc::both_layouts);
    CHECK(found.error().tensor == "m.gate_up_proj");
}

TEST_CASE(
    "inventory: known extents must agree with the names, and replace what the names do not give") {
    const auto set = set_of(experts({0, 1}));
    const sf::known_extent right[] = {{"E", 2}, {"I", 7}, {"unheard_of", 3}}, wrong[] = {{"E", 3}};
    const auto found = take(set, per_expert::description, right);
    REQUIRE(found);
    CHECK(found->extents.x.values[1] == 7);
    CHECK(found->extents.is_known(1));
    const auto refused = take(set, per_expert::description, wrong);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::unexpected_extent);
    CHECK(refused.error().expected == 3);
    CHECK(refused.error().actual == 2);
}

TEST_CASE("inventory: groups that share their numbers divide them: equal shares, rounded up") {
    for (std::uint64_t count = 1; count < 9; ++count) {
        detail::extent_table extents;
        detail::expert_groups groups;
        REQUIRE(
            detail::name_dims(extents, groups, two_groups::description, two_groups::description));
        const auto small = detail::symbol_of(extents.x, "S");
        const auto large = detail::symbol_of(extents.x, "L");
        CHECK(groups.first(large) == small);
        const unsigned chain = detail::divide_experts(extents.x, groups, small, count);
        CHECK(chain == ((1u << small) | (1u << large)));
        CHECK(extents.x.values[small] == (count + 1) / 2);
        CHECK(extents.x.values[small] + extents.x.values[large] == count);
        CHECK(groups.first_number(groups.of_tensor[1], extents.x) == (count + 1) / 2);
    }
}

TEST_CASE("inventory: one name of two groups: the number decides the group and the index in it") {
    const auto set = set_of({"m.0.gate.weight", "m.1.gate.weight", "m.2.gate.weight"});
    const auto found = take(set, two_groups::description);
    REQUIRE(found);
    CHECK(found->at(0, 0, 0) == 0);
    CHECK(found->at(0, 0, 1) == 1);
    CHECK(found->at(1, 0, 0) == 2);
}
