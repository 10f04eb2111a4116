#include <safefuse/layout/layout.hpp>

#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/run/fuse.hpp>

#include "../../support/laws.hpp"

namespace sf = safefuse;
using laws::u64;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

namespace {

constexpr sf::layout_args extents_of(u64 e, u64 i, u64 h,
                                     const sf::field_description& field = sf::weight::description) {
    sf::layout_args x;
    x.values[0] = e;
    x.values[x.dim("I")] = i;
    x.values[x.dim("H")] = h;
    x.field = field.forms.data();
    return x;
}

/// The entry of the stored tensor for an element of a part: the definition of a mapping, digit by
/// digit.
constexpr u64 entry(const sf::mapping& of, std::string_view part, u64 expert, u64 row, u64 column) {
    for (std::size_t p = 0; p < of.part_count; ++p) {
        if (of.parts[p].part != part) continue;
        u64 at[sf::max_stored_axes]{};
        for (std::size_t a = 0; a < of.axis_count; ++a) at[a] = of.parts[p].first[a];
        const u64 indices[] = {expert, row, column};
        for (std::size_t i = 0; i < of.parts[p].mode_count; ++i) {
            const sf::mode& piece = of.parts[p].modes[i];
            at[piece.axis] += indices[piece.part_axis] / piece.weight % piece.extent * piece.stride;
        }
        u64 flat = 0;
        for (std::size_t a = 0; a < of.axis_count; ++a) flat = flat * of.axes[a].extent + at[a];
        return flat;
    }
    return ~u64{0};
}

/// The extents that appear in the shape, one decimal digit each.
constexpr u64 shape_digits(const sf::mapping& of) {
    u64 digits = 0;
    for (std::size_t a = 0; a < of.axis_count; ++a)
        if (of.axes[a].present) digits = digits * 100 + of.axes[a].extent;
    return digits;
}

// Each rule is checked by the compiler and again at run time, under the sanitizers.
#define SAME_TWICE(...)         \
    static_assert(__VA_ARGS__); \
    CHECK((__VA_ARGS__))

using a = sf::part<"a", "I", "H">;
using b = sf::part<"b", "I", "H">;
using c = sf::part<"c", "I", "H">;
using d = sf::part<"d", "I", "H">;

}  // namespace

TEST_CASE("layout: a part on its own is its rows and columns") {
    constexpr auto p = gate::place(extents_of(5, 3, 4));
    SAME_TWICE(p.error == sf::mapping_error::none);
    SAME_TWICE(p.axis_count == 2 && p.part_count == 1 && shape_digits(p) == 304);
    SAME_TWICE(entry(p, "gate", 0, 0, 0) == 0);
    SAME_TWICE(entry(p, "gate", 4, 2, 3) == 11);
    constexpr auto vector = gate::place(extents_of(5, 3, 4, sf::bias::description));
    SAME_TWICE(shape_digits(vector) == 3);
    SAME_TWICE(entry(vector, "gate", 0, 2, 0) == 2);
    constexpr auto other = down::place(extents_of(5, 3, 4, sf::bias::description));
    SAME_TWICE(shape_digits(other) == 4);
}

TEST_CASE("layout: stack adds the expert's number in front") {
    constexpr auto p = sf::stack<gate>::place(extents_of(5, 3, 4));
    SAME_TWICE(shape_digits(p) == 50304);
    SAME_TWICE(entry(p, "gate", 2, 1, 3) == 2 * 12 + 1 * 4 + 3);
    constexpr auto scalars =
        sf::stack<gate>::place(extents_of(5, 3, 4, laws::input_scale::description));
    SAME_TWICE(shape_digits(scalars) == 5);
    SAME_TWICE(entry(scalars, "gate", 3, 0, 0) == 3);
}

TEST_CASE("layout: concat puts the operands one after the other, in the order given") {
    constexpr auto p = sf::stack<sf::concat<0, gate, up>>::place(extents_of(2, 3, 4));
    SAME_TWICE(shape_digits(p) == 20604);
    SAME_TWICE(entry(p, "gate", 1, 0, 0) == 24);
    SAME_TWICE(entry(p, "up", 1, 0, 0) == 36);
    constexpr auto q = sf::stack<sf::concat<0, up, gate>>::place(extents_of(2, 3, 4));
    SAME_TWICE(entry(q, "gate", 1, 0, 0) == 36);
    SAME_TWICE(entry(q, "up", 1, 0, 0) == 24);
    constexpr auto side = sf::concat<1, gate, up>::place(extents_of(2, 3, 4));
    SAME_TWICE(shape_digits(side) == 308);
    SAME_TWICE(entry(side, "up", 0, 2, 3) == 2 * 8 + 4 + 3);
    constexpr auto pairs = sf::stack<sf::concat<0, gate, up>>::place(
        extents_of(5, 3, 4, laws::input_scale::description));
    SAME_TWICE(shape_digits(pairs) == 502);
    SAME_TWICE(entry(pairs, "up", 3, 0, 0) == 7);
    constexpr auto one = sf::concat<0, gate>::place(extents_of(2, 3, 4));
    SAME_TWICE(shape_digits(one) == 304);
    constexpr auto of_stacks =
        sf::concat<1, sf::stack<gate>, sf::stack<up>>::place(extents_of(2, 3, 4));
    SAME_TWICE(shape_digits(of_stacks) == 20604);
    SAME_TWICE(entry(of_stacks, "up", 1, 2, 3) == entry(p, "up", 1, 2, 3));
    constexpr auto twice_e =
        sf::concat<0, sf::stack<gate>, sf::stack<up>>::place(extents_of(2, 3, 4));
    SAME_TWICE(shape_digits(twice_e) == 40304);
    SAME_TWICE(entry(twice_e, "up", 1, 0, 0) == 36);
}

TEST_CASE("layout: interleave takes groups of the operands by turns") {
    constexpr auto p = sf::interleave<0, 1, gate, up>::place(extents_of(2, 3, 4));
    SAME_TWICE(shape_digits(p) == 604);
    SAME_TWICE(entry(p, "gate", 0, 2, 1) == 4 * 4 + 1);
    SAME_TWICE(entry(p, "up", 0, 2, 1) == 5 * 4 + 1);
    constexpr auto two = sf::interleave<0, 2, gate, up>::place(extents_of(2, 6, 1));
    SAME_TWICE(entry(two, "gate", 0, 3, 0) == 5);
    SAME_TWICE(entry(two, "up", 0, 3, 0) == 7);
    SAME_TWICE(entry(two, "up", 0, 4, 0) == 10);
    constexpr auto many = sf::interleave<0, 64, gate, up>::place(extents_of(2, 192, 1));
    SAME_TWICE(entry(many, "gate", 0, 63, 0) == 63);
    SAME_TWICE(entry(many, "up", 0, 0, 0) == 64);
    SAME_TWICE(entry(many, "gate", 0, 64, 0) == 128);
    SAME_TWICE(entry(many, "up", 0, 191, 0) == 383);
    constexpr auto group_is_all = sf::interleave<0, 3, gate, up>::place(extents_of(2, 3, 4));
    constexpr auto behind = sf::concat<0, gate, up>::place(extents_of(2, 3, 4));
    for (u64 i = 0; i < 3; ++i)
        for (u64 h = 0; h < 4; ++h) {
            CHECK(entry(group_is_all, "gate", 0, i, h) == entry(behind, "gate", 0, i, h));
            CHECK(entry(group_is_all, "up", 0, i, h) == entry(behind, "up", 0, i, h));
        }
    constexpr auto three = sf::interleave<1, 2, a, b, c>::place(extents_of(1, 1, 4));
    SAME_TWICE(entry(three, "b", 0, 0, 3) == 9);
    SAME_TWICE(entry(three, "c", 0, 0, 2) == 10);
    constexpr auto scalars = sf::stack<sf::interleave<0, 64, gate, up>>::place(
        extents_of(5, 128, 4, laws::input_scale::description));
    SAME_TWICE(shape_digits(scalars) == 502);
}

TEST_CASE("layout: transpose swaps two axes, flatten merges two into one") {
    constexpr auto t = sf::transpose<0, 1, gate>::place(extents_of(2, 3, 4));
    SAME_TWICE(shape_digits(t) == 403);
    SAME_TWICE(entry(t, "gate", 0, 2, 1) == 1 * 3 + 2);
    constexpr auto twice =
        sf::transpose<0, 1, sf::transpose<1, 0, gate>>::place(extents_of(2, 3, 4));
    SAME_TWICE(entry(twice, "gate", 0, 2, 1) == 9);
    constexpr auto same = sf::transpose<1, 1, gate>::place(extents_of(2, 3, 4));
    SAME_TWICE(entry(same, "gate", 0, 2, 1) == 9);
    constexpr auto f = sf::flatten<0, sf::stack<gate>>::place(extents_of(2, 3, 4));
    SAME_TWICE(shape_digits(f) == 604);
    SAME_TWICE(entry(f, "gate", 1, 2, 3) == 23);
    constexpr auto all =
        sf::flatten<0, sf::flatten<0, sf::stack<gate>>>::place(extents_of(2, 3, 4));
    SAME_TWICE(shape_digits(all) == 24);
    SAME_TWICE(entry(all, "gate", 1, 2, 3) == 23);
    constexpr auto inner =
        sf::flatten<1, sf::stack<sf::concat<0, gate, up>>>::place(extents_of(2, 3, 4));
    SAME_TWICE(shape_digits(inner) == 224);
    SAME_TWICE(entry(inner, "up", 1, 0, 1) == 24 + 12 + 1);
    constexpr auto bias =
        sf::flatten<0, sf::stack<gate>>::place(extents_of(2, 3, 4, sf::bias::description));
    SAME_TWICE(shape_digits(bias) == 6);
    // columns of two experts' transposed matrices: one row contains all of them
    constexpr auto wide =
        sf::flatten<1, sf::transpose<0, 1, sf::stack<gate>>>::place(extents_of(2, 3, 4));
    SAME_TWICE(shape_digits(wide) == 308);
    SAME_TWICE(entry(wide, "gate", 1, 2, 3) == 2 * 8 + 4 + 3);
}

TEST_CASE("layout: terms nest") {
    constexpr auto p =
        sf::stack<sf::interleave<0, 2, sf::concat<0, a, b>, sf::concat<0, c, d>>>::place(
            extents_of(1, 4, 1));
    // a0 a1 c0 c1 a2 a3 c2 c3 b0 b1 d0 d1 ...
    SAME_TWICE(p.error == sf::mapping_error::none);
    SAME_TWICE(entry(p, "a", 0, 2, 0) == 4);
    SAME_TWICE(entry(p, "b", 0, 1, 0) == 9);
    SAME_TWICE(entry(p, "d", 0, 3, 0) == 15);
    constexpr auto q =
        sf::interleave<0, 4, sf::interleave<0, 2, a, b>, sf::interleave<0, 2, c, d>>::place(
            extents_of(1, 4, 1));
    // a0 a1 b0 b1 c0 c1 d0 d1 a2 ...
    SAME_TWICE(q.error == sf::mapping_error::none);
    SAME_TWICE(entry(q, "a", 0, 2, 0) == 8);
    SAME_TWICE(entry(q, "d", 0, 3, 0) == 15);
    constexpr auto r =
        sf::interleave<0, 1, sf::interleave<0, 2, a, b>, sf::interleave<0, 2, c, d>>::place(
            extents_of(1, 4, 1));
    // a0 c0 a1 c1 b0 d0 b1 d1 a2 ...
    SAME_TWICE(r.error == sf::mapping_error::none);
    SAME_TWICE(entry(r, "a", 0, 1, 0) == 2);
    SAME_TWICE(entry(r, "d", 0, 1, 0) == 7);
    SAME_TWICE(entry(r, "c", 0, 2, 0) == 9);
    constexpr auto s = sf::concat<0, sf::interleave<0, 1, a, b>, sf::interleave<0, 1, c, d>>::place(
        extents_of(1, 4, 1));
    SAME_TWICE(entry(s, "d", 0, 3, 0) == 15);
    SAME_TWICE(entry(s, "c", 0, 0, 0) == 8);
}

TEST_CASE("layout: an impossible mapping says why") {
    using sf::mapping_error;
    constexpr auto why = [](const sf::mapping& of) { return of.error; };
    SAME_TWICE(why(sf::interleave<0, 2, gate, up>::place(extents_of(1, 3, 4))) ==
               mapping_error::uneven_groups);
    SAME_TWICE(why(sf::interleave<0, 64, gate, up>::place(extents_of(1, 65, 4))) ==
               mapping_error::uneven_groups);
    SAME_TWICE(why(sf::concat<0, gate, down>::place(extents_of(1, 3, 4))) ==
               mapping_error::unequal_extents);
    SAME_TWICE(why(sf::interleave<0, 1, gate, down>::place(extents_of(1, 3, 4))) ==
               mapping_error::unequal_extents);
    constexpr const auto& blocks = sf::weight_scale_inv::description;
    SAME_TWICE(why(gate::place(extents_of(1, 192, 130, blocks))) == mapping_error::none);
    SAME_TWICE(why(sf::stack<gate>::place(extents_of(1, 192, 130, blocks))) == mapping_error::none);
    SAME_TWICE(why(sf::concat<0, gate, up>::place(extents_of(1, 192, 128, blocks))) ==
               mapping_error::splits_block);
    SAME_TWICE(why(sf::concat<0, gate, up>::place(extents_of(1, 256, 130, blocks))) ==
               mapping_error::none);
    SAME_TWICE(why(sf::interleave<0, 64, gate, up>::place(extents_of(1, 256, 128, blocks))) ==
               mapping_error::splits_block);
    SAME_TWICE(why(sf::interleave<0, 128, gate, up>::place(extents_of(1, 256, 128, blocks))) ==
               mapping_error::none);
    SAME_TWICE(why(sf::flatten<0, sf::stack<gate>>::place(extents_of(2, 192, 128, blocks))) ==
               mapping_error::splits_block);
    using packed_codes = sf::field<"weight_packed", sf::field_role::value, 1, 8>;
    SAME_TWICE(why(gate::place(extents_of(1, 3, 12, packed_codes::description))) ==
               mapping_error::splits_block);
    SAME_TWICE(why(gate::place(extents_of(1, 3, 16, packed_codes::description))) ==
               mapping_error::none);
    constexpr u64 huge = std::numeric_limits<u64>::max() / 2 + 1;
    SAME_TWICE(why(sf::concat<0, gate, up>::place(extents_of(1, huge, 1))) ==
               mapping_error::overflow);
    SAME_TWICE(why(sf::interleave<0, 1, gate, up>::place(extents_of(1, huge, 1))) ==
               mapping_error::overflow);
    SAME_TWICE(why(sf::flatten<0, sf::stack<gate>>::place(extents_of(2, huge, 1))) ==
               mapping_error::overflow);
    using nine =
        sf::concat<0, a, b, c, d, sf::part<"e", "I", "H">, sf::part<"f", "I", "H">,
                   sf::part<"g", "I", "H">, sf::part<"h", "I", "H">, sf::part<"i", "I", "H">>;
    SAME_TWICE(why(nine::place(extents_of(1, 3, 4))) == mapping_error::too_complex);
}

TEST_CASE("layout: concepts recognise terms, layouts and which layout can become which") {
    static_assert(sf::layout_term<gate>);
    static_assert(sf::layout_term<sf::stack<sf::concat<0, gate, up>>>);
    static_assert(!sf::layout_term<int>);
    static_assert(!sf::layout_term<laws::layouts::gate_up>);
    static_assert(sf::layout_type<laws::layouts::gate_up>);
    static_assert(!sf::layout_type<gate>);
    static_assert(sf::can_become<laws::layouts::per_expert, laws::layouts::flat>);
    static_assert(sf::can_become<laws::layouts::per_expert, sf::layouts::ungated_fused>);
    static_assert(!sf::can_become<sf::layouts::ungated_fused, laws::layouts::per_expert>);
}

// ------------------------------------------------------------------------------------------
// user's terms

namespace {

/// A user's term, composed of the library's: gate and up side by side, transposed.
template <class First, class Second>
struct turned_pair {
    static constexpr std::size_t axis_count = 2;
    static constexpr bool is_stacked = false;
    using parts = sf::part_list<First, Second>;
    static constexpr sf::mapping place(const sf::layout_args& x) noexcept {
        const sf::mapping both[] = {First::place(x), Second::place(x)};
        return sf::map_transpose(0, 1, sf::map_concat(0, both));
    }
};

/// A user's term, filled in by hand: the even rows of a part, then the odd ones.
template <class Part>
struct even_rows_first {
    static constexpr std::size_t axis_count = Part::axis_count;
    static constexpr bool is_stacked = Part::is_stacked;
    using parts = typename Part::parts;
    static constexpr sf::mapping place(const sf::layout_args& x) noexcept {
        sf::mapping out = Part::place(x);
        const u64 rows = out.axes[0].extent;
        if (out.axes[0].extent % 2 != 0) out.error = sf::mapping_error::uneven_groups;
        auto& part = out.parts[0];
        for (std::size_t i = 0; i < part.mode_count; ++i)
            if (part.modes[i].part_axis == 1) {
                part.modes[i] = {1, part.modes[i].axis, 1, 2, rows / 2};
                part.modes[part.mode_count++] = {1, part.modes[i].axis, 2, rows / 2, 1};
                break;
            }
        return out;
    }
};

using user_layout =
    sf::layout<laws::parameters, sf::tensor<"both", sf::stack<turned_pair<gate, up>>>,
               sf::tensor<"rest", sf::stack<even_rows_first<down>>>>;

static_assert(sf::layout_term<turned_pair<gate, up>>);
static_assert(sf::can_become<laws::layouts::per_expert, user_layout> &&
              sf::can_become<user_layout, laws::layouts::per_expert>);

}  // namespace

TEST_CASE("layout: a user's own terms obey the laws, too") {
    laws::experts x{
        .end_expert = 3, .i_end = 6, .h = 4, .fields = {laws::field::weight, laws::field::bias}};
    const laws::packed_set set = laws::make_set(laws::kind::per_expert, x, "moe");
    auto plan = sf::plan<laws::layouts::per_expert, user_layout>(set, "moe");
    REQUIRE(plan);
    std::vector<std::byte> both(3 * 4 * 12 * 2), rest(3 * 4 * 6 * 2), rest_bias(3 * 4 * 2);
    REQUIRE(sf::fuse(*plan, "both", both));
    REQUIRE(sf::fuse(*plan, "rest", rest));
    REQUIRE(sf::fuse(*plan, "rest_bias", rest_bias));
    std::vector<laws::element> expected_both, expected_rest, expected_bias;
    for (u64 e = 0; e < 3; ++e)
        for (u64 h = 0; h < 4; ++h)
            for (u64 j = 0; j < 12; ++j)
                expected_both.push_back({laws::field::weight, j < 6 ? 0 : 1, e, j % 6, h});
    for (u64 e = 0; e < 3; ++e)
        for (const u64 h : {0u, 2u, 1u, 3u}) {
            for (u64 i = 0; i < 6; ++i) expected_rest.push_back({laws::field::weight, 2, e, h, i});
            expected_bias.push_back({laws::field::bias, 2, e, h, 0});
        }
    CHECK(both == laws::packed(sf::dtype::bf16, expected_both));
    CHECK(rest == laws::packed(sf::dtype::bf16, expected_rest));
    CHECK(rest_bias == laws::packed(sf::dtype::bf16, expected_bias));

    laws::packed_set fused;
    for (const sf::plan_output& each : plan->outputs()) {
        std::vector<std::byte> bytes(static_cast<std::size_t>(each.size_bytes));
        REQUIRE(sf::fuse(*plan, each.local_name, bytes));
        fused.add(std::string{each.name}, each.type, {each.shape.begin(), each.shape.end()}, bytes);
    }
    auto back = sf::plan<user_layout, laws::layouts::per_expert>(fused, "moe");
    REQUIRE(back);
    CHECK(back->outputs().size() == set.size());
    for (const sf::plan_output& each : back->outputs()) {
        std::vector<std::byte> bytes(static_cast<std::size_t>(each.size_bytes));
        REQUIRE(sf::fuse(*back, each.local_name, bytes));
        const auto original = set.bytes_of(each.name);
        CHECK(bytes == std::vector<std::byte>(original.begin(), original.end()));
    }
}

// ------------------------------------------------------------------------------------------
// packed codes

namespace {

// Eight 4-bit codes of a row in one I32, with one scale for 32 codes. GPTQ packs along the other
// axis of the transposed matrix.
using codes = sf::field<"weight_packed", sf::field_role::value, 1, 8>;
using factors = sf::field<"weight_scale", sf::field_role::scale, 1, 32>;
using packed_names =
    sf::suffixes<sf::suffix<codes, ".weight_packed">, sf::suffix<factors, ".weight_scale">>;
using packed_fused_names =
    sf::suffixes<sf::suffix<codes, "_packed">, sf::suffix<factors, "_scale">>;
using packed_experts = sf::layout<packed_names, sf::tensor<"{i}.gate_proj", gate>,
                                  sf::tensor<"{i}.up_proj", up>, sf::tensor<"{i}.down_proj", down>>;
using packed_fused =
    sf::layout<packed_fused_names, sf::tensor<"w13", sf::stack<sf::concat<0, gate, up>>>,
               sf::tensor<"w2", sf::stack<down>>>;
using turned_experts =
    sf::layout<packed_names, sf::tensor<"{i}.gate_proj", sf::transpose<0, 1, gate>>,
               sf::tensor<"{i}.up_proj", sf::transpose<0, 1, up>>,
               sf::tensor<"{i}.down_proj", sf::transpose<0, 1, down>>>;
using turned_fused =
    sf::layout<packed_fused_names,
               sf::tensor<"w13", sf::stack<sf::transpose<0, 1, sf::concat<0, gate, up>>>>,
               sf::tensor<"w2", sf::stack<sf::transpose<0, 1, down>>>>;

laws::packed_set packed_source(u64 e, u64 i, u64 h, bool turned) {
    laws::packed_set set;
    const auto shape = [&](u64 rows, u64 columns) {
        return turned ? std::vector<u64>{columns, rows} : std::vector<u64>{rows, columns};
    };
    for (u64 n = 0; n < e; ++n)
        for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
            const std::string name = "moe." + std::to_string(n) + "." + part;
            const bool is_down = std::string_view{part} == "down_proj";
            const u64 rows = is_down ? h : i, columns = is_down ? i : h;
            set.add(name + ".weight_packed", sf::dtype::i32, shape(rows, columns / 8));
            set.add(name + ".weight_scale", sf::dtype::bf16, shape(rows, (columns + 31) / 32));
        }
    return set;
}

}  // namespace

TEST_CASE(
    "layout: packed codes and their factors fuse by their own extents, and packs are not cut") {
    const laws::packed_set set = packed_source(3, 64, 40, false);
    auto plan = sf::plan<packed_experts, packed_fused>(set, "moe");
    if (!plan) FAIL(std::string{plan.error().message().view()});
    REQUIRE(plan->output("w13_packed"));
    REQUIRE(plan->output("w13_scale"));
    REQUIRE(plan->output("w2_packed"));
    CHECK(std::vector<u64>(plan->output("w13_packed")->shape.begin(),
                           plan->output("w13_packed")->shape.end()) == std::vector<u64>{3, 128, 5});
    CHECK(std::vector<u64>(plan->output("w13_scale")->shape.begin(),
                           plan->output("w13_scale")->shape.end()) == std::vector<u64>{3, 128, 2});
    CHECK(std::vector<u64>(plan->output("w2_packed")->shape.begin(),
                           plan->output("w2_packed")->shape.end()) == std::vector<u64>{3, 40, 8});
    const auto ran = laws::execute(*plan, set);
    std::vector<std::byte> expected;
    for (u64 e = 0; e < 3; ++e)
        for (const char* part : {".gate_proj", ".up_proj"}) {
            const auto bytes = set.bytes_of("moe." + std::to_string(e) + part + ".weight_packed");
            expected.insert(expected.end(), bytes.begin(), bytes.end());
        }
    CHECK(ran.outputs[plan->index_of("w13_packed")] == expected);

    auto rank = sf::plan<packed_experts, packed_fused>(
        set, "moe", {.sliced_extent = "I", .slice_first = 32, .slice_end = 64});
    REQUIRE(rank);
    REQUIRE(rank->output("w2_packed"));
    CHECK(rank->output("w2_packed")->shape[2] == 4);
    auto cut = sf::plan<packed_experts, packed_fused>(
        set, "moe", {.sliced_extent = "I", .slice_first = 12, .slice_end = 24});
    REQUIRE_FALSE(cut);
    CHECK(cut.error().code == sf::errc::splits_block);
    auto cut_factor = sf::plan<packed_experts, packed_fused>(
        set, "moe", {.sliced_extent = "I", .slice_first = 16, .slice_end = 32});
    REQUIRE_FALSE(cut_factor);
    CHECK(cut_factor.error().code == sf::errc::splits_block);
}

TEST_CASE("layout: codes packed along the other axis are put side by side") {
    const laws::packed_set set = packed_source(2, 32, 64, true);
    auto plan = sf::plan<turned_experts, turned_fused>(set, "moe");
    if (!plan) FAIL(std::string{plan.error().message().view()});
    const auto w13 = plan->output("w13_packed");
    REQUIRE(w13);
    CHECK(std::vector<u64>(w13->shape.begin(), w13->shape.end()) == std::vector<u64>{2, 8, 64});
    const auto ran = laws::execute(*plan, set);
    const auto& made = ran.outputs[plan->index_of("w13_packed")];
    for (u64 e = 0; e < 2; ++e)
        for (u64 r = 0; r < 8; ++r)
            for (u64 col = 0; col < 64; ++col) {
                const auto from =
                    set.bytes_of("moe." + std::to_string(e) +
                                 (col < 32 ? ".gate_proj" : ".up_proj") + ".weight_packed");
                for (u64 byte = 0; byte < 4; ++byte)
                    REQUIRE(made[((e * 8 + r) * 64 + col) * 4 + byte] ==
                            from[(r * 32 + col % 32) * 4 + byte]);
            }
}

TEST_CASE("layout: different terms with the same meaning give the same bytes") {
    // concat of transposed parts, and of stacks, equals the transposed or stacked concat
    using other_turned =
        sf::layout<laws::parameters,
                   sf::tensor<"gate_up_proj", sf::concat<2, sf::stack<sf::transpose<0, 1, gate>>,
                                                         sf::stack<sf::transpose<1, 0, up>>>>,
                   sf::tensor<"down_proj", sf::transpose<1, 2, sf::stack<down>>>>;
    const laws::experts x{.end_expert = 3,
                          .i_end = 4,
                          .h = 5,
                          .fields = {laws::field::weight, laws::field::bias, laws::field::scalar}};
    const laws::packed_set set = laws::make_set(laws::kind::per_expert, x, "moe");
    auto one = sf::plan<laws::layouts::per_expert, laws::layouts::transposed>(set, "moe");
    auto other = sf::plan<laws::layouts::per_expert, other_turned>(set, "moe");
    REQUIRE(one);
    REQUIRE(other);
    CHECK(laws::execute(*one, set).outputs == laws::execute(*other, set).outputs);
}
