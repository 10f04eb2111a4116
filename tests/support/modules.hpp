// Modules of families as tensors: all tensors of a layout with bytes that depend on their names,
// and what a plan makes of them.
#ifndef SAFEFUSE_TESTS_MODULES_HPP
#define SAFEFUSE_TESTS_MODULES_HPP

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include <safefuse/layout/layout.hpp>
#include <safefuse/models/standard.hpp>
#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>

#include "arrays.hpp"
#include "laws.hpp"

namespace modules {

namespace sf = safefuse;
using arrays::array;
using arrays::cat;
using arrays::held;
using arrays::stack;
using arrays::tensors;
using laws::packed_set;
using laws::u64;
using sf::dtype;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

/// Values by the names of extents.
using extents = std::map<std::string_view, u64>;
/// The extents that a layout mentions, with their values.
inline sf::layout_args in_numbers(const sf::layout_description& layout, const extents& values,
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
inline void add_module(packed_set& set, const sf::layout_description& layout,
                       const std::string& scope, const extents& values, bool with_bias) {
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
inline tensors made_by(const sf::copy_plan& plan, packed_set& set) {
    return arrays::made_by(plan, set, arrays::naming::local);
}

/// The same as an option for plans.
inline std::vector<sf::known_extent> known(const extents& values) {
    std::vector<sf::known_extent> out;
    for (const auto& [name, value] : values) out.push_back({name, value});
    return out;
}

/// The scope of a module in a checkpoint: at the top if its path has several segments, otherwise in
/// a layer.
inline std::string scope_of(std::string_view path) {
    const bool top = path.starts_with("vision_");
    return (top ? std::string{} : std::string{"model.layers.7."}) + laws::with_numbers(path);
}

inline constexpr u64 sizes[][2] = {{4, 6}, {4, 4}, {4, 8}, {8, 4}, {2, 1}};  // I, H
inline constexpr u64 numbers[][3] = {{3, 2, 5}, {1, 1, 1}, {2, 2, 7}};       // E, V, T

/// A value for each extent that a family names.
inline extents extents_of(const u64 (&size)[2], const u64 (&number)[3]) {
    return {{"E", number[0]}, {"V", number[1]}, {"T", number[2]}, {"S", 3},
            {"L", 2},         {"I", size[0]},   {"H", size[1]},   {"J", 2 * size[0]},
            {"C", 5},         {"ONE", 1},       {"W", 4},         {"N", 2},
            {"P", 3},         {"D", 5},         {"R", 3},         {"K", 4}};
}

/// Gate, up and down of all experts, each in its own tensor.
using apart =
    sf::layout<sf::suffixes<sf::suffix<sf::weight, "">>, sf::tensor<"gate", sf::stack<gate>>,
               sf::tensor<"up", sf::stack<up>>, sf::tensor<"down", sf::stack<down>>>;
using apart_ungated =
    sf::layout<sf::suffixes<sf::suffix<sf::weight, "">>, sf::tensor<"up", sf::stack<up>>,
               sf::tensor<"down", sf::stack<down>>>;

/// The only scope of a module in a set.
inline sf::experts_scope only(const sf::experts_scopes& scopes, std::uint32_t module) {
    std::size_t at = scopes.size();
    for (std::size_t s = 0; s < scopes.size(); ++s)
        if (scopes[s].module == module) {
            CHECK(at == scopes.size());
            at = s;
        }
    if (at == scopes.size()) FAIL("no such module");
    return scopes[at];
}

/// What a family makes of the only scope of one of its modules.
inline tensors planned(packed_set& set, const sf::family_description& family, std::uint32_t module,
                       const std::vector<sf::known_extent>& given = {}) {
    auto scopes = sf::experts_scopes::find(set, family);
    REQUIRE(scopes);
    auto plan = sf::plan(set, only(*scopes, module), family, sf::direction::forward,
                         {.known_extents = given});
    if (!plan) FAIL(std::string{plan.error().message().view()});
    return made_by(*plan, set);
}

/// One tensor of a set.
inline array at(const packed_set& set, const std::string& name) { return held(set).at(name); }

// ------------------------------------------------------------------------------------------
// two groups of experts: ernie4_5_vl_moe

inline const std::string ernie_scope = "model.layers.3.mlp";

/// `text` experts [I, H], followed by `vision` experts [J, H] with continuing numbers.
inline packed_set ernie(u64 text, u64 vision, u64 i, u64 j, u64 h, bool with_bias = false) {
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

/// The same, fused group by group.
inline tensors ernie_fused(const packed_set& set, u64 text, u64 all,
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
inline const sf::layout_description& ernie_from = ernie_family::stored::description;
inline const sf::layout_description& ernie_to = ernie_family::model::description;

}  // namespace modules

#endif
