#include <safefuse/plan/plan.hpp>

#include <doctest/doctest.h>

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <safefuse/plan/scopes.hpp>
#include <safefuse/run/fuse.hpp>

#include <safefuse/models/standard.hpp>
#include <safefuse/models/transformers.hpp>

#include "../../support/laws.hpp"

namespace sf = safefuse;
using laws::packed_set;
using laws::u64;
using sf::errc;
using hub = sf::layouts::per_expert;
using model = sf::layouts::gate_up_fused;

namespace {

constexpr std::string_view scope = "model.layers.3.mlp.experts";

std::string at(std::string_view local) { return std::string{scope} + "." + std::string{local}; }

/// Experts 0 .. count - 1 as the hub stores them, I = 4, H = 6, BF16.
packed_set experts(u64 count, std::string_view where = scope) {
    packed_set set;
    for (u64 e = 0; e < count; ++e) {
        const std::string name = std::string{where} + "." + std::to_string(e);
        set.add(name + ".down_proj.weight", sf::dtype::bf16, {6, 4});
        set.add(name + ".gate_proj.weight", sf::dtype::bf16, {4, 6});
        set.add(name + ".up_proj.weight", sf::dtype::bf16, {4, 6});
    }
    return set;
}

packed_set fused(u64 count, std::string_view where = scope) {
    packed_set set;
    set.add(std::string{where} + ".gate_up_proj", sf::dtype::bf16, {count, 8, 6});
    set.add(std::string{where} + ".down_proj", sf::dtype::bf16, {count, 6, 4});
    return set;
}

/// The failure of a plan, if it was refused.
struct refusal {
    bool refused = false;
    sf::failure why;
};

template <class From = hub, class To = model>
refusal refused(const packed_set& set, const sf::plan_options& options = {},
                std::string_view where = scope) {
    auto plan = sf::plan<From, To>(set, where, options);
    if (plan) return {};
    CHECK_FALSE(std::string_view{plan.error().message()}.empty());
    return {true, std::move(plan).error()};
}

void check(const refusal& of, errc code, std::string_view tensor, u64 expert = sf::unknown) {
    REQUIRE(of.refused);
    INFO(std::string{of.why.message().view()});
    CHECK(sf::sentence(of.why.code) == sf::sentence(code));
    CHECK(std::string{of.why.scope.view()} == scope);
    CHECK(std::string{of.why.tensor.view()} == (tensor.empty() ? std::string{} : at(tensor)));
    CHECK(of.why.expert == expert);
}

std::vector<u64> shape_of(const sf::plan_output& output) {
    return {output.shape.begin(), output.shape.end()};
}

}  // namespace

// ------------------------------------------------------------------------------------------
// success

TEST_CASE("plan: outputs have the names, shapes and sizes of the destination's layout") {
    const packed_set set = experts(3);
    auto plan = sf::plan<hub, model>(set, scope);
    REQUIRE(plan);
    REQUIRE(plan->outputs().size() == 2);
    CHECK(plan->outputs()[0].name == at("gate_up_proj"));
    CHECK(plan->outputs()[0].local_name == "gate_up_proj");
    CHECK(plan->outputs()[0].type == sf::dtype::bf16);
    CHECK(shape_of(plan->outputs()[0]) == std::vector<u64>{3, 8, 6});
    CHECK(plan->outputs()[1].local_name == "down_proj");
    CHECK(shape_of(plan->outputs()[1]) == std::vector<u64>{3, 6, 4});
    CHECK(plan->size_bytes() == 3u * (8 * 6 + 6 * 4) * 2);
    CHECK(plan->scope() == scope);
    CHECK(plan->expert_count() == 3);
    CHECK(plan->source_form() == sf::scope_state::pending);
    CHECK(plan->index_of("gate_up_proj") == 0);
    CHECK(plan->index_of("gate_proj") == sf::copy_plan::npos);
    CHECK(plan->index_of(at("gate_up_proj")) == sf::copy_plan::npos);
    const auto output = plan->output("gate_up_proj");
    REQUIRE(output);
    CHECK(output->name == plan->outputs()[0].name);
    CHECK(output->size_bytes == plan->outputs()[0].size_bytes);
    CHECK(shape_of(*output) == shape_of(plan->outputs()[0]));
    CHECK_FALSE(plan->output(at("gate_up_proj")));
    CHECK(plan->source_tensors().size() == 9);
    CHECK_FALSE(plan->source_tensors().empty());
}

TEST_CASE("plan: an unknown output is a failure that lists the outputs") {
    packed_set set = experts(2);
    const auto plan = sf::plan<hub, model>(set, scope);
    REQUIRE(plan);
    const auto output = plan->output("gate_up_prj");
    REQUIRE_FALSE(output);
    CHECK(output.error().code == sf::errc::output_not_found);
    CHECK(output.error().scope == scope);
    CHECK(output.error().detail == "\"gate_up_prj\"; it has gate_up_proj and down_proj");
    packed_set many = experts(5);
    const auto unfused = sf::plan<hub, hub>(many, scope);
    REQUIRE(unfused);
    const auto none = unfused->output("up");
    REQUIRE_FALSE(none);
    const std::string first{unfused->outputs()[0].local_name},
        last{unfused->outputs()[11].local_name};
    CHECK(none.error().detail.view().starts_with("\"up\"; it has " + first + ", "));
    CHECK(none.error().detail.view().ends_with(", " + last + " and 3 more"));
}

TEST_CASE(
    "plan: outputs get the scope that the options ask for, shorter or longer than the source's") {
    const packed_set set = experts(2);
    for (const std::string_view other :
         {"e", "model.layers.3.mlp.experts",
          "a.much.longer.scope.than.that.of.the.source.tensors.experts"}) {
        auto plan = sf::plan<hub, model>(set, scope, {.destination_scope = other});
        REQUIRE(plan);
        CHECK(plan->scope() == scope);
        CHECK(plan->outputs()[0].name == std::string{other} + ".gate_up_proj");
        CHECK(plan->outputs()[1].name == std::string{other} + ".down_proj");
        CHECK(plan->outputs()[1].local_name == "down_proj");
        CHECK(shape_of(plan->outputs()[1]) == std::vector<u64>{2, 6, 4});
    }
}

TEST_CASE("plan: it can be moved and stays valid") {
    const packed_set set = experts(2);
    auto made = sf::plan<hub, model>(set, scope);
    REQUIRE(made);
    const sf::copy_plan plan = std::move(*made);
    CHECK(std::string{made->scope()}.empty());
    CHECK(plan.scope() == scope);
    CHECK(plan.outputs()[0].name == at("gate_up_proj"));
    CHECK(shape_of(plan.outputs()[0]) == std::vector<u64>{2, 8, 6});
    const sf::copy_plan again{sf::plan<hub, model>(set, scope).value()};
    REQUIRE(again.output("down_proj"));
    CHECK(again.output("down_proj")->name == at("down_proj"));
}

TEST_CASE("plan: the order of the tensors in the set does not matter") {
    packed_set set;
    for (u64 e = 12; e-- > 0;)
        for (const char* part : {".up_proj.weight", ".gate_proj.weight", ".down_proj.weight"})
            set.add(at(std::to_string(e) + part), sf::dtype::u8,
                    std::string_view{part} == ".down_proj.weight" ? std::vector<u64>{6, 4}
                                                                  : std::vector<u64>{4, 6});
    auto plan = sf::plan<hub, model>(set, scope, {.allow_missing_scales = true});
    REQUIRE(plan);
    const auto ran = laws::execute(*plan, set);
    for (u64 e = 0; e < 12; ++e) {
        const auto up = set.bytes_of(at(std::to_string(e) + ".up_proj.weight"));
        CHECK(std::vector<std::byte>(
                  ran.outputs[0].begin() + static_cast<std::ptrdiff_t>(e * 48 + 24),
                  ran.outputs[0].begin() + static_cast<std::ptrdiff_t>(e * 48 + 48)) ==
              std::vector<std::byte>(up.begin(), up.end()));
    }
}

TEST_CASE("plan: copies are in the order of the sources, and adjacent ones are merged") {
    // down, gate, up of one expert are in the order of the reference writer: gate and up are one
    // run on both sides
    const packed_set set = experts(5);
    auto plan = sf::plan<hub, model>(set, scope);
    REQUIRE(plan);
    CHECK(plan->blocks().size() == 10);
    u64 sum = 0;
    for (std::size_t i = 0; i < plan->blocks().size(); ++i) {
        const sf::copy_block& block = plan->blocks()[i];
        CHECK(block.loop_count == 0);
        CHECK(block.run_count() == 1);
        CHECK(block.run_bytes == (i % 2 == 0 ? 48 : 96));
        CHECK(block.output == (i % 2 == 0 ? 1 : 0));
        if (i > 0)
            CHECK(plan->blocks()[i - 1].source_offset + plan->blocks()[i - 1].run_bytes ==
                  block.source_offset);
        sum += block.size_bytes();
    }
    CHECK(sum == plan->size_bytes());
}

TEST_CASE("plan: copies are sorted by source before offset") {
    packed_set set;
    for (u64 e = 0; e < 4; ++e)
        for (const char* part : {"gate_proj", "up_proj", "down_proj"})
            set.add(at(std::to_string(e) + "." + part + ".weight"), sf::dtype::bf16,
                    std::string_view{part} == "down_proj" ? std::vector<u64>{6, 4}
                                                          : std::vector<u64>{4, 6},
                    static_cast<std::uint32_t>((e * 7 + std::string_view{part}.size()) % 3));
    auto plan = sf::plan<hub, model>(set, scope);
    REQUIRE(plan);
    for (std::size_t i = 1; i < plan->blocks().size(); ++i) {
        const auto& a = plan->blocks()[i - 1];
        const auto& b = plan->blocks()[i];
        CHECK((a.source < b.source ||
               (a.source == b.source && a.source_offset + a.run_bytes <= b.source_offset)));
    }
}

TEST_CASE("plan: an output that is contiguous in the source is one run") {
    using sf::scope_state;
    SUBCASE("fused already, planned as it is") {
        for (const u64 count : {1u, 2u, 7u}) {
            const packed_set set = fused(count);
            auto plan = sf::plan<model, model>(set, scope);
            REQUIRE(plan);
            for (std::size_t i = 0; i < 2; ++i) {
                REQUIRE(plan->single_run(i) != nullptr);
                CHECK(plan->single_run(i)->run_bytes == plan->outputs()[i].size_bytes);
            }
            CHECK(plan->blocks().size() == 2);
        }
    }
    SUBCASE("every layout to itself") {
        const laws::experts x{
            .end_expert = 3,
            .i_end = 128,
            .h = 5,
            .fields = {laws::field::weight, laws::field::bias, laws::field::scalar}};
        for (const laws::kind each : laws::all_kinds) {
            INFO(laws::spelled(each));
            const packed_set set = laws::make_set(each, x, scope);
            auto plan = laws::plan_kinds(set, scope, each, each, {});
            REQUIRE(plan);
            for (std::size_t i = 0; i < plan->outputs().size(); ++i)
                CHECK(plan->single_run(i) != nullptr);
        }
    }
    SUBCASE("one expert whose gate and up are adjacent") {
        const packed_set set = experts(1);
        auto plan = sf::plan<hub, model>(set, scope);
        REQUIRE(plan);
        CHECK(plan->single_run(0) != nullptr);
        CHECK(plan->single_run(1) != nullptr);
    }
    SUBCASE("two experts are not") {
        const packed_set set = experts(2);
        auto plan = sf::plan<hub, model>(set, scope);
        REQUIRE(plan);
        CHECK(plan->single_run(0) == nullptr);
    }
    SUBCASE("a range of the experts of a fused tensor is") {
        const packed_set set = fused(7);
        auto plan = sf::plan<model, model>(set, scope, {.first_expert = 2, .end_expert = 5});
        REQUIRE(plan);
        REQUIRE(plan->single_run(0) != nullptr);
        CHECK(plan->single_run(0)->source_offset == 2 * 8 * 6 * 2);
    }
    SUBCASE("one expert's part of a fused tensor is") {
        const packed_set set = fused(3);
        auto plan = sf::plan<model, hub>(set, scope);
        REQUIRE(plan);
        REQUIRE(plan->outputs().size() == 9);
        for (std::size_t i = 0; i < 9; ++i) CHECK(plan->single_run(i) != nullptr);
    }
}

TEST_CASE("plan: names that only share a prefix with the scope are not looked at") {
    packed_set set = experts(2);
    set.add("model.layers.3.mlp.experts_extra.0.gate_proj.qweight", sf::dtype::u8, {1});
    set.add("model.layers.3.mlp.expertsX", sf::dtype::u8, {1});
    set.add("model.layers.3.mlp.experts", sf::dtype::u8, {1});
    set.add("model.layers.33.mlp.experts.0.gate_proj.weight", sf::dtype::u8, {1});
    set.add("model.layers.3.mlp.expert.7.gate_proj.weight", sf::dtype::u8, {1});
    set.add("model.layers.3.mlp.shared_experts.gate_proj.weight", sf::dtype::u8, {1});
    set.add("x.model.layers.3.mlp.experts.2.gate_proj.weight", sf::dtype::u8, {1});
    set.add("model.layers.3.mlp.gate.weight", sf::dtype::u8, {1});
    auto plan = sf::plan<hub, model>(set, scope);
    REQUIRE(plan);
    CHECK(plan->expert_count() == 2);
}

TEST_CASE("plan: layers.1 is not layers.11") {
    packed_set set = experts(2, "layers.11.experts");
    const packed_set other = experts(3, "layers.1.experts");
    for (std::size_t i = 0; i < other.size(); ++i) {
        const auto spec = other.spec(i);
        set.add(std::string{spec.name}, spec.type, {spec.shape.begin(), spec.shape.end()});
    }
    CHECK(sf::plan<hub, model>(set, "layers.1.experts")->expert_count() == 3);
    CHECK(sf::plan<hub, model>(set, "layers.11.experts")->expert_count() == 2);
}

TEST_CASE(
    "plan: a field of all experts moves with them, also one that only the stacks of one part "
    "have") {
    packed_set set = experts(2);
    for (const char* name : {"0.down_proj.bias", "1.down_proj.bias"})
        set.add(at(name), sf::dtype::f32, {6});
    auto plan = sf::plan<hub, model>(set, scope);
    REQUIRE(plan);
    REQUIRE(plan->outputs().size() == 3);
    REQUIRE(plan->output("down_proj_bias"));
    CHECK(plan->output("down_proj_bias")->type == sf::dtype::f32);
    CHECK(shape_of(*plan->output("down_proj_bias")) == std::vector<u64>{2, 6});
    CHECK_FALSE(plan->output("gate_up_proj_bias"));
}

// ------------------------------------------------------------------------------------------
// refusals

TEST_CASE("plan: a scope without experts of the layout is no_experts") {
    packed_set set;
    check(refused(set), errc::no_experts, "");
    set.add("model.embed_tokens.weight", sf::dtype::bf16, {2, 2});
    check(refused(set), errc::no_experts, "");
    check(refused(fused(2)), errc::no_experts, "");
    check(refused<model, hub>(experts(2)), errc::no_experts, "");
    check(refused(experts(2, "model.layers.2.mlp.experts")), errc::no_experts, "");
}

TEST_CASE("plan: a missing expert is named") {
    for (const u64 missing : {u64{0}, u64{1}, u64{5}}) {
        packed_set set = experts(7);
        for (const char* part : {".gate_proj.weight", ".up_proj.weight", ".down_proj.weight"})
            set.remove(at(std::to_string(missing) + part));
        check(refused(set), errc::missing_expert, std::to_string(missing) + ".gate_proj.weight",
              missing);
    }
}

TEST_CASE("plan: expert numbers far too high are missing experts, not memory") {
    for (const char* number : {"1000000", "4294967296", "9223372036854775807",
                               "18446744073709551614", "18446744073709551615"}) {
        INFO(number);
        {
            packed_set set = experts(2);
            for (const char* part : {".gate_proj.weight", ".up_proj.weight"})
                set.add(at(number + std::string{part}), sf::dtype::bf16, {4, 6});
            const refusal last = refused(set);
            REQUIRE(last.refused);
            CHECK(last.why.code == errc::missing_expert);
            CHECK(last.why.expert == 2);
        }
        {
            packed_set set;
            set.add(at(number + std::string{".up_proj.weight"}), sf::dtype::bf16, {4, 6});
            set.add(at("0.up_proj.weight"), sf::dtype::bf16, {4, 6});
            check(refused(set), errc::missing_expert, "1.up_proj.weight", 1);
        }
        packed_set alone;
        alone.add(at(number + std::string{".up_proj.weight"}), sf::dtype::bf16, {4, 6});
        check(refused(alone), errc::missing_expert, "0.up_proj.weight", 0);
    }
}

TEST_CASE("plan: malformed expert numbers are refused, not ignored") {
    for (const char* number :
         {"00", "01", "002", "18446744073709551616", "99999999999999999999999999"}) {
        packed_set set = experts(2);
        const std::string local = std::string{number} + ".gate_proj.weight";
        set.add(at(local), sf::dtype::bf16, {4, 6});
        check(refused(set), errc::unexpected_key, local);
    }
    packed_set renamed = experts(3);
    for (const char* part : {".gate_proj.weight", ".up_proj.weight", ".down_proj.weight"})
        renamed.rename(at(std::string{"2"} + part), at(std::string{"02"} + part));
    check(refused(renamed), errc::unexpected_key, "02.down_proj.weight");
}

TEST_CASE("plan: a missing part is named with its expert") {
    {
        packed_set set = experts(3);
        set.remove(at("1.up_proj.weight"));
        check(refused(set), errc::missing_key, "1.up_proj.weight", 1);
    }
    {
        packed_set set = experts(3);
        set.remove(at("2.down_proj.weight"));
        check(refused(set), errc::missing_key, "2.down_proj.weight", 2);
    }
    {
        packed_set set = experts(2);
        set.remove(at("0.down_proj.weight"));
        set.remove(at("1.down_proj.weight"));
        const refusal all = refused(set);
        REQUIRE(all.refused);
        CHECK(all.why.code == errc::missing_key);
        CHECK(all.why.tensor == at("0.down_proj.weight"));
    }
    {
        packed_set set = fused(2);
        set.remove(at("down_proj"));
        check(refused<model, hub>(set), errc::missing_key, "down_proj");
    }
}

TEST_CASE("plan: a field that one expert lacks is a missing part") {
    packed_set set = experts(3);
    for (const char* name : {"0.gate_proj.bias", "2.gate_proj.bias", "0.up_proj.bias",
                             "1.up_proj.bias", "2.up_proj.bias"})
        set.add(at(name), sf::dtype::bf16, {4});
    check(refused(set), errc::missing_key, "1.gate_proj.bias", 1);
}

TEST_CASE("plan: a field that one of the parts of an output lacks is a missing part") {
    packed_set set = experts(2);
    for (const char* name : {"0.up_proj.bias", "1.up_proj.bias"})
        set.add(at(name), sf::dtype::bf16, {4});
    const refusal of = refused(set);
    REQUIRE(of.refused);
    CHECK(of.why.code == errc::missing_key);
    CHECK(of.why.tensor == at("0.gate_proj.bias"));
    // if gate and up are stacked separately, nothing is missing
    CHECK_FALSE((refused<hub, laws::layouts::stacks>(set).refused));
}

TEST_CASE("plan: a field without its values is a missing part") {
    packed_set set;
    for (const char* name : {"0.gate_proj.bias", "0.up_proj.bias"})
        set.add(at(name), sf::dtype::bf16, {4});
    set.add(at("0.down_proj.bias"), sf::dtype::bf16, {6});
    const refusal of = refused(set);
    REQUIRE(of.refused);
    CHECK(of.why.code == errc::missing_key);
    CHECK(of.why.tensor == at("0.gate_proj.weight"));
}

TEST_CASE("plan: one expert of another shape is named") {
    for (const u64 expert : {0u, 1u, 2u}) {
        packed_set set = experts(3);
        set.retype(at(std::to_string(expert) + ".up_proj.weight"), sf::dtype::bf16, {6, 4});
        check(refused(set), errc::shape_mismatch, std::to_string(expert) + ".up_proj.weight",
              expert);
    }
    {
        packed_set set = experts(3);
        set.retype(at("2.down_proj.weight"), sf::dtype::bf16, {4, 6});
        check(refused(set), errc::shape_mismatch, "2.down_proj.weight", 2);
    }
    {
        packed_set set = experts(3);
        set.retype(at("1.down_proj.weight"), sf::dtype::bf16, {24});
        check(refused(set), errc::shape_mismatch, "1.down_proj.weight", 1);
    }
}

TEST_CASE("plan: gate and up whose H is not down's are refused") {
    packed_set set = experts(2);
    for (const char* name : {"0.down_proj.weight", "1.down_proj.weight"})
        set.retype(at(name), sf::dtype::bf16, {3, 8});
    const refusal of = refused(set);
    REQUIRE(of.refused);
    CHECK(of.why.code == errc::shape_mismatch);
    CHECK(of.why.expert == 0);
}

TEST_CASE("plan: a matrix where a stack belongs, and other numbers of axes, are refused") {
    {
        packed_set set = experts(2);
        for (const char* name : {"0.up_proj.weight", "1.up_proj.weight"})
            set.retype(at(name), sf::dtype::bf16, {24});
        const refusal of = refused(set);
        REQUIRE(of.refused);
        CHECK(of.why.code == errc::shape_mismatch);
        CHECK(of.why.tensor == at("0.up_proj.weight"));
        CHECK(of.why.expected == 2);
        CHECK(of.why.actual == 1);
    }
    {
        packed_set set = experts(1);
        set.retype(at("0.gate_proj.weight"), sf::dtype::bf16, {1, 4, 6});
        check(refused(set), errc::shape_mismatch, "0.gate_proj.weight");
    }
    {
        packed_set set = experts(1);
        set.retype(at("0.gate_proj.weight"), sf::dtype::bf16, {});
        check(refused(set), errc::shape_mismatch, "0.gate_proj.weight");
    }
    {
        packed_set set;
        set.add(at("gate_up_proj"), sf::dtype::bf16, {8, 6});
        set.add(at("down_proj"), sf::dtype::bf16, {6, 4});
        check(refused<model, hub>(set), errc::shape_mismatch, "gate_up_proj");
    }
    {
        packed_set set;
        set.add(at("gate_up_proj"), sf::dtype::bf16, {2, 7, 6});
        set.add(at("down_proj"), sf::dtype::bf16, {2, 6, 4});
        check(refused<model, hub>(set), errc::shape_mismatch, "gate_up_proj");
    }
    {
        packed_set set;
        set.add(at("gate_up_proj"), sf::dtype::bf16, {2, 8, 6});
        set.add(at("down_proj"), sf::dtype::bf16, {3, 6, 4});
        check(refused<model, hub>(set), errc::shape_mismatch, "down_proj");
    }
    {
        // gpt-oss in a family that is not its own: the transposed pair
        packed_set set;
        set.add(at("gate_up_proj"), sf::dtype::bf16, {2, 6, 8});
        set.add(at("down_proj"), sf::dtype::bf16, {2, 4, 6});
        const refusal of = refused<model, hub>(set);
        REQUIRE(of.refused);
        CHECK(of.why.code == errc::shape_mismatch);
    }
}

TEST_CASE("plan: other dtypes are refused: within a part, between gate and up") {
    {
        packed_set set = experts(3);
        set.retype(at("2.down_proj.weight"), sf::dtype::f16, {6, 4});
        check(refused(set), errc::dtype_mismatch, "2.down_proj.weight", 2);
    }
    {
        packed_set set = experts(2);
        for (const char* name : {"0.up_proj.weight", "1.up_proj.weight"})
            set.retype(at(name), sf::dtype::f16, {4, 6});
        const refusal of = refused(set);
        REQUIRE(of.refused);
        CHECK(of.why.code == errc::dtype_mismatch);
        CHECK(of.why.tensor == at("0.up_proj.weight"));
        CHECK_FALSE((refused<hub, laws::layouts::stacks>(set).refused));
    }
}

TEST_CASE("plan: two tensors of one name are refused") {
    packed_set set = experts(3);
    set.add(at("1.gate_proj.weight"), sf::dtype::bf16, {4, 6}, 1);
    check(refused(set), errc::duplicate_expert, "1.gate_proj.weight", 1);
    CHECK(refused(set).why.file == "other.safetensors");
    packed_set stacked = fused(2);
    stacked.add(at("down_proj"), sf::dtype::bf16, {2, 6, 4}, 1);
    check(refused<model, hub>(stacked), errc::duplicate_expert, "down_proj");
}

TEST_CASE("plan: a tensor among the experts that is no part of them is refused") {
    for (const char* local :
         {"0.gate_proj.absmax", "0.gate_proj.weight_quantised", "1.gate_proj", "0.router.weight",
          "0.weight", "0", "7.norm.weight", "0.gate_proj.weight.absmax", "0.gate_projX.weight",
          "1.down_proj.weight_scale_inv.x"}) {
        INFO(local);
        packed_set set = experts(2);
        set.add(at(local), sf::dtype::bf16, {1});
        check(refused(set), errc::unexpected_key, local);
        CHECK(refused(set).why.file == "first.safetensors");
    }
    for (const char* local : {"gate_up_proj_blocks", "gate_up_proj.weight", "down_proj_absmax"}) {
        INFO(local);
        packed_set set = fused(2);
        set.add(at(local), sf::dtype::bf16, {1});
        check(refused<model, hub>(set), errc::unexpected_key, local);
    }
}

TEST_CASE("plan: experts that are there in both forms are refused") {
    packed_set set = experts(2);
    set.add(at("gate_up_proj"), sf::dtype::bf16, {2, 8, 6});
    const refusal one = refused(set);
    REQUIRE(one.refused);
    CHECK(one.why.code == errc::both_layouts);
    CHECK(one.why.scope == scope);
    const refusal other = refused<model, hub>(set);
    REQUIRE(other.refused);
}

TEST_CASE("plan: a field that the destination cannot name is refused") {
    using bare =
        sf::layout<sf::suffixes<sf::suffix<sf::weight, "">>,
                   sf::tensor<"gate_up_proj", sf::stack<sf::concat<0, laws::gate, laws::up>>>,
                   sf::tensor<"down_proj", sf::stack<laws::down>>>;
    packed_set set = experts(1);
    set.add(at("0.down_proj.bias"), sf::dtype::bf16, {6});
    check(refused<hub, bare>(set), errc::unexpected_key, "0.down_proj.bias");
}

TEST_CASE("plan: codes without their scales are refused") {
    for (const sf::dtype type :
         {sf::dtype::f8_e4m3, sf::dtype::f8_e5m2, sf::dtype::f4, sf::dtype::f6_e3m2, sf::dtype::u8,
          sf::dtype::i8, sf::dtype::i32}) {
        packed_set set;
        for (const char* part : {"0.gate_proj.weight", "0.up_proj.weight", "0.down_proj.weight"})
            set.add(at(part), type,
                    std::string_view{part} == "0.down_proj.weight" ? std::vector<u64>{4, 8}
                                                                   : std::vector<u64>{8, 4});
        const refusal of = refused(set);
        REQUIRE(of.refused);
        CHECK(of.why.code == errc::missing_scales);
        CHECK(of.why.detail == sf::name(type));
        CHECK_FALSE(refused(set, {.allow_missing_scales = true}).refused);
        for (const char* part : {"0.gate_proj.weight_scale_inv", "0.up_proj.weight_scale_inv"})
            set.add(at(part), sf::dtype::f32, {1, 1});
        const refusal without_down = refused<hub, laws::layouts::stacks>(set);
        REQUIRE(without_down.refused);
        CHECK(without_down.why.code == errc::missing_scales);
        CHECK(without_down.why.tensor == at("0.down_proj.weight"));
        set.add(at("0.down_proj.weight_scale_inv"), sf::dtype::f32, {1, 1});
        CHECK_FALSE((refused<hub, laws::layouts::stacks>(set).refused));
    }
}

TEST_CASE(
    "plan: blocks that contain rows of gate and up are refused, but allowed if both are "
    "stacked separately") {
    packed_set set;
    for (u64 e = 0; e < 2; ++e)
        for (const char* part : {".gate_proj", ".up_proj", ".down_proj"}) {
            const bool is_down = std::string_view{part} == ".down_proj";
            set.add(at(std::to_string(e) + part + ".weight"), sf::dtype::f8_e4m3,
                    is_down ? std::vector<u64>{256, 192} : std::vector<u64>{192, 256});
            set.add(at(std::to_string(e) + part + ".weight_scale_inv"), sf::dtype::f32, {2, 2});
        }
    const refusal of = refused(set);
    REQUIRE(of.refused);
    CHECK(of.why.code == errc::splits_block);
    CHECK(of.why.tensor == at("gate_up_proj_scale_inv"));
    CHECK_FALSE((refused<hub, laws::layouts::stacks>(set).refused));
    set.retype(at("1.up_proj.weight_scale_inv"), sf::dtype::f32, {1, 2});
    check(refused<hub, laws::layouts::stacks>(set), errc::shape_mismatch,
          "1.up_proj.weight_scale_inv", 1);
}

TEST_CASE("plan: slices outside of the extent are refused") {
    const packed_set set = experts(3);
    check(refused(set, {.first_expert = 4}), errc::out_of_range, "");
    check(refused(set, {.first_expert = 2, .end_expert = 1}), errc::out_of_range, "");
    check(refused(set, {.end_expert = 4}), errc::out_of_range, "");
    check(refused(set, {.sliced_extent = "I", .slice_end = 5}), errc::out_of_range, "");
    check(refused(set, {.sliced_extent = "I", .slice_first = 5}), errc::out_of_range, "");
    check(refused(set, {.sliced_extent = "I", .slice_first = 3, .slice_end = 2}),
          errc::out_of_range, "");
    check(refused(set, {.sliced_extent = "X", .slice_end = 1}), errc::out_of_range, "");
    const refusal of = refused(set, {.end_expert = 4});
    CHECK(of.why.expected == 3);
    CHECK(of.why.actual == 4);
    CHECK(of.why.detail == "E");
    CHECK_FALSE(refused(set, {.first_expert = 3}).refused);
    CHECK_FALSE(refused(set, {.sliced_extent = "H", .slice_first = 2, .slice_end = 4}).refused);
}

TEST_CASE("plan: sizes that overflow are refused") {
    constexpr u64 huge = u64{1} << 63;
    packed_set set;
    set.add(at("0.gate_proj.weight"), sf::dtype::u8, {huge, 0});
    set.add(at("0.up_proj.weight"), sf::dtype::u8, {huge, 0});
    set.add(at("0.down_proj.weight"), sf::dtype::u8, {0, huge});
    const refusal of = refused(set, {.allow_missing_scales = true});
    REQUIRE(of.refused);
    CHECK(of.why.code == errc::size_overflow);
    CHECK(of.why.tensor == at("gate_up_proj"));
}

TEST_CASE("plan: a set whose bytes do not fit its shapes is refused before anything is copied") {
    packed_set set = experts(1);
    for (const char* name : {"0.gate_proj.weight", "0.up_proj.weight"})
        set.retype(at(name), sf::dtype::bf16, {4, 600});
    set.retype(at("0.down_proj.weight"), sf::dtype::bf16, {600, 4});
    const refusal of = refused(set);
    REQUIRE(of.refused);
    CHECK(of.why.code == errc::size_mismatch);
}

namespace {

/// A set that reports a wrong place for its last tensor.
class misplaced_set : public packed_set {
public:
    sf::tensor_location elsewhere{};

    explicit misplaced_set(packed_set set) : packed_set{std::move(set)} {}
    sf::tensor_location place(std::size_t i) const noexcept {
        return i + 1 == size() ? elsewhere : packed_set::place(i);
    }
};

}  // namespace

TEST_CASE("plan: a set whose offsets exceed 2^64 is refused before anything is copied") {
    for (const u64 short_of : {u64{0}, u64{1}, u64{46}, u64{47}}) {
        misplaced_set set{experts(2)};
        set.elsewhere = {0, ~u64{0} - short_of, 48};
        const auto plan = sf::plan<hub, model>(set, scope);
        REQUIRE_FALSE(plan);
        CHECK(plan.error().code == errc::size_mismatch);
    }
    misplaced_set set{experts(2)};
    set.elsewhere = {0, ~u64{0} - 48, 48};  // ends below 2^64, far after the source's end
    const auto plan = sf::plan<hub, model>(set, scope);
    REQUIRE(plan);
    std::vector<std::byte> out(static_cast<std::size_t>(plan->output("gate_up_proj")->size_bytes));
    CHECK(sf::fuse(*plan, "gate_up_proj", std::span{out}).error().code == errc::read_past_end);
}

TEST_CASE("plan: shapes that leave the number of experts open are refused") {
    packed_set set;
    for (const char* name : {"w1", "v1", "w2"}) set.add(at(name), sf::dtype::bf16, {0, 0});
    const refusal of = refused<laws::layouts::flat, laws::layouts::stacks>(set);
    REQUIRE(of.refused);
    CHECK(of.why.code == errc::shape_mismatch);
}

TEST_CASE("plan: a field does not become a field of the same name with other blocks") {
    using other_scale = sf::field<"weight_scale_inv", sf::field_role::scale, 1, 128>;
    using other_fused =
        sf::layout<sf::suffixes<sf::suffix<sf::weight, "">, sf::suffix<other_scale, "_scale">>,
                   sf::tensor<"gate_proj", sf::stack<laws::gate>>,
                   sf::tensor<"up_proj", sf::stack<laws::up>>,
                   sf::tensor<"down_proj", sf::stack<laws::down>>>;
    packed_set set;
    for (const char* part : {"0.gate_proj", "0.up_proj", "0.down_proj"}) {
        set.add(at(std::string{part} + ".weight"), sf::dtype::f8_e4m3, {256, 256});
        set.add(at(std::string{part} + ".weight_scale_inv"), sf::dtype::f32, {2, 2});
    }
    CHECK((refused<hub, other_fused>(set).refused));
}

namespace {

/// A wrong term: its tensor is half as large as its parts.
template <class First, class Second>
struct too_small {
    static constexpr std::size_t axis_count = 2;
    static constexpr bool is_stacked = false;
    using parts = sf::part_list<First, Second>;
    static constexpr sf::mapping place(const sf::layout_args& x) noexcept {
        const sf::mapping both[] = {First::place(x), Second::place(x)};
        sf::mapping out = sf::map_concat(0, both);
        out.axes[0].extent /= 2;
        return out;
    }
};

}  // namespace

TEST_CASE(
    "plan: a user's term that would write outside of the output, or not all of it, is refused") {
    using outside =
        sf::layout<sf::parameter_suffixes,
                   sf::tensor<"gate_up_proj", sf::stack<too_small<laws::gate, laws::up>>>,
                   sf::tensor<"down_proj", sf::stack<laws::down>>>;
    CHECK((refused<hub, outside>(experts(2)).refused));
    CHECK((refused<hub, outside>(experts(1)).refused));
}

namespace {

/// A wrong term: it places a part one row too late.
template <class Part>
struct a_row_late {
    static constexpr std::size_t axis_count = 2;
    static constexpr bool is_stacked = false;
    using parts = typename Part::parts;
    static constexpr sf::mapping place(const sf::layout_args& x) noexcept {
        sf::mapping out = Part::place(x);
        out.parts[0].first[0] += 1;
        return out;
    }
};

}  // namespace

TEST_CASE("plan: a user's term that would read past the end of its tensor is refused") {
    using outside =
        sf::layout<sf::parameter_suffixes, sf::tensor<"gate_proj", sf::stack<laws::gate>>,
                   sf::tensor<"up_proj", sf::stack<a_row_late<laws::up>>>,
                   sf::tensor<"down_proj", sf::stack<laws::down>>>;
    packed_set set;
    set.add(at("gate_proj"), sf::dtype::bf16, {2, 4, 6});
    set.add(at("up_proj"), sf::dtype::bf16, {2, 4, 6});
    set.add(at("down_proj"), sf::dtype::bf16, {2, 6, 4});
    const refusal of = refused<outside, model>(set);
    REQUIRE(of.refused);
    CHECK(of.why.code == errc::shape_mismatch);
    CHECK(of.why.detail == "a term of the layout reaches beyond its tensor");
}

TEST_CASE("plan: a refusal has a complete sentence") {
    packed_set set = experts(3);
    set.remove(at("1.up_proj.weight"));
    auto plan = sf::plan<hub, model>(set, scope);
    REQUIRE_FALSE(plan);
    CHECK(std::string{plan.error().message().view()} ==
          "tensor \"model.layers.3.mlp.experts.1.up_proj.weight\": a part of an expert is missing, "
          "expert 1");
}
