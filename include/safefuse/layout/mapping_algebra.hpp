// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the operations on mappings, one for each term of the layout algebra, with their laws.
// They work on plain data, at compile time or at run time. An impossible operation sets `error`.
#ifndef SAFEFUSE_LAYOUT_MAPPING_ALGEBRA_HPP
#define SAFEFUSE_LAYOUT_MAPPING_ALGEBRA_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/config.hpp>
#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/layout/detail/mapping_steps.hpp>
#include <safefuse/layout/fields.hpp>
#include <safefuse/layout/mapping.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// A part on its own, its axes in order. One entry of axis a stands for block_size_a elements.
///   @post  entry_a(i) = i_a / block_size_a
[[nodiscard]] constexpr mapping map_part(std::string_view part, expert_group group,
                                         span<const std::string_view> extents,
                                         const layout_args& x) noexcept {
    mapping out;
    out.axis_count = static_cast<std::uint8_t>(extents.size());
    out.part_count = 1;
    part_mapping& placed = out.parts[0];
    placed.part = part;
    placed.experts = group.count;
    placed.after = group.after;
    placed.part_axes = out.axis_count;
    for (std::uint8_t a = 0; a < extents.size(); ++a) {
        placed.extents[a] = extents[a];
        stored_axis& axis = out.axes[a];
        const std::uint64_t block_size = x.field->block_size[a];
        if (block_size == 0) {
            axis.present = false;
            axis.is_shared = x.field->is_shared;
            continue;
        }
        if (block_size == whole_axis) {
            axis.block_size = whole_axis;
            axis.coefficient = 0;
            placed.modes[placed.mode_count++] = {static_cast<std::uint8_t>(a + 1), a, 1, 1, 1};
            continue;
        }
        layout_args known = x;
        const std::size_t dim = known.dim(extents[a]);
        if (dim == max_dims) {
            out.error = mapping_error::too_complex;
            return out;
        }
        const std::uint64_t elements = known.values[dim];
        axis.whole = elements % block_size == 0;
        if (!axis.whole && x.field->role == field_role::value)
            out.error = mapping_error::splits_block;
        axis.extent = elements / block_size + (axis.whole ? 0 : 1);
        axis.block_size = block_size;
        axis.dims = static_cast<std::uint8_t>(1u << dim);
        placed.modes[placed.mode_count++] = {static_cast<std::uint8_t>(a + 1), a, 1, axis.extent,
                                             1};
    }
    return out;
}

/// Adds a leading axis for the expert index.
///   @post  entry(e, i) = (e, entry(i))
[[nodiscard]] constexpr mapping map_stack(mapping of, const layout_args& x) noexcept {
    layout_args known = x;
    const std::size_t dim = known.dim(of.parts[0].experts);
    if (of.axis_count == max_stored_axes || dim == max_dims) {
        of.error = mapping_error::too_complex;
        return of;
    }
    const std::uint64_t count = known.values[dim];
    for (std::size_t a = of.axis_count++; a > 0; --a) of.axes[a] = of.axes[a - 1];
    of.axes[0] = {.extent = count, .dims = static_cast<std::uint8_t>(1u << dim)};
    for (std::size_t p = 0; p < of.part_count; ++p) {
        part_mapping& part = of.parts[p];
        for (std::size_t a = of.axis_count; a-- > 1;) part.first[a] = part.first[a - 1];
        part.first[0] = 0;
        for (std::size_t i = 0; i < part.mode_count; ++i) ++part.modes[i].axis;
        if (part.mode_count == max_modes) {
            of.error = mapping_error::too_complex;
            return of;
        }
        part.modes[part.mode_count++] = {0, 0, 1, count, 1};
    }
    return of;
}

/// Operands one after the other along an axis. If the field lacks the axis, the operands become the
/// entries of a new axis: a scalar per part becomes a pair per expert. If the field is shared, all
/// operands are stored as one.
///   @post  entry_axis(operand k, i) = entry_axis(i) + sum of the extents of the operands before k
[[nodiscard]] constexpr mapping map_concat(std::size_t axis,
                                           span<const mapping> operands) noexcept {
    mapping out = operands[0];
    if (axis >= out.axis_count) {
        out.error = mapping_error::unequal_extents;
        return out;
    }
    stored_axis& joined = out.axes[axis];
    if (joined.is_shared) {
        for (const mapping& next : operands.subspan(1)) detail::join(out, next, axis);
        return out;
    }
    if (operands.size() > 1) {
        detail::require_whole(out, joined);
        joined.present = true;
    }
    for (const mapping& next : operands.subspan(1)) {
        const std::size_t first_part = out.part_count;
        // Also after an error: plans need the names even if extents are unknown.
        detail::join(out, next, axis);
        if (out.error == mapping_error::too_complex) return out;
        const stored_axis& added = next.axes[axis];
        detail::require_whole(out, added);
        for (std::size_t p = first_part; p < out.part_count; ++p) {
            if (!detail::checked_add(out.parts[p].first[axis], joined.extent,
                                     out.parts[p].first[axis]))
                out.error = mapping_error::overflow;
        }
        if (!detail::checked_add(joined.extent, added.extent, joined.extent))
            out.error = mapping_error::overflow;
        joined.coefficient =
            joined.dims == added.dims && joined.coefficient != 0 && added.coefficient != 0
                ? joined.coefficient + added.coefficient
                : 0;
    }
    return out;
}

/// Operands that alternate along an axis, `group` elements of each at a time. If the field lacks
/// the axis, each operand has one entry. If the field is shared, all operands are stored as one.
///   @post  entry_axis(operand k, i) = x / group * (group * n) + k * group + x % group, with x =
///          entry_axis(i) in operand k, n operands, and group in stored entries
[[nodiscard]] constexpr mapping map_interleave(std::size_t axis, std::uint64_t group,
                                               span<const mapping> operands) noexcept {
    mapping out = operands[0];
    if (axis >= out.axis_count || group == 0) {
        out.error = mapping_error::unequal_extents;
        return out;
    }
    out = detail::join_equal(operands, axis);
    stored_axis& turned = out.axes[axis];
    const bool is_shared = turned.is_shared;
    const auto grouped = detail::entries_of_group(turned, group);
    if (grouped == mapping_error::splits_block) out.error = grouped;
    if (is_shared || out.error != mapping_error::none) return out;
    out.error = grouped;
    const std::uint64_t turns = operands.size();
    std::uint64_t round = 0;
    if (out.error == mapping_error::none &&
        (!detail::checked_mul(group, turns, round) ||
         !detail::checked_mul(turned.extent, turns, turned.extent)))
        out.error = mapping_error::overflow;
    if (out.error != mapping_error::none) return out;
    turned.coefficient *= turns;
    turned.present = true;
    std::size_t p = 0;
    for (std::size_t turn = 0; turn < turns; ++turn)
        for (const std::size_t end = p + operands[turn].part_count; p < end; ++p) {
            if (!detail::split_at_groups(out.parts[p], axis, group)) {
                out.error = mapping_error::too_complex;
                return out;
            }
            detail::take_turn(out.parts[p], axis, group, round, turn);
        }
    return out;
}

/// Exchanges two axes.
///   @post  entry_a(i) = entry_b(i) of the operand, and entry_b(i) = entry_a(i) of it
[[nodiscard]] constexpr mapping map_transpose(std::size_t a, std::size_t b, mapping of) noexcept {
    if (a >= of.axis_count || b >= of.axis_count) {
        of.error = mapping_error::unequal_extents;
        return of;
    }
    detail::swap(of.axes[a], of.axes[b]);
    for (std::size_t p = 0; p < of.part_count; ++p) {
        part_mapping& part = of.parts[p];
        detail::swap(part.first[a], part.first[b]);
        for (std::size_t i = 0; i < part.mode_count; ++i) {
            std::uint8_t& axis = part.modes[i].axis;
            if (axis == a)
                axis = static_cast<std::uint8_t>(b);
            else if (axis == b)
                axis = static_cast<std::uint8_t>(a);
        }
    }
    return of;
}

/// Joins an axis and the next one: [E, I, H] becomes [E * I, H].
///   @post  entry_axis(i) = entry_axis(i) * extent_(axis + 1) + entry_(axis + 1)(i) of the operand
[[nodiscard]] constexpr mapping map_flatten(std::size_t axis, mapping of) noexcept {
    if (axis + 1 >= of.axis_count) {
        of.error = mapping_error::unequal_extents;
        return of;
    }
    stored_axis& outer = of.axes[axis];
    const stored_axis inner = of.axes[axis + 1];
    detail::require_whole(of, inner);
    for (std::size_t p = 0; p < of.part_count; ++p) {
        part_mapping& part = of.parts[p];
        part.first[axis] = part.first[axis] * inner.extent + part.first[axis + 1];
        for (std::size_t a = axis + 1; a + 1 < of.axis_count; ++a)
            part.first[a] = part.first[a + 1];
        part.first[of.axis_count - 1] = 0;
        for (std::size_t i = 0; i < part.mode_count; ++i) {
            mode& piece = part.modes[i];
            if (piece.axis == axis)
                piece.stride *= inner.extent;
            else if (piece.axis > axis)
                --piece.axis;
        }
    }
    if (!detail::checked_mul(outer.extent, inner.extent, outer.extent))
        of.error = mapping_error::overflow;
    outer.present = outer.present || inner.present;
    outer.coefficient = (outer.dims & inner.dims) == 0 ? outer.coefficient * inner.coefficient : 0;
    outer.dims = static_cast<std::uint8_t>(outer.dims | inner.dims);
    outer.block_size *= inner.block_size;
    for (std::size_t a = axis + 1; a + 1 < of.axis_count; ++a) of.axes[a] = of.axes[a + 1];
    of.axes[--of.axis_count] = {};
    return of;
}

/// Applies the form of a field to a whole term: exchanges the last two axes of a transposed matrix
/// and adds the field's own axis.
///   @post  entry(i, k) = (entry(i), k) for k < entries of the form, with the last two axes
///          exchanged
[[nodiscard]] constexpr mapping map_field(mapping of, const layout_args& x) noexcept {
    if (x.field->is_transposed && of.axis_count >= 2)
        of = map_transpose(of.axis_count - 2u, of.axis_count - 1u, of);
    if (x.field->entries == 0) return of;
    if (of.axis_count == max_stored_axes) {
        of.error = mapping_error::too_complex;
        return of;
    }
    const std::uint8_t axis = of.axis_count++;
    of.axes[axis] = {.extent = x.field->entries, .coefficient = 0};
    for (std::size_t p = 0; p < of.part_count; ++p) {
        part_mapping& part = of.parts[p];
        if (part.mode_count == max_modes) {
            of.error = mapping_error::too_complex;
            return of;
        }
        part.modes[part.mode_count++] = {trailing_axis, axis, 1, x.field->entries, 1};
    }
    return of;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
