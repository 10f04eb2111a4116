#include <safefuse/layout/fields.hpp>

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <limits>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <safefuse/models/engines.hpp>
#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/run/compare_scales.hpp>
#include <safefuse/run/fuse.hpp>
#include <safefuse/run/fuse_range.hpp>

#include "../../support/arrays.hpp"
#include "../../support/laws.hpp"
#include "../../support/quantised_formats.hpp"

namespace sf = safefuse;
using namespace quantised;
using arrays::cat;
using arrays::check_same;
using arrays::cut;
using arrays::held;
using arrays::made_by;
using arrays::set_of;
using laws::packed_set;
using laws::u64;
using sf::dtype;
using sf::errc;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

// The expected results, without the algebra

namespace {

sf::result<sf::copy_plan> plan_of(const packed_set& set, const sf::layout_description& from,
                                  const sf::layout_description& to,
                                  const sf::plan_options& options = {}) {
    return sf::plan(set, "moe", from, to, options);
}

const sf::layout_description& hub = sf::layouts::per_expert::description;

}  // namespace

TEST_CASE(
    "quantised: every format becomes every layout by cat and stack, and comes back byte for byte, "
    "names included") {
    std::size_t made = 0, cannot = 0;
    for (const format& stored : formats())
        for (const extents x : stored.shapes)
            for (const u64 experts : {u64{1}, u64{3}}) {
                packed_set set = experts_of(stored, experts, x);
                const tensors source = held(set);
                for (const target to : all_targets) {
                    INFO(stored.name, " to ", spelled(to), ", E ", experts, " I ", x.i, " H ", x.h);
                    auto plan = plan_of(set, hub, description(to));
                    if (const auto why = refused(stored, to, x.i); !why.empty()) {
                        REQUIRE_FALSE(plan);
                        INFO(std::string{plan.error().message().view()});
                        CHECK(why.contains(plan.error().code));
                        ++cannot;
                        continue;
                    }
                    if (!plan) FAIL(std::string{plan.error().message().view()});
                    const tensors there = made_by(*plan, set);
                    check_same(there, fused(stored, to, source, experts));
                    packed_set fused_set = set_of(there);
                    auto back = plan_of(fused_set, description(to), hub);
                    if (!back) FAIL(std::string{back.error().message().view()});
                    check_same(made_by(*back, fused_set), source);
                    ++made;
                }
            }
    MESSAGE(made, " there and back, ", cannot, " refused");
    CHECK(made > 900);
    CHECK(cannot > 80);
}

TEST_CASE("quantised: what vLLM holds has the shapes that vLLM allocates") {
    const u64 E = 3, I = 256, H = 384;
    const auto shapes = [&](std::string_view name) {
        std::map<std::string, std::vector<u64>> out;
        for (const format& stored : formats()) {
            if (stored.name != name) continue;
            packed_set set = experts_of(stored, E, {I, H});
            auto plan = plan_of(set, hub, sf::engines::vllm::description);
            if (!plan) FAIL(std::string{plan.error().message().view()});
            for (const sf::plan_output& each : plan->outputs())
                out[std::string{each.local_name}] = {each.shape.begin(), each.shape.end()};
        }
        return out;
    };
    using named_shapes = std::map<std::string, std::vector<u64>>;
    CHECK(shapes("FP8 in blocks of 128 x 128") ==
          named_shapes{{"w13_weight", {E, 2 * I, H}},
                       {"w2_weight", {E, H, I}},
                       {"w13_weight_scale_inv", {E, 2 * I / 128, H / 128}},
                       {"w2_weight_scale_inv", {E, H / 128, I / 128}}});
    CHECK(shapes("NVFP4 of ModelOpt") == named_shapes{{"w13_weight", {E, 2 * I, H / 2}},
                                                      {"w2_weight", {E, H, I / 2}},
                                                      {"w13_weight_scale", {E, 2 * I, H / 16}},
                                                      {"w2_weight_scale", {E, H, I / 16}},
                                                      {"w13_weight_scale_2", {E, 2}},
                                                      {"w2_weight_scale_2", {E}},
                                                      {"w13_input_scale", {E, 2}},
                                                      {"w2_input_scale", {E}}});
    CHECK(shapes("FP8 per tensor") == named_shapes{{"w13_weight", {E, 2 * I, H}},
                                                   {"w2_weight", {E, H, I}},
                                                   {"w13_weight_scale", {E, 2}},
                                                   {"w2_weight_scale", {E}},
                                                   {"w13_input_scale", {E, 2}},
                                                   {"w2_input_scale", {E}}});
    CHECK(shapes("FP8 per channel, BF16") == named_shapes{{"w13_weight", {E, 2 * I, H}},
                                                          {"w2_weight", {E, H, I}},
                                                          {"w13_weight_scale", {E, 2 * I, 1}},
                                                          {"w2_weight_scale", {E, H, 1}}});
    CHECK(shapes("GPTQ, groups of 128") == named_shapes{{"w13_qweight", {E, H / 8, 2 * I}},
                                                        {"w2_qweight", {E, I / 8, H}},
                                                        {"w13_qzeros", {E, H / 128, 2 * I / 8}},
                                                        {"w2_qzeros", {E, I / 128, H / 8}},
                                                        {"w13_scales", {E, H / 128, 2 * I}},
                                                        {"w2_scales", {E, I / 128, H}},
                                                        {"w13_g_idx", {E, H}},
                                                        {"w2_g_idx", {E, I}}});
    CHECK(shapes("AWQ, groups of 128") == named_shapes{{"w13_qweight", {E, H, 2 * I / 8}},
                                                       {"w2_qweight", {E, I, H / 8}},
                                                       {"w13_qzeros", {E, H / 128, 2 * I / 8}},
                                                       {"w2_qzeros", {E, I / 128, H / 8}},
                                                       {"w13_scales", {E, H / 128, 2 * I}},
                                                       {"w2_scales", {E, I / 128, H}}});
    CHECK(shapes("INT4 of compressed-tensors, groups of 128") ==
          named_shapes{{"w13_weight_packed", {E, 2 * I, H / 8}},
                       {"w2_weight_packed", {E, H, I / 8}},
                       {"w13_weight_scale", {E, 2 * I, H / 128}},
                       {"w2_weight_scale", {E, H, I / 128}},
                       {"w13_weight_shape", {E, 2, 2}},
                       {"w2_weight_shape", {E, 2}}});
    // a scale that is stored as [1] keeps its axis
    CHECK(shapes("NVFP4 of compressed-tensors")["w13_weight_global_scale"] ==
          std::vector<u64>{E, 2});
    CHECK(shapes("NVFP4 of compressed-tensors")["w2_weight_global_scale"] ==
          std::vector<u64>{E, 1});
}

TEST_CASE("quantised: block scales whose last block is incomplete are not concatenated") {
    const format blocks = formats()[0];
    for (const extents x :
         {extents{192, 300}, extents{1, 1}, extents{130, 128}, extents{257, 129}}) {
        packed_set set = experts_of(blocks, 2, x);
        const tensors source = held(set);
        INFO("I ", x.i, " H ", x.h);
        for (const target to : all_targets) {
            auto plan = plan_of(set, hub, description(to));
            if (to != target::stacks) {
                REQUIRE_FALSE(plan);
                CHECK(plan.error().code == errc::splits_block);
                CHECK(std::string{plan.error().tensor.view()}.find("scale_inv") !=
                      std::string::npos);
                continue;
            }
            if (!plan) FAIL(std::string{plan.error().message().view()});
            const tensors there = made_by(*plan, set);
            check_same(there, fused(blocks, to, source, 2));
            packed_set fused_set = set_of(there);
            auto back = plan_of(fused_set, description(to), hub);
            REQUIRE(back);
            check_same(made_by(*back, fused_set), source);
        }
    }
}

// ------------------------------------------------------------------------------------------
// slices

namespace {

/// Elements per entry in a rank. If a matrix has one entry for all its inputs, each rank has that
/// entry as a whole.
u64 granule_in_ranks(const stored_field& field, extents x) {
    const bool one = field.name != "weight_scale_inv" && field.in_granule >= 16 &&
                     x.i <= field.in_granule && x.h <= field.in_granule;
    return one ? whole : field.in_granule;
}

/// Rank `rank` of `ranks` of every matrix: rows of gate and up, columns of down, and their scales.
tensors rank_of(const format& stored, const tensors& all, extents x, u64 rank, u64 ranks) {
    tensors out;
    const u64 each = x.i / ranks;
    for (const auto& [name, held_array] : all) {
        const bool is_down = name.find("down_proj") != std::string::npos;
        for (const stored_field& field : stored.fields) {
            if (!name.ends_with("." + std::string{field.name})) continue;
            const int axis = is_down ? field.in_axis : field.out_axis;
            const u64 block_size = is_down ? granule_in_ranks(field, x) : field.out_granule;
            if (axis < 0 || block_size == whole) {
                out[name] = held_array;
            } else {
                const u64 first = rank * each / block_size,
                          end = rank + 1 == ranks ? held_array.shape[static_cast<std::size_t>(axis)]
                                                  : (rank + 1) * each / block_size;
                out[name] = cut(static_cast<std::size_t>(axis), first, end, held_array);
            }
        }
    }
    return out;
}

/// Whether a block of some field would be in two neighbouring ranks.
bool straddles(const format& stored, extents x, u64 rank, u64 ranks) {
    const u64 first = rank * (x.i / ranks), end = first + x.i / ranks;
    const auto cuts = [&](u64 block_size) {
        return first % block_size != 0 || (end % block_size != 0 && end != x.i);
    };
    bool any = false;
    for (const stored_field& field : stored.fields) {
        const u64 block_size = granule_in_ranks(field, x);
        any = any || (field.out_axis >= 0 && cuts(field.out_granule)) ||
              (field.in_axis >= 0 && block_size != whole && cuts(block_size));
    }
    return any;
}

}  // namespace

TEST_CASE(
    "quantised: a rank of a tensor-parallel group has slices of gate and up, and all ranks "
    "together are the whole") {
    std::size_t made = 0, straddled = 0;
    for (const format& stored : formats())
        for (const extents x : stored.shapes) {
            packed_set set = experts_of(stored, 2, x);
            const tensors source = held(set);
            for (const u64 ranks : {u64{2}, u64{3}, u64{4}}) {
                for (u64 rank = 0; rank < ranks; ++rank)
                    for (const target to : all_targets) {
                        INFO(stored.name, " to ", spelled(to), ", I ", x.i, " H ", x.h, ", rank ",
                             rank, " of ", ranks);
                        auto plan = plan_of(
                            set, hub, description(to),
                            {.sliced_extent = "I", .slice_rank = rank, .slice_ranks = ranks});
                        if (x.i % ranks != 0) {
                            REQUIRE_FALSE(plan);
                            CHECK(plan.error().code == errc::out_of_range);
                            continue;
                        }
                        std::set<errc> why = refused(stored, to, x.i / ranks);
                        if (straddles(stored, x, rank, ranks)) why.insert(errc::splits_block);
                        if (!why.empty()) {
                            REQUIRE_FALSE(plan);
                            CHECK(why.contains(plan.error().code));
                            ++straddled;
                            continue;
                        }
                        if (!plan) FAIL(std::string{plan.error().message().view()});
                        const tensors part = rank_of(stored, source, x, rank, ranks);
                        check_same(made_by(*plan, set), fused(stored, to, part, 2));
                        ++made;
                    }
                if (x.i % ranks != 0 || straddles(stored, x, 0, ranks)) continue;
                // the reference's ranks together are the whole, so the plan's are, too
                std::vector<tensors> parts;
                for (u64 rank = 0; rank < ranks; ++rank)
                    parts.push_back(rank_of(stored, source, x, rank, ranks));
                for (const auto& [name, each] : source) {
                    std::vector<array> modes;
                    std::size_t axis = each.shape.size();
                    for (const tensors& part : parts) {
                        modes.push_back(part.at(name));
                        for (std::size_t a = 0; a < each.shape.size(); ++a)
                            if (modes.back().shape[a] != each.shape[a]) axis = a;
                    }
                    REQUIRE((axis == each.shape.size() ? modes[0] : cat(axis, modes)) == each);
                }
            }
        }
    MESSAGE(made, " ranks made, ", straddled, " refused");
    CHECK(made > 500);
}

TEST_CASE(
    "quantised: ranges of experts are rows of the whole, and all ranges together are the whole") {
    const u64 experts = 5;
    for (const format& stored : formats()) {
        const extents x = stored.shapes[1];
        packed_set set = experts_of(stored, experts, x);
        for (const target to : all_targets) {
            if (!refused(stored, to, x.i).empty()) continue;
            INFO(stored.name, " to ", spelled(to));
            auto plan = plan_of(set, hub, description(to));
            REQUIRE(plan);
            const tensors all = made_by(*plan, set);
            for (const u64 middle : {u64{0}, u64{1}, u64{3}, u64{5}}) {
                std::map<std::string, std::vector<array>> modes;
                for (const auto& [first, end] :
                     {std::pair{u64{0}, middle}, std::pair{middle, experts}}) {
                    auto part = plan_of(set, hub, description(to),
                                        {.first_expert = first, .end_expert = end});
                    if (!part) FAIL(std::string{part.error().message().view()});
                    CHECK(part->expert_count() == end - first);
                    for (auto& [name, each] : made_by(*part, set)) {
                        CHECK(each.shape[0] == end - first);
                        modes[name].push_back(each);
                    }
                }
                REQUIRE(modes.size() == all.size());
                for (const auto& [name, each] : all) CHECK(cat(0, modes.at(name)) == each);
            }
        }
    }
}

TEST_CASE("quantised: a rank of fused experts equals the rank of the separate experts") {
    for (const format& stored : formats()) {
        const extents x = stored.shapes[1];
        packed_set set = experts_of(stored, 2, x);
        for (const target from : all_targets) {
            if (!refused(stored, from, x.i).empty()) continue;
            auto plan = plan_of(set, hub, description(from));
            REQUIRE(plan);
            packed_set fused_set = set_of(made_by(*plan, set));
            for (const target to : all_targets) {
                INFO(stored.name, " from ", spelled(from), " to ", spelled(to));
                const sf::plan_options options{
                    .first_expert = 1, .sliced_extent = "I", .slice_rank = 1, .slice_ranks = 2};
                auto direct = plan_of(set, hub, description(to), options);
                auto again = plan_of(fused_set, description(from), description(to), options);
                // interleaved rows still allow ranks of whole rows
                if (!direct && again) FAIL("only the fused experts can be cut");
                if (direct && !again) FAIL(std::string{again.error().message().view()});
                if (!direct) continue;
                check_same(made_by(*again, fused_set), made_by(*direct, set));
            }
        }
    }
}

// ------------------------------------------------------------------------------------------
// refusals

namespace {

const format& named(std::string_view name) {
    static const std::vector<format> all = formats();
    for (const format& each : all)
        if (each.name == name) return each;
    FAIL("no such format");
    return all[0];
}

sf::failure refusal(const packed_set& set,
                    const sf::layout_description& to = sf::layouts::gate_up_fused::description,
                    const sf::plan_options& options = {}) {
    auto plan = plan_of(set, hub, to, options);
    REQUIRE_FALSE(plan);
    CHECK(plan.error().message().size() > 20);
    CHECK(plan.error().scope == "moe");
    return std::move(plan).error();
}
std::string tensor_of(const sf::failure& failure) { return std::string{failure.tensor.view()}; }

}  // namespace

TEST_CASE("quantised: a scale that is missing for one expert is named") {
    for (const format& stored : formats())
        for (const stored_field& field : stored.fields) {
            packed_set set = experts_of(stored, 3, stored.shapes[0]);
            const std::string name = "moe.1.up_proj." + std::string{field.name};
            set.remove(name);
            INFO(stored.name, ", ", name);
            const sf::failure why = refusal(set);
            CHECK(why.code == errc::missing_key);
            CHECK(why.expert == 1);
            CHECK(tensor_of(why) == name);
        }
}

TEST_CASE("quantised: a field that gate has and up has not is named") {
    for (const format& stored : formats())
        for (const stored_field& field : stored.fields) {
            packed_set set = experts_of(stored, 2, stored.shapes[0]);
            for (const char* expert : {"0", "1"})
                set.remove("moe." + std::string{expert} + ".up_proj." + std::string{field.name});
            INFO(stored.name, ", ", field.name);
            const sf::failure why = refusal(set);
            CHECK((why.code == errc::missing_key || why.code == errc::missing_scales));
            CHECK(tensor_of(why).starts_with("moe.0.up_proj."));
        }
}

TEST_CASE("quantised: codes without any scale are named, and moved on request") {
    for (const format& stored : formats()) {
        packed_set set = experts_of(stored, 2, stored.shapes[0]);
        for (const stored_field& field : stored.fields)
            for (const char* expert : {"0", "1"})
                for (const char* part : {"gate_proj", "up_proj", "down_proj"})
                    if (field.name.find("scale") != std::string_view::npos &&
                        field.name.find("input") == std::string_view::npos)
                        set.remove("moe." + std::string{expert} + "." + part + "." +
                                   std::string{field.name});
        INFO(stored.name);
        const sf::failure why = refusal(set);
        CHECK(why.code == errc::missing_scales);
        CHECK(tensor_of(why) == "moe.0.gate_proj." + std::string{stored.fields[0].name});
        CHECK(plan_of(set, hub, sf::layouts::gate_up_fused::description,
                      {.allow_missing_scales = true})
                  .has_value());
    }
}

TEST_CASE("quantised: gate and up of different dtypes are named") {
    for (const format& stored : formats())
        for (const stored_field& field : stored.fields) {
            packed_set set = experts_of(stored, 2, stored.shapes[0]);
            // another dtype of the same width, so that only the dtype differs
            const u64 width = sf::bits(field.type);
            const dtype other = field.type == dtype::u8 || field.type == dtype::i8
                                    ? (field.type == dtype::u8 ? dtype::i8 : dtype::u8)
                                : width == 8 ? dtype::f8_e5m2
                                : width == 16
                                    ? (field.type == dtype::f16 ? dtype::bf16 : dtype::f16)
                                : width == 32 ? (field.type == dtype::i32 ? dtype::u32 : dtype::i32)
                                              : dtype::u64;
            const auto shape = field.shape(stored.shapes[0].i, stored.shapes[0].h);
            for (const char* expert : {"0", "1"})
                set.retype("moe." + std::string{expert} + ".up_proj." + std::string{field.name},
                           other, shape);
            INFO(stored.name, ", ", field.name);
            const sf::failure why = refusal(set);
            CHECK(why.code == errc::dtype_mismatch);
            CHECK(tensor_of(why) == "moe.0.up_proj." + std::string{field.name});
            CHECK(std::string{why.detail.view()}.find(sf::name(other)) != std::string::npos);

            packed_set one_expert = experts_of(stored, 2, stored.shapes[0]);
            one_expert.retype("moe.1.gate_proj." + std::string{field.name}, other, shape);
            const sf::failure of_one = refusal(one_expert);
            CHECK(of_one.code == errc::dtype_mismatch);
            CHECK(tensor_of(of_one) == "moe.1.gate_proj." + std::string{field.name});
        }
}

TEST_CASE(
    "quantised: any tensor of a wrong shape is refused by name, with all forms of its field") {
    std::size_t refusals = 0;
    for (const format& stored : formats())
        for (const extents x : stored.shapes)
            for (const stored_field& field : stored.fields)
                for (const std::string_view part : {"gate_proj", "up_proj", "down_proj"}) {
                    const std::vector<u64> right =
                        part == "down_proj" ? field.shape(x.h, x.i) : field.shape(x.i, x.h);
                    std::vector<std::vector<u64>> wrong;
                    for (std::size_t a = 0; a < right.size(); ++a)
                        for (const u64 extent :
                             {right[a] + 1, right[a] * 2, right[a] / 2, right[a] - 1}) {
                            wrong.push_back(right);
                            wrong.back()[a] = extent;
                        }
                    wrong.push_back(right);
                    wrong.back().push_back(1);
                    if (!right.empty()) wrong.push_back({right.begin() + 1, right.end()});
                    for (const auto& shape : wrong) {
                        if (shape == right) continue;
                        packed_set set = experts_of(stored, 3, x);
                        const std::string name =
                            "moe.1." + std::string{part} + "." + std::string{field.name};
                        set.remove(name);
                        set.add(name, field.type, shape);
                        INFO(stored.name, ", ", name, " I ", x.i, " H ", x.h);
                        const sf::failure why = refusal(set, description(target::stacks));
                        CHECK(why.code == errc::shape_mismatch);
                        CHECK(tensor_of(why) == name);
                        CHECK(why.expert == 1);
                        ++refusals;
                    }
                }
    CHECK(refusals > 3000);
}

TEST_CASE("quantised: numbers are never taken for packed codes") {
    // gate and up [I, H / 2], down [H, I / 2], as if two elements were packed in one
    for (const dtype type :
         {dtype::bf16, dtype::f16, dtype::f32, dtype::f8_e4m3, dtype::f8_e8m0, dtype::boolean}) {
        packed_set set;
        for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
            const bool is_down = std::string_view{part} == "down_proj";
            set.add("moe.0." + std::string{part} + ".weight", type,
                    is_down ? std::vector<u64>{64, 16} : std::vector<u64>{32, 32});
            set.add("moe.0." + std::string{part} + ".weight_scale", dtype::f32,
                    is_down ? std::vector<u64>{64, 2} : std::vector<u64>{32, 4});
        }
        INFO(sf::name(type));
        const sf::failure why = refusal(set);
        CHECK(why.code == errc::shape_mismatch);
        CHECK(tensor_of(why) == "moe.0.down_proj.weight");
        for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
            const auto shape = set.spec(0).shape;
            static_cast<void>(shape);
            const bool is_down = std::string_view{part} == "down_proj";
            set.remove("moe.0." + std::string{part} + ".weight");
            set.add("moe.0." + std::string{part} + ".weight", dtype::u8,
                    is_down ? std::vector<u64>{64, 16} : std::vector<u64>{32, 32});
        }
        CHECK(plan_of(set, hub, sf::layouts::gate_up_fused::description).has_value());
    }
    // integers that fit no form
    packed_set set;
    set.add("moe.0.gate_proj.weight", dtype::u8, {32, 20});
    set.add("moe.0.up_proj.weight", dtype::u8, {32, 20});
    set.add("moe.0.down_proj.weight", dtype::u8, {64, 16});
    const sf::failure why = refusal(set);
    CHECK(why.code == errc::shape_mismatch);
    CHECK(tensor_of(why).starts_with("moe.0."));
}

TEST_CASE("quantised: NVFP4 whose rows are not whole blocks is refused if it has too few scales") {
    const auto source = [](u64 k, u64 blocks) {
        packed_set set;
        for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
            const bool is_down = std::string_view{part} == "down_proj";
            set.add("moe.0." + std::string{part} + ".weight", dtype::u8,
                    is_down ? std::vector<u64>{k, 16} : std::vector<u64>{32, k / 2});
            set.add("moe.0." + std::string{part} + ".weight_scale", dtype::f8_e4m3,
                    is_down ? std::vector<u64>{k, 2} : std::vector<u64>{32, blocks});
        }
        return set;
    };
    const sf::failure why = refusal(source(40, 2));
    CHECK(why.code == errc::shape_mismatch);
    CHECK(tensor_of(why).ends_with("_proj.weight_scale"));
    CHECK(plan_of(source(40, 3), hub, sf::layouts::gate_up_fused::description)
              .has_value());  // an incomplete block of its own
    CHECK(plan_of(source(48, 3), hub, sf::layouts::gate_up_fused::description).has_value());
}

TEST_CASE("quantised: zero points that are packed along the rows are not cut between gate and up") {
    // gate and up are quantised, down is not, so I need not be a multiple of what down would pack
    packed_set set;
    for (const char* expert : {"0", "1"})
        for (const char* part : {"gate_proj", "up_proj"}) {
            const std::string name = "moe." + std::string{expert} + "." + part;
            set.add(name + ".qweight", dtype::i32, {8, 12});
            set.add(name + ".qzeros", dtype::i32, {2, 2});
            set.add(name + ".scales", dtype::f16, {2, 12});
        }
    set.add("moe.0.down_proj.weight", dtype::bf16, {64, 12});
    set.add("moe.1.down_proj.weight", dtype::bf16, {64, 12});
    const sf::failure why = refusal(set);
    CHECK(why.code == errc::splits_block);
    CHECK(tensor_of(why) == "moe.gate_up_proj_qzeros");
    auto apart = plan_of(set, hub, description(target::stacks));
    if (!apart) FAIL(std::string{apart.error().message().view()});
    CHECK(made_by(*apart, set).at("moe.gate_proj.qzeros").shape == std::vector<u64>{2, 2, 2});
}

TEST_CASE("quantised: parts may be quantised and others not, each by its own field") {
    // compressed-tensors with down left in BF16
    const format& stored = named("INT4 of compressed-tensors, groups of 32");
    const extents x{32, 64};
    packed_set set = experts_of(stored, 2, x);
    for (const char* expert : {"0", "1"}) {
        for (const stored_field& field : stored.fields)
            set.remove("moe." + std::string{expert} + ".down_proj." + std::string{field.name});
        set.add("moe." + std::string{expert} + ".down_proj.weight", dtype::bf16, {x.h, x.i});
    }
    const tensors source = held(set);
    for (const target to : all_targets) {
        INFO(spelled(to));
        auto plan = plan_of(set, hub, description(to));
        if (!plan) FAIL(std::string{plan.error().message().view()});
        packed_set there = set_of(made_by(*plan, set));
        auto back = plan_of(there, description(to), hub);
        if (!back) FAIL(std::string{back.error().message().view()});
        check_same(made_by(*back, there), source);
    }
    set.remove("moe.1.down_proj.weight");
    set.remove("moe.0.down_proj.weight");
    set.add("moe.0.down_proj.weight", dtype::bf16, {x.h, x.i / 2});
    set.add("moe.1.down_proj.weight", dtype::bf16, {x.h, x.i / 2});
    const sf::failure why = refusal(set);
    CHECK(why.code == errc::shape_mismatch);
    CHECK(tensor_of(why) == "moe.0.down_proj.weight");
}

TEST_CASE("quantised: group indexes that differ between gate and up are found when they are read") {
    for (const std::string_view name :
         {"GPTQ, groups of 128", "INT4 of compressed-tensors with groups by index"}) {
        const format& stored = named(name);
        const std::string field = name.starts_with("GPTQ") ? "g_idx" : "weight_g_idx";
        const extents x{128, 256};
        for (const u64 byte : {u64{0}, u64{500}, u64{1023}}) {
            packed_set set = experts_of(stored, 3, x);
            const auto same = set.bytes_of("moe.2.gate_proj." + field);
            std::vector<std::byte> other{same.begin(), same.end()};
            other[byte] ^= std::byte{1};
            set.remove("moe.2.up_proj." + field);
            set.add("moe.2.up_proj." + field, dtype::i32, {x.h}, other);
            for (const bool resident : {true, false}) {
                set.resident = resident;
                auto plan = plan_of(set, hub, sf::layouts::gate_up_fused::description);
                REQUIRE(plan);
                INFO(name, " ", byte, " ", resident);
                const std::string local = "gate_up_proj_" + field;
                const auto output = plan->output(local);
                REQUIRE(output);
                const auto number = plan->index_of(local);
                CHECK(plan->single_run(number) == nullptr);
                std::vector<std::byte> out(static_cast<std::size_t>(output->size_bytes));
                const auto fusing = sf::fuse(*plan, local, out);
                REQUIRE_FALSE(fusing);
                CHECK(fusing.error().code == errc::parts_differ);
                CHECK(std::string{fusing.error().tensor.view()} == "moe." + local);
                CHECK(std::string{fusing.error().file.view()} == "first.safetensors");
                CHECK_FALSE(sf::view(*plan, local));

                std::vector<std::vector<std::byte>> every;
                for (const auto& each : plan->outputs())
                    every.emplace_back(static_cast<std::size_t>(each.size_bytes));
                std::vector<std::span<std::byte>> buffers{every.begin(), every.end()};
                const auto all = sf::fuse(*plan, buffers);
                REQUIRE_FALSE(all);
                CHECK(all.error().code == errc::parts_differ);
                buffers[number] = {};
                CHECK(sf::fuse(*plan, buffers).has_value());  // the other outputs are made

                // a piece fails if, and only if, it contains the byte
                const u64 at = 2 * 1024 + byte;
                for (u64 begin = 0; begin < output->size_bytes; begin += 512) {
                    std::vector<std::byte> piece(512);
                    CHECK(sf::fuse_range(*plan, number, begin, piece).has_value() ==
                          !(begin <= at && at < begin + 512));
                }
                // an engine that stacks gate and up separately accepts both
                CHECK(plan_of(set, hub, description(target::stacks)).has_value());
                auto first_two =
                    plan_of(set, hub, sf::layouts::gate_up_fused::description, {.end_expert = 2});
                REQUIRE(first_two);
                std::vector<std::byte> two(2 * 1024);
                CHECK(sf::fuse(*first_two, local, two).has_value());
            }
        }
    }
}

// ------------------------------------------------------------------------------------------
// scales that are per_part_scales

namespace {

/// A number's bytes as in a file: little-endian on any machine.
template <class T>
std::array<std::byte, sizeof(T)> stored(T value) {
    auto bytes = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
    if constexpr (std::endian::native == std::endian::big) std::reverse(bytes.begin(), bytes.end());
    return bytes;
}

}  // namespace

TEST_CASE("quantised: scales of gate and up that differ are counted") {
    const auto source = [](const std::vector<std::pair<float, float>>& scales,
                           std::string_view field, std::vector<u64> shape) {
        packed_set set;
        for (std::size_t e = 0; e < scales.size(); ++e)
            for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
                const std::string name = "moe." + std::to_string(e) + "." + part;
                const bool is_down = std::string_view{part} == "down_proj";
                set.add(name + ".weight", dtype::f8_e4m3,
                        is_down ? std::vector<u64>{3, 2} : std::vector<u64>{2, 3});
                const float value = part[0] == 'u' ? scales[e].second : scales[e].first;
                set.add(name + "." + std::string{field}, dtype::f32, shape, stored(value));
            }
        return set;
    };
    const float infinite = std::numeric_limits<float>::infinity(),
                none = std::numeric_limits<float>::quiet_NaN();
    struct one_case {
        std::vector<std::pair<float, float>> scales;
        u64 differing, first;
        double ratio;
    };
    const one_case cases[] = {
        {{{1.f, 1.f}, {2.f, 2.f}}, 0, sf::unknown, 1},
        {{{1.f, 1.f}, {2.f, 3.f}, {8.f, 2.f}, {1.f, 1.f}}, 2, 1, 4},
        {{{1e-4f, 1e-3f}}, 1, 0, static_cast<double>(1e-3f) / static_cast<double>(1e-4f)},
        {{{1.f, 0.f}}, 1, 0, static_cast<double>(infinite)},
        {{{1.f, -1.f}}, 1, 0, static_cast<double>(infinite)},
        {{{1.f, none}, {1.f, 2.f}}, 2, 0, static_cast<double>(infinite)},
        {{{none, none}, {0.f, 0.f}}, 0, sf::unknown, 1},
        {{{infinite, infinite}, {infinite, 1.f}}, 1, 1, static_cast<double>(infinite)},
    };
    const std::pair<std::string, std::vector<u64>> fields[] = {{"weight_scale", {}},
                                                               {"weight_scale", {1}},
                                                               {"weight_scale_2", {}},
                                                               {"weight_global_scale", {1}},
                                                               {"input_scale", {}}};
    for (const auto& entry : fields)
        for (const one_case& each : cases)
            for (const target to :
                 {target::model, target::vllm, target::up_first, target::rows_in_turn})
                for (const bool resident : {true, false}) {
                    const std::string& field = entry.first;
                    packed_set set = source(each.scales, field, entry.second);
                    set.resident = resident;
                    auto plan = plan_of(set, hub, description(to), {.allow_missing_scales = true});
                    if (!plan) FAIL(std::string{plan.error().message().view()});
                    INFO(field, " ", spelled(to));
                    std::size_t collecting = 0;
                    for (std::size_t i = 0; i < plan->outputs().size(); ++i) {
                        const auto compared = sf::compare_scales(*plan, i);
                        REQUIRE(compared);
                        if (compared->experts == 0) {
                            CHECK(plan->outputs()[i].per_part_scales == 0);
                            CHECK(compared->differing == 0);
                            continue;
                        }
                        ++collecting;
                        CHECK(plan->outputs()[i].per_part_scales == 2);
                        CHECK(std::string{plan->outputs()[i].name}.ends_with(field));
                        CHECK(compared->experts == each.scales.size());
                        CHECK(compared->differing == each.differing);
                        CHECK(compared->first == each.first);
                        CHECK(compared->ratio == each.ratio);
                    }
                    CHECK(collecting == 1);
                }
    packed_set set = source({{1.f, 2.f}}, "weight_scale", {});
    auto plan = plan_of(set, hub, sf::layouts::gate_up_fused::description);
    REQUIRE(plan);
    const auto beyond = sf::compare_scales(*plan, plan->outputs().size());
    REQUIRE_FALSE(beyond);
    CHECK(beyond.error().code == errc::output_not_found);
    // from the unfused form, and from the fused form
    packed_set there = set_of(made_by(*plan, set));
    auto back = plan_of(there, sf::layouts::gate_up_fused::description, hub);
    REQUIRE(back);
    for (std::size_t i = 0; i < back->outputs().size(); ++i)
        CHECK(sf::compare_scales(*back, i)->experts == 0);
    auto same =
        plan_of(there, sf::layouts::gate_up_fused::description, sf::engines::vllm::description);
    REQUIRE(same);
    std::size_t differing = 0;
    for (std::size_t i = 0; i < same->outputs().size(); ++i)
        differing += sf::compare_scales(*same, i)->differing;
    CHECK(differing == 1);
}

TEST_CASE(
    "quantised: for other dtypes only the number of different scales is given, and over a "
    "thousand experts are compared in parts") {
    packed_set set;
    const u64 experts = 2500;
    for (u64 e = 0; e < experts; ++e)
        for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
            const std::string name = "moe." + std::to_string(e) + "." + part;
            const auto code = static_cast<std::byte>(
                part[0] == 'u' && (e == 1023 || e == 1024 || e == 2499) ? 121 : 120);
            set.add(name + ".weight", dtype::f8_e4m3, {1, 1});
            set.add(name + ".weight_scale", dtype::f8_e8m0, {}, std::span{&code, 1});
            const std::uint16_t half =
                part[0] == 'u' && e == 7 ? 0x4000 : 0x3F80;  // 2 and 1 in BF16
            set.add(name + ".input_scale", dtype::bf16, {}, stored(half));
        }
    auto plan = plan_of(set, hub, sf::layouts::gate_up_fused::description);
    REQUIRE(plan);
    for (std::size_t i = 0; i < plan->outputs().size(); ++i) {
        const auto compared = sf::compare_scales(*plan, i);
        REQUIRE(compared);
        if (plan->outputs()[i].local_name == "gate_up_proj_weight_scale") {
            CHECK(compared->experts == experts);
            CHECK(compared->differing == 3);
            CHECK(compared->first == 1023);
            CHECK(compared->ratio == 0);
        } else if (plan->outputs()[i].local_name == "gate_up_proj_input_scale") {
            CHECK(compared->differing == 1);
            CHECK(compared->first == 7);
            CHECK(compared->ratio == 2);
        } else {
            CHECK(compared->experts == 0);
        }
    }
}

// ------------------------------------------------------------------------------------------
// other spellings, other sources

namespace {

namespace layouts {

using gpt_oss_names =
    sf::suffixes<sf::suffix<sf::mxfp4_blocks, "_blocks">, sf::suffix<sf::mxfp4_scales, "_scales">,
                 sf::suffix<sf::bias, "_bias">>;
using gpt_oss_modules =
    sf::suffixes<sf::suffix<sf::mxfp4_blocks, ".blocks">, sf::suffix<sf::mxfp4_scales, ".scales">,
                 sf::suffix<sf::bias, ".bias">>;
using gpt_oss =
    sf::layout<gpt_oss_names, sf::tensor<"gate_up_proj", sf::stack<sf::interleave<0, 1, gate, up>>>,
               sf::tensor<"down_proj", sf::stack<down>>>;
using gpt_oss_apart = sf::layout<gpt_oss_modules, sf::tensor<"{i}.gate_proj", gate>,
                                 sf::tensor<"{i}.up_proj", up>, sf::tensor<"{i}.down_proj", down>>;
using gpt_oss_behind =
    sf::layout<gpt_oss_names, sf::tensor<"gate_up_proj", sf::stack<sf::concat<0, gate, up>>>,
               sf::tensor<"down_proj", sf::stack<down>>>;

using deepseek_v4_names =
    sf::suffixes<sf::suffix<sf::weight, ".weight">, sf::suffix<sf::weight_scale_inv, ".scale">>;
using deepseek_v4 = sf::layout<deepseek_v4_names, sf::tensor<"{i}.w1", gate>,
                               sf::tensor<"{i}.w3", up>, sf::tensor<"{i}.w2", down>>;

}  // namespace layouts

/// Rows 0, 2, 4, ... of axis 1, or 1, 3, 5, ...
array every_other(const array& of, u64 first) {
    std::vector<array> rows;
    for (u64 r = first; r < of.shape[1]; r += 2) rows.push_back(cut(1, r, r + 1, of));
    return cat(1, rows);
}
array expert_of(const array& of, u64 e) {
    array out = cut(0, e, e + 1, of);
    out.shape.erase(out.shape.begin());
    return out;
}

}  // namespace

TEST_CASE(
    "quantised: the MXFP4 of gpt-oss becomes separate experts, or gate after up, and comes back") {
    for (const extents x : {extents{32, 32}, extents{32, 64}, extents{64, 32}, extents{96, 160}})
        for (const u64 experts : {u64{1}, u64{3}}) {
            packed_set set;
            set.add("moe.gate_up_proj_blocks", dtype::u8, {experts, 2 * x.i, x.h / 32, 16});
            set.add("moe.gate_up_proj_scales", dtype::u8, {experts, 2 * x.i, x.h / 32});
            set.add("moe.gate_up_proj_bias", dtype::bf16, {experts, 2 * x.i});
            set.add("moe.down_proj_blocks", dtype::u8, {experts, x.h, x.i / 32, 16});
            set.add("moe.down_proj_scales", dtype::u8, {experts, x.h, x.i / 32});
            set.add("moe.down_proj_bias", dtype::bf16, {experts, x.h});
            const tensors source = held(set);
            tensors apart, behind;
            for (const std::string field : {"blocks", "scales", "bias"}) {
                const array& both = source.at("moe.gate_up_proj_" + field);
                const array& other = source.at("moe.down_proj_" + field);
                for (u64 e = 0; e < experts; ++e) {
                    const std::string module = "moe." + std::to_string(e) + ".";
                    apart[module + "gate_proj." + field] = expert_of(every_other(both, 0), e);
                    apart[module + "up_proj." + field] = expert_of(every_other(both, 1), e);
                    apart[module + "down_proj." + field] = expert_of(other, e);
                }
                behind["moe.gate_up_proj_" + field] =
                    cat(1, {every_other(both, 0), every_other(both, 1)});
                behind["moe.down_proj_" + field] = other;
            }
            INFO("E ", experts, " I ", x.i, " H ", x.h);
            const auto& from = layouts::gpt_oss::description;
            for (const auto& [to, expected] :
                 {std::pair{&layouts::gpt_oss_apart::description, &apart},
                  {&layouts::gpt_oss_behind::description, &behind}}) {
                auto plan = plan_of(set, from, *to);
                if (!plan) FAIL(std::string{plan.error().message().view()});
                const tensors there = made_by(*plan, set);
                check_same(there, *expected);
                packed_set fused_set = set_of(there);
                auto back = plan_of(fused_set, *to, from);
                if (!back) FAIL(std::string{back.error().message().view()});
                check_same(made_by(*back, fused_set), source);
            }
            // ranks of I: each 32 of down's inputs are one block
            auto rank = plan_of(set, from, layouts::gpt_oss_behind::description,
                                {.sliced_extent = "I", .slice_first = 0, .slice_end = 32});
            REQUIRE(rank);
            CHECK(made_by(*rank, set).at("moe.down_proj_blocks") ==
                  cut(2, 0, 1, source.at("moe.down_proj_blocks")));
            CHECK(made_by(*rank, set).at("moe.gate_up_proj_bias") ==
                  cat(1, {cut(1, 0, 32, every_other(source.at("moe.gate_up_proj_bias"), 0)),
                          cut(1, 0, 32, every_other(source.at("moe.gate_up_proj_bias"), 1))}));
            auto straddling = plan_of(set, from, layouts::gpt_oss_behind::description,
                                      {.sliced_extent = "I", .slice_first = 0, .slice_end = 16});
            REQUIRE_FALSE(straddling);
            CHECK(straddling.error().code == errc::splits_block);
        }
}

TEST_CASE("quantised: a spelling of the caller's own moves a field under another name") {
    const u64 experts = 2;
    const extents x{64, 96};
    packed_set set;
    tensors expected;
    std::map<std::string, std::vector<array>> gates, downs;
    for (u64 e = 0; e < experts; ++e)
        for (const char* part : {"w1", "w2", "w3"}) {
            const bool is_down = part[1] == '2';
            const std::string name = "moe." + std::to_string(e) + "." + part;
            set.add(name + ".weight", dtype::i8,
                    is_down ? std::vector<u64>{x.h, x.i / 2} : std::vector<u64>{x.i, x.h / 2});
            set.add(name + ".scale", dtype::f8_e8m0,
                    is_down ? std::vector<u64>{x.h, x.i / 32} : std::vector<u64>{x.i, x.h / 32});
        }
    const tensors source = held(set);
    for (const std::string field : {"weight", "scale"}) {
        std::vector<array> both, other;
        for (u64 e = 0; e < experts; ++e) {
            const std::string module = "moe." + std::to_string(e) + ".";
            both.push_back(
                cat(0, {source.at(module + "w1." + field), source.at(module + "w3." + field)}));
            other.push_back(source.at(module + "w2." + field));
        }
        expected["moe.gate_up_proj" + std::string{field == "weight" ? "" : "_scale_inv"}] =
            stack(both);
        expected["moe.down_proj" + std::string{field == "weight" ? "" : "_scale_inv"}] =
            stack(other);
    }
    auto plan =
        plan_of(set, layouts::deepseek_v4::description, sf::layouts::gate_up_fused::description);
    if (!plan) FAIL(std::string{plan.error().message().view()});
    const tensors there = made_by(*plan, set);
    check_same(there, expected);
    packed_set fused_set = set_of(there);
    auto back = plan_of(fused_set, sf::layouts::gate_up_fused::description,
                        layouts::deepseek_v4::description);
    REQUIRE(back);
    check_same(made_by(*back, fused_set), source);
}

TEST_CASE("quantised: TensorRT-LLM's FP8 blocks have up first, and a name of their own") {
    const format& stored = named("FP8 in blocks of 128 x 128");
    packed_set set = experts_of(stored, 2, {128, 256});
    const tensors source = held(set);
    auto plan = plan_of(set, hub, sf::engines::tensorrt_llm::description);
    if (!plan) FAIL(std::string{plan.error().message().view()});
    tensors expected;
    for (const auto& [name, each] : fused(stored, target::up_first, source, 2)) {
        const std::size_t at = name.find("_scale_inv");
        expected[at == std::string::npos ? name + "_weight"
                                         : name.substr(0, at) + "_weight_scaling_factor"] = each;
    }
    check_same(made_by(*plan, set), expected);
}

TEST_CASE(
    "quantised: a tensor that gate and up share is stored once, whichever axis they are "
    "concatenated along") {
    // side by side, the inputs of gate and up are two halves of a row, so their indexes are not
    // shared but follow one another
    using wide =
        sf::layout<sf::parameter_suffixes, sf::tensor<"w", sf::stack<sf::concat<1, gate, up>>>,
                   sf::tensor<"down_proj", sf::stack<down>>>;
    packed_set set;
    for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
        set.add("moe.0." + std::string{part} + ".weight", dtype::bf16, {4, 4});
        set.add("moe.0." + std::string{part} + ".g_idx", dtype::i32, {4});
    }
    const tensors source = held(set);
    auto plan = plan_of(set, hub, wide::description);
    if (!plan) FAIL(std::string{plan.error().message().view()});
    CHECK(plan->equal_blocks().empty());
    const tensors there = made_by(*plan, set);
    CHECK(there.at("moe.w_g_idx") ==
          stack({cat(0, {source.at("moe.0.gate_proj.g_idx"), source.at("moe.0.up_proj.g_idx")})}));
    packed_set fused_set = set_of(there);
    auto back = plan_of(fused_set, wide::description, hub);
    REQUIRE(back);
    check_same(made_by(*back, fused_set), source);
}

// ------------------------------------------------------------------------------------------
// which form is chosen

namespace {

/// Where each entry of a tensor of one expert, stored as on the hub, goes in a layout, part after
/// part.
struct way {
    sf::mapping_error error = sf::mapping_error::none;
    std::vector<u64> shape;    // of all tensors of the layout, one after the other
    std::vector<u64> entries;  // of the parts' entries in order
    bool operator==(const way&) const = default;
};

u64 entry_in(const sf::mapping& of, std::string_view part, u64 row, u64 column, u64 own) {
    for (std::size_t p = 0; p < of.part_count; ++p) {
        if (of.parts[p].part != part) continue;
        u64 at[sf::max_stored_axes]{};
        for (std::size_t a = 0; a < of.axis_count; ++a) at[a] = of.parts[p].first[a];
        const u64 indices[] = {0, row, column, 0, own};
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

sf::layout_args extents_of(extents x, const sf::field_form& form) {
    sf::layout_args out;
    out.values[0] = 1;
    out.values[out.dim("I")] = x.i;
    out.values[out.dim("H")] = x.h;
    out.field = &form;
    return out;
}

/// The shapes of a layout's tensors in a form of a field. Empty if impossible.
std::vector<std::vector<u64>> shapes_in(const sf::layout_description& layout, extents x,
                                        const sf::field_form& form) {
    std::vector<std::vector<u64>> out;
    for (const sf::tensor_description& tensor : layout.tensors) {
        const sf::mapping placed = tensor.place(extents_of(x, form));
        if (placed.error != sf::mapping_error::none) return {};
        out.emplace_back();
        for (std::size_t a = 0; a < placed.axis_count; ++a)
            if (placed.axes[a].present) out.back().push_back(placed.axes[a].extent);
    }
    return out;
}

/// How one form of a field moves between layouts: source entry -> destination entry, in source
/// order.
way moved(const sf::layout_description& from, const sf::layout_description& to, extents x,
          const sf::field_form& form) {
    way out;
    std::map<std::pair<std::size_t, u64>, u64> by_source;
    for (const sf::tensor_description& tensor : to.tensors) {
        const sf::mapping placed = tensor.place(extents_of(x, form));
        if (placed.error != sf::mapping_error::none) return {placed.error, {}, {}};
        for (std::size_t a = 0; a < placed.axis_count; ++a)
            if (placed.axes[a].present) out.shape.push_back(placed.axes[a].extent);
        out.shape.push_back(~u64{0});
        for (std::size_t p = 0; p < placed.part_count; ++p) {
            const sf::part_mapping& part = placed.parts[p];
            u64 counts[2];
            for (std::size_t a = 0; a < 2; ++a) {
                const u64 extent = part.extents[a] == "I" ? x.i : x.h;
                counts[a] = form.block_size[a] == 0 || form.block_size[a] == sf::whole_axis
                                ? 1
                                : (extent + form.block_size[a] - 1) / form.block_size[a];
            }
            for (std::size_t t = 0; t < from.tensors.size(); ++t) {
                const sf::mapping source = from.tensors[t].place(extents_of(x, form));
                if (entry_in(source, part.part, 0, 0, 0) == ~u64{0}) continue;
                for (u64 r = 0; r < counts[0]; ++r)
                    for (u64 c = 0; c < counts[1]; ++c)
                        for (u64 o = 0; o < (form.entries == 0 ? 1 : form.entries); ++o)
                            by_source[{t, entry_in(source, part.part, r, c, o)}] =
                                entry_in(placed, part.part, r, c, o);
            }
        }
    }
    for (const auto& [source, entry] : by_source) out.entries.push_back(entry);
    return out;
}

}  // namespace

TEST_CASE(
    "quantised: if tensors fit two forms of a field, both forms move the same bytes to the "
    "same place") {
    std::vector<u64> few;
    for (u64 n = 1; n <= 20; ++n) few.push_back(n);
    for (const u64 n : std::initializer_list<u64>{24, 31, 32, 33, 48, 64, 96, 100, 127, 128, 129,
                                                  192, 256, 257, 300})
        few.push_back(n);
    std::size_t pairs = 0, refused_by_one = 0;
    std::set<std::string> colliding;
    std::set<const sf::field_description*> fields;
    for (const sf::field_suffix& each : sf::module_suffixes::fields) fields.insert(each.field);
    fields.insert(&sf::mxfp4_blocks::description);
    const auto compare = [&](const sf::field_description& field, const sf::layout_description& from,
                             extents a, const sf::field_form& first, extents b,
                             const sf::field_form& second) {
        for (const target to : all_targets) {
            const way one = moved(from, description(to), a, first),
                      other = moved(from, description(to), b, second);
            ++pairs;
            if ((one.error == sf::mapping_error::none) !=
                (other.error == sf::mapping_error::none)) {
                ++refused_by_one;
                continue;
            }
            if (one == other) continue;
            colliding.insert(std::string{field.name} + " to " + std::string{spelled(to)} + ": I " +
                             std::to_string(a.i) + " H " + std::to_string(a.h) + ", " +
                             std::to_string(first.block_size[0]) + " x " +
                             std::to_string(first.block_size[1]) + " or " +
                             std::to_string(second.block_size[0]) + " x " +
                             std::to_string(second.block_size[1]));
        }
        // tensors that come back from a fused form are stored equally
        const way one = moved(from, hub, a, first), other = moved(from, hub, b, second);
        if (one.error == sf::mapping_error::none && other.error == sf::mapping_error::none &&
            !(one == other))
            colliding.insert("back: " + std::string{field.name} + ": I " + std::to_string(a.i) +
                             " H " + std::to_string(a.h));
    };
    for (const sf::field_description* field : fields)
        for (const sf::layout_description* from :
             {&hub, &sf::layouts::gate_up_fused::description, &description(target::stacks)})
            for (const u64 i : few)
                for (const u64 h : few)
                    for (const sf::field_form& first : field->forms) {
                        const auto shapes = shapes_in(*from, {i, h}, first);
                        if (shapes.empty()) continue;
                        for (const sf::field_form& second : field->forms) {
                            if (&second <= &first) continue;
                            if (field->role != sf::field_role::value) {
                                if (shapes_in(*from, {i, h}, second) == shapes && i <= 64 &&
                                    h <= 64)
                                    compare(*field, *from, {i, h}, first, {i, h}, second);
                                continue;
                            }
                            // in the other form, the shapes give other extents: those of the first
                            // tensor's last two axes
                            std::vector<u64> axes = shapes[0];
                            if (second.entries != 0) axes.pop_back();
                            if (second.is_transposed)
                                std::swap(axes[axes.size() - 1], axes[axes.size() - 2]);
                            const u64 rows = axes[axes.size() - 2] * second.block_size[0],
                                      columns = axes[axes.size() - 1] * second.block_size[1];
                            const extents other{
                                from == &sf::layouts::gate_up_fused::description ? rows / 2 : rows,
                                columns};
                            if (shapes_in(*from, other, second) == shapes)
                                compare(*field, *from, {i, h}, first, other, second);
                        }
                    }
    MESSAGE(pairs, " pairs of forms that fit the same shapes, ", refused_by_one,
            " refused in one form only");
    for (const std::string& each : colliding) MESSAGE(each);
    CHECK(pairs > 1000);
    CHECK(colliding.empty());
}
