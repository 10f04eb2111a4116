#include <safefuse/plan/plan_form.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <safefuse/models/registry.hpp>
#include <safefuse/run/fuse.hpp>

#include "../../support/laws.hpp"

namespace sf = safefuse;
using laws::packed_set;
using laws::u64;
using sf::errc;
using sf::families::mixtral;
using sf::families::qwen2_moe;

namespace {

std::string layer(u64 number) { return "model.layers." + std::to_string(number) + ".mlp.experts"; }

/// The experts of a layer, in the order of `parts` and from source `source` on; the last expert may
/// be in the next source.
void add_layer(packed_set& set, const std::string& scope, u64 count,
               const std::vector<std::string>& parts = {"gate_proj", "up_proj", "down_proj"},
               std::uint32_t source = 0, bool divided = false) {
    for (u64 e = 0; e < count; ++e)
        for (const std::string& part : parts)
            set.add(scope + "." + std::to_string(e) + "." + part + ".weight", sf::dtype::bf16,
                    part == "down_proj" ? std::vector<u64>{6, 4} : std::vector<u64>{4, 6},
                    source + (divided && e + 1 == count ? 1 : 0));
}

/// Everything about a plan that can be seen.
void check_same(const sf::copy_plan& a, const sf::copy_plan& b) {
    CHECK(a.scope() == b.scope());
    CHECK(a.source_form() == b.source_form());
    CHECK(a.expert_count() == b.expert_count());
    CHECK(a.kept_for() == b.kept_for());
    CHECK(std::ranges::equal(a.source_tensors(), b.source_tensors()));
    CHECK(std::ranges::equal(a.blocks(), b.blocks()));
    CHECK(std::ranges::equal(a.equal_blocks(), b.equal_blocks()));
    REQUIRE(a.outputs().size() == b.outputs().size());
    for (std::size_t i = 0; i < a.outputs().size(); ++i) {
        const sf::plan_output &one = a.outputs()[i], &other = b.outputs()[i];
        CHECK(one.name == other.name);
        CHECK(one.local_name == other.local_name);
        CHECK(one.type == other.type);
        CHECK(std::ranges::equal(one.shape, other.shape));
        CHECK(one.size_bytes == other.size_bytes);
        CHECK(one.per_part_scales == other.per_part_scales);
    }
}

/// A plan of layer 0 bound to every scope is what planning each anew gives.
void check_all(const packed_set& set, const sf::family_description& family,
               const sf::plan_options& options = {}) {
    const auto scopes = sf::experts_scopes::find(set, family);
    REQUIRE(scopes);
    REQUIRE(scopes->size() > 1);
    const auto first = sf::plan(set, (*scopes)[0], family, sf::direction::forward, options);
    REQUIRE(first);
    const auto form = sf::plan_form::of(*first);
    REQUIRE(form);
    for (const sf::experts_scope& scope : *scopes) {
        CAPTURE(std::string{scope.name});
        const auto anew = sf::plan(set, scope, family, sf::direction::forward, options);
        REQUIRE(anew);
        const auto bound = form->bind(set, scope);
        INFO(std::string{bound ? std::string_view{} : bound.error().message().view()});
        REQUIRE(bound);
        check_same(*anew, *bound);
        const auto named = form->bind(set, scope.name, scope.destination_name);
        REQUIRE(named);
        check_same(*anew, *named);
    }
}

}  // namespace

TEST_CASE(
    "plan_form: bound to another layer it is the plan of that layer, with bytes at any place") {
    packed_set set;
    add_layer(set, layer(0), 3);
    set.add("model.layers.0.mlp.gate.weight", sf::dtype::bf16, {3, 6});
    add_layer(set, layer(1), 3);                                         // elsewhere
    add_layer(set, layer(2), 3, {"down_proj", "gate_proj", "up_proj"});  // in another order
    add_layer(set, layer(3), 3, {"up_proj", "down_proj", "gate_proj"}, 1, true);  // in two files
    add_layer(set, layer(10), 3, {"gate_proj"});
    add_layer(set, layer(10), 3, {"up_proj"}, 3);
    add_layer(set, layer(10), 3, {"down_proj"});
    check_all(set, sf::description_of<qwen2_moe>);
    check_all(set, sf::description_of<qwen2_moe>, {.first_expert = 1, .end_expert = 3});
    check_all(set, sf::description_of<qwen2_moe>, {.sliced_extent = "I", .slice_ranks = 2});
}

TEST_CASE("plan_form: a run over adjacent tensors is split if the next layer has gaps") {
    // layer 0 is repacked: gates and ups in the order of the output, one run; layer 1 has holes
    packed_set set;
    for (const bool gaps : {false, true}) {
        const std::string scope = layer(gaps ? 1 : 0);
        for (u64 e = 0; e < 3; ++e)
            for (const char* part : {"gate_proj", "up_proj"}) {
                if (gaps) set.add("hole." + std::to_string(e) + part, sf::dtype::u8, {3});
                set.add(scope + "." + std::to_string(e) + "." + part + ".weight", sf::dtype::bf16,
                        {4, 6});
            }
        add_layer(set, scope, 3, {"down_proj"});
    }
    check_all(set, sf::description_of<qwen2_moe>);
    const auto plan = sf::plan<qwen2_moe>(set, layer(0));
    REQUIRE(plan);
    CHECK(plan->single_run(0) != nullptr);
    const auto form = sf::plan_form::of(*plan);
    REQUIRE(form);
    const auto bound = form->bind(set, layer(1));
    REQUIRE(bound);
    CHECK(bound->single_run(0) == nullptr);
    CHECK(bound->single_run(1) != nullptr);
}

TEST_CASE("plan_form: renamed scopes, unfusing and fused layers can be bound, too") {
    packed_set apart;
    for (const u64 number : {u64{0}, u64{7}}) {
        const std::string scope =
            "model.layers." + std::to_string(number) + ".block_sparse_moe.experts";
        for (u64 e = 0; e < 2; ++e)
            for (const char* part : {".w1", ".w2", ".w3"})
                apart.add(scope + "." + std::to_string(e) + part + ".weight", sf::dtype::bf16,
                          part[2] == '2' ? std::vector<u64>{6, 4} : std::vector<u64>{4, 6});
    }
    check_all(apart, sf::description_of<mixtral>);

    packed_set fused;
    for (const u64 number : {u64{0}, u64{7}}) {
        fused.add(layer(number) + ".down_proj", sf::dtype::bf16, {2, 6, 4});
        fused.add(layer(number) + ".gate_up_proj", sf::dtype::bf16, {2, 8, 6});
    }
    check_all(fused, sf::description_of<qwen2_moe>.in(sf::direction::inverse));
    check_all(fused, sf::description_of<qwen2_moe>);
}

TEST_CASE("plan_form: for every pair of layouts, bound to its own scope it is the plan") {
    unsigned plans = 0;
    for (const laws::kind from : laws::all_kinds)
        for (const laws::kind to : laws::all_kinds) {
            INFO(laws::spelled(from), " to ", laws::spelled(to));
            const laws::experts x{
                .end_expert = 3,
                .i_end = 64,
                .h = 5,
                .fields = {laws::field::weight, laws::field::bias, laws::field::scalar}};
            const packed_set set = laws::make_set(from, x, "moe");
            const auto plan = laws::plan_kinds(set, "moe", from, to, {});
            if (!plan) continue;
            const auto form = sf::plan_form::of(*plan);
            REQUIRE(form);
            const auto bound = form->bind(set, "moe");
            REQUIRE(bound);
            check_same(*plan, *bound);
            ++plans;
        }
    CHECK(plans > 50);
}

TEST_CASE("plan_form: comparisons of equal tensors are bound with the copies") {
    packed_set set;
    for (const u64 number : {u64{0}, u64{1}})
        for (u64 e = 0; e < 2; ++e)
            for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
                const u64 in = part[0] == 'd' ? 128 : 256, out = part[0] == 'd' ? 256 : 128;
                const std::string name = layer(number) + "." + std::to_string(e) + "." + part;
                if (number != 0) set.add("hole." + name, sf::dtype::u8, {8});
                set.add(name + ".qweight", sf::dtype::i32, {in / 8, out});
                set.add(name + ".qzeros", sf::dtype::i32, {in / 128, out / 8});
                set.add(name + ".scales", sf::dtype::f16, {in / 128, out});
                set.add(name + ".g_idx", sf::dtype::i32, {in});
            }
    const auto plan = sf::plan<qwen2_moe>(set, layer(0));
    REQUIRE(plan);
    CHECK(!plan->equal_blocks().empty());
    check_all(set, sf::description_of<qwen2_moe>);
}

TEST_CASE("plan_form: new bytes of the same tensors can be bound after the old ones are freed") {
    auto old = std::make_unique<packed_set>();
    add_layer(*old, layer(0), 3);
    auto plan = sf::plan<qwen2_moe>(*old, layer(0));
    REQUIRE(plan);
    auto form = sf::plan_form::of(*plan);
    REQUIRE(form);
    plan = sf::failure{};
    old.reset();

    packed_set fresh;  // refitted: other bytes, at other places
    fresh.add("lm_head.weight", sf::dtype::bf16, {4, 6});
    for (u64 e = 3; e-- > 0;) {
        const std::vector<std::byte> bytes(48, std::byte(e + 1));
        const std::string name = layer(0) + "." + std::to_string(e);
        fresh.add(name + ".up_proj.weight", sf::dtype::bf16, {4, 6}, bytes);
        fresh.add(name + ".gate_proj.weight", sf::dtype::bf16, {4, 6}, bytes);
        fresh.add(name + ".down_proj.weight", sf::dtype::bf16, {6, 4}, bytes);
    }
    const auto bound = form->bind(fresh, layer(0));
    REQUIRE(bound);
    std::vector<std::byte> out(288);
    REQUIRE(sf::fuse(*bound, "gate_up_proj", out));
    for (std::size_t i = 0; i < out.size(); ++i) CHECK(out[i] == std::byte(i / 96 + 1));
}

TEST_CASE("plan_form: a scope of another form is refused, and the tensor is named") {
    packed_set model;
    add_layer(model, layer(0), 2);
    const auto plan = sf::plan<qwen2_moe>(model, layer(0));
    REQUIRE(plan);
    const auto form = sf::plan_form::of(*plan);
    REQUIRE(form);
    const std::string up = layer(1) + ".1.up_proj.weight";
    const auto sentence = [&](const std::function<void(packed_set&)>& spoil) {
        packed_set set;
        add_layer(set, layer(1), 2);
        spoil(set);
        const auto bound = form->bind(set, layer(1));
        return bound ? std::string{} : std::string{bound.error().message().view()};
    };
    CHECK(sentence([](packed_set&) {}).empty());
    CHECK(sentence([&](packed_set& set) { set.remove(up); }) ==
          "tensor \"" + up +
              "\": a part of an expert is missing (the plan that is bound takes it)");
    CHECK(sentence([&](packed_set& set) { set.retype(up, sf::dtype::bf16, {3, 8}); }) ==
          "first.safetensors: tensor \"" + up +
              "\": the shape does not fit (the plan that is bound was made for [4, 6])");
    CHECK(
        sentence([&](packed_set& set) { set.retype(up, sf::dtype::f16, {4, 6}); }) ==
        "first.safetensors: tensor \"" + up +
            "\": the dtype does not fit (it is F16, and the plan that is bound was made for BF16)");
    CHECK(sentence([&](packed_set& set) {
              set.add(layer(1) + ".2.up_proj.weight", sf::dtype::bf16, {4, 6});
          }) == "first.safetensors: tensor \"" + layer(1) +
                    ".2.up_proj.weight\": a tensor among the experts belongs to no known part (the "
                    "plan that is bound has no such tensor)");
    CHECK(sentence([&](packed_set& set) { set.rename(up, layer(1) + ".0.up_proj.weight"); }) ==
          "first.safetensors: tensor \"" + layer(1) +
              ".0.up_proj.weight\": two tensors have the same name");
}

TEST_CASE(
    "plan_form: a renamed destination scope must be given, and both forms at once are refused") {
    packed_set set;
    const std::string scope = "model.layers.0.block_sparse_moe.experts";
    for (const char* part : {".0.w1", ".0.w2", ".0.w3"})
        set.add(scope + part + ".weight", sf::dtype::bf16,
                part[4] == '2' ? std::vector<u64>{6, 4} : std::vector<u64>{4, 6});
    const auto plan = sf::plan<mixtral>(set, scope);
    REQUIRE(plan);
    const auto form = sf::plan_form::of(*plan);
    REQUIRE(form);
    CHECK(form->scope() == scope);
    CHECK(form->destination_scope() == layer(0));
    CHECK(form->bind(set, scope)->outputs()[0].name == layer(0) + ".gate_up_proj");
    const auto unnamed = form->bind(set, "model.layers.1.block_sparse_moe.experts");
    REQUIRE(!unnamed);
    CHECK(unnamed.error().message() ==
          "experts \"model.layers.1.block_sparse_moe.experts\": that name cannot be written (the "
          "outputs have another scope: pass destination_scope)");
    set.add(layer(0) + ".gate_up_proj", sf::dtype::bf16, {1, 8, 6});
    const auto both = form->bind(set, scope);
    REQUIRE(!both);
    CHECK(both.error().code == errc::both_layouts);
    CHECK(both.error().tensor == layer(0) + ".gate_up_proj");
}

TEST_CASE(
    "plan_form: tensors that share bytes have no form, because a copy then belongs to two "
    "tensors") {
    const std::vector<std::byte> bytes(48);
    const u64 wide[] = {4, 6}, tall[] = {6, 4};
    struct shared {
        std::vector<sf::named_tensor> tensors;
        std::span<const std::byte> bytes;
        std::size_t size() const noexcept { return tensors.size(); }
        sf::tensor_spec spec(std::size_t i) const noexcept {
            return {tensors[i].name, tensors[i].tensor.type(), tensors[i].tensor.shape()};
        }
        sf::tensor_location place(std::size_t) const noexcept { return {0, 0, 48}; }
        std::string_view source_name(std::uint32_t) const noexcept { return "shared"; }
        std::span<const std::byte> source_bytes(std::uint32_t) const noexcept { return bytes; }
        sf::result<void> read(std::uint32_t, u64 offset, std::span<std::byte> out) const noexcept {
            return sf::memory_source{bytes}.read(offset, out);
        }
    } set{{}, bytes};
    for (const char* name :
         {"moe.0.gate_proj.weight", "moe.0.up_proj.weight", "moe.0.down_proj.weight"}) {
        const auto view = sf::tensor_view::of(
            sf::dtype::bf16, name[6] == 'd' ? sf::shape_view{tall} : sf::shape_view{wide}, bytes);
        REQUIRE(view);
        set.tensors.push_back({name, *view});
    }
    const auto plan = sf::plan<sf::layouts::per_expert, sf::layouts::gate_up_fused>(set, "moe");
    REQUIRE(plan);
    const auto form = sf::plan_form::of(*plan);
    REQUIRE(!form);
    CHECK(form.error().code == errc::bad_offsets);
    CHECK(form.error().tensor == "moe.0.up_proj.weight");
}
