// The layouts of engines, compared with nested loops that do not use the algebra: names, shapes and
// bytes.
#include <safefuse/models/engines.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <safefuse/detect/detect.hpp>
#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/run/fuse.hpp>
#include <safefuse/write/rewrite_plan.hpp>

#include "../../support/laws.hpp"

namespace {

namespace sf = safefuse;
using laws::packed_set;
using u64 = std::uint64_t;

struct experts {
    u64 count, inner, hidden;
    bool bias = false;
    bool scales = false;  // FP8 codes with a scale for each 128 x 128 block
};

enum part { gate, up, down };
enum field { weight, bias, scale };

/// The bits of one element: pseudo-random, a function of its place. As many of them are stored as
/// the dtype has.
u64 value(field of, part which, u64 expert, u64 row, u64 column) {
    u64 x = 0;
    for (const u64 each : {static_cast<u64>(of), static_cast<u64>(which), expert, row, column})
        x = (x ^ each) * 0x9e3779b97f4a7c15u + (x >> 7) + 1;
    return x ^ x >> 31;
}

sf::dtype type_of(const experts& x, field of) {
    return of == scale                ? sf::dtype::f32
           : of == weight && x.scales ? sf::dtype::f8_e4m3
                                      : sf::dtype::bf16;
}

struct stored {
    sf::dtype type;
    std::vector<u64> shape;
    std::vector<std::byte> bytes;
    bool operator==(const stored&) const = default;
};
using tensors = std::map<std::string, stored>;

/// A tensor whose elements `at` computes from their indices, the last index fastest. A vector's
/// column is 0.
void put(tensors& into, const std::string& name, const experts& x, field of,
         const std::vector<u64>& shape, const std::function<u64(const std::vector<u64>&)>& at) {
    const sf::dtype type = type_of(x, of);
    stored made{type, shape, {}};
    u64 count = 1;
    for (const u64 extent : shape) count *= extent;
    std::vector<u64> index(shape.size());
    for (u64 i = 0; i < count; ++i) {
        u64 rest = i;
        for (std::size_t a = shape.size(); a-- > 0; rest /= shape[a]) index[a] = rest % shape[a];
        const u64 element = at(index);
        for (u64 b = 0; b < sf::bits(type) / 8; ++b)
            made.bytes.push_back(static_cast<std::byte>(element >> (8 * b)));
    }
    into[name] = std::move(made);
}

/// The extents of one field of one part: rows, columns; 0 columns for a vector.
struct extents {
    u64 rows, columns;
};
extents extents_of(const experts& x, field of, part which) {
    const auto blocks = [&](u64 n) { return of == scale ? (n + 127) / 128 : n; };
    const u64 rows = blocks(which == down ? x.hidden : x.inner),
              columns = blocks(which == down ? x.inner : x.hidden);
    return {rows, of == bias ? 0 : columns};
}

/// [rows, columns], or [rows] for a bias, appended to `first`.
std::vector<u64> shape_of(std::vector<u64> first, extents each) {
    first.push_back(each.rows);
    if (each.columns != 0) first.push_back(each.columns);
    return first;
}
u64 column_of(const std::vector<u64>& index, std::size_t axis) {
    return axis < index.size() ? index[axis] : 0;
}

std::vector<field> fields_of(const experts& x) {
    std::vector<field> found{weight};
    if (x.bias) found.push_back(bias);
    if (x.scales) found.push_back(scale);
    return found;
}

// ------------------------------------------------------------------------------------------
// sources

tensors per_expert(const experts& x, const std::array<std::string, 3>& names) {
    constexpr std::string_view suffixes[] = {".weight", ".bias", ".weight_scale_inv"};
    tensors out;
    for (const field of : fields_of(x))
        for (u64 e = 0; e < x.count; ++e)
            for (const part which : {gate, up, down})
                put(out, std::to_string(e) + "." + names[which] + std::string{suffixes[of]}, x, of,
                    shape_of({}, extents_of(x, of, which)),
                    [&](const auto& i) { return value(of, which, e, i[0], column_of(i, 1)); });
    return out;
}
tensors per_expert(const experts& x) {
    return per_expert(x, {"gate_proj", "up_proj", "down_proj"});
}
tensors per_expert_w123(const experts& x) { return per_expert(x, {"w1", "w3", "w2"}); }

/// For each expert two parts of I rows, one after the other, and down. The names of the two tensors
/// are given by field.
tensors halves(const experts& x, part first, part second, const std::array<std::string, 3>& fused,
               const std::array<std::string, 3>& of_down) {
    tensors out;
    for (const field of : fields_of(x)) {
        extents each = extents_of(x, of, gate);
        const u64 half = each.rows;
        each.rows *= 2;
        put(out, fused[of], x, of, shape_of({x.count}, each), [&](const auto& i) {
            return i[1] < half ? value(of, first, i[0], i[1], column_of(i, 2))
                               : value(of, second, i[0], i[1] - half, column_of(i, 2));
        });
        put(out, of_down[of], x, of, shape_of({x.count}, extents_of(x, of, down)),
            [&](const auto& i) { return value(of, down, i[0], i[1], column_of(i, 2)); });
    }
    return out;
}
tensors gate_up_fused(const experts& x) {
    return halves(x, gate, up, {"gate_up_proj", "gate_up_proj_bias", "gate_up_proj_scale_inv"},
                  {"down_proj", "down_proj_bias", "down_proj_scale_inv"});
}

// ------------------------------------------------------------------------------------------
// targets

tensors vllm(const experts& x) {
    return halves(x, gate, up, {"w13_weight", "w13_bias", "w13_weight_scale_inv"},
                  {"w2_weight", "w2_bias", "w2_weight_scale_inv"});
}
tensors tensorrt_llm(const experts& x) {
    return halves(x, up, gate, {"w3_w1_weight", "w3_w1_bias", "w3_w1_weight_scaling_factor"},
                  {"w2_weight", "w2_bias", "w2_weight_scaling_factor"});
}

/// A stack of each part: names[part], then the field's suffix.
tensors stacks(const experts& x, const std::array<std::string, 3>& names) {
    constexpr std::string_view suffixes[] = {".weight", ".bias"};
    tensors out;
    for (const field of : fields_of(x))
        for (const part which : {gate, up, down})
            put(out, names[which] + std::string{suffixes[of]}, x, of,
                shape_of({x.count}, extents_of(x, of, which)),
                [&](const auto& i) { return value(of, which, i[0], i[1], column_of(i, 2)); });
    return out;
}
tensors mlx(const experts& x) {
    return stacks(x, {"switch_mlp.gate_proj", "switch_mlp.up_proj", "switch_mlp.down_proj"});
}
tensors gguf(const experts& x) {
    return stacks(x, {"ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"});
}

tensors onnxruntime_genai(const experts& x) {
    tensors out = stacks(x, {"gate", "up", "down_proj"});
    for (const field of : fields_of(x)) {
        const std::string suffix = of == bias ? ".bias" : ".weight";
        out.erase("gate" + suffix);
        out.erase("up" + suffix);
        extents each = extents_of(x, of, gate);
        each.rows *= 2;
        put(out, "gate_up_proj" + suffix, x, of, shape_of({x.count}, each), [&](const auto& i) {
            return value(of, i[1] % 2 == 0 ? gate : up, i[0], i[1] / 2, column_of(i, 2));
        });
    }
    return out;
}

// Rows 0 .. 63 are up's first 64, rows 64 .. 127 gate's first 64, and so on.
tensors cutedsl(const experts& x) {
    tensors out;
    put(out, "w3_w1_weight", x, weight, {x.count, 2 * x.inner, x.hidden}, [](const auto& i) {
        return value(weight, i[1] % 128 < 64 ? up : gate, i[0], i[1] / 128 * 64 + i[1] % 64, i[2]);
    });
    put(out, "w2_weight", x, weight, {x.count, x.hidden, x.inner},
        [](const auto& i) { return value(weight, down, i[0], i[1], i[2]); });
    return out;
}

tensors automodel(const experts& x) {
    tensors out;
    put(out, "gate_and_up_projs", x, weight, {x.count, x.hidden, 2 * x.inner}, [&](const auto& i) {
        return i[2] < x.inner ? value(weight, gate, i[0], i[2], i[1])
                              : value(weight, up, i[0], i[2] - x.inner, i[1]);
    });
    put(out, "down_projs", x, weight, {x.count, x.inner, x.hidden},
        [](const auto& i) { return value(weight, down, i[0], i[2], i[1]); });
    return out;
}

tensors megablocks(const experts& x) {
    tensors out;
    const std::vector<u64> shape{x.count * x.inner, x.hidden};
    put(out, "w1", x, weight, shape,
        [&](const auto& i) { return value(weight, gate, i[0] / x.inner, i[0] % x.inner, i[1]); });
    put(out, "v1", x, weight, shape,
        [&](const auto& i) { return value(weight, up, i[0] / x.inner, i[0] % x.inner, i[1]); });
    put(out, "w2", x, weight, shape,
        [&](const auto& i) { return value(weight, down, i[0] / x.inner, i[1], i[0] % x.inner); });
    return out;
}

// ------------------------------------------------------------------------------------------
// checks

packed_set set_of(const tensors& from, const std::string& scope) {
    packed_set out;
    for (const auto& [name, each] : from)
        out.add(scope + "." + name, each.type, each.shape, each.bytes);
    return out;
}

/// Runs a plan. Returns the outputs by local name.
tensors run(const sf::copy_plan& plan, const std::string& scope) {
    tensors out;
    for (const sf::plan_output& output : plan.outputs()) {
        CHECK(output.name == scope + "." + std::string{output.local_name});
        stored made{output.type,
                    {output.shape.begin(), output.shape.end()},
                    std::vector<std::byte>(static_cast<std::size_t>(output.size_bytes))};
        REQUIRE(sf::fuse(plan, output.local_name, made.bytes));
        out[std::string{output.local_name}] = std::move(made);
    }
    return out;
}

void check_same(const tensors& made, const tensors& expected) {
    CHECK(made.size() == expected.size());
    for (const auto& each : expected) {
        CAPTURE(each.first);
        const auto found = made.find(each.first);
        REQUIRE(found != made.end());
        CHECK(found->second.type == each.second.type);
        CHECK(found->second.shape == each.second.shape);
        CHECK((found->second.bytes == each.second.bytes));
    }
}

/// Plans from one layout to another and compares the result with `expected`.
template <class From, class To>
void check_becomes(const tensors& from, const tensors& expected) {
    const packed_set set = set_of(from, "model.layers.3.mlp.experts");
    const auto plan =
        sf::plan<From, To>(set, "model.layers.3.mlp.experts", {.destination_scope = "elsewhere"});
    INFO(std::string{plan ? std::string_view{} : plan.error().message().view()});
    REQUIRE(plan);
    check_same(run(*plan, "elsewhere"), expected);
}

/// Checks the target from every source, and the inverse if shapes tell all extents.
template <class Target>
void check_target(tensors (*expected)(const experts&), const experts& x, bool comes_back = true) {
    CAPTURE(x.count);
    CAPTURE(x.inner);
    CAPTURE(x.hidden);
    check_becomes<sf::layouts::per_expert, Target>(per_expert(x), expected(x));
    check_becomes<sf::layouts::per_expert_w123, Target>(per_expert_w123(x), expected(x));
    check_becomes<sf::layouts::gate_up_fused, Target>(gate_up_fused(x), expected(x));
    if (!comes_back) return;
    check_becomes<Target, sf::layouts::per_expert>(expected(x), per_expert(x));
    check_becomes<Target, sf::layouts::per_expert_w123>(expected(x), per_expert_w123(x));
    check_becomes<Target, sf::layouts::gate_up_fused>(expected(x), gate_up_fused(x));
}

// experts, I, H; including H = I and H = 2I, for which shapes alone do not tell the axes apart
constexpr experts shapes[] = {{1, 1, 1}, {3, 2, 5}, {2, 4, 4}, {2, 3, 6}, {11, 5, 2}};
constexpr experts with_bias[] = {{1, 1, 1, true}, {3, 2, 5, true}, {2, 4, 4, true}};
constexpr experts with_scales[] = {{2, 128, 256, false, true}, {3, 256, 130, false, true}};

template <class From, class To>
void check_refused(const tensors& from, sf::errc why) {
    const packed_set set = set_of(from, "moe");
    const auto plan = sf::plan<From, To>(set, "moe", {.destination_scope = "elsewhere"});
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == why);
}

}  // namespace

TEST_CASE(
    "engines: vllm has w13_weight, gate's rows first, and w2_weight; biases and block scales "
    "likewise") {
    for (const experts& x : shapes) check_target<sf::engines::vllm>(vllm, x);
    for (const experts& x : with_bias) check_target<sf::engines::vllm>(vllm, x);
    for (const experts& x : with_scales) check_target<sf::engines::vllm>(vllm, x);
}

TEST_CASE(
    "engines: tensorrt_llm has w3_w1_weight, up's rows first, and w2_weight; biases and block "
    "scales likewise") {
    for (const experts& x : shapes) check_target<sf::engines::tensorrt_llm>(tensorrt_llm, x);
    for (const experts& x : with_bias) check_target<sf::engines::tensorrt_llm>(tensorrt_llm, x);
    for (const experts& x : with_scales) check_target<sf::engines::tensorrt_llm>(tensorrt_llm, x);
}

TEST_CASE("engines: cutedsl has 64 rows of up and 64 rows of gate by turns") {
    for (const experts& x :
         {experts{1, 64, 1}, experts{3, 128, 3}, experts{2, 192, 192}, experts{2, 64, 128}})
        check_target<sf::engines::cutedsl>(cutedsl, x);
}

TEST_CASE("engines: cutedsl refuses an I that is not a multiple of 64") {
    for (const u64 inner : {1u, 32u, 63u, 65u, 96u}) {
        const experts x{2, inner, 4};
        CAPTURE(inner);
        check_refused<sf::layouts::per_expert, sf::engines::cutedsl>(per_expert(x),
                                                                     sf::errc::unnested_groups);
        check_refused<sf::layouts::per_expert_w123, sf::engines::cutedsl>(
            per_expert_w123(x), sf::errc::unnested_groups);
        check_refused<sf::layouts::gate_up_fused, sf::engines::cutedsl>(gate_up_fused(x),
                                                                        sf::errc::unnested_groups);
    }
}

TEST_CASE("engines: mlx has a stack of each matrix under switch_mlp") {
    for (const experts& x : shapes) check_target<sf::engines::mlx>(mlx, x);
    for (const experts& x : with_bias) check_target<sf::engines::mlx>(mlx, x);
}

TEST_CASE("engines: gguf has a stack of each matrix, ffn_gate_exps and so on") {
    for (const experts& x : shapes) check_target<sf::engines::gguf>(gguf, x);
    for (const experts& x : with_bias) check_target<sf::engines::gguf>(gguf, x);
}

TEST_CASE("engines: onnxruntime_genai has rows of gate and up by turns") {
    for (const experts& x : shapes)
        check_target<sf::engines::onnxruntime_genai>(onnxruntime_genai, x);
    for (const experts& x : with_bias)
        check_target<sf::engines::onnxruntime_genai>(onnxruntime_genai, x);
}

TEST_CASE("engines: automodel has both matrices transposed, gate's columns first") {
    for (const experts& x : shapes) check_target<sf::engines::automodel>(automodel, x);
}

TEST_CASE(
    "engines: megablocks has [E * I, H] three times, down transposed; shapes alone cannot be "
    "unfused") {
    for (const experts& x : shapes) {
        check_target<sf::engines::megablocks>(megablocks, x, false);
        check_refused<sf::engines::megablocks, sf::layouts::per_expert>(megablocks(x),
                                                                        sf::errc::shape_mismatch);
    }
}

TEST_CASE(
    "engines: megablocks is unfused if the number of experts is given, and only with the right "
    "one") {
    for (const experts& x : shapes) {
        const packed_set set = set_of(megablocks(x), "moe");
        const sf::known_extent right[] = {{"E", x.count}}, wrong[] = {{"E", x.count * x.inner + 1}};
        const auto plan = sf::plan<sf::engines::megablocks, sf::layouts::per_expert>(
            set, "moe", {.destination_scope = "elsewhere", .known_extents = right});
        INFO(std::string{plan ? std::string_view{} : plan.error().message().view()});
        REQUIRE(plan);
        check_same(run(*plan, "elsewhere"), per_expert(x));
        const auto refused = sf::plan<sf::engines::megablocks, sf::layouts::per_expert>(
            set, "moe", {.known_extents = wrong});
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == sf::errc::shape_mismatch);
    }
}

TEST_CASE("engines: each is found by its name, and planning by name equals planning by type") {
    const experts x{3, 64, 5};
    const packed_set set = set_of(per_expert(x), "moe");
    for (const sf::engine_entry& each : sf::shipped_engines::all) {
        INFO(std::string{each.name});
        REQUIRE(sf::find_engine(each.name) == &each);
        const auto plan = sf::plan(set, "moe", sf::layouts::per_expert::description, *each.layout,
                                   {.destination_scope = "elsewhere"});
        REQUIRE(plan);
        CHECK(plan->size_bytes() == x.count * 3 * x.inner * x.hidden * 2);
    }
    CHECK(sf::find_engine("") == nullptr);
    const auto by_type = sf::plan<sf::layouts::per_expert, sf::engines::tensorrt_llm>(
        set, "moe", {.destination_scope = "elsewhere"});
    const auto by_name =
        sf::plan(set, "moe", sf::layouts::per_expert::description,
                 *sf::find_engine("tensorrt_llm")->layout, {.destination_scope = "elsewhere"});
    REQUIRE(by_type);
    REQUIRE(by_name);
    check_same(run(*by_name, "elsewhere"), run(*by_type, "elsewhere"));
    const auto ungated = sf::plan(set, "moe", sf::layouts::per_expert_ungated::description,
                                  sf::layouts::gate_up_fused::description);
    REQUIRE_FALSE(ungated);
    CHECK(ungated.error().code == sf::errc::missing_key);
}

TEST_CASE(
    "engines: a layout that leaves out a part of the source's is refused, not planned without it") {
    const packed_set set = set_of(per_expert({3, 64, 5}), "moe");
    const auto dropped = sf::plan(set, "moe", sf::layouts::per_expert::description,
                                  sf::layouts::ungated_fused::description);
    REQUIRE_FALSE(dropped);
    CHECK(dropped.error().code == sf::errc::unexpected_key);
    CHECK(dropped.error().scope == "moe");
    CHECK_FALSE(dropped.error().detail.empty());
}

TEST_CASE("engines: a field that an engine has no name for is refused, not dropped") {
    const experts biased{2, 64, 3, true}, scaled{2, 128, 128, false, true};
    check_refused<sf::layouts::per_expert, sf::engines::cutedsl>(per_expert(biased),
                                                                 sf::errc::unexpected_key);
    check_refused<sf::layouts::per_expert, sf::engines::automodel>(per_expert(biased),
                                                                   sf::errc::unexpected_key);
    check_refused<sf::layouts::per_expert, sf::engines::megablocks>(per_expert(biased),
                                                                    sf::errc::unexpected_key);
    check_refused<sf::layouts::per_expert, sf::engines::mlx>(per_expert(scaled),
                                                             sf::errc::unexpected_key);
    check_refused<sf::layouts::per_expert, sf::engines::gguf>(per_expert(scaled),
                                                              sf::errc::unexpected_key);
    check_refused<sf::layouts::per_expert, sf::engines::onnxruntime_genai>(
        per_expert(scaled), sf::errc::unexpected_key);
    check_refused<sf::layouts::per_expert, sf::engines::cutedsl>(per_expert(scaled),
                                                                 sf::errc::unexpected_key);
}

TEST_CASE("engines: block scales are refused if a block contains rows of gate and up") {
    const experts x{2, 192, 128, false, true};
    check_refused<sf::layouts::per_expert, sf::engines::vllm>(per_expert(x),
                                                              sf::errc::splits_block);
    check_refused<sf::layouts::per_expert, sf::engines::tensorrt_llm>(per_expert(x),
                                                                      sf::errc::splits_block);
}

TEST_CASE("engines: each has its own scope for experts, derived from the stored scope") {
    const auto scope = [](std::string_view name, std::string_view stored) {
        const auto found = sf::engine_scope(*sf::find_engine(name), stored);
        return found ? std::string{*found} : std::string{"refused"};
    };
    CHECK(scope("vllm", "model.layers.3.mlp.experts") == "model.layers.3.mlp.experts");
    CHECK(scope("mlx", "model.layers.3.mlp.experts") == "model.layers.3.mlp");
    CHECK(scope("mlx", "model.layers.3.block_sparse_moe.experts") ==
          "model.layers.3.block_sparse_moe");
    CHECK(scope("gguf", "model.language_model.layers.12.mlp.experts") == "blk.12");
    CHECK(scope("onnxruntime_genai", "model.layers.3.mlp.experts") == "model.layers.3.moe.experts");
    CHECK(scope("gguf", "experts") == "refused");
    CHECK(scope("mlx", "experts") == "refused");
}

TEST_CASE(
    "engines: a rewrite plan for an engine is the same from the stored form and from the "
    "model's form") {
    const experts x{3, 64, 5};
    const sf::family_description& family = *sf::find_family("mixtral");
    packed_set hub;
    for (const auto& [name, each] : per_expert_w123(x))
        hub.add("model.layers.0.block_sparse_moe.experts." + name, each.type, each.shape,
                each.bytes);
    hub.add("model.layers.0.block_sparse_moe.gate.weight", sf::dtype::bf16, {1},
            std::vector<std::byte>(2));
    const auto fused_plan = sf::rewrite_plan::make(hub, family);
    REQUIRE(fused_plan);
    packed_set fused;
    const auto experts_plan = fused_plan->plan_of(0);
    REQUIRE(experts_plan);
    for (const sf::plan_output& output : experts_plan->outputs()) {
        std::vector<std::byte> bytes(static_cast<std::size_t>(output.size_bytes));
        REQUIRE(sf::fuse(*experts_plan, output.local_name, bytes));
        fused.add(std::string{output.name}, output.type, {output.shape.begin(), output.shape.end()},
                  bytes);
    }
    fused.add("model.layers.0.mlp.gate.weight", sf::dtype::bf16, {1}, std::vector<std::byte>(2));

    for (const sf::engine_entry& each : sf::shipped_engines::all) {
        INFO(std::string{each.name});
        const auto one = sf::rewrite_plan::make(hub, family, each),
                   other = sf::rewrite_plan::make(fused, family, each);
        REQUIRE(one);
        REQUIRE(other);
        REQUIRE(one->tensors().size() == other->tensors().size());
        for (std::size_t i = 0; i < one->tensors().size(); ++i)
            CHECK(std::string{one->tensors()[i].name} == std::string{other->tensors()[i].name});
        const auto a = one->plan_of(0), b = other->plan_of(0);
        REQUIRE(a);
        REQUIRE(b);
        for (const sf::plan_output& output : a->outputs()) {
            std::vector<std::byte> from_hub(static_cast<std::size_t>(output.size_bytes)),
                from_fused = from_hub;
            REQUIRE(sf::fuse(*a, output.local_name, from_hub));
            REQUIRE(sf::fuse(*b, output.local_name, from_fused));
            CHECK(from_hub == from_fused);
        }
    }
    const auto mlx = sf::rewrite_plan::make(hub, family, *sf::find_engine("mlx"));
    std::vector<std::string> names;
    for (const sf::tensor_spec& tensor : mlx->tensors()) names.emplace_back(tensor.name);
    CHECK(names ==
          std::vector<std::string>{"model.layers.0.block_sparse_moe.gate.weight",
                                   "model.layers.0.block_sparse_moe.switch_mlp.down_proj.weight",
                                   "model.layers.0.block_sparse_moe.switch_mlp.gate_proj.weight",
                                   "model.layers.0.block_sparse_moe.switch_mlp.up_proj.weight"});
}

TEST_CASE("engines: a family without gates is refused for an engine that has gates") {
    packed_set set;
    for (const char* name : {"0.up_proj.weight", "0.down_proj.weight"})
        set.add("backbone.layers.0.mixer.experts." + std::string{name}, sf::dtype::bf16, {2, 2},
                std::vector<std::byte>(8));
    const auto plan =
        sf::rewrite_plan::make(set, *sf::find_family("nemotron_h"), *sf::find_engine("vllm"));
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == sf::errc::missing_key);
}
