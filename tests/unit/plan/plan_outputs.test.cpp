// The fourth stage of a plan: the tensors of the destination, and their origins.
#include <safefuse/plan/detail/outputs.hpp>

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "../../support/laws.hpp"

namespace sf = safefuse;
namespace detail = safefuse::detail;
using errc = sf::errc;
using sf::dtype;

namespace {

using per_expert = sf::layouts::per_expert;
using fused = sf::layouts::gate_up_fused;

/// The stages before this one, for two experts [I = 4, H = 6] stored one by one.
struct planned {
    laws::packed_set set;
    sf::result<detail::inventory> found{sf::failure{}};
    sf::result<detail::geometry> shapes{sf::failure{}};
    sf::result<detail::selection> kept{sf::failure{}};
};
void run(planned& out, const sf::layout_description& to, const sf::plan_options& options = {}) {
    std::vector<std::uint32_t> members;
    for (std::uint32_t i = 0; i < out.set.size(); ++i) members.push_back(i);
    out.found =
        detail::take_inventory(out.set, members, "m", per_expert::description, to, true, {});
    REQUIRE(out.found);
    out.shapes = detail::solve_geometry(*out.found, true);
    REQUIRE(out.shapes);
    out.kept = detail::select_ranges(out.found->groups, out.shapes->extents, options);
    REQUIRE(out.kept);
}
void add_experts(laws::packed_set& set) {
    for (const char* e : {"0", "1"}) {
        set.add("m." + std::string{e} + ".gate_proj.weight", dtype::bf16, {4, 6});
        set.add("m." + std::string{e} + ".up_proj.weight", dtype::bf16, {4, 6});
        set.add("m." + std::string{e} + ".down_proj.weight", dtype::bf16, {6, 4});
    }
}
sf::result<detail::output_field> lay_out(const planned& of, const sf::layout_description& to,
                                         std::size_t tensor, std::size_t field) {
    detail::field_origins from =
        detail::find_parts(per_expert::description, of.shapes->extents, to.tensors[tensor]);
    from.field = detail::find_field(*of.found, from, to.fields[field].field->name);
    REQUIRE(from.field != detail::absent);
    return detail::lay_out(*of.found, *of.shapes, *of.kept, "model.m", to.tensors[tensor],
                           to.fields[field], from, 0);
}

}  // namespace

TEST_CASE("outputs: a part is found by its name in the source's layout") {
    planned of;
    add_experts(of.set);
    run(of, fused::description);
    const auto from = detail::find_parts(per_expert::description, of.shapes->extents,
                                         fused::description.tensors[0]);
    REQUIRE(from.part_count == 2);
    CHECK(from.parts[0].tensor == 0);
    CHECK(from.parts[1].tensor == 1);
    CHECK(detail::find_field(*of.found, from, "weight") == 0);
    CHECK(detail::find_field(*of.found, from, "bias") == detail::absent);
    CHECK(detail::find_field(*of.found, from, "unheard_of") == detail::absent);
}

TEST_CASE("outputs: gate and up of all experts are one output [E, 2I, H]") {
    planned of;
    add_experts(of.set);
    run(of, fused::description);
    const auto output = lay_out(of, fused::description, 0, 0);
    REQUIRE(output);
    CHECK(output->count == 1);
    CHECK(output->type == dtype::bf16);
    CHECK(output->size_bytes == 2 * 8 * 6 * 2);
    CHECK(output->per_part_scales == 0);
    const detail::placed_shape shape{output->placed};
    REQUIRE(shape.rank == 3);
    CHECK(shape.extents[0] == 2);
    CHECK(shape.extents[1] == 8);
    CHECK(shape.extents[2] == 6);
}

TEST_CASE("outputs: a tensor for each expert is an output for each expert that is kept") {
    planned of;
    add_experts(of.set);
    run(of, per_expert::description, {.first_expert = 1});
    const auto output = lay_out(of, per_expert::description, 2, 0);
    REQUIRE(output);
    CHECK(output->count == 1);
    CHECK(output->first_number == 1);
    detail::output_list list;
    REQUIRE(list.characters.append("m", 1));
    REQUIRE(detail::add_outputs(list, *output, "model.m"));
    REQUIRE(detail::add_outputs(list, *output, "model.m"));
    detail::bind(list, 1, 7);
    REQUIRE(list.outputs.size() == 2);
    for (const sf::plan_output& each : list.outputs) {
        CHECK(each.name == "model.m.1.down_proj.weight");
        CHECK(each.local_name == "1.down_proj.weight");
        REQUIRE(each.shape.size() == 2);
        CHECK(each.shape[0] == 6);
        CHECK(each.shape[1] == 4);
    }
}

TEST_CASE("outputs: one scale for each of gate and up is two entries for each expert") {
    planned of;
    add_experts(of.set);
    for (const char* e : {"0", "1"})
        for (const char* part : {"gate", "up", "down"})
            of.set.add("m." + std::string{e} + "." + part + "_proj.weight_scale_2", dtype::f32, {});
    run(of, fused::description);
    const auto scales = lay_out(of, fused::description, 0, 4);
    REQUIRE(scales);
    CHECK(scales->per_part_scales == 2);
    CHECK(scales->size_bytes == 2 * 2 * 4);
}

TEST_CASE("outputs: parts of one tensor have one dtype, and all of them have the field") {
    planned of;
    add_experts(of.set);
    for (const char* e : {"0", "1"})
        of.set.retype("m." + std::string{e} + ".up_proj.weight", dtype::f16, {4, 6});
    run(of, fused::description);
    auto output = lay_out(of, fused::description, 0, 0);
    REQUIRE_FALSE(output);
    CHECK(output.error().code == errc::dtype_mismatch);
    CHECK(output.error().tensor == "m.0.up_proj.weight");

    planned biased;
    add_experts(biased.set);
    for (const char* e : {"0", "1"})
        biased.set.add("m." + std::string{e} + ".gate_proj.bias", dtype::bf16, {4});
    run(biased, fused::description);
    output = lay_out(biased, fused::description, 0, 1);
    REQUIRE_FALSE(output);
    CHECK(output.error().code == errc::missing_key);
    CHECK(output.error().tensor == "m.0.up_proj.bias");
}

TEST_CASE("outputs: a field that the destination does not know is unexpected_key") {
    using plain = sf::layout<sf::suffixes<sf::suffix<sf::weight, "">>,
                             sf::tensor<"down_proj", sf::stack<sf::layouts::down>>>;
    planned of;
    add_experts(of.set);
    for (const char* e : {"0", "1"})
        for (const char* part : {"gate", "up", "down"})
            of.set.add("m." + std::string{e} + "." + part + "_proj.input_scale", dtype::f32, {});
    run(of, fused::description);
    CHECK(detail::check_fields(*of.found, fused::description));
    CHECK(detail::check_fields(*of.found, plain::description).error().code == errc::unexpected_key);
}
