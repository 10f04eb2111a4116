#include <safefuse/plan/scopes.hpp>

#include <doctest/doctest.h>

#include <array>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <safefuse/detect/detect.hpp>
#include <safefuse/models/transformers.hpp>

#include "../../support/arrays.hpp"
#include "../../support/laws.hpp"

namespace sf = safefuse;
using arrays::array;
using arrays::cat;
using arrays::cut;
using arrays::held;
using arrays::set_of;
using arrays::stack;
using arrays::tensors;
using arrays::transposed;
using laws::packed_set;
using laws::u64;
using sf::dtype;
using sf::errc;
using sf::scope_state;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

namespace {

using extents = std::map<std::string_view, u64>;
sf::layout_args in_numbers(const sf::layout_description& layout, const extents& values,
                           const sf::field_form& form) {
    sf::layout_args out;
    for (const sf::tensor_description& tensor : layout.tensors) {
        const sf::mapping placed = tensor.place(out);
        for (std::size_t p = 0; p < placed.part_count; ++p) {
            if (!placed.parts[p].experts.empty())
                static_cast<void>(out.dim(placed.parts[p].experts));
            for (std::size_t a = 0; a < placed.parts[p].part_axes; ++a)
                static_cast<void>(out.dim(placed.parts[p].extents[a]));
        }
    }
    for (std::size_t s = 0; s < out.dim_count; ++s)
        out.values[s] = values.contains(out.names[s]) ? values.at(out.names[s]) : 0;
    out.field = &form;
    return out;
}

/// The weights of a module in its layout, and biases if the layout names them, with bytes that
/// depend on the names.
void add_module(packed_set& set, const sf::layout_description& layout, const std::string& scope,
                const extents& values, bool with_bias) {
    for (const sf::field_suffix& field : layout.fields) {
        if (field.field->name != "weight" && !(with_bias && field.field->name == "bias")) continue;
        for (const sf::tensor_description& tensor : layout.tensors) {
            const sf::mapping placed =
                tensor.place(in_numbers(layout, values, field.field->forms[0]));
            REQUIRE(placed.error == sf::mapping_error::none);
            std::vector<u64> shape;
            for (std::size_t a = 0; a < placed.axis_count; ++a)
                if (placed.axes[a].present) shape.push_back(placed.axes[a].extent);
            const std::string_view behind = placed.parts[0].after;
            const u64 first = behind.empty() ? 0 : values.at(behind),
                      count = tensor.per_expert() ? values.at(placed.parts[0].experts) : 1;
            for (u64 e = first; e < first + count; ++e) {
                sf::text local;
                REQUIRE(sf::detail::spell(local, tensor.name, e, field.suffix));
                set.add(scope + "." + std::string{local.view()}, dtype::bf16, shape);
            }
        }
    }
}

/// What a plan makes, by local name.
tensors made_by(const sf::copy_plan& plan, packed_set& set) {
    return arrays::made_by(plan, set, arrays::naming::local);
}

std::vector<sf::known_extent> known(const extents& values) {
    std::vector<sf::known_extent> out;
    for (const auto& [name, value] : values) out.push_back({name, value});
    return out;
}

/// The scope of a module in a checkpoint: at the top if its path has several segments, otherwise in
/// a layer.
std::string scope_of(std::string_view path) {
    const bool top = path.starts_with("vision_");
    return (top ? std::string{} : std::string{"model.layers.7."}) + laws::with_numbers(path);
}

constexpr u64 sizes[][2] = {{4, 6}, {4, 4}, {4, 8}, {8, 4}, {2, 1}};  // I, H
constexpr u64 numbers[][3] = {{3, 2, 5}, {1, 1, 1}, {2, 2, 7}};       // E, V, T

extents extents_of(const u64 (&size)[2], const u64 (&number)[3]) {
    return {{"E", number[0]}, {"V", number[1]}, {"T", number[2]}, {"S", 3},
            {"L", 2},         {"I", size[0]},   {"H", size[1]},   {"J", 2 * size[0]},
            {"C", 5},         {"ONE", 1},       {"W", 4},         {"N", 2},
            {"P", 3},         {"D", 5},         {"R", 3},         {"K", 4}};
}

}  // namespace

TEST_CASE(
    "families: every module of every family goes there and back, by shapes and names alone, "
    "whatever its extents") {
    std::size_t modules = 0, passed_through = 0;
    for (const sf::family_entry& family : sf::shipped_families::all)
        for (std::size_t m = 0; m < family.fuse.module_count(); ++m) {
            ++modules;
            for (const auto& size : sizes)
                for (const auto& number : numbers)
                    for (const bool with_bias : {false, true}) {
                        const extents values = extents_of(size, number);
                        const sf::module_description module = family.fuse.module_at(m);
                        const std::string scope = scope_of(module.from_path);
                        packed_set set;
                        add_module(set, *module.from, scope, values, with_bias);
                        INFO(family.fuse.name, " module ", m, " I ", size[0], " H ", size[1], " E ",
                             number[0], " V ", number[1], " T ", number[2],
                             with_bias ? " with biases" : "");
                        const tensors source = held(set, scope);
                        REQUIRE(source.size() == set.size());
                        auto scopes = sf::experts_scopes::find(set, family.fuse);
                        REQUIRE(scopes);
                        std::size_t at = scopes->size();
                        for (std::size_t s = 0; s < scopes->size(); ++s)
                            if ((*scopes)[s].module == m) at = s;
                        if (at == scopes->size()) FAIL("the module is not found");
                        CHECK(std::string{(*scopes)[at].name} == scope);
                        const auto given = known(values);
                        auto plan = sf::plan(set, (*scopes)[at], family.fuse,
                                             sf::direction::forward, {.known_extents = given});
                        if (!plan) {
                            // biases are only for layouts that name them on both sides
                            INFO(std::string{plan.error().message().view()});
                            CHECK(with_bias);
                            CHECK(plan.error().code == errc::unexpected_key);
                            continue;
                        }
                        CHECK((plan->source_form() == scope_state::done) == module.is_same());
                        if (module.is_same()) ++passed_through;
                        const tensors there = made_by(*plan, set);
                        if (module.is_same()) CHECK(there == source);

                        const std::string destination{(*scopes)[at].destination_name};
                        packed_set made = set_of(there, destination);
                        auto back_scopes = sf::experts_scopes::find(made, family.unfuse);
                        REQUIRE(back_scopes);
                        for (at = 0; at < back_scopes->size() && (*back_scopes)[at].module != m;)
                            ++at;
                        if (at == back_scopes->size())
                            FAIL("the module is not found on the way back");
                        auto back = sf::plan(made, (*back_scopes)[at], family.unfuse,
                                             sf::direction::forward,
                                             {.destination_scope = scope, .known_extents = given});
                        if (!back) FAIL(std::string{back.error().message().view()});
                        CHECK(made_by(*back, made) == source);
                    }
        }
    MESSAGE(modules, " modules of ", sf::shipped_families::all.size(), " families, ",
            passed_through, " plans of what the model holds already");
    CHECK(modules > sf::shipped_families::all.size());
    CHECK(passed_through > 0);
}

namespace {

/// Gate, up and down of all experts, each in its own tensor.
using apart =
    sf::layout<sf::suffixes<sf::suffix<sf::weight, "">>, sf::tensor<"gate", sf::stack<gate>>,
               sf::tensor<"up", sf::stack<up>>, sf::tensor<"down", sf::stack<down>>>;
using apart_ungated =
    sf::layout<sf::suffixes<sf::suffix<sf::weight, "">>, sf::tensor<"up", sf::stack<up>>,
               sf::tensor<"down", sf::stack<down>>>;

bool counts_by_e(const sf::layout_description& layout) {
    for (const sf::tensor_description& tensor : layout.tensors) {
        const sf::mapping placed = tensor.place({});
        for (std::size_t p = 0; p < placed.part_count; ++p)
            if (placed.parts[p].experts != "E" || !placed.parts[p].after.empty()) return false;
    }
    return true;
}
bool has_gate(const sf::layout_description& layout) {
    for (const sf::tensor_description& tensor : layout.tensors) {
        const sf::mapping placed = tensor.place({});
        for (std::size_t p = 0; p < placed.part_count; ++p)
            if (placed.parts[p].part == "gate") return true;
    }
    return false;
}

}  // namespace

TEST_CASE(
    "families: ranks of I and ranges of experts are those parts of every family's experts, and "
    "all of them the whole") {
    std::size_t families = 0;
    std::set<std::string> others;
    for (const sf::family_entry& family : sf::shipped_families::all) {
        const sf::layout_description &from = *family.fuse.from, &to = *family.fuse.to;
        if (!counts_by_e(from)) {
            others.insert(std::string{family.fuse.name});
            continue;
        }
        ++families;
        const sf::layout_description& parts =
            has_gate(from) ? apart::description : apart_ungated::description;
        for (const auto& size : sizes) {
            const u64 one[3] = {3, 0, 0};
            const extents values = extents_of(size, one);
            const auto given = known(values);
            packed_set set;
            add_module(set, from, "moe", values, false);
            INFO(family.fuse.name, " I ", size[0], " H ", size[1]);
            auto split = sf::plan(set, "moe", from, parts, {.known_extents = given});
            if (!split) FAIL(std::string{split.error().message().view()});
            const tensors all = made_by(*split, set);
            auto whole = sf::plan(set, "moe", from, to, {.known_extents = given});
            REQUIRE(whole);
            const tensors fused = made_by(*whole, set);

            for (const u64 ranks : {u64{2}, u64{4}}) {
                if (size[0] % ranks != 0) continue;
                for (u64 rank = 0; rank < ranks; ++rank) {
                    INFO("rank ", rank, " of ", ranks);
                    auto plan = sf::plan(set, "moe", from, to,
                                         {.sliced_extent = "I",
                                          .slice_rank = rank,
                                          .slice_ranks = ranks,
                                          .known_extents = given});
                    if (!plan) FAIL(std::string{plan.error().message().view()});
                    const tensors part = made_by(*plan, set);
                    packed_set part_set = set_of(part, "moe");
                    extents smaller = values;
                    smaller["I"] = size[0] / ranks;
                    const auto given_part = known(smaller);
                    auto read = sf::plan(part_set, "moe", to, parts, {.known_extents = given_part});
                    if (!read) FAIL(std::string{read.error().message().view()});
                    tensors expected;
                    const u64 each = size[0] / ranks;
                    for (const auto& [name, tensor] : all)
                        expected[name] =
                            cut(name == "down" ? 2 : 1, rank * each, (rank + 1) * each, tensor);
                    CHECK(made_by(*read, part_set) == expected);
                }
            }
            for (u64 middle = 0; middle <= 3; ++middle) {
                std::map<std::string, std::vector<array>> modes;
                for (const auto& [first, end] :
                     {std::pair{u64{0}, middle}, std::pair{middle, u64{3}}}) {
                    auto plan = sf::plan(
                        set, "moe", from, to,
                        {.first_expert = first, .end_expert = end, .known_extents = given});
                    if (!plan) FAIL(std::string{plan.error().message().view()});
                    for (auto& [name, tensor] : made_by(*plan, set)) modes[name].push_back(tensor);
                }
                REQUIRE(modes.size() == fused.size());
                for (const auto& [name, tensor] : fused) CHECK(cat(0, modes.at(name)) == tensor);
            }
        }
    }
    std::string listed;
    for (const std::string& each : others) listed += " " + each;
    MESSAGE(families, " families; with groups of their own, below:", listed);
    CHECK(others == std::set<std::string>{"ernie4_5_vl_moe", "longcat_flash"});
}

// ------------------------------------------------------------------------------------------
// groups of experts

namespace {

const std::string ernie_scope = "model.layers.3.mlp";

/// `text` experts [I, H], followed by `vision` experts [J, H] with continuing numbers.
packed_set ernie(u64 text, u64 vision, u64 i, u64 j, u64 h, bool with_bias = false) {
    packed_set set;
    for (u64 e = 0; e < text + vision; ++e)
        for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
            const u64 inner = e < text ? i : j;
            const bool is_down = std::string_view{part} == "down_proj";
            const std::string name = ernie_scope + ".experts." + std::to_string(e) + "." + part;
            set.add(name + ".weight", dtype::bf16,
                    is_down ? std::vector<u64>{h, inner} : std::vector<u64>{inner, h});
            if (with_bias) set.add(name + ".bias", dtype::bf16, {is_down ? h : inner});
        }
    return set;
}

tensors ernie_fused(const packed_set& set, u64 text, u64 all,
                    const std::vector<std::string>& fields) {
    tensors out;
    const tensors from = held(set, ernie_scope);
    for (const std::string& field : fields)
        for (const auto& [group, first, end] :
             {std::tuple{"text_moe", u64{0}, text}, {"vision_moe", text, all}}) {
            std::vector<array> both, other;
            for (u64 e = first; e < end; ++e) {
                const auto part = [&](const char* name) {
                    return from.at("experts." + std::to_string(e) + "." + name + "." + field);
                };
                both.push_back(cat(0, {part("gate_proj"), part("up_proj")}));
                other.push_back(part("down_proj"));
            }
            const std::string suffix = field == "weight" ? "" : "_" + field;
            out[std::string{group} + ".experts.gate_up_proj" + suffix] = stack(both);
            out[std::string{group} + ".experts.down_proj" + suffix] = stack(other);
        }
    return out;
}

using ernie_family = sf::families::ernie4_5_vl_moe;
const sf::layout_description& ernie_from = ernie_family::stored::description;
const sf::layout_description& ernie_to = ernie_family::model::description;

}  // namespace

TEST_CASE(
    "groups: one list of experts is dealt out in halves, the first rounded up, and joined again") {
    for (const u64 all : {u64{2}, u64{3}, u64{4}, u64{5}, u64{12}, u64{13}})
        for (const auto& size : {std::array<u64, 3>{4, 2, 6}, {4, 4, 4}, {2, 4, 8}, {1, 1, 1}})
            for (const bool with_bias : {false, true}) {
                const u64 i = size[0], j = size[1], h = size[2];
                const u64 text = (all + 1) / 2;
                INFO(all, " experts, I ", i, " J ", j, " H ", h);
                packed_set set = ernie(text, all - text, i, j, h, with_bias);
                auto plan = sf::plan(set, ernie_scope, ernie_from, ernie_to);
                if (!plan) FAIL(std::string{plan.error().message().view()});
                CHECK(plan->expert_count() == all);
                const tensors there = made_by(*plan, set);
                CHECK(there == ernie_fused(set, text, all,
                                           with_bias ? std::vector<std::string>{"weight", "bias"}
                                                     : std::vector<std::string>{"weight"}));
                packed_set fused = set_of(there, ernie_scope);
                auto back = sf::plan(fused, ernie_scope, ernie_to, ernie_from);
                if (!back) FAIL(std::string{back.error().message().view()});
                CHECK(back->expert_count() == all);
                CHECK(made_by(*back, fused) == held(set, ernie_scope));
                const std::vector<sf::known_extent> given{{"E", text}, {"V", all - text}, {"J", j}};
                CHECK(sf::plan(set, ernie_scope, ernie_from, ernie_to, {.known_extents = given})
                          .has_value());
                CHECK(sf::plan(fused, ernie_scope, ernie_to, ernie_from, {.known_extents = given})
                          .has_value());
            }
}

TEST_CASE("groups: what is missing from any group is named by its number in the list") {
    const auto why_not = [](const packed_set& set) {
        auto plan = sf::plan(set, ernie_scope, ernie_from, ernie_to);
        REQUIRE_FALSE(plan);
        return std::move(plan).error();
    };
    for (u64 gone = 0; gone < 7; ++gone) {
        packed_set set = ernie(4, 3, 4, 2, 6);
        for (const char* part : {"gate_proj", "up_proj", "down_proj"})
            set.remove(ernie_scope + ".experts." + std::to_string(gone) + "." + part + ".weight");
        if (gone == 6) {
            // its number does not show that the last one is missing: the halves then have three
            // each, of different shapes
            const auto why = why_not(set);
            CHECK(why.code == errc::shape_mismatch);
            CHECK((why.expert >= 3 && why.expert < 6));
            continue;
        }
        INFO("without ", gone);
        const auto why = why_not(set);
        CHECK(why.code == errc::missing_expert);
        CHECK(why.expert == gone);
        CHECK(std::string{why.tensor.view()}.starts_with(ernie_scope + ".experts." +
                                                         std::to_string(gone) + "."));
        for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
            packed_set one = ernie(4, 3, 4, 2, 6);
            const std::string name =
                ernie_scope + ".experts." + std::to_string(gone) + "." + part + ".weight";
            one.remove(name);
            const auto of_one = why_not(one);
            CHECK(of_one.code == errc::missing_key);
            CHECK(of_one.expert == gone);
            CHECK(std::string{of_one.tensor.view()} == name);
        }
    }
    // a whole part of the second half
    packed_set set = ernie(2, 2, 4, 2, 6);
    set.remove(ernie_scope + ".experts.2.up_proj.weight");
    set.remove(ernie_scope + ".experts.3.up_proj.weight");
    CHECK(why_not(set).code == errc::missing_key);
    CHECK(std::string{why_not(set).tensor.view()} == ernie_scope + ".experts.2.up_proj.weight");
    // a field that only the first half has is fused for that half; a field of gate alone is not
    packed_set biased = ernie(2, 2, 4, 2, 6);
    for (const char* e : {"0", "1"})
        for (const char* part : {"gate_proj", "up_proj", "down_proj"})
            biased.add(ernie_scope + ".experts." + e + "." + part + ".bias", dtype::bf16,
                       {std::string_view{part} == "down_proj" ? u64{6} : u64{4}});
    auto plan = sf::plan(biased, ernie_scope, ernie_from, ernie_to);
    if (!plan) FAIL(std::string{plan.error().message().view()});
    CHECK(plan->output("text_moe.experts.gate_up_proj_bias"));
    CHECK_FALSE(plan->output("vision_moe.experts.gate_up_proj_bias"));
}

TEST_CASE("groups: a single expert cannot be dealt out to two groups") {
    packed_set set = ernie(1, 0, 4, 2, 6);
    auto plan = sf::plan(set, ernie_scope, ernie_from, ernie_to);
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == errc::missing_key);
    // the number with which the second group would begin
    CHECK(std::string{plan.error().tensor.view()} == ernie_scope + ".experts.1.gate_proj.weight");
}

TEST_CASE("groups: fused groups of unequal size cannot become one list") {
    for (const auto& each :
         {std::array<u64, 3>{3, 3, 1}, {3, 2, 1}, {3, 1, 0}, {2, 3, 0}, {4, 2, 0}, {1, 0, 0}}) {
        const u64 text = each[0], vision = each[1];
        const bool fits = each[2] != 0;
        packed_set set;
        set.add(ernie_scope + ".text_moe.experts.gate_up_proj", dtype::bf16, {text, 8, 6});
        set.add(ernie_scope + ".text_moe.experts.down_proj", dtype::bf16, {text, 6, 4});
        set.add(ernie_scope + ".vision_moe.experts.gate_up_proj", dtype::bf16, {vision, 4, 6});
        set.add(ernie_scope + ".vision_moe.experts.down_proj", dtype::bf16, {vision, 6, 2});
        auto plan = sf::plan(set, ernie_scope, ernie_to, ernie_from);
        INFO(text, " and ", vision, ": ",
             plan ? std::string{} : std::string{plan.error().message().view()});
        if (text == 1) continue;  // no bytes: both are right
        CHECK(plan.has_value() == fits);
        if (!plan) CHECK(plan.error().code == errc::shape_mismatch);
        if (!plan)
            CHECK(std::string{plan.error().message().view()}.find("unequal") != std::string::npos);
    }
}

TEST_CASE("groups: a range of experts, and a rank of two extents at a time") {
    packed_set set = ernie(3, 2, 4, 2, 6);
    const tensors whole = ernie_fused(set, 3, 5, {"weight"});
    auto rank = sf::plan(set, ernie_scope, ernie_from, ernie_to,
                         {.sliced_extent = "I J", .slice_rank = 1, .slice_ranks = 2});
    if (!rank) FAIL(std::string{rank.error().message().view()});
    const tensors part = made_by(*rank, set);
    CHECK(part.at("text_moe.experts.down_proj") ==
          cut(2, 2, 4, whole.at("text_moe.experts.down_proj")));
    CHECK(part.at("vision_moe.experts.down_proj") ==
          cut(2, 1, 2, whole.at("vision_moe.experts.down_proj")));
    const array& both = whole.at("vision_moe.experts.gate_up_proj");
    CHECK(part.at("vision_moe.experts.gate_up_proj") ==
          cat(1, {cut(1, 1, 2, both), cut(1, 3, 4, both)}));
    // each group's own range
    auto range =
        sf::plan(set, ernie_scope, ernie_from, ernie_to, {.first_expert = 1, .end_expert = 3});
    if (!range) FAIL(std::string{range.error().message().view()});
    const tensors of_range = made_by(*range, set);
    CHECK(of_range.at("text_moe.experts.gate_up_proj") ==
          cut(0, 1, 3, whole.at("text_moe.experts.gate_up_proj")));
    CHECK(of_range.at("vision_moe.experts.gate_up_proj") ==
          cut(0, 1, 2, whole.at("vision_moe.experts.gate_up_proj")));
    auto too_far = sf::plan(set, ernie_scope, ernie_from, ernie_to, {.end_expert = 4});
    REQUIRE_FALSE(too_far);
    CHECK(too_far.error().code == errc::out_of_range);
    auto no_such = sf::plan(set, ernie_scope, ernie_from, ernie_to,
                            {.sliced_extent = "I K", .slice_ranks = 2});
    REQUIRE_FALSE(no_such);
    CHECK(no_such.error().code == errc::out_of_range);
}

TEST_CASE("groups: experts without a down matrix are counted apart") {
    using family = sf::families::longcat_flash;
    const auto source = [](u64 all, u64 real, u64 i, u64 h) {
        packed_set set;
        for (u64 e = 0; e < all; ++e) {
            const std::string name = "moe." + std::to_string(e);
            set.add(name + ".gate_proj.weight", dtype::bf16, {i, h});
            set.add(name + ".up_proj.weight", dtype::bf16, {i, h});
            if (e < real) set.add(name + ".down_proj.weight", dtype::bf16, {h, i});
        }
        return set;
    };
    const auto &from = family::stored::description, &to = family::model::description;
    for (const auto& [all, real] :
         {std::pair{u64{5}, u64{3}}, {u64{4}, u64{4}}, {u64{2}, u64{1}}, {u64{3}, u64{5}}}) {
        packed_set set = source(all, real, 4, 6);
        if (real > all)
            for (u64 e = all; e < real; ++e)
                set.add("moe." + std::to_string(e) + ".down_proj.weight", dtype::bf16, {6, 4});
        const tensors all_of_it = held(set, "moe");
        auto plan = sf::plan(set, "moe", from, to);
        if (!plan) FAIL(std::string{plan.error().message().view()});
        tensors expected;
        std::vector<array> both, other;
        for (u64 e = 0; e < all; ++e)
            both.push_back(cat(0, {all_of_it.at(std::to_string(e) + ".gate_proj.weight"),
                                   all_of_it.at(std::to_string(e) + ".up_proj.weight")}));
        for (u64 e = 0; e < real; ++e)
            other.push_back(all_of_it.at(std::to_string(e) + ".down_proj.weight"));
        expected["gate_up_proj"] = stack(both);
        expected["down_proj"] = stack(other);
        const tensors there = made_by(*plan, set);
        CHECK(there == expected);
        packed_set fused = set_of(there, "moe");
        auto back = sf::plan(fused, "moe", to, from);
        REQUIRE(back);
        CHECK(made_by(*back, fused) == all_of_it);
    }
    packed_set gap = source(5, 3, 4, 6);
    gap.remove("moe.1.down_proj.weight");
    auto plan = sf::plan(gap, "moe", from, to);
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == errc::missing_expert);
    CHECK(plan.error().expert == 1);
    CHECK(std::string{plan.error().tensor.view()} == "moe.1.down_proj.weight");
    packed_set no_up = source(5, 3, 4, 6);
    no_up.remove("moe.4.up_proj.weight");
    auto other = sf::plan(no_up, "moe", from, to);
    REQUIRE_FALSE(other);
    CHECK(other.error().code == errc::missing_key);
    CHECK(std::string{other.error().tensor.view()} == "moe.4.up_proj.weight");
}

TEST_CASE("groups: three groups share a list in equal shares") {
    using second = sf::expert_range<"F", "E">;
    using third = sf::expert_range<"G", "F">;
    using a = sf::part<"a", "I", "H">;
    using b = sf::part_of<second, "b", "J", "H">;
    using c = sf::part_of<third, "c", "K", "H">;
    using list = sf::layout<sf::module_suffixes, sf::tensor<"{i}.w", a>, sf::tensor<"{i}.w", b>,
                            sf::tensor<"{i}.w", c>>;
    using apart_by_group =
        sf::layout<sf::parameter_suffixes, sf::tensor<"first", sf::stack<a>>,
                   sf::tensor<"second", sf::stack<b>>, sf::tensor<"third", sf::stack<c>>>;
    for (u64 all = 3; all <= 11; ++all) {
        const u64 share = (all + 2) / 3;
        const u64 counts[] = {share, share < all - share ? share : all - share,
                              all - 2 * share <= all ? all - 2 * share : 0};
        packed_set set;
        std::vector<std::vector<array>> expected(3);
        u64 e = 0;
        for (std::size_t g = 0; g < 3; ++g)
            for (u64 i = 0; i < counts[g]; ++i, ++e) {
                const std::string name = "moe." + std::to_string(e) + ".w.weight";
                set.add(name, dtype::bf16, {g + 2, 3});
                expected[g].push_back(held(set).at(name));
            }
        INFO(all, " experts");
        auto plan = sf::plan(set, "moe", list::description, apart_by_group::description);
        if (counts[2] == 0) {
            CHECK_FALSE(plan);
            continue;
        }
        if (!plan) FAIL(std::string{plan.error().message().view()});
        CHECK(plan->expert_count() == all);
        const tensors there = made_by(*plan, set);
        CHECK(there == tensors{{"first", stack(expected[0])},
                               {"second", stack(expected[1])},
                               {"third", stack(expected[2])}});
        packed_set fused = set_of(there, "moe");
        auto back = sf::plan(fused, "moe", apart_by_group::description, list::description);
        if (!back) FAIL(std::string{back.error().message().view()});
        CHECK(made_by(*back, fused) == held(set, "moe"));
    }
}

// ------------------------------------------------------------------------------------------
// modules beside the experts, by hand

namespace {

/// The only scope of a module in a set.
sf::experts_scope only(const sf::experts_scopes& scopes, std::uint32_t module) {
    std::size_t at = scopes.size();
    for (std::size_t s = 0; s < scopes.size(); ++s)
        if (scopes[s].module == module) {
            CHECK(at == scopes.size());
            at = s;
        }
    if (at == scopes.size()) FAIL("no such module");
    return scopes[at];
}

tensors planned(packed_set& set, const sf::family_description& family, std::uint32_t module,
                const std::vector<sf::known_extent>& given = {}) {
    auto scopes = sf::experts_scopes::find(set, family);
    REQUIRE(scopes);
    auto plan = sf::plan(set, only(*scopes, module), family, sf::direction::forward,
                         {.known_extents = given});
    if (!plan) FAIL(std::string{plan.error().message().view()});
    return made_by(*plan, set);
}

array at(const packed_set& set, const std::string& name) { return held(set).at(name); }

}  // namespace

TEST_CASE(
    "modules: convolutions are put one behind the other, a router is turned, corrections are "
    "taken apart, dense gate and up joined") {
    {
        packed_set set;
        for (const char* part : {"q", "k", "v"})
            set.add("model.layers.0.self_attn." + std::string{part} + "_conv1d.weight", dtype::bf16,
                    {5, 1, 4});
        set.add("model.layers.0.self_attn.q_proj.weight", dtype::bf16, {3, 3});
        const std::string scope = "model.layers.0.self_attn.";
        const tensors expected{{"conv1d.weight", cat(0, {at(set, scope + "q_conv1d.weight"),
                                                         at(set, scope + "k_conv1d.weight"),
                                                         at(set, scope + "v_conv1d.weight")})}};
        CHECK(planned(set, sf::description_of<sf::families::glm5_next>, 1) == expected);
        auto scopes = sf::experts_scopes::find(set, sf::description_of<sf::families::glm5_next>);
        REQUIRE(scopes);
        CHECK(scopes->experts_count() == 0);
        set.remove(scope + "k_conv1d.weight");
        auto again = sf::experts_scopes::find(set, sf::description_of<sf::families::glm5_next>);
        REQUIRE(again);
        auto plan = sf::plan(set, only(*again, 1), sf::description_of<sf::families::glm5_next>,
                             sf::direction::forward);
        REQUIRE_FALSE(plan);
        CHECK(plan.error().code == errc::missing_key);
        CHECK(std::string{plan.error().tensor.view()} == scope + "k_conv1d.weight");
    }
    {
        packed_set set = ernie(2, 2, 4, 2, 6);
        set.add(ernie_scope + ".gate.weight", dtype::bf16, {6, 2});
        set.add(ernie_scope + ".gate.weight_1", dtype::bf16, {6, 2});
        set.add(ernie_scope + ".moe_statics.e_score_correction_bias", dtype::bf16, {2, 2});
        const auto& family = sf::description_of<ernie_family>;
        auto scopes = sf::experts_scopes::find(set, family);
        REQUIRE(scopes);
        CHECK(scopes->experts_count() == 1);
        CHECK(scopes->size() == 4);
        CHECK(planned(set, family, 0) == ernie_fused(set, 2, 4, {"weight"}));
        CHECK(planned(set, family, 1) ==
              tensors{{"text_moe.gate.weight", transposed(at(set, ernie_scope + ".gate.weight"))}});
        CHECK(planned(set, family, 2) ==
              tensors{
                  {"vision_moe.gate.weight", transposed(at(set, ernie_scope + ".gate.weight_1"))}});
        const array both = at(set, ernie_scope + ".moe_statics.e_score_correction_bias");
        CHECK(planned(set, family, 3) ==
              tensors{{"text_moe.gate.moe_statics.e_score_correction_bias", cut(0, 0, 1, both)},
                      {"vision_moe.gate.moe_statics.e_score_correction_bias", cut(0, 1, 2, both)}});
    }
    {
        const auto& family = sf::description_of<sf::families::minimax_m3_vl>;
        packed_set set;
        const std::string dense = "language_model.model.layers.0.mlp.",
                          shared = "language_model.model.layers.1.block_sparse_moe.shared_experts.";
        for (const std::string& scope : {dense, shared}) {
            set.add(scope + "gate_proj.weight", dtype::bf16, {4, 6});
            set.add(scope + "up_proj.weight", dtype::bf16, {4, 6});
            set.add(scope + "down_proj.weight", dtype::bf16, {6, 4});
        }
        for (const auto& [module, scope] : {std::pair{1u, dense}, {2u, shared}})
            CHECK(planned(set, family, module) ==
                  tensors{{"gate_up_proj.weight", cat(0, {at(set, scope + "gate_proj.weight"),
                                                          at(set, scope + "up_proj.weight")})}});
    }
    {
        const auto& family = sf::description_of<sf::families::inkling_mm_model>;
        packed_set set;
        set.add("model.llm.layers.0.mlp.w13_dn.weight", dtype::bf16, {6, 2});
        const array both = at(set, "model.llm.layers.0.mlp.w13_dn.weight");
        std::vector<array> gates, ups;
        for (u64 r = 0; r < 6; r += 2) {
            gates.push_back(cut(0, r, r + 1, both));
            ups.push_back(cut(0, r + 1, r + 2, both));
        }
        CHECK(planned(set, family, 2) ==
              tensors{{"gate_proj.weight", cat(0, gates)}, {"up_proj.weight", cat(0, ups)}});
    }
}

// ------------------------------------------------------------------------------------------
// known extents

TEST_CASE(
    "known extents: experts flattened into rows are told apart by their number, and a wrong "
    "number is refused") {
    const auto& family = sf::description_of<sf::families::dbrx>;
    const auto &from = *family.from, &to = apart::description;
    for (const auto& size : {std::array<u64, 3>{4, 6, 5}, {2, 2, 2}, {1, 3, 3}, {6, 1, 4}}) {
        const u64 e = size[0], i = size[1], h = size[2];
        packed_set set;
        for (const char* name : {"w1", "v1", "w2"})
            set.add("moe." + std::string{name}, dtype::bf16, {e * i, h});
        INFO("E ", e, " I ", i, " H ", h);
        // without the number nothing tells it, not even if everything is passed through
        auto untold = sf::plan(set, "moe", from, to);
        REQUIRE_FALSE(untold);
        CHECK(untold.error().code == errc::shape_mismatch);
        for (u64 number = 1; number <= e * i + 1; ++number) {
            const std::vector<sf::known_extent> given{{"E", number}};
            auto plan = sf::plan(set, "moe", from, to, {.known_extents = given});
            REQUIRE(plan.has_value() == (e * i % number == 0));
            if (!plan) {
                CHECK(plan.error().code == errc::shape_mismatch);
                CHECK(std::string{plan.error().tensor.view()} == "moe.w1");
                continue;
            }
            const u64 rows = e * i / number;
            std::vector<array> downs;
            for (u64 n = 0; n < number; ++n)
                downs.push_back(transposed(cut(0, n * rows, (n + 1) * rows, at(set, "moe.w2"))));
            array gates = at(set, "moe.w1"), ups = at(set, "moe.v1");
            gates.shape = ups.shape = {number, rows, h};
            const tensors there = made_by(*plan, set);
            CHECK(there == tensors{{"gate", gates}, {"up", ups}, {"down", stack(downs)}});
            packed_set split = set_of(there, "moe");
            auto back = sf::plan(split, "moe", to, from);
            if (!back) FAIL(std::string{back.error().message().view()});
            CHECK(made_by(*back, split) == held(set, "moe"));
            // known H and I must agree, too
            const std::vector<sf::known_extent> right{
                {"E", number}, {"I", rows}, {"H", h}, {"K", 77}},
                wrong{{"E", number}, {"I", rows + 1}};
            CHECK(sf::plan(set, "moe", from, to, {.known_extents = right}).has_value());
            auto refused = sf::plan(set, "moe", from, to, {.known_extents = wrong});
            REQUIRE_FALSE(refused);
            CHECK(refused.error().code == errc::shape_mismatch);
        }
        const std::vector<sf::known_extent> by_rows{{"I", i}};
        auto plan = sf::plan(set, "moe", from, to, {.known_extents = by_rows});
        REQUIRE(plan);
        CHECK(plan->expert_count() == e);
        const std::vector<sf::known_extent> none{{"E", 0}};
        auto nothing = sf::plan(set, "moe", from, to, {.known_extents = none});
        REQUIRE_FALSE(nothing);
        CHECK(nothing.error().code == errc::shape_mismatch);
    }
}

TEST_CASE("known extents: a number of experts that the names do not have is refused") {
    packed_set set;
    add_module(set, sf::layouts::per_expert::description, "moe", {{"E", 3}, {"I", 4}, {"H", 6}},
               false);
    const auto &from = sf::layouts::per_expert::description,
               &to = sf::layouts::gate_up_fused::description;
    struct one_case {
        std::string_view name;
        u64 value;
        bool right;
    };
    for (const one_case& each : {one_case{"E", 3, true},
                                 {"E", 4, false},
                                 {"E", 2, false},
                                 {"I", 4, true},
                                 {"I", 5, false},
                                 {"H", 12, false},
                                 {"X", 9, true}}) {
        const auto name = each.name;
        const u64 value = each.value;
        const bool right = each.right;
        const std::vector<sf::known_extent> given{{name, value}};
        auto plan = sf::plan(set, "moe", from, to, {.known_extents = given});
        INFO(name, " ", value);
        REQUIRE(plan.has_value() == right);
        if (plan) continue;
        INFO(std::string{plan.error().message().view()});
        CHECK(plan.error().code == (name == "E" ? errc::unexpected_extent : errc::shape_mismatch));
        if (plan.error().code == errc::unexpected_extent) {
            CHECK(plan.error().expected == value);
            CHECK(plan.error().actual == 3);
            CHECK(std::string{plan.error().message().view()}.find('E') != std::string::npos);
        }
    }
    const std::vector<sf::known_extent> twice{{"E", 3}, {"E", 4}};
    CHECK_FALSE(sf::plan(set, "moe", from, to, {.known_extents = twice}).has_value());
    packed_set fused;
    add_module(fused, to, "moe", {{"E", 3}, {"I", 4}, {"H", 6}}, false);
    const std::vector<sf::known_extent> wrong{{"E", 4}};
    auto plan = sf::plan(fused, "moe", to, from, {.known_extents = wrong});
    REQUIRE_FALSE(plan);
    CHECK((plan.error().code == errc::shape_mismatch ||
           plan.error().code == errc::unexpected_extent));
}

// ------------------------------------------------------------------------------------------
// forms that are spelled alike

TEST_CASE("forms that are spelled alike: no shapes fit both, unless they have no bytes") {
    using family = sf::families::qwen3_vl_moe;
    const auto &from = family::stored::description, &to = family::model::description;
    std::size_t fit_one = 0, fit_both = 0;
    for (u64 e = 0; e <= 2; ++e)
        for (u64 a = 0; a <= 8; ++a)
            for (u64 b = 0; b <= 8; ++b)
                for (u64 c = 0; c <= 8; ++c)
                    for (u64 d = 0; d <= 8; ++d) {
                        packed_set set;
                        set.add("moe.gate_up_proj", dtype::u8, {e, a, b});
                        set.add("moe.down_proj", dtype::u8, {e, c, d});
                        const sf::plan_options options{.allow_missing_scales = true};
                        auto turned_plan = sf::plan(set, "moe", from, to, options),
                             straight = sf::plan(set, "moe", to, to, options);
                        if (turned_plan && straight) {
                            ++fit_both;
                            REQUIRE(
                                (turned_plan->size_bytes() == 0 || straight->size_bytes() == 0));
                        } else if (turned_plan || straight) {
                            ++fit_one;
                        }
                    }
    MESSAGE(fit_one, " fit one form, ", fit_both, " without bytes both");
    CHECK(fit_one > 100);
}

TEST_CASE(
    "forms that are spelled alike: each becomes the other, and what is in the model's form "
    "already stays") {
    const auto& family = sf::description_of<sf::families::qwen3_vl_moe>;
    const auto& inverse = sf::inverse_of<sf::families::qwen3_vl_moe>;
    const std::string scope = "model.language_model.layers.0.mlp.experts";
    for (const auto& size : {std::array<u64, 2>{4, 6}, {4, 4}, {4, 8}, {8, 4}, {1, 1}, {1, 2}}) {
        const u64 i = size[0], h = size[1];
        packed_set stored, loaded;
        add_module(stored, *family.from, scope, {{"E", 3}, {"I", i}, {"H", h}}, false);
        add_module(loaded, *family.to, scope, {{"E", 3}, {"I", i}, {"H", h}}, false);
        INFO("I ", i, " H ", h);
        const auto plan_only = [&](packed_set& set, const sf::family_description& of) {
            auto scopes = sf::experts_scopes::find(set, of);
            REQUIRE(scopes);
            REQUIRE(scopes->size() == 1);
            return sf::plan(set, (*scopes)[0], of, sf::direction::forward);
        };
        auto there = plan_only(stored, family);
        if (!there) FAIL(std::string{there.error().message().view()});
        CHECK(there->source_form() == scope_state::pending);
        tensors made = made_by(*there, stored);
        for (u64 e = 0; e < 3; ++e)
            for (const char* name : {"gate_up_proj", "down_proj"}) {
                array disk = cut(0, e, e + 1, held(stored, scope).at(name)),
                      model = cut(0, e, e + 1, made.at(name));
                disk.shape.erase(disk.shape.begin());
                model.shape.erase(model.shape.begin());
                CHECK(transposed(disk) == model);
            }
        auto same = plan_only(loaded, family);
        REQUIRE(same);
        CHECK(same->source_form() == scope_state::done);
        CHECK(made_by(*same, loaded) == held(loaded, scope));
        packed_set fused = set_of(made, scope);
        auto back = plan_only(fused, inverse);
        REQUIRE(back);
        CHECK(back->source_form() == scope_state::pending);
        CHECK(made_by(*back, fused) == held(stored, scope));
        auto stays = plan_only(stored, inverse);
        REQUIRE(stays);
        CHECK(stays->source_form() == scope_state::done);
        // with the templates
        auto named = sf::plan<sf::families::qwen3_vl_moe>(stored, scope);
        REQUIRE(named);
        CHECK(made_by(*named, stored) == made);
        auto named_same = sf::plan<sf::families::qwen3_vl_moe>(loaded, scope);
        REQUIRE(named_same);
        CHECK(named_same->source_form() == scope_state::done);
        auto named_back =
            sf::plan<sf::families::qwen3_vl_moe>(loaded, scope, sf::direction::inverse);
        REQUIRE(named_back);
        CHECK(named_back->source_form() == scope_state::pending);
    }
    // neither form
    packed_set neither;
    neither.add(scope + ".gate_up_proj", dtype::bf16, {3, 8, 6});
    neither.add(scope + ".down_proj", dtype::bf16, {3, 5, 4});
    auto plan = sf::plan<sf::families::qwen3_vl_moe>(neither, scope);
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == errc::shape_mismatch);
}

TEST_CASE("forms: experts that are fused already are planned as they are, in every family") {
    for (const sf::family_entry& family : sf::shipped_families::all) {
        const extents values = extents_of(sizes[0], numbers[0]);
        // if models move the language model whatever form its experts have, it is there already
        const bool inside =
            family.fuse.name == "hy_v4_vl" || family.fuse.name == "qwen3_omni_moe_thinker";
        const std::string scope = (inside ? "model.language_model.layers.3." : "model.layers.3.") +
                                  laws::with_numbers(family.fuse.to_module);
        packed_set set;
        add_module(set, *family.fuse.to, scope, values, false);
        INFO(family.fuse.name);
        const auto given = known(values);
        auto scopes = sf::experts_scopes::find(set, family.fuse);
        REQUIRE(scopes);
        REQUIRE(scopes->experts_count() == 1);
        auto plan = sf::plan(set, (*scopes)[0], family.fuse, sf::direction::forward,
                             {.known_extents = given});
        if (!plan) FAIL(std::string{plan.error().message().view()});
        CHECK(plan->source_form() == scope_state::done);
        CHECK(made_by(*plan, set) == held(set, scope));
        CHECK(std::string{(*scopes)[0].destination_name} == scope);
        for (std::size_t i = 0; i < plan->outputs().size(); ++i)
            CHECK(plan->single_run(i) != nullptr);
    }
}

TEST_CASE(
    "groups: a group behind one that is not there is numbered only where the other's count is "
    "known") {
    using second = sf::expert_range<"V", "E">;
    using w = sf::part_of<second, "w", "J", "H">;
    using stacked = sf::layout<sf::parameter_suffixes, sf::tensor<"second", sf::stack<w>>>;
    using list = sf::layout<sf::module_suffixes, sf::tensor<"{i}.w", w>>;
    packed_set set;
    set.add("moe.second", dtype::bf16, {2, 3, 4});
    auto plan = sf::plan(set, "moe", stacked::description, list::description);
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == errc::shape_mismatch);
    const std::vector<sf::known_extent> given{{"E", 3}};
    auto told =
        sf::plan(set, "moe", stacked::description, list::description, {.known_extents = given});
    if (!told) FAIL(std::string{told.error().message().view()});
    CHECK(told->outputs().size() == 2);
    CHECK(told->output("3.w.weight"));
    CHECK(told->output("4.w.weight"));
    CHECK(made_by(*told, set).at("4.w.weight").bytes == cut(0, 1, 2, at(set, "moe.second")).bytes);
    // only the second half of a list
    packed_set both = ernie(3, 2, 4, 2, 6);
    using vision =
        sf::layout<sf::parameter_suffixes,
                   sf::tensor<"vision.down_proj", sf::stack<sf::families::ernie_vl_image_down>>>;
    // sf::plan refuses a destination that leaves out parts: this is the stage after that check
    auto members = sf::detail::tensors_under(both, ernie_scope);
    REQUIRE(members);
    auto half = sf::detail::plan_members(both, members->view(), ernie_scope, ernie_from,
                                         vision::description, {});
    if (!half) FAIL(std::string{half.error().message().view()});
    CHECK(made_by(*half, both).at("vision.down_proj") ==
          ernie_fused(both, 3, 5, {"weight"}).at("vision_moe.experts.down_proj"));
}
