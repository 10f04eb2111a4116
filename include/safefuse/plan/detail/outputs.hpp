// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the fourth stage of a plan: the tensors of the destination, and the origin of each.
//
//     inventory, geometry, selection, one field of one tensor of the destination -> output_field
//
// A tensor of the destination's layout in one field is one output, or one per expert. Names and
// shapes are collected in an output_list.
#ifndef SAFEFUSE_PLAN_DETAIL_OUTPUTS_HPP
#define SAFEFUSE_PLAN_DETAIL_OUTPUTS_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/layout/detail/layout_names.hpp>
#include <safefuse/layout/layout.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/plan/detail/geometry.hpp>
#include <safefuse/plan/detail/inventory.hpp>
#include <safefuse/plan/detail/selection.hpp>
#include <safefuse/tensor/detail/size_check.hpp>
#include <safefuse/tensor/dtype.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Where a part is stored in the source: a tensor of its layout, and a part of that tensor.
struct part_origin {
    std::uint32_t tensor = 0;
    std::uint32_t part = 0;
};

/// Origins of one field of one tensor of the destination.
struct field_origins {
    /// Field of the source's layout. absent: nothing is made.
    std::uint32_t field = absent;
    /// By part of the destination's tensor.
    part_origin parts[max_mapped_parts]{};
    std::size_t part_count = 0;
};

/// One field of one tensor of the destination.
struct output_field {
    const tensor_description* tensor = nullptr;  ///< of the destination's layout
    const field_suffix* spelled = nullptr;       ///< of the destination's layout
    field_origins origins;
    mapping placed;  ///< where the parts are, for the kept extents
    dtype type{};
    std::uint64_t size_bytes = 0;       ///< of each of the outputs
    std::uint64_t first_number = 0;     ///< number of the first expert, in names
    std::uint64_t count = 1;            ///< number of outputs: one per expert, or one
    std::uint32_t first_output = 0;     ///< index of the first output
    std::uint32_t per_part_scales = 0;  ///< as in plan_output
};

/// The outputs of a plan. Names and shapes are in arrays that may still move. Until `bind`, only
/// the sizes of the views are valid, not their pointers.
struct output_list {
    vector<char> characters;        ///< the scope of the source, then the outputs' full names
    vector<std::uint64_t> extents;  ///< shapes, one after the other
    vector<plan_output> outputs;
};

/// Most experts that the shape of one tensor may claim: a hundred times as many as in any known
/// model. A few bytes of a header can claim any number, but each expert takes memory here. Experts
/// with names of their own are bounded by the header that contains the names.
inline constexpr std::uint64_t most_claimed_experts = 65'536;

// -------------------------------------------------------------------------------------- origins

/// The part with a name in the source's layout. It exists, because every plan is checked with
/// can_become.
[[nodiscard]] inline part_origin find_part(const layout_description& from,
                                           const layout_args& extents,
                                           std::string_view part) noexcept {
    for (std::uint32_t t = 0; t < from.tensors.size(); ++t) {
        const mapping placed = from.tensors[t].place(extents);
        for (std::uint32_t p = 0; p < placed.part_count; ++p)
            if (placed.parts[p].part == part) return {t, p};
    }
    return {};
}

/// The origins of all parts of a destination tensor, for any field.
[[nodiscard]] inline field_origins find_parts(const layout_description& from,
                                              const layout_args& extents,
                                              const tensor_description& tensor) noexcept {
    field_origins out;
    const mapping placed = tensor.place(extents);
    out.part_count = placed.part_count;
    for (std::size_t p = 0; p < placed.part_count; ++p)
        out.parts[p] = find_part(from, extents, placed.parts[p].part);
    return out;
}

/// The source's field for a field of the destination. absent if the source has it for none of the
/// parts.
[[nodiscard]] inline std::uint32_t find_field(const inventory& of, const field_origins& parts,
                                              std::string_view name) noexcept {
    std::uint32_t field = absent;
    for (std::uint32_t f = 0; f < of.layout->fields.size(); ++f)
        if (of.layout->fields[f].field->name == name) field = f;
    bool any = false;
    for (std::size_t p = 0; field != absent && p < parts.part_count; ++p)
        any = any || of.has(parts.parts[p].tensor, field);
    return any ? field : absent;
}

[[nodiscard]] SAFEFUSE_COLD inline failure other_dtype(const tensor_set_ref& set,
                                                       std::uint32_t index, dtype type) noexcept {
    text detail{"parts of one tensor: "};
    detail.append(name(type));
    detail.append(" and ");
    detail.append(name(set.spec(index).type));
    return fault(set, errc::dtype_mismatch, index, detail);
}

/// The dtype of the sources of an output.
///   fails   missing_key (some parts have the field and others do not), dtype_mismatch
[[nodiscard]] inline result<dtype> common_dtype(const inventory& of, const layout_args& extents,
                                                const field_origins& from) noexcept {
    std::size_t first = 0;
    while (!of.has(from.parts[first].tensor, from.field)) ++first;
    const dtype type = of.set.spec(of.at(from.parts[first].tensor, from.field, 0)).type;
    for (std::size_t p = 0; p < from.part_count; ++p) {
        const std::uint32_t tensor = from.parts[p].tensor;
        if (!of.has(tensor, from.field))
            return refuse(errc::missing_key, first_name(of, extents, tensor, from.field));
        const std::uint32_t index = of.at(tensor, from.field, 0);
        if (of.set.spec(index).type != type) return other_dtype(of.set, index, type);
    }
    return type;
}

// --------------------------------------------------------------------------------------- layout

/// Whether the destination knows a field in the form that the source has.
[[nodiscard]] inline bool has_form(const field_suffix& spelled, const field_form& form) noexcept {
    for (const field_form& each : spelled.field->forms)
        if (each == form) return true;
    return false;
}

/// Number of entries per expert if each of its parts has one and they are side by side; otherwise
/// 0.
[[nodiscard]] inline std::uint32_t collected_entries_of(const mapping& placed,
                                                        const field_form& form) noexcept {
    bool one_each = placed.part_count > 1 && !form.is_shared && form.entries == 0;
    for (const std::uint64_t block_size : form.block_size)
        one_each = one_each && (block_size == 0 || block_size == whole_axis);
    for (std::size_t p = 0; one_each && p < placed.part_count; ++p)
        for (std::size_t i = 0; i < placed.parts[p].mode_count; ++i) {
            const mode& piece = placed.parts[p].modes[i];
            const bool is_experts = piece.axis == 0 && piece.extent == placed.axes[0].extent;
            one_each = one_each && (piece.part_axis != 0 || is_experts);
        }
    return one_each ? placed.part_count : 0;
}

/// Appends the full name of the output of one expert. Returns false if memory runs out.
[[nodiscard]] inline bool append_name(text& out, std::string_view scope, const output_field& field,
                                      std::uint64_t expert) noexcept {
    return out.append(scope) && out.append(".") &&
           spell(out, field.tensor->name, expert, field.spelled->suffix);
}
/// The name for messages, with expert 0 in place of all experts.
[[nodiscard]] SAFEFUSE_COLD inline text any_name(std::string_view scope,
                                                 const output_field& field) noexcept {
    text out;
    static_cast<void>(append_name(out, scope, field, 0));
    return out;
}

/// Checks that the number of outputs is allowed.
///   fails   shape_mismatch
[[nodiscard]] inline result<void> check_count(const inventory& of, const output_field& field,
                                              std::string_view scope) noexcept {
    const bool has_names =
        of.layout->tensors[field.origins.parts[0].tensor].per_expert() && field.size_bytes != 0;
    const std::uint64_t most = has_names ? absent - field.first_output : most_claimed_experts;
    if (field.count <= most) return {};
    return refuse(errc::shape_mismatch, any_name(scope, field),
                  "too many experts to make a tensor for each", most, field.count);
}

/// Sets the members that follow from the mapping of a field: size, experts, entries per expert.
///   fails   splits_block, shape_mismatch, unnested_groups, size_overflow, partial_byte
[[nodiscard]] inline result<void> measure(output_field& field, const field_form& form,
                                          const inventory& of, const layout_args& extents,
                                          const selection& kept, std::string_view scope) noexcept {
    if (field.placed.error != mapping_error::none)
        return misplaced(field.placed.error, any_name(scope, field));
    const placed_shape shape{field.placed};
    if (auto fit = check_size(field.type, shape.view(), field.size_bytes); !fit)
        return refuse(fit.error().code, any_name(scope, field));
    const group_symbols group = group_of(extents, field.placed.parts[0]);
    const kept_range experts = group.count == no_dim ? kept_range{0, 1} : kept.kept[group.count];
    field.first_number = of.groups.first_number(group, extents) + experts.begin;
    field.count = field.tensor->per_expert() ? experts.count : 1;
    field.per_part_scales = collected_entries_of(field.placed, form);
    return check_count(of, field, scope);
}

/// One field of one tensor of the destination, laid out for what is kept.
///   parts   what find_parts gave for the tensor; field: what find_field gave, not absent
///   scope   of the destination
///   fails   splits_block, missing_key, dtype_mismatch, shape_mismatch, unnested_groups,
///           size_overflow, partial_byte
[[nodiscard]] inline result<output_field> lay_out(const inventory& of, const geometry& shapes,
                                                  const selection& kept, std::string_view scope,
                                                  const tensor_description& tensor,
                                                  const field_suffix& spelled,
                                                  const field_origins& from,
                                                  std::size_t first_output) noexcept {
    const field_form& form = *shapes.forms[from.field];
    if (!has_form(spelled, form))
        return refuse(errc::splits_block, {},
                      "the two layouts have different block sizes for a field");
    auto type = common_dtype(of, shapes.extents, from);
    if (!type) return std::move(type).error();
    output_field out{.tensor = &tensor,
                     .spelled = &spelled,
                     .origins = from,
                     .placed = place(tensor, form, kept.local),
                     .type = *type,
                     .first_output = static_cast<std::uint32_t>(first_output)};
    if (auto done = measure(out, form, of, shapes.extents, kept, scope); !done)
        return std::move(done).error();
    return out;
}

// ----------------------------------------------------------------------------------------- list

/// Adds the outputs of a field.
///   fails   out_of_memory
[[nodiscard]] inline result<void> add_outputs(output_list& list, const output_field& field,
                                              std::string_view scope) noexcept {
    const placed_shape shape{field.placed};
    for (std::uint64_t i = 0; i < field.count; ++i) {
        text full;
        if (!append_name(full, scope, field, field.first_number + i)) return no_memory();
        const plan_output output{{{full.view().data(), full.size()}, field.type, shape.view()},
                                 {},
                                 field.size_bytes,
                                 field.per_part_scales};
        if (!list.characters.append(full.view().data(), full.size()) ||
            !list.extents.append(shape.extents, shape.rank) || !list.outputs.push(output))
            return no_memory();
    }
    return {};
}

/// Sets the pointers of all outputs' views into the arrays, which no longer move.
///   first_name   start of the names: after the characters of the source's scope
///   scope_size   characters of the destination's scope
inline void bind(output_list& list, std::size_t first_name, std::size_t scope_size) noexcept {
    const char* characters = list.characters.data() + first_name;
    const std::uint64_t* extents = list.extents.data();
    for (plan_output& each : list.outputs) {
        each.name = characters_at(characters, each.name.size());
        each.local_name = each.name.substr(scope_size + 1);
        each.shape = {extents, each.shape.size()};
        characters += each.name.size();
        extents += each.shape.size();
    }
}

/// Checks that the destination has a name for every field of the source.
///   fails   unexpected_key
[[nodiscard]] inline result<void> check_fields(const inventory& of,
                                               const layout_description& to) noexcept {
    for (std::uint32_t f = 0; f < of.layout->fields.size(); ++f) {
        bool known = false;
        for (const field_suffix& spelled : to.fields)
            known = known || spelled.field->name == of.layout->fields[f].field->name;
        for (std::uint32_t t = 0; !known && t < of.layout->tensors.size(); ++t)
            if (of.has(t, f))
                return fault(of.set, errc::unexpected_key, of.at(t, f, 0),
                             "the other layout has no name for that field");
    }
    return {};
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
