#include <safefuse/run/fuse_scope.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <safefuse/models/engines.hpp>
#include <safefuse/models/registry.hpp>

#include "../../support/laws.hpp"

namespace sf = safefuse;
using laws::packed_set;
using laws::u64;
using sf::errc;
using sf::families::mixtral;
using sf::families::qwen2_moe;

namespace {

packed_set experts(const std::string& scope = "model.layers.0.mlp.experts") {
    packed_set set;
    for (u64 e = 0; e < 3; ++e) {
        const std::string name = scope + "." + std::to_string(e);
        set.add(name + ".gate_proj.weight", sf::dtype::bf16, {4, 6});
        set.add(name + ".up_proj.weight", sf::dtype::bf16, {4, 6});
        set.add(name + ".down_proj.weight", sf::dtype::bf16, {6, 4});
    }
    return set;
}
constexpr std::string_view scope = "model.layers.0.mlp.experts";

using made_tensors = std::map<std::string, std::vector<std::byte>>;

/// A buffer for each output, by its full name.
struct keeper {
    made_tensors made{};
    std::span<std::byte> operator()(const sf::plan_output& output) {
        auto& buffer = made[std::string{output.name}];
        buffer.resize(static_cast<std::size_t>(output.size_bytes));
        return buffer;
    }
};
made_tensors run(const sf::copy_plan& plan) {
    keeper out;
    REQUIRE(sf::fuse(plan, out));
    return out.made;
}
template <class Call>
std::string sentence(const Call& call) {
    const sf::result<void> done = call();
    return done ? std::string{} : std::string{done.error().message().view()};
}

}  // namespace

TEST_CASE("fuse_scope: one call plans and fuses, for layouts and families, as types and as data") {
    using sf::layouts::gate_up_fused, sf::layouts::per_expert;
    const packed_set set = experts();
    const auto plan = sf::plan<qwen2_moe>(set, scope);
    REQUIRE(plan);
    const made_tensors wanted = run(*plan);
    REQUIRE(wanted.size() == 2);
    const auto& family = sf::description_of<qwen2_moe>;
    const auto scopes = sf::experts_scopes::find(set, family);
    REQUIRE(scopes);
    const auto check = [&](const auto& call) {
        keeper out;
        REQUIRE(call(out));
        CHECK(out.made == wanted);
    };
    check([&](keeper& out) { return sf::fuse<qwen2_moe>(set, scope, out); });
    check(
        [&](keeper& out) { return sf::fuse<qwen2_moe>(set, scope, sf::direction::forward, out); });
    check([&](keeper& out) { return sf::fuse<per_expert, gate_up_fused>(set, scope, out); });
    check([&](keeper& out) {
        return sf::fuse(set, scope, per_expert::description, gate_up_fused::description, out);
    });
    check([&](keeper& out) { return sf::fuse(set, scope, family, sf::direction::forward, out); });
    for (const sf::experts_scope& each : *scopes)
        check(
            [&](keeper& out) { return sf::fuse(set, each, family, sf::direction::forward, out); });
    // the set may end with the call, for nothing of it is kept
    check([&](keeper& out) { return sf::fuse<qwen2_moe>(experts(), scope, out); });
}

TEST_CASE("fuse_scope: unfusing, and an engine's layout, in one call") {
    packed_set fused;
    fused.add("model.layers.0.mlp.experts.gate_up_proj", sf::dtype::bf16, {3, 8, 6});
    fused.add("model.layers.0.mlp.experts.down_proj", sf::dtype::bf16, {3, 6, 4});
    keeper apart;
    REQUIRE(sf::fuse<qwen2_moe>(fused, scope, sf::direction::inverse, apart));
    CHECK(apart.made.size() == 9);
    const auto bytes = fused.bytes_of("model.layers.0.mlp.experts.gate_up_proj");
    CHECK(std::ranges::equal(apart.made.at("model.layers.0.mlp.experts.1.gate_proj.weight"),
                             bytes.subspan(96, 48)));

    const packed_set set = experts();
    const sf::engine_entry* const vllm = sf::find_engine("vllm");
    REQUIRE(vllm != nullptr);
    const auto& family = sf::description_of<qwen2_moe>;
    const auto scopes = sf::experts_scopes::find(set, family, sf::direction::inverse);
    REQUIRE(scopes);
    REQUIRE(scopes->size() == 1);
    const auto plan = sf::plan(set, (*scopes)[0], family, *vllm);
    REQUIRE(plan);
    keeper out;
    REQUIRE(sf::fuse(set, (*scopes)[0], family, *vllm, out));
    CHECK(out.made == run(*plan));
}

TEST_CASE(
    "fuse_scope: buffers are given all at once, one by one or as own types, and the callable "
    "may fail") {
    const packed_set set = experts();
    const auto plan = sf::plan<qwen2_moe>(set, scope);
    REQUIRE(plan);
    const made_tensors wanted = run(*plan);
    std::vector<std::vector<std::byte>> all{std::vector<std::byte>(288),
                                            std::vector<std::byte>(144)};
    REQUIRE(sf::fuse<qwen2_moe>(set, scope, all));
    CHECK(all[0] == wanted.at("model.layers.0.mlp.experts.gate_up_proj"));
    CHECK(all[1] == wanted.at("model.layers.0.mlp.experts.down_proj"));

    // one buffer for all: each output is made before the next buffer is asked for
    std::vector<std::byte> one(288);
    std::vector<std::vector<std::byte>> seen;
    REQUIRE(sf::fuse<qwen2_moe>(set, scope, [&](const sf::plan_output& output) {
        if (!seen.empty()) seen.back() = one;
        seen.emplace_back();
        return std::span{one}.first(static_cast<std::size_t>(output.size_bytes));
    }));
    CHECK(seen.at(0) == all[0]);
    CHECK(std::ranges::equal(std::span{one}.first(144), all[1]));

    // a reference to a buffer, and a result
    REQUIRE(sf::fuse<qwen2_moe>(set, scope,
                                [&](const sf::plan_output& output) -> std::vector<std::byte>& {
                                    one.resize(static_cast<std::size_t>(output.size_bytes));
                                    return one;
                                }));
    CHECK(one == all[1]);
    const auto no_room = [&](const sf::plan_output& output) -> sf::result<sf::span<std::byte>> {
        if (output.local_name == "gate_up_proj") return sf::span<std::byte>{all[0]};
        return sf::failure{.code = errc::out_of_memory};
    };
    CHECK(sentence([&] { return sf::fuse<qwen2_moe>(set, scope, no_room); }) ==
          "tensor \"model.layers.0.mlp.experts.down_proj\": not enough memory");
}

TEST_CASE("fuse_scope: a buffer of the wrong size is named by its output, and nothing is written") {
    const packed_set set = experts();
    std::vector<std::byte> kept(288);
    for (const std::size_t wrong : {std::size_t{0}, std::size_t{143}, std::size_t{145}}) {
        std::vector<std::byte> other(wrong, std::byte{0xEE});
        const auto pick = [&](const sf::plan_output& output) -> std::span<std::byte> {
            return output.local_name == "gate_up_proj" ? kept : other;
        };
        CHECK(sentence([&] { return sf::fuse<qwen2_moe>(set, scope, pick); }) ==
              "tensor \"model.layers.0.mlp.experts.down_proj\": the buffer does not have the size "
              "of the tensor, expected 144, found " +
                  std::to_string(wrong));
        CHECK(other == std::vector<std::byte>(wrong, std::byte{0xEE}));
    }
    std::vector<std::vector<std::byte>> too_few(1);
    CHECK(sentence([&] { return sf::fuse<qwen2_moe>(set, scope, too_few); }) ==
          "experts \"model.layers.0.mlp.experts\": the buffer does not have the size of the tensor "
          "(the number of buffers is not the number of outputs), expected 2, found 1");
}

TEST_CASE("fuse_scope: a wrong scope, family or layout is reported before a wrong buffer") {
    const packed_set set = experts();
    unsigned asked = 0;
    const auto none = [&](const sf::plan_output&) {
        ++asked;
        return std::span<std::byte>{};
    };
    CHECK(
        sentence([&] { return sf::fuse<qwen2_moe>(set, "model.layers.00.mlp.experts", none); }) ==
        "experts \"model.layers.00.mlp.experts\": no experts of this layout found (the nearest of "
        "1 scopes is model.layers.0.mlp.experts)");
    CHECK(sentence([&] { return sf::fuse<mixtral>(set, scope, none); }) ==
          "first.safetensors: tensor \"model.layers.0.mlp.experts.0.gate_proj.weight\": a tensor "
          "among the experts belongs to no known part (family mixtral has them as "
          "\"block_sparse_moe.experts.{i}.w1.weight\")");
    CHECK(sentence([&] {
              return sf::fuse<sf::layouts::per_expert_w123, sf::layouts::gate_up_fused>(set, scope,
                                                                                        none);
          }) ==
          "first.safetensors: tensor \"model.layers.0.mlp.experts.0.gate_proj.weight\": a tensor "
          "among the experts belongs to no known part");
    CHECK(sentence([&] {
              return sf::fuse(set, scope, sf::layouts::per_expert_ungated::description,
                              sf::layouts::gate_up_fused::description, none);
          }) ==
          "experts \"model.layers.0.mlp.experts\": a part of an expert is missing (the "
          "source's layout lacks a part that the destination's places)");
    CHECK(asked == 0);
}

TEST_CASE("fuse_scope: a misspelt output is reported with a list of the outputs") {
    const packed_set set = experts();
    const auto plan = sf::plan<qwen2_moe>(set, scope);
    REQUIRE(plan);
    std::vector<std::byte> out(288);
    CHECK(sentence([&] { return sf::fuse(*plan, "gate_up", out); }) ==
          "experts \"model.layers.0.mlp.experts\": the plan has no output of that name "
          "(\"gate_up\"; it has gate_up_proj and down_proj)");
}

TEST_CASE(
    "fuse_scope: options and progress are used, and exceptions of the callable pass through") {
    const packed_set set = experts();
    keeper some;
    u64 told = 0;
    REQUIRE(sf::fuse<qwen2_moe>(set, scope, some, {.first_expert = 1, .end_expert = 2},
                                [&](const sf::run_progress& at) {
                                    told = at.done_bytes;
                                    return true;
                                }));
    CHECK(some.made.at("model.layers.0.mlp.experts.gate_up_proj").size() == 96);
    CHECK(told == 96 + 48);
#if defined(__cpp_exceptions)
    struct stop {};
    CHECK_THROWS_AS(
        static_cast<void>(sf::fuse<qwen2_moe>(
            set, scope, [](const sf::plan_output&) -> std::span<std::byte> { throw stop{}; })),
        stop);
#endif
}
