// The composition to o from^-1, of which every copy of a plan is made, compared with its equations:
// all kept indices are visited, each at the entries that the two maps give.
#include <safefuse/models/standard.hpp>
#include <safefuse/plan/detail/compose.hpp>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

namespace sf = safefuse;
namespace detail = safefuse::detail;
using u64 = std::uint64_t;
using pairs = std::vector<std::pair<u64, u64>>;

namespace {

/// A part [n] on its own in a tensor, its index written in these digits, lowest first.
sf::mapping placed(std::vector<sf::mode> digits, u64 entries) {
    sf::mapping out;
    out.axis_count = 1;
    out.part_count = 1;
    out.axes[0].extent = entries;
    out.parts[0].part_axes = 1;
    for (const sf::mode& each : digits) out.parts[0].modes[out.parts[0].mode_count++] = each;
    return out;
}
/// Rows in order: i goes to i.
sf::mapping in_order(u64 n) { return placed({{1, 0, 1, n, 1}}, n); }
/// Rows in groups of `group`, each followed by a group of another part: i goes to i / group * 2 *
/// group + i % group.
sf::mapping in_turn(u64 n, u64 group) {
    return placed({{1, 0, 1, group, 1}, {1, 0, group, n / group, 2 * group}}, 2 * n);
}

/// The pairs that a nest visits, found by running its loops.
pairs visited(const detail::loop_nest& nest) {
    pairs out;
    if (nest.is_empty) return out;
    out.emplace_back(nest.from_offset, nest.to_offset);
    for (std::size_t l = nest.count; l-- > 0;) {
        pairs more;
        for (u64 step = 0; step < nest.loops[l].extent; ++step)
            for (const auto& [from, to] : out)
                more.emplace_back(from + step * nest.loops[l].from_stride,
                                  to + step * nest.loops[l].to_stride);
        out = more;
    }
    return out;
}
/// The pairs (from(begin + i), to(i)), found with the maps themselves.
pairs wanted(const sf::mapping& from, const sf::mapping& to, detail::kept_range kept) {
    pairs out;
    for (u64 i = 0; i < kept.count; ++i)
        out.emplace_back(detail::axis_pieces{from, from.parts[0], 1}.entry(kept.begin + i),
                         detail::axis_pieces{to, to.parts[0], 1}.entry(i));
    return out;
}
pairs sorted(pairs of) {
    std::sort(of.begin(), of.end());
    return of;
}

sf::mapping_error compose(detail::loop_nest& nest, const sf::mapping& from, const sf::mapping& to,
                          detail::kept_range kept) {
    return detail::compose_axis(nest, {from, from.parts[0], 1}, {to, to.parts[0], 1}, kept);
}

}  // namespace

TEST_CASE("compose: two maps in order are one loop of stride 1 on both sides") {
    detail::loop_nest nest;
    REQUIRE(compose(nest, in_order(12), in_order(12), {0, 12}) == sf::mapping_error::none);
    REQUIRE(nest.count == 1);
    CHECK(nest.loops[0].extent == 12);
    CHECK(nest.loops[0].from_stride == 1);
    CHECK(nest.loops[0].to_stride == 1);
}

TEST_CASE("compose: groups of 4 against groups of 2 are refined to 2 x 2 x rest") {
    detail::loop_nest nest;
    REQUIRE(compose(nest, in_turn(12, 4), in_turn(12, 2), {0, 12}) == sf::mapping_error::none);
    REQUIRE(nest.count == 3);
    const u64 extents[] = {2, 2, 3}, from[] = {1, 2, 8}, to[] = {1, 4, 8};
    for (std::size_t l = 0; l < 3; ++l) {
        CHECK(nest.loops[l].extent == extents[l]);
        CHECK(nest.loops[l].from_stride == from[l]);
        CHECK(nest.loops[l].to_stride == to[l]);
    }
}

TEST_CASE(
    "compose: the nest visits (from(begin + i), to(i)) for every kept i, or gives the reason") {
    std::size_t composed = 0, refused = 0;
    const auto groups = {u64{1}, u64{2}, u64{3}, u64{4}, u64{6}, u64{12}, u64{24}};
    for (const u64 a : groups)
        for (const u64 b : groups)
            for (u64 begin = 0; begin < 24; ++begin)
                for (u64 count = 0; begin + count <= 24; ++count) {
                    CAPTURE(a);
                    CAPTURE(b);
                    CAPTURE(begin);
                    CAPTURE(count);
                    if (count % b != 0) continue;  // the destination cannot be laid out
                    const sf::mapping from = in_turn(24, a), to = in_turn(count, b);
                    detail::loop_nest nest;
                    const auto error = compose(nest, from, to, {begin, count});
                    if (error != sf::mapping_error::none) {
                        CHECK(error == sf::mapping_error::uneven_groups);
                        CHECK((begin != 0 || count != 24 || (a % b != 0 && b % a != 0)));
                        ++refused;
                        continue;
                    }
                    ++composed;
                    CHECK(nest.is_empty == (count == 0));
                    CHECK(sorted(visited(nest)) == sorted(wanted(from, to, {begin, count})));
                    detail::coalesce(nest);
                    CHECK(sorted(visited(nest)) == sorted(wanted(from, to, {begin, count})));
                }
    CHECK(composed > 500);
    CHECK(refused > 500);
}

TEST_CASE("compose: groups that do not nest are refused: 4 against 6") {
    detail::loop_nest nest;
    CHECK(compose(nest, in_turn(12, 4), in_turn(12, 6), {0, 12}) ==
          sf::mapping_error::uneven_groups);
}

TEST_CASE(
    "compose: a kept range must begin where a digit begins, and may end anywhere in the last") {
    detail::loop_nest inside, whole, last;
    CHECK(compose(inside, in_turn(24, 4), in_order(8), {2, 8}) == sf::mapping_error::uneven_groups);
    CHECK(compose(whole, in_turn(24, 4), in_order(8), {4, 8}) == sf::mapping_error::none);
    CHECK(whole.from_offset == 8);
    CHECK(compose(last, in_order(24), in_order(7), {5, 7}) == sf::mapping_error::none);
    CHECK(last.from_offset == 5);
}

TEST_CASE(
    "coalesce: loops that are contiguous on both sides become one: (3, 4) : (4, 1) = 12 : 1") {
    detail::loop_nest nest;
    nest.count = 2;
    nest.loops[0] = {4, 1, 1};
    nest.loops[1] = {3, 4, 4};
    const auto before = sorted(visited(nest));
    detail::coalesce(nest);
    REQUIRE(nest.count == 1);
    CHECK(nest.loops[0].extent == 12);
    CHECK(nest.loops[0].from_stride == 1);
    CHECK(sorted(visited(nest)) == before);
}

TEST_CASE(
    "coalesce: loops contiguous on one side only stay two, the destination's outer loop first") {
    detail::loop_nest nest;
    nest.count = 2;
    nest.loops[0] = {4, 1, 1};
    nest.loops[1] = {3, 8, 4};
    const auto before = sorted(visited(nest));
    detail::coalesce(nest);
    REQUIRE(nest.count == 2);
    CHECK(nest.loops[0].to_stride == 4);
    CHECK(nest.loops[1].to_stride == 1);
    CHECK(sorted(visited(nest)) == before);
}
