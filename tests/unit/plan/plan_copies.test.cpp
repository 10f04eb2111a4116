// The last stage of a plan: loops in entries become copies in bytes, and neighbours are joined.
#include <safefuse/plan/detail/copies.hpp>

#include <vector>

#include <doctest/doctest.h>

#include "../../support/laws.hpp"

namespace sf = safefuse;
namespace detail = safefuse::detail;
using errc = sf::errc;
using u64 = std::uint64_t;

namespace {

detail::loop_nest nest_of(std::vector<detail::loop_nest::loop> loops) {
    detail::loop_nest out;
    for (const auto& each : loops) out.loops[out.count++] = each;
    return out;
}
sf::copy_block run(u64 from, u64 to, u64 bytes, std::uint32_t source = 0,
                   std::uint32_t output = 0) {
    sf::copy_block out;
    out.source = source;
    out.output = output;
    out.source_offset = from;
    out.destination_offset = to;
    out.run_bytes = bytes;
    return out;
}
sf::vector<sf::copy_block> list_of(const std::vector<sf::copy_block>& blocks) {
    sf::vector<sf::copy_block> out;
    for (const sf::copy_block& each : blocks) REQUIRE(out.push(each));
    return out;
}

}  // namespace

TEST_CASE(
    "copies: the innermost loop over neighbours is the run, the others are strides in bytes") {
    const auto rows = detail::in_bytes(nest_of({{4, 12, 24}, {6, 1, 1}}), 16);
    CHECK(rows.whole_bytes);
    CHECK(rows.shape.run_bytes == 12);
    REQUIRE(rows.shape.loop_count == 1);
    CHECK(rows.shape.loops[0] == sf::copy_loop{4, 24, 48});

    const auto columns = detail::in_bytes(nest_of({{4, 1, 6}, {6, 4, 1}}), 16);
    CHECK(columns.shape.run_bytes == 2);
    CHECK(columns.shape.loop_count == 2);
}

TEST_CASE("copies: two 4-bit entries are a byte; half of one is no copy") {
    CHECK(detail::in_bytes(nest_of({{4, 6, 8}, {6, 1, 1}}), 4).whole_bytes);
    CHECK_FALSE(detail::in_bytes(nest_of({{3, 1, 1}}), 4).whole_bytes);
    CHECK_FALSE(detail::in_bytes(nest_of({{4, 3, 8}, {2, 1, 1}}), 4).whole_bytes);
    CHECK_FALSE(detail::in_bytes(nest_of({{4, 1, 6}, {6, 4, 1}}), 4).whole_bytes);
}

TEST_CASE("copies: blocks are ordered by source and offset, and neighbours on both sides are one") {
    detail::copy_list list;
    list.blocks = list_of({run(8, 4, 4), run(0, 16, 8), run(12, 8, 4), run(0, 0, 4, 1),
                           run(4, 4, 4, 1), run(16, 20, 4)});
    REQUIRE(detail::order_copies(list));
    REQUIRE(list.blocks.size() == 4);
    CHECK(list.blocks[0] == run(0, 16, 8));
    CHECK(list.blocks[1] == run(8, 4, 8));
    CHECK(list.blocks[2] == run(16, 20, 4));
    CHECK(list.blocks[3] == run(0, 0, 8, 1));
}

TEST_CASE(
    "copies: strided blocks whose runs touch become one block, and one run if no gap is left") {
    sf::copy_block even = run(0, 0, 2), odd = run(2, 2, 2);
    even.loop_count = odd.loop_count = 1;
    even.loops[0] = odd.loops[0] = {5, 4, 4};
    detail::copy_list list;
    list.blocks = list_of({odd, even});
    REQUIRE(detail::order_copies(list));
    REQUIRE(list.blocks.size() == 1);
    CHECK(list.blocks[0] == run(0, 0, 20));
}

TEST_CASE("copies: blocks of two outputs, or of two sources, are never one") {
    detail::copy_list list;
    list.blocks = list_of({run(0, 0, 4), run(4, 4, 4, 0, 1), run(8, 4, 4, 1)});
    REQUIRE(detail::order_copies(list));
    CHECK(list.blocks.size() == 3);
}

TEST_CASE("copies: a term that does not fill its tensor, or writes past it, is refused") {
    detail::output_field into;
    into.size_bytes = 8;
    const auto exact = list_of({run(0, 0, 4), run(4, 4, 4)}), less = list_of({run(0, 0, 4)}),
               past = list_of({run(0, 0, 4), run(4, 5, 4)});
    CHECK(detail::fill(exact.view(), into));
    CHECK_FALSE(detail::fill(less.view(), into));
    CHECK_FALSE(detail::fill(past.view(), into));
    into.count = 2;
    CHECK_FALSE(detail::fill(exact.view(), into));
}

TEST_CASE("copies: a tensor that gate and up share is copied once and compared once") {
    using sf::layouts::gate, sf::layouts::up;
    sf::layout_args x;
    x.values[0] = 2;
    x.values[x.dim("I")] = 4;
    x.values[x.dim("H")] = 6;
    x.field = &sf::g_idx::description.forms[0];
    const auto shared = sf::stack<sf::concat<0, gate, up>>::place(x);
    CHECK_FALSE(detail::lies_on_another(shared, 0));
    CHECK(detail::lies_on_another(shared, 1));
    x.field = &sf::weight::description.forms[0];
    const auto weights = sf::stack<sf::concat<0, gate, up>>::place(x);
    CHECK_FALSE(detail::lies_on_another(weights, 1));
}

TEST_CASE("copies: a whole plan by its stages is the composition of two layouts") {
    const laws::experts x{.end_expert = 2, .i_end = 4, .h = 3};
    const auto set = laws::make_set(laws::kind::per_expert, x, "moe");
    auto plan = laws::plan_kinds(set, "moe", laws::kind::per_expert, laws::kind::rows_1, {});
    REQUIRE(plan);
    // alternating rows of gate and up of each expert: 4 rows of 3 BF16, every second row of the
    // output
    const sf::copy_block& gate = plan->blocks()[0];
    CHECK(gate.run_bytes == 6);
    REQUIRE(gate.loop_count == 1);
    CHECK(gate.loops[0] == sf::copy_loop{4, 6, 12});
}
