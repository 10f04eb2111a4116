// The second stage of a plan: shapes become extents and forms. "Each axis is one equation."
#include <safefuse/plan/detail/geometry.hpp>

#include <vector>

#include <doctest/doctest.h>

#include "../../support/laws.hpp"

namespace sf = safefuse;
namespace detail = safefuse::detail;
using errc = sf::errc;
using sf::dtype;
using outcome = detail::solution::outcome;

namespace {

using fused = sf::layouts::gate_up_fused;
using flat = sf::layouts::flat_experts;

/// Runs the stage before: the inventory of a whole set.
sf::result<detail::inventory> take(const laws::packed_set& set, const sf::layout_description& from,
                                   sf::span<const sf::known_extent> known = {}) {
    std::vector<std::uint32_t> members;
    for (std::uint32_t i = 0; i < set.size(); ++i) members.push_back(i);
    return detail::take_inventory(set, members, "m", from, from, true, known);
}
laws::packed_set fused_set(dtype type, std::vector<laws::u64> gate_up,
                           std::vector<laws::u64> down) {
    laws::packed_set set;
    set.add("m.gate_up_proj", type, std::move(gate_up));
    set.add("m.down_proj", type, std::move(down));
    return set;
}

/// An equation over the extents 1 (I) and 2 (H).
sf::stored_axis axis(laws::u64 coefficient, unsigned dims, laws::u64 block_size = 1) {
    sf::stored_axis out;
    out.coefficient = coefficient;
    out.dims = static_cast<std::uint8_t>(dims);
    out.block_size = block_size;
    return out;
}
detail::extent_table extents(laws::u64 i, laws::u64 h, unsigned known) {
    detail::extent_table out;
    out.x.values[out.x.dim("I")] = i;
    out.x.values[out.x.dim("H")] = h;
    out.known = known;
    return out;
}

}  // namespace

TEST_CASE("geometry: extent * block_size = coefficient * product gives the one unknown extent") {
    auto x = extents(0, 0, 0);
    const sf::stored_axis two_i = axis(2, 1u << 1);
    REQUIRE(detail::solve({12, two_i}, x).what == outcome::extent);
    CHECK(x.x.values[1] == 6);
    CHECK(x.is_known(1));

    const sf::stored_axis i_times_h = axis(1, 6);
    REQUIRE(detail::solve({42, i_times_h}, x).what == outcome::extent);
    CHECK(x.x.values[2] == 7);

    x = extents(0, 0, 0);
    const sf::stored_axis packed = axis(1, 1u << 1, 2);
    REQUIRE(detail::solve({8, packed}, x).what == outcome::extent);
    CHECK(x.x.values[1] == 16);
}

TEST_CASE("geometry: an equation may give nothing, have no solution, or overflow") {
    auto x = extents(0, 0, 0);
    const sf::stored_axis two_unknown = axis(1, 6), no_form = axis(0, 2), two_i = axis(2, 2);
    CHECK(detail::solve({42, two_unknown}, x).what == outcome::nothing);
    CHECK(detail::solve({42, no_form}, x).what == outcome::nothing);
    CHECK(x.known == 0);
    const auto odd = detail::solve({7, two_i}, x);
    CHECK(odd.what == outcome::no_whole_number);
    CHECK(odd.divisor == 2);
    CHECK(odd.elements == 7);
    const sf::stored_axis wide = axis(1, 2, ~laws::u64{0});
    CHECK(detail::solve({3, wide}, x).what == outcome::overflow);
    // 0 = 0 * H gives no information about H; 5 = 0 * H is wrong
    auto empty = extents(0, 0, 1u << 1);
    const sf::stored_axis i_times_h = axis(1, 6);
    CHECK(detail::solve({0, i_times_h}, empty).what == outcome::nothing);
    CHECK(detail::solve({5, i_times_h}, empty).what == outcome::no_whole_number);
}

TEST_CASE("geometry: [E, 2I, H] and [E, H, I] give E, I and H") {
    const auto set = fused_set(dtype::bf16, {3, 8, 6}, {3, 6, 4});
    const auto found = take(set, fused::description);
    REQUIRE(found);
    const auto shapes = detail::solve_geometry(*found, false);
    REQUIRE(shapes);
    CHECK(shapes->extents.value("E") == 3);
    CHECK(shapes->extents.value("I") == 4);
    CHECK(shapes->extents.value("H") == 6);
    CHECK(shapes->forms[0] == &sf::weight::description.forms[0]);
    CHECK(shapes->forms[1] == nullptr);
}

TEST_CASE("geometry: [E * I, H] does not give E; the caller can") {
    laws::packed_set set;
    for (const char* name : {"m.w1", "m.v1", "m.w2"}) set.add(name, dtype::bf16, {12, 5});
    const auto found = take(set, flat::description);
    REQUIRE(found);
    const auto unknown = detail::solve_geometry(*found, false);
    REQUIRE_FALSE(unknown);
    CHECK(unknown.error().code == errc::shape_mismatch);
    const sf::known_extent experts[] = {{"E", 3}};
    const auto told = take(set, flat::description, experts);
    REQUIRE(told);
    const auto shapes = detail::solve_geometry(*told, false);
    REQUIRE(shapes);
    CHECK(shapes->extents.value("I") == 4);
}

TEST_CASE("geometry: the tensor with the odd shape or dtype is named") {
    auto set = fused_set(dtype::bf16, {3, 8, 6}, {3, 6, 5});
    auto found = take(set, fused::description);
    REQUIRE(found);
    auto shapes = detail::solve_geometry(*found, false);
    REQUIRE_FALSE(shapes);
    CHECK(shapes.error().code == errc::shape_mismatch);
    CHECK(shapes.error().tensor == "m.down_proj");
    CHECK(shapes.error().detail == "expected BF16 [3, 6, 4], found BF16 [3, 6, 5]");

    set = fused_set(dtype::bf16, {3, 8, 6}, {3, 24});
    found = take(set, fused::description);
    REQUIRE(found);
    shapes = detail::solve_geometry(*found, false);
    REQUIRE_FALSE(shapes);
    CHECK(shapes.error().expected == 3);
    CHECK(shapes.error().actual == 2);
}

TEST_CASE("geometry: a field takes the first of its forms that all its tensors fit") {
    auto set = fused_set(dtype::f8_e4m3, {2, 512, 256}, {2, 256, 256});
    set.add("m.gate_up_proj_weight_scale", dtype::f32, {2, 4, 2});
    set.add("m.down_proj_weight_scale", dtype::f32, {2, 2, 2});
    const auto found = take(set, fused::description);
    REQUIRE(found);
    const auto shapes = detail::solve_geometry(*found, false);
    REQUIRE(shapes);
    const sf::field_form* const form = shapes->forms[3];
    REQUIRE(form != nullptr);
    CHECK(form->block_size[0] == 128);
    CHECK(form->block_size[1] == 128);
}

TEST_CASE("geometry: codes without scales are refused, unless the caller allows them") {
    const auto set = fused_set(dtype::f8_e4m3, {2, 4, 2}, {2, 2, 2});
    const auto found = take(set, fused::description);
    REQUIRE(found);
    CHECK(detail::solve_geometry(*found, false).error().code == errc::missing_scales);
    CHECK(detail::solve_geometry(*found, true));
}
