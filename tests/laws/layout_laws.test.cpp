// The law of every term of the layout algebra as an equation, and one drawing of each, as in
// include/safefuse/layout/README.md.
#include <safefuse/layout/layout.hpp>
#include <safefuse/models/standard.hpp>

#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace sf = safefuse;
using sf::layouts::down, sf::layouts::gate, sf::layouts::up;
using u64 = std::uint64_t;
using index_of_part = std::vector<u64>;  // the expert index, then the part's own indices

namespace {

sf::layout_args extents(u64 e, u64 i, u64 h) {
    sf::layout_args x;
    for (const auto& [name, value] : {std::pair<const char*, u64>{"E", e}, {"I", i}, {"H", h}})
        x.values[x.dim(name)] = value;
    return x;
}

/// The entry along each stored axis, by the definition of a mapping: the sum over digits.
index_of_part entry(const sf::mapping& of, std::size_t part, const index_of_part& at) {
    index_of_part out;
    for (std::size_t axis = 0; axis < of.axis_count; ++axis) {
        u64 sum = of.parts[part].first[axis];
        for (std::size_t p = 0; p < of.parts[part].mode_count; ++p) {
            const sf::mode& piece = of.parts[part].modes[p];
            if (piece.axis == axis)
                sum += at[piece.part_axis] / piece.weight % piece.extent * piece.stride;
        }
        out.push_back(sum);
    }
    return out;
}

/// Calls f for every index of a part [rows, columns] of 3 experts.
template <class F>
void for_each_index(u64 rows, u64 columns, F f) {
    for (u64 e = 0; e < 3; ++e)
        for (u64 r = 0; r < rows; ++r)
            for (u64 c = 0; c < columns; ++c) f(index_of_part{e, r, c});
}

/// The first column of a term's tensor as text: g0 u0 g1 u1.
template <class Term>
std::string rows_of(u64 i) {
    const sf::mapping placed = Term::place(extents(1, i, 1));
    std::vector<std::string> rows(placed.axes[0].extent, "?");
    for (std::size_t p = 0; p < placed.part_count; ++p)
        for (u64 r = 0; r < i; ++r)
            rows[entry(placed, p, {0, r, 0})[0]] = placed.parts[p].part[0] + std::to_string(r);
    std::string out;
    for (const std::string& row : rows) out += (out.empty() ? "" : " ") + row;
    return out;
}

const sf::layout_args x = extents(3, 4, 6);

}  // namespace

TEST_CASE("law of part: entry_a(i) = i_a") {
    const sf::mapping placed = gate::place(x);
    for_each_index(4, 6, [&](const index_of_part& at) {
        CHECK(entry(placed, 0, at) == index_of_part{at[1], at[2]});
    });
}

TEST_CASE("law of stack: entry(e, i) = (e, entry(i))") {
    const sf::mapping of = gate::place(x), placed = sf::stack<gate>::place(x);
    CHECK(placed.axes[0].extent == 3);
    for_each_index(4, 6, [&](const index_of_part& at) {
        index_of_part expected = entry(of, 0, at);
        expected.insert(expected.begin(), at[0]);
        CHECK(entry(placed, 0, at) == expected);
    });
}

TEST_CASE("law of concat: operand k begins where the ones before it end") {
    CHECK(rows_of<sf::concat<0, gate, up>>(4) == "g0 g1 g2 g3 u0 u1 u2 u3");
    CHECK(rows_of<sf::concat<0, up, gate>>(4) == "u0 u1 u2 u3 g0 g1 g2 g3");
    const sf::mapping placed = sf::concat<1, gate, up>::place(x);
    CHECK(placed.axes[1].extent == 12);
    for (std::size_t k = 0; k < 2; ++k)
        for_each_index(4, 6, [&](const index_of_part& at) {
            CHECK(entry(placed, k, at) == index_of_part{at[1], at[2] + k * 6});
        });
}

TEST_CASE("law of interleave: entry x of operand k is at x / g * (g * n) + k * g + x % g") {
    CHECK(rows_of<sf::interleave<0, 1, gate, up>>(4) == "g0 u0 g1 u1 g2 u2 g3 u3");
    CHECK(rows_of<sf::interleave<0, 2, gate, up>>(4) == "g0 g1 u0 u1 g2 g3 u2 u3");
    const auto hold = [](const sf::mapping& placed, const std::vector<sf::mapping>& operands,
                         u64 group) {
        REQUIRE(placed.error == sf::mapping_error::none);
        const u64 n = operands.size();
        std::size_t p = 0;
        for (u64 k = 0; k < n; ++k)
            for (std::size_t of = 0; of < operands[k].part_count; ++of, ++p)
                for_each_index(4, 6, [&](const index_of_part& at) {
                    index_of_part expected = entry(operands[k], of, at);
                    u64& row = expected[0];
                    row = row / group * (group * n) + k * group + row % group;
                    CHECK(entry(placed, p, at) == expected);
                });
    };
    hold(sf::interleave<0, 1, gate, up>::place(x), {gate::place(x), up::place(x)}, 1);
    hold(sf::interleave<0, 2, gate, up>::place(x), {gate::place(x), up::place(x)}, 2);
    // operands that are terms themselves: digits are split again at the boundaries of the new
    // groups
    using inner = sf::interleave<0, 1, gate, up>;
    using extra = sf::concat<0, sf::part<"a", "I", "H">, sf::part<"b", "I", "H">>;
    hold(sf::interleave<0, 2, inner, extra>::place(x), {inner::place(x), extra::place(x)}, 2);
    using wide = sf::interleave<0, 2, gate, up>;
    hold(sf::interleave<0, 4, wide, extra>::place(x), {wide::place(x), extra::place(x)}, 4);
}

TEST_CASE("interleave: an extent that is no multiple of the group is refused, with the reason") {
    CHECK(sf::interleave<0, 3, gate, up>::place(x).error == sf::mapping_error::uneven_groups);
    // up's rows begin inside a group of 4 and would end in the next one
    using inner = sf::interleave<0, 1, gate, up>;
    CHECK(sf::interleave<0, 4, inner, inner>::place(x).error == sf::mapping_error::too_complex);
    const auto gate_and_down = sf::interleave<0, 1, gate, down>::place(x);
    CHECK(gate_and_down.error == sf::mapping_error::unequal_extents);
}

TEST_CASE("law of transpose: the entries of two axes are swapped") {
    const sf::mapping of = gate::place(x), placed = sf::transpose<0, 1, gate>::place(x);
    CHECK(placed.axes[0].extent == 6);
    for_each_index(4, 6, [&](const index_of_part& at) {
        const index_of_part before = entry(of, 0, at);
        CHECK(entry(placed, 0, at) == index_of_part{before[1], before[0]});
    });
}

TEST_CASE("law of flatten: entry_axis * extent of the next axis + entry of the next axis") {
    using rows = sf::flatten<0, sf::stack<gate>>;
    const sf::mapping of = sf::stack<gate>::place(x), placed = rows::place(x);
    CHECK(placed.axis_count == 2);
    CHECK(placed.axes[0].extent == 12);
    for_each_index(4, 6, [&](const index_of_part& at) {
        const index_of_part before = entry(of, 0, at);
        CHECK(entry(placed, 0, at) == index_of_part{before[0] * 4 + before[1], before[2]});
    });
}

TEST_CASE("law of a field's form: a matrix transposed, and an axis of its own after all others") {
    using form = sf::transposed_form<sf::with_entries<5, sf::block_of<1, 2>>>;
    sf::layout_args of_field = x;
    of_field.field = &form::form;
    const sf::mapping placed = sf::map_field(gate::place(of_field), of_field);
    REQUIRE(placed.axis_count == 3);
    CHECK(placed.axes[0].extent == 3);  // H = 6, two elements per entry
    CHECK(placed.axes[1].extent == 4);
    CHECK(placed.axes[2].extent == 5);
    for (u64 k = 0; k < 5; ++k) CHECK(entry(placed, 0, {0, 3, 2, 0, k}) == index_of_part{2, 3, k});
}
