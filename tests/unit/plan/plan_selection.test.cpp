// The third stage of a plan: the range of every extent that moves.
#include <safefuse/plan/detail/selection.hpp>

#include <vector>

#include <doctest/doctest.h>

namespace sf = safefuse;
namespace detail = safefuse::detail;
using errc = sf::errc;
using u64 = std::uint64_t;

namespace {

sf::layout_args extents(u64 e, u64 i, u64 h) {
    sf::layout_args x;
    x.values[0] = e;
    x.values[x.dim("I")] = i;
    x.values[x.dim("H")] = h;
    return x;
}
/// One group of experts, counted by E.
detail::expert_groups one_group() {
    detail::expert_groups out;
    REQUIRE(out.of_tensor.push({0, detail::no_dim}));
    return out;
}
sf::result<detail::selection> select(const sf::plan_options& options) {
    return detail::select_ranges(one_group(), extents(8, 12, 6), options);
}

}  // namespace

TEST_CASE("selection: without options, everything moves") {
    const auto all = select({});
    REQUIRE(all);
    CHECK(all->expert_count == 8);
    const u64 whole[] = {8, 12, 6};
    for (std::size_t s = 0; s < 3; ++s) {
        CHECK(all->kept[s].begin == 0);
        CHECK(all->kept[s].count == whole[s]);
        CHECK(all->local.values[s] == whole[s]);
    }
}

TEST_CASE("selection: the destination is laid out for the length of the ranges") {
    const auto some = select({.first_expert = 2,
                              .end_expert = 5,
                              .sliced_extent = "I",
                              .slice_first = 4,
                              .slice_end = 8});
    REQUIRE(some);
    CHECK(some->expert_count == 3);
    CHECK(some->kept[0].begin == 2);
    CHECK(some->local.values[0] == 3);
    CHECK(some->kept[1].begin == 4);
    CHECK(some->local.values[1] == 4);
    CHECK(some->local.values[2] == 6);
}

TEST_CASE("selection: the shares of all ranks are disjoint and cover the extent") {
    for (const u64 ranks : {u64{2}, u64{3}, u64{4}, u64{6}, u64{12}}) {
        u64 end = 0;
        for (u64 rank = 0; rank < ranks; ++rank) {
            const auto share =
                select({.sliced_extent = "I", .slice_rank = rank, .slice_ranks = ranks});
            REQUIRE(share);
            CHECK(share->kept[1].begin == end);
            end += share->kept[1].count;
        }
        CHECK(end == 12);
    }
    const auto both = select({.sliced_extent = " I  H ", .slice_rank = 1, .slice_ranks = 2});
    REQUIRE(both);
    CHECK(both->kept[1].begin == 6);
    CHECK(both->kept[2].begin == 3);
}

TEST_CASE("selection: what is outside an extent, or is no extent, is out of range") {
    const std::vector<sf::plan_options> wrong{
        {.first_expert = 3, .end_expert = 2},
        {.end_expert = 9},
        {.sliced_extent = "I", .slice_first = 13},
        {.sliced_extent = "I", .slice_first = 2, .slice_end = 1},
        {.sliced_extent = "I", .slice_ranks = 5},
        {.sliced_extent = "I", .slice_rank = 2, .slice_ranks = 2},
        {.sliced_extent = "K"},
        {.sliced_extent = "E"},
    };
    for (const sf::plan_options& options : wrong) {
        const auto refused = select(options);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == errc::out_of_range);
    }
}

TEST_CASE("selection: a range in elements is a range in blocks if it does not cut one") {
    using error = sf::mapping_error;
    detail::kept_range entries;
    CHECK(detail::entries_of({128, 256}, 512, 128, entries) == error::none);
    CHECK(entries.begin == 1);
    CHECK(entries.count == 2);
    // the last block may be incomplete
    CHECK(detail::entries_of({128, 72}, 200, 128, entries) == error::none);
    CHECK(entries.count == 1);
    CHECK(detail::entries_of({0, 72}, 200, 128, entries) == error::splits_block);
    CHECK(detail::entries_of({64, 128}, 512, 128, entries) == error::splits_block);
    // one entry for the whole axis, or none, is kept as it is
    for (const u64 block_size : {u64{0}, sf::whole_axis}) {
        CHECK(detail::entries_of({64, 128}, 512, block_size, entries) == error::none);
        CHECK(entries.begin == 0);
        CHECK(entries.count == 1);
    }
}
