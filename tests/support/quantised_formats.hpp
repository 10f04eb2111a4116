// The formats of quantised experts: which tensors each matrix has and what shapes they have. Also
// what each destination holds afterwards, made with arrays::cat and arrays::stack alone.
#ifndef SAFEFUSE_TESTS_QUANTISED_FORMATS_HPP
#define SAFEFUSE_TESTS_QUANTISED_FORMATS_HPP

#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <safefuse/models/engines.hpp>
#include <safefuse/models/standard.hpp>

#include "arrays.hpp"
#include "laws.hpp"

namespace quantised {

namespace sf = safefuse;
using arrays::array;
using arrays::stack;
using arrays::tensors;
using arrays::transposed;
using laws::packed_set;
using laws::u64;
using sf::dtype;
using sf::errc;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

// ------------------------------------------------------------------------------------------
// formats

/// One block has all entries of an axis.
inline constexpr u64 whole = ~u64{0};

/// How a field of two concatenated matrices is stored: one after the other, as a pair, or once.
enum class together { in_a_row, pair, once };

/// A tensor of a quantised matrix [out, in] as a format stores it.
struct stored_field {
    /// Follows the module's name and a dot.
    std::string_view name;
    dtype type;
    int out_axis = 0;  ///< -1: no such axis
    u64 out_granule = 1;
    int in_axis = 1;
    u64 in_granule = 1;
    std::vector<u64> rest{};  ///< extents of its own axes
    together how = together::in_a_row;

    std::vector<u64> shape(u64 out, u64 in) const {
        std::vector<u64> made(static_cast<std::size_t>((out_axis >= 0) + (in_axis >= 0)));
        const auto blocks = [](u64 extent, u64 block_size) {
            return block_size == whole ? 1 : (extent + block_size - 1) / block_size;
        };
        if (out_axis >= 0) made[static_cast<std::size_t>(out_axis)] = blocks(out, out_granule);
        if (in_axis >= 0) made[static_cast<std::size_t>(in_axis)] = blocks(in, in_granule);
        made.insert(made.end(), rest.begin(), rest.end());
        return made;
    }
};

/// The extents I and H of an expert.
struct extents {
    u64 i, h;
};

/// What each matrix is stored as, and extents that the format can store.
struct format {
    std::string_view name;
    std::vector<stored_field> fields;
    std::vector<extents> shapes;
};

inline stored_field scalar(std::string_view name) {
    return {name, dtype::f32, -1, 1, -1, 1, {}, together::pair};
}
inline stored_field one(std::string_view name) {
    return {name, dtype::f32, -1, 1, -1, 1, {1}, together::pair};
}

inline stored_field transposed_field(std::string_view name, dtype type, u64 out_granule,
                                     u64 in_granule) {
    return {name, type, 1, out_granule, 0, in_granule};
}

inline format gptq(std::string_view name, u64 group, std::vector<extents> shapes, u64 codes = 8) {
    return {name,
            {transposed_field("qweight", dtype::i32, 1, codes),
             transposed_field("qzeros", dtype::i32, codes, group),
             transposed_field("scales", dtype::f16, 1, group),
             {"g_idx", dtype::i32, -1, 1, 0, 1, {}, together::once}},
            std::move(shapes)};
}
inline format awq(std::string_view name, u64 group, std::vector<extents> shapes) {
    return {name,
            {transposed_field("qweight", dtype::i32, 8, 1),
             transposed_field("qzeros", dtype::i32, 8, group),
             transposed_field("scales", dtype::f16, 1, group)},
            std::move(shapes)};
}
inline format int4(std::string_view name, u64 group, dtype shape_type, std::vector<extents> shapes,
                   u64 codes = 8) {
    return {name,
            {{"weight_packed", dtype::i32, 0, 1, 1, codes},
             {"weight_scale", dtype::bf16, 0, 1, 1, group},
             {"weight_shape", shape_type, -1, 1, -1, 1, {2}, together::pair}},
            std::move(shapes)};
}

/// Every format of per-expert tensors that is copied byte by byte, with real and tiny shapes:
/// square, H = 2I, the smallest that can be packed.
inline std::vector<format> formats() {
    const stored_field e4m3{"weight", dtype::f8_e4m3}, int8{"weight", dtype::i8},
        fp4{"weight", dtype::u8, 0, 1, 1, 2}, packed_fp4{"weight_packed", dtype::u8, 0, 1, 1, 2};
    std::vector<format> all{
        {"FP8 in blocks of 128 x 128",
         {e4m3, {"weight_scale_inv", dtype::f32, 0, 128, 1, 128}},
         {{128, 128}, {128, 256}, {256, 128}, {256, 130}, {384, 1}}},
        {"FP4 of DeepSeek-V4",
         {{"weight", dtype::i8, 0, 1, 1, 2}, {"weight_scale_inv", dtype::f8_e8m0, 0, 1, 1, 32}},
         {{32, 32}, {32, 64}, {64, 32}, {2, 2}, {96, 160}}},
        {"MXFP8",
         {e4m3, {"weight_scale_inv", dtype::u8, 0, 1, 1, 32}},
         {{32, 32}, {32, 64}, {64, 32}, {96, 160}, {2, 3}}},
        {"FP8 per channel, BF16",
         {e4m3, {"weight_scale", dtype::bf16, 0, 1, 1, whole}},
         {{1, 1}, {1, 2}, {2, 1}, {3, 5}, {16, 16}, {16, 32}, {33, 17}}},
        {"FP8 per channel, F32, with bias",
         {e4m3, {"weight_scale", dtype::f32, 0, 1, 1, whole}, {"bias", dtype::bf16, 0, 1, -1}},
         {{1, 1}, {4, 4}, {4, 8}, {33, 17}}},
        {"INT8 per channel",
         {int8, {"weight_scale", dtype::f32, 0, 1, 1, whole}},
         {{1, 1}, {1, 2}, {2, 1}, {8, 8}, {8, 16}, {33, 17}}},
        {"FP8 per tensor",
         {e4m3, scalar("weight_scale"), scalar("input_scale")},
         {{1, 1}, {1, 2}, {2, 1}, {3, 5}, {16, 32}}},
        {"FP8 per tensor, [1]",
         {e4m3, one("weight_scale"), one("input_scale")},
         {{1, 1}, {1, 2}, {2, 1}, {3, 5}, {16, 32}}},
        {"NVFP4 of ModelOpt",
         {fp4,
          {"weight_scale", dtype::f8_e4m3, 0, 1, 1, 16},
          scalar("weight_scale_2"),
          scalar("input_scale")},
         {{16, 16}, {16, 32}, {32, 16}, {48, 32}, {64, 144}, {32, 32}}},
        {"NVFP4 of compressed-tensors",
         {packed_fp4,
          {"weight_scale", dtype::f8_e4m3, 0, 1, 1, 16},
          one("weight_global_scale"),
          one("input_global_scale")},
         {{16, 16}, {16, 32}, {32, 16}, {48, 32}, {64, 144}}},
        int4("INT4 of compressed-tensors, groups of 32", 32, dtype::i64,
             {{32, 32}, {32, 64}, {64, 32}, {96, 160}, {8, 8}}),
        int4("INT4 of compressed-tensors, groups of 128", 128, dtype::i32,
             {{128, 128}, {128, 256}, {256, 128}}),
        int4("INT4 of compressed-tensors, rows", whole, dtype::i64,
             {{8, 8}, {8, 16}, {16, 8}, {136, 264}}),
        int4("INT8 of compressed-tensors, packed", whole, dtype::i64,
             {{4, 4}, {4, 8}, {8, 4}, {132, 260}}, 4),
        {"MXFP4 of compressed-tensors",
         {packed_fp4, {"weight_scale", dtype::u8, 0, 1, 1, 32}},
         {{32, 32}, {32, 64}, {64, 32}, {96, 160}}},
        gptq("GPTQ, groups of 32", 32, {{32, 32}, {32, 64}, {64, 32}, {96, 160}}),
        gptq("GPTQ, groups of 64", 64, {{64, 64}, {64, 128}, {128, 64}}),
        gptq("GPTQ, groups of 128", 128, {{128, 128}, {128, 256}, {256, 128}}),
        gptq("GPTQ, one group", whole, {{8, 8}, {8, 16}, {16, 8}, {136, 264}}),
        gptq("GPTQ of 8 bits, groups of 32", 32, {{32, 32}, {32, 64}, {64, 32}, {96, 160}}, 4),
        gptq("GPTQ of 8 bits, one group", whole, {{4, 4}, {4, 8}, {8, 4}, {132, 264}}, 4),
        gptq("GPTQ, last group incomplete", 128, {{192, 320}, {128, 2880 / 8}}),
        awq("AWQ, groups of 32", 32, {{32, 32}, {32, 64}, {64, 32}, {96, 160}}),
        awq("AWQ, groups of 64", 64, {{64, 64}, {64, 128}, {128, 64}}),
        awq("AWQ, groups of 128", 128, {{128, 128}, {128, 256}, {256, 128}}),
    };
    format zero_points = int4("INT4 of compressed-tensors with zero points", 32, dtype::i64,
                              {{32, 32}, {32, 64}, {64, 32}, {96, 160}});
    zero_points.fields.push_back({"weight_zero_point", dtype::i32, 0, 8, 1, 32});
    all.push_back(zero_points);
    format groups = int4("INT4 of compressed-tensors with groups by index", 128, dtype::i32,
                         {{128, 128}, {128, 256}, {256, 128}});
    groups.fields.push_back({"weight_g_idx", dtype::i32, -1, 1, 0, 1, {}, together::once});
    all.push_back(groups);
    return all;
}

// ------------------------------------------------------------------------------------------
// destinations

namespace destinations {

using rows_in_turn =
    sf::layout<sf::parameter_suffixes,
               sf::tensor<"gate_up_proj", sf::stack<sf::interleave<0, 1, gate, up>>>,
               sf::tensor<"down_proj", sf::stack<down>>>;
using up_first =
    sf::layout<sf::parameter_suffixes, sf::tensor<"w3_w1", sf::stack<sf::concat<0, up, gate>>>,
               sf::tensor<"w2", sf::stack<down>>>;
using stacks =
    sf::layout<sf::module_suffixes, sf::tensor<"gate_proj", sf::stack<gate>>,
               sf::tensor<"up_proj", sf::stack<up>>, sf::tensor<"down_proj", sf::stack<down>>>;
using transposed_stacks =
    sf::layout<sf::parameter_suffixes,
               sf::tensor<"gate_up_proj", sf::stack<sf::transpose<0, 1, sf::concat<0, gate, up>>>>,
               sf::tensor<"down_proj", sf::stack<sf::transpose<0, 1, down>>>>;

}  // namespace destinations

/// The destinations of the tests.
enum class target { model, vllm, up_first, rows_in_turn, stacks, transposed };
inline constexpr target all_targets[] = {target::model,        target::vllm,   target::up_first,
                                         target::rows_in_turn, target::stacks, target::transposed};

inline const sf::layout_description& description(target of) {
    switch (of) {
    case target::model: return sf::layouts::gate_up_fused::description;
    case target::vllm: return sf::engines::vllm::description;
    case target::up_first: return destinations::up_first::description;
    case target::rows_in_turn: return destinations::rows_in_turn::description;
    case target::stacks: return destinations::stacks::description;
    case target::transposed: break;
    }
    return destinations::transposed_stacks::description;
}
inline std::string_view spelled(target of) {
    constexpr std::string_view names[] = {"model",        "vllm",   "up_first",
                                          "rows_in_turn", "stacks", "transposed"};
    return names[static_cast<std::size_t>(of)];
}

/// What follows the name of a destination's tensor for a field.
inline std::string suffix(target of, std::string_view field) {
    if (of == target::stacks) return "." + std::string{field};
    if (of == target::vllm) return "_" + std::string{field};
    return field == "weight"             ? ""
           : field == "weight_scale_inv" ? "_scale_inv"
                                         : "_" + std::string{field};
}

/// One field of one part of one expert.
inline const array& of(const tensors& all, u64 expert, std::string_view part,
                       std::string_view field) {
    return all.at("moe." + std::to_string(expert) + "." + std::string{part} + "." +
                  std::string{field});
}

/// The contents of the destination, by cat and stack.
inline tensors fused(const format& stored, target to, const tensors& from, u64 experts) {
    tensors out;
    for (const stored_field& field : stored.fields) {
        std::vector<array> gates, ups, downs, pairs;
        for (u64 e = 0; e < experts; ++e) {
            const array& g = of(from, e, "gate_proj", field.name);
            const array& u = of(from, e, "up_proj", field.name);
            gates.push_back(g);
            ups.push_back(u);
            downs.push_back(of(from, e, "down_proj", field.name));
            const bool up_comes_first = to == target::up_first;
            const array &first = up_comes_first ? u : g, &second = up_comes_first ? g : u;
            if (field.how == together::once) {
                pairs.push_back(g);
            } else if (field.how == together::pair) {
                array a = first, b = second;
                if (a.shape == std::vector<u64>{1}) a.shape = b.shape = {};
                pairs.push_back(stack({a, b}));
            } else {
                const auto axis = static_cast<std::size_t>(field.out_axis);
                pairs.push_back(to == target::rows_in_turn ? arrays::interleave(axis, g, u)
                                                           : arrays::cat(axis, {first, second}));
            }
            if (to == target::transposed && field.out_axis >= 0 && field.in_axis >= 0) {
                pairs.back() = transposed(pairs.back());
                downs.back() = transposed(downs.back());
            }
        }
        const auto name = [&](std::string_view tensor) {
            return "moe." + std::string{tensor} + suffix(to, field.name);
        };
        if (to == target::stacks) {
            out[name("gate_proj")] = stack(gates);
            out[name("up_proj")] = stack(ups);
            out[name("down_proj")] = stack(downs);
            continue;
        }
        out[name(to == target::vllm       ? "w13"
                 : to == target::up_first ? "w3_w1"
                                          : "gate_up_proj")] = stack(pairs);
        out[name(to == target::vllm || to == target::up_first ? "w2" : "down_proj")] = stack(downs);
    }
    return out;
}

/// The reasons why a target is impossible.
inline std::set<errc> refused(const format& stored, target to, u64 i) {
    std::set<errc> why;
    for (const stored_field& field : stored.fields) {
        if (to == target::stacks || field.out_axis < 0) continue;
        if (i % field.out_granule != 0 || (to == target::rows_in_turn && field.out_granule != 1))
            why.insert(errc::splits_block);
    }
    return why;
}

/// Per-expert tensors full of bytes that depend on their names. Fields in which gate and up must
/// agree have equal bytes.
inline packed_set experts_of(const format& stored, u64 experts, extents x) {
    packed_set set;
    for (u64 e = 0; e < experts; ++e)
        for (const std::string_view part : {"down_proj", "gate_proj", "up_proj"})
            for (const stored_field& field : stored.fields) {
                const std::string module = "moe." + std::to_string(e) + ".";
                const std::string name = module + std::string{part} + "." + std::string{field.name};
                const std::vector<u64> shape =
                    part == "down_proj" ? field.shape(x.h, x.i) : field.shape(x.i, x.h);
                if (field.how == together::once && part == "up_proj") {
                    const auto same = set.bytes_of(module + "gate_proj." + std::string{field.name});
                    set.add(name, field.type, shape,
                            std::vector<std::byte>(same.begin(), same.end()));
                } else {
                    set.add(name, field.type, shape);
                }
            }
    return set;
}

}  // namespace quantised

#endif
