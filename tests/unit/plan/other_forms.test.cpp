// The ambiguity rule: if tensors fit two forms of a field and these move different bytes, there is
// no plan. If both move the same bytes, the first form is as good as the second.
#include <safefuse/plan/detail/other_forms.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>

#include "../../support/laws.hpp"

namespace sf = safefuse;
using errc = sf::errc;
using laws::packed_set;
using sf::dtype;
using u64 = std::uint64_t;

namespace {

// gate and up alone: without down, nothing tells how many codes a byte has
using gate = sf::matrix<"gate", "I", "H">;
using up = sf::matrix<"up", "I", "H">;
using apart =
    sf::layout<sf::module_suffixes, sf::tensor<"gate_proj", gate>, sf::tensor<"up_proj", up>>;
using joined = sf::layout<sf::module_suffixes, sf::tensor<"gate_up_proj", sf::concat<0, gate, up>>>;

packed_set codes(u64 rows, u64 columns) {
    packed_set set;
    for (const char* name : {"m.gate_proj.weight", "m.up_proj.weight"})
        set.add(name, dtype::u8, {rows, columns});
    return set;
}

sf::plan_options columns(u64 first, u64 end) {
    return {
        .sliced_extent = "H", .slice_first = first, .slice_end = end, .allow_missing_scales = true};
}

// Matrices stored as they are, or with their axes exchanged: shapes do not tell which.
using either_way = sf::quantized_field<"weight", sf::field_role::value, sf::per_element,
                                       sf::transposed_form<sf::per_element>>;
using either_suffix = sf::suffixes<sf::suffix<either_way, ".weight">>;
using either_apart = sf::layout<either_suffix, sf::tensor<"{i}.gate_proj", sf::layouts::gate>,
                                sf::tensor<"{i}.up_proj", sf::layouts::up>,
                                sf::tensor<"{i}.down_proj", sf::layouts::down>>;
template <class GateUp>
using either_fused = sf::layout<either_suffix, sf::tensor<"gate_up_proj", sf::stack<GateUp>>,
                                sf::tensor<"down_proj", sf::stack<sf::layouts::down>>>;
using concatenated = either_fused<sf::concat<0, sf::layouts::gate, sf::layouts::up>>;
using interleaved = either_fused<sf::interleave<0, 1, sf::layouts::gate, sf::layouts::up>>;

packed_set experts(u64 i, u64 h) {
    packed_set set;
    for (const std::string e : {"m.0.", "m.1."}) {
        set.add(e + "gate_proj.weight", dtype::bf16, {i, h});
        set.add(e + "up_proj.weight", dtype::bf16, {i, h});
        set.add(e + "down_proj.weight", dtype::bf16, {h, i});
    }
    return set;
}

}  // namespace

TEST_CASE(
    "other forms: a slice of codes that may be packed or not is refused by the names of both") {
    const packed_set set = codes(4, 8);
    const auto plan = sf::plan<apart, joined>(set, "m", columns(0, 4));
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == errc::ambiguous_form);
    CHECK(plan.error().tensor.view() == "m.up_proj.weight");
    CHECK(plan.error().detail.view() ==
          "weight may have one entry for 1 x 1 or for 1 x 2 elements");
    CHECK(plan.error().scope.view() == "m");
}

TEST_CASE("other forms: whole tensors, and slices that are equal in both forms, are planned") {
    const packed_set set = codes(4, 8);
    CHECK(sf::plan<apart, joined>(set, "m", {.allow_missing_scales = true}));
    // half of 8 columns, or half of 16 packed ones: the same bytes
    CHECK(sf::plan<apart, joined>(
        set, "m",
        {.sliced_extent = "H", .slice_rank = 1, .slice_ranks = 2, .allow_missing_scales = true}));
    // a range that would cut a packed byte has one meaning only
    CHECK(sf::plan<apart, joined>(set, "m", columns(1, 4)));
}

TEST_CASE("other forms: an extent that the caller knows decides") {
    const packed_set set = codes(4, 8);
    for (const u64 h : {u64{8}, u64{16}}) {
        CAPTURE(h);
        const sf::known_extent known[] = {{"H", h}};
        auto options = columns(0, 4);
        options.known_extents = known;
        const auto plan = sf::plan<apart, joined>(set, "m", options);
        REQUIRE(plan);
        CHECK(plan->outputs()[0].shape[1] == (h == 8 ? 4 : 2));
    }
}

TEST_CASE(
    "other forms: matrices that fit in both orientations are refused, also with H = I and H = "
    "2I") {
    for (const auto& each : std::vector<std::pair<u64, u64>>{{4, 4}, {2, 4}, {4, 2}, {3, 5}}) {
        const u64 i = each.first, h = each.second;
        CAPTURE(i);
        CAPTURE(h);
        const packed_set set = experts(i, h);
        for (const auto* to : {&concatenated::description, &interleaved::description}) {
            const auto plan = sf::plan(set, "m", either_apart::description, *to);
            REQUIRE_FALSE(plan);
            CHECK(plan.error().code == errc::ambiguous_form);
            CHECK(plan.error().detail.view() ==
                  "weight may have one entry for 1 x 1 or for 1 x 1, transposed elements");
        }
        const sf::known_extent known[] = {{"I", i}, {"H", h}};
        const auto told = sf::plan(set, "m", either_apart::description, concatenated::description,
                                   {.known_extents = known});
        CHECK(told.has_value() == (i != h));
    }
}

TEST_CASE("other forms: one row or one column fits several schemes, which move the same scales") {
    const auto plan_of = [](const std::vector<u64>& rows, const std::vector<u64>& scales) {
        packed_set set;
        for (const std::string part : {"m.gate_proj", "m.up_proj"}) {
            set.add(part + ".weight", dtype::f8_e4m3, rows);
            set.add(part + ".weight_scale", dtype::f32, scales);
        }
        const auto plan = sf::plan<apart, joined>(set, "m");
        return plan ? std::string{"planned"} : std::string{plan.error().message().view()};
    };
    CHECK(plan_of({2, 16}, {2, 1}) == "planned");  // a channel, or groups of 16 and more
    CHECK(plan_of({1, 1}, {1, 1}) == "planned");
    CHECK(plan_of({1, 1}, {1}) == "planned");  // of the tensor, or of the channel
    CHECK(plan_of({128, 256}, {1, 2}) == "planned");
    // one row: a block of 128 x 128 comes before a group of 128, and two blocks are not put
    // together in their middle
    CHECK(plan_of({1, 256}, {1, 2}).find("would be cut") != std::string::npos);
}
