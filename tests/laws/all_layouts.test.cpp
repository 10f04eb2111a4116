// The laws that hold for each pair of layouts: every copy is disjoint, complete and equal to the
// obvious implementation, whole or sliced, and it can be undone.
#include <safefuse/layout/layout.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/run/fuse.hpp>

#include "../support/laws.hpp"

namespace sf = safefuse;
using laws::u64;

namespace {

struct counts {
    std::size_t made = 0;
    std::size_t refused = 0;
};

/// Plans `kept` of `whole` from one layout to the other and compares everything with the obvious
/// implementation.
void check_pair(laws::kind from, laws::kind to, const laws::experts& whole,
                const laws::experts& kept, const laws::packed_set& set, counts& count) {
    sf::plan_options options;
    options.allow_missing_scales = true;
    options.first_expert = kept.first_expert;
    options.end_expert = kept.end_expert;
    if (kept.i() != whole.i()) {
        options.sliced_extent = "I";
        options.slice_first = kept.i_first;
        options.slice_end = kept.i_end;
    }
    INFO(laws::spelled(from), " to ", laws::spelled(to), ", ", sf::name(whole.type), " E ",
         whole.e(), " I ", whole.i(), " H ", whole.h, ", experts ", kept.first_expert, "..",
         kept.end_expert, " I ", kept.i_first, "..", kept.i_end, ", fields ", whole.fields.size());

    std::set<sf::errc> expected = laws::cannot_store(to, kept);
    if (whole.has(laws::field::scale) &&
        (kept.i_first % 128 != 0 || (kept.i_end % 128 != 0 && kept.i_end != whole.i_end)))
        expected.insert(sf::errc::splits_block);
    const u64 group = laws::group_of(from);
    if (kept.i() > 0 && whole.i() != kept.i() &&
        !(kept.i_first % group == 0 && kept.i_end % group == 0) &&
        kept.i_first / group != (kept.i_end - 1) / group)
        expected.insert(sf::errc::unnested_groups);
    if (expected.empty() && !laws::whole_bytes_move(from, whole, to, kept))
        expected.insert(sf::errc::splits_block);

    // the rows of all experts one below the other do not tell how many experts have them if codes
    // may be packed
    const sf::known_extent experts[] = {{"E", whole.e()}};
    if (from == laws::kind::flat && sf::detail::is_integer(whole.type))
        options.known_extents = experts;
    auto plan = laws::plan_kinds(set, "moe", from, to, options);
    if (!expected.empty()) {
        ++count.refused;
        REQUIRE_FALSE(plan);
        INFO(std::string{plan.error().message().view()});
        CHECK(expected.contains(plan.error().code));
        CHECK(plan.error().scope == "moe");
        return;
    }
    ++count.made;
    if (!plan) FAIL(std::string{plan.error().message().view()});
    CHECK(plan->expert_count() == kept.e());

    // outputs: those of the obvious implementation, by name
    const auto reference = laws::stored(to, kept);
    std::map<std::string, const laws::stored_tensor*> by_name;
    for (const auto& each : reference) by_name["moe." + each.name] = &each;
    REQUIRE(plan->outputs().size() == by_name.size());

    const laws::executed ran = laws::execute(*plan, set);
    REQUIRE(ran.in_bounds);
    std::vector<std::vector<std::byte>> fused;
    for (const sf::plan_output& each : plan->outputs())
        fused.emplace_back(static_cast<std::size_t>(each.size_bytes), std::byte{0xA5});
    std::vector<std::span<std::byte>> buffers{fused.begin(), fused.end()};
    REQUIRE(sf::fuse(*plan, buffers));

    u64 size_bytes = 0;
    for (std::size_t i = 0; i < plan->outputs().size(); ++i) {
        const sf::plan_output& output = plan->outputs()[i];
        INFO("output ", std::string{output.name});
        const auto found = by_name.find(std::string{output.name});
        REQUIRE(found != by_name.end());
        CHECK("moe." + std::string{output.local_name} == output.name);
        CHECK(output.type == whole.type_of(found->second->of));
        CHECK(std::vector<u64>(output.shape.begin(), output.shape.end()) == found->second->shape);
        const auto bytes = laws::packed(output.type, found->second->elements);
        size_bytes += bytes.size();
        REQUIRE(output.size_bytes == bytes.size());
        CHECK(ran.outputs[i] == bytes);
        CHECK(fused[i] == bytes);
        bool once = true;
        for (const unsigned times : ran.times_written[i]) once = once && times == 1;
        CHECK(once);  // disjoint and exhaustive
    }
    CHECK(plan->size_bytes() == size_bytes);

    // blocks: sorted, neighbours joined, sizes add up
    u64 sum = 0;
    const auto blocks = plan->blocks();
    for (std::size_t i = 0; i < blocks.size(); ++i) {
        sum += blocks[i].size_bytes();
        if (i == 0) continue;
        const auto& before = blocks[i - 1];
        CHECK((before.source < blocks[i].source ||
               (before.source == blocks[i].source &&
                before.source_offset <= blocks[i].source_offset)));
        const bool neighbours =
            before.loop_count == 0 && blocks[i].loop_count == 0 &&
            before.source == blocks[i].source && before.output == blocks[i].output &&
            before.source_offset + before.run_bytes == blocks[i].source_offset &&
            before.destination_offset + before.run_bytes == blocks[i].destination_offset;
        CHECK_FALSE(neighbours);
    }
    CHECK(sum == size_bytes);
}

void check_all_pairs(const laws::experts& x, counts& count) {
    for (const laws::kind from : laws::all_kinds) {
        if (!laws::cannot_store(from, x).empty()) continue;  // such a source is impossible
        const laws::packed_set set = laws::make_set(from, x, "moe");
        for (const laws::kind to : laws::all_kinds) check_pair(from, to, x, x, set, count);
    }
}

constexpr sf::dtype widths[] = {sf::dtype::f4,      sf::dtype::f6_e2m3, sf::dtype::u8,
                                sf::dtype::f8_e4m3, sf::dtype::bf16,    sf::dtype::f32,
                                sf::dtype::f64};

}  // namespace

TEST_CASE(
    "laws: every layout becomes every other, disjoint, exhaustive and equal to the obvious "
    "implementation") {
    counts count;
    const std::pair<u64, u64> shapes[] = {{1, 1}, {1, 4},  {4, 1},   {2, 2}, {4, 4}, {4, 8},
                                          {8, 4}, {3, 5},  {7, 2},   {6, 6}, {2, 3}, {0, 4},
                                          {4, 0}, {64, 2}, {128, 3}, {65, 2}};
    for (const auto& [i, h] : shapes)
        for (const sf::dtype type : widths)
            for (const u64 e : {u64{1}, u64{2}, u64{11}, u64{12}}) {
                if (e > 2 && i * h > 64) continue;
                check_all_pairs({.end_expert = e,
                                 .i_end = i,
                                 .h = h,
                                 .type = type,
                                 .fields = {laws::field::weight}},
                                count);
            }
    MESSAGE(count.made, " plans made, ", count.refused, " refused");
    CHECK(count.made > 10000);
    CHECK(count.refused > 500);
}

TEST_CASE("laws: 384 experts") {
    counts count;
    for (const sf::dtype type : {sf::dtype::u8, sf::dtype::bf16})
        check_all_pairs({.end_expert = 384,
                         .i_end = 2,
                         .h = 4,
                         .type = type,
                         .fields = {laws::field::weight, laws::field::bias}},
                        count);
    CHECK(count.made > 100);
}

TEST_CASE("laws: biases, scalars and block scales move with the weights") {
    using laws::field;
    counts count;
    for (const u64 e : {u64{1}, u64{3}}) {
        for (const auto& [i, h] : {std::pair<u64, u64>{1, 1}, {3, 5}, {4, 8}, {64, 2}, {0, 3}})
            for (const sf::dtype type : {sf::dtype::f8_e4m3, sf::dtype::bf16, sf::dtype::f32}) {
                check_all_pairs({.end_expert = e,
                                 .i_end = i,
                                 .h = h,
                                 .type = type,
                                 .fields = {field::weight, field::bias}},
                                count);
                check_all_pairs({.end_expert = e,
                                 .i_end = i,
                                 .h = h,
                                 .type = type,
                                 .fields = {field::weight, field::scalar}},
                                count);
                check_all_pairs({.end_expert = e,
                                 .i_end = i,
                                 .h = h,
                                 .type = type,
                                 .fields = {field::weight, field::bias, field::scalar}},
                                count);
            }
        for (const auto& [i, h] : {std::pair<u64, u64>{128, 128},
                                   {256, 128},
                                   {128, 256},
                                   {192, 128},
                                   {128, 130},
                                   {100, 4},
                                   {1, 1}})
            check_all_pairs({.end_expert = e,
                             .i_end = i,
                             .h = h,
                             .type = sf::dtype::f8_e4m3,
                             .fields = {field::weight, field::scale, field::bias}},
                            count);
    }
    CHECK(count.made > 1000);
    CHECK(count.refused > 50);
}

TEST_CASE(
    "laws: slices of experts and of I are the same slices of the whole, for every pair of "
    "layouts") {
    counts count;
    const laws::experts wholes[] = {
        {.end_expert = 6,
         .i_end = 8,
         .h = 3,
         .fields = {laws::field::weight, laws::field::bias, laws::field::scalar}},
        {.end_expert = 2, .i_end = 128, .h = 2, .fields = {laws::field::weight}},
        {.end_expert = 2,
         .i_end = 192,
         .h = 2,
         .type = sf::dtype::u8,
         .fields = {laws::field::weight}},
        {.end_expert = 3,
         .i_end = 256,
         .h = 128,
         .type = sf::dtype::f8_e4m3,
         .fields = {laws::field::weight, laws::field::scale}},
        {.end_expert = 2,
         .i_end = 8,
         .h = 4,
         .type = sf::dtype::f4,
         .fields = {laws::field::weight}},
        {.end_expert = 2,
         .i_end = 7,
         .h = 2,
         .type = sf::dtype::f32,
         .fields = {laws::field::weight, laws::field::bias}},
    };
    for (const laws::experts& whole : wholes)
        for (const laws::kind from : laws::all_kinds) {
            if (!laws::cannot_store(from, whole).empty()) continue;
            const laws::packed_set set = laws::make_set(from, whole, "moe");
            for (const laws::kind to : laws::all_kinds) {
                for (const auto& [first, end] : {std::pair<u64, u64>{0, 1},
                                                 {1, 2},
                                                 {0, whole.e() / 2},
                                                 {whole.e() / 2, whole.e()},
                                                 {1, 1}}) {
                    laws::experts kept = whole;
                    kept.first_expert = first;
                    kept.end_expert = end;
                    check_pair(from, to, whole, kept, set, count);
                }
                for (const u64 ranks : {u64{2}, u64{4}, u64{8}}) {
                    if (whole.i() % ranks != 0 || whole.h > 100) continue;
                    for (u64 rank = 0; rank < ranks; ++rank) {
                        laws::experts kept = whole;
                        kept.i_first = whole.i() / ranks * rank;
                        kept.i_end = whole.i() / ranks * (rank + 1);
                        check_pair(from, to, whole, kept, set, count);
                    }
                }
                for (const auto& [first, end] :
                     {std::pair<u64, u64>{1, 3}, {3, 7}, {0, 7}, {6, 7}}) {
                    laws::experts kept = whole;
                    kept.first_expert = 1;
                    kept.end_expert = 2;
                    kept.i_first = first;
                    kept.i_end = end;
                    check_pair(from, to, whole, kept, set, count);
                }
                if (whole.h == 128)
                    for (const auto& [first, end] : {std::pair<u64, u64>{0, 128},
                                                     {128, 256},
                                                     {64, 128},
                                                     {0, 64},
                                                     {192, 256}}) {
                        laws::experts kept = whole;
                        kept.i_first = first;
                        kept.i_end = end;
                        check_pair(from, to, whole, kept, set, count);
                    }
            }
        }
    MESSAGE(count.made, " slices made, ", count.refused, " refused");
    CHECK(count.made > 2000);
    CHECK(count.refused > 200);
}

TEST_CASE("laws: fusing and unfusing is the identity, for names and bytes") {
    const laws::experts x{.end_expert = 11,
                          .i_end = 64,
                          .h = 3,
                          .fields = {laws::field::weight, laws::field::bias, laws::field::scalar}};
    for (const laws::kind from : laws::all_kinds)
        for (const laws::kind to : laws::all_kinds) {
            INFO(laws::spelled(from), " to ", laws::spelled(to));
            const laws::packed_set set = laws::make_set(from, x, "a.b");
            auto there =
                laws::plan_kinds(set, "a.b", from, to, {.destination_scope = "somewhere.else"});
            REQUIRE(there);
            laws::packed_set made;
            const auto ran = laws::execute(*there, set);
            for (std::size_t i = 0; i < there->outputs().size(); ++i) {
                const auto& each = there->outputs()[i];
                made.add(std::string{each.name}, each.type, {each.shape.begin(), each.shape.end()},
                         ran.outputs[i]);
            }
            auto back =
                laws::plan_kinds(made, "somewhere.else", to, from, {.destination_scope = "a.b"});
            REQUIRE(back);
            const auto again = laws::execute(*back, made);
            REQUIRE(back->outputs().size() == set.size());
            std::set<std::string> names;
            for (std::size_t i = 0; i < back->outputs().size(); ++i) {
                const auto& each = back->outputs()[i];
                names.insert(std::string{each.name});
                const auto original = set.bytes_of(each.name);
                CHECK(again.outputs[i] == std::vector<std::byte>(original.begin(), original.end()));
            }
            CHECK(names.size() == set.size());
        }
}

TEST_CASE("laws: a stack without experts has no bytes") {
    laws::packed_set set;
    set.add("moe.gate_up_proj", sf::dtype::bf16, {0, 8, 3});
    set.add("moe.down_proj", sf::dtype::bf16, {0, 3, 4});
    auto split = sf::plan<laws::layouts::gate_up, laws::layouts::per_expert>(set, "moe");
    REQUIRE(split);
    CHECK(split->outputs().empty());
    CHECK(split->expert_count() == 0);
    auto stacks = sf::plan<laws::layouts::gate_up, laws::layouts::stacks>(set, "moe");
    REQUIRE(stacks);
    CHECK(stacks->size_bytes() == 0);
    CHECK(stacks->outputs().size() == 3);
    CHECK(stacks->blocks().empty());
}
