// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: steps shared by several operations on mappings: equal axes, groups, turns.
#ifndef SAFEFUSE_LAYOUT_DETAIL_MAPPING_STEPS_HPP
#define SAFEFUSE_LAYOUT_DETAIL_MAPPING_STEPS_HPP

#include <cstddef>
#include <cstdint>

#include <safefuse/core/config.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/layout/mapping.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Appends the parts of `next` to those of `of` and checks that all axes but `axis` are equal.
SAFEFUSE_NOINLINE constexpr void join(mapping& of, const mapping& next, std::size_t axis) noexcept {
    if (of.error == mapping_error::none) of.error = next.error;
    if (of.axis_count != next.axis_count) of.error = mapping_error::unequal_extents;
    for (std::size_t a = 0; a < of.axis_count; ++a)
        if (a != axis && (of.axes[a].extent != next.axes[a].extent ||
                          of.axes[a].block_size != next.axes[a].block_size))
            of.error = mapping_error::unequal_extents;
    for (std::size_t p = 0; p < next.part_count; ++p) {
        if (of.part_count == max_mapped_parts) {
            of.error = mapping_error::too_complex;
            return;
        }
        of.parts[of.part_count++] = next.parts[p];
    }
}

/// Fails if a block would end inside one operand and continue in the next.
constexpr void require_whole(mapping& of, const stored_axis& axis) noexcept {
    if (!axis.whole) of.error = mapping_error::splits_block;
}

/// Converts a group of `group` elements to stored entries.
///   fails   splits_block (it ends inside an entry), uneven_groups (the axis ends inside a group)
constexpr mapping_error entries_of_group(const stored_axis& axis, std::uint64_t& group) noexcept {
    if (axis.block_size == whole_axis || !axis.present) {
        group = 1;
        return mapping_error::none;
    }
    if (group % axis.block_size != 0) return mapping_error::splits_block;
    group /= axis.block_size;
    return axis.extent % group == 0 ? mapping_error::none : mapping_error::uneven_groups;
}

/// Splits the digits of a part along an axis at group boundaries. Returns false if that is
/// impossible or needs too many modes.
///   @post  a digit's stride is a multiple of `group`, or the digit stays inside one group
constexpr bool split_at_groups(part_mapping& part, std::size_t axis, std::uint64_t group) noexcept {
    const std::uint64_t low = part.first[axis] % group;
    // The last entry of a group that the digits inside it reach.
    std::uint64_t reach = low;
    const std::size_t before = part.mode_count;
    for (std::size_t i = 0; i < before; ++i) {
        mode& piece = part.modes[i];
        if (piece.axis != axis || piece.extent <= 1 || piece.stride % group == 0) continue;
        if (low + (piece.extent - 1) * piece.stride >= group) {
            const std::uint64_t within = group / piece.stride;
            if (group % piece.stride != 0 || low != 0 || piece.extent % within != 0 ||
                part.mode_count == max_modes)
                return false;
            part.modes[part.mode_count++] = {piece.part_axis, piece.axis, piece.weight * within,
                                             piece.extent / within, group};
            piece.extent = within;
        }
        reach += (piece.extent - 1) * piece.stride;
    }
    return reach < group;
}

/// Moves a part, split at groups, to its turn in rounds of `round` entries.
///   @post  entry x becomes x / group * round + turn * group + x % group
constexpr void take_turn(part_mapping& part, std::size_t axis, std::uint64_t group,
                         std::uint64_t round, std::uint64_t turn) noexcept {
    std::uint64_t& first = part.first[axis];
    first = first / group * round + turn * group + first % group;
    for (std::size_t i = 0; i < part.mode_count; ++i) {
        mode& piece = part.modes[i];
        if (piece.axis == axis && piece.stride % group == 0)
            piece.stride = piece.stride / group * round;
    }
}

/// The operands of an interleave as one mapping, before they take turns: their parts, and their
/// common axes.
constexpr mapping join_equal(span<const mapping> operands, std::size_t axis) noexcept {
    mapping out = operands[0];
    for (const mapping& next : operands.subspan(1)) {
        if (next.axes[axis].extent != out.axes[axis].extent)
            out.error = mapping_error::unequal_extents;
        join(out, next, axis);
        require_whole(out, next.axes[axis]);
    }
    require_whole(out, out.axes[axis]);
    return out;
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
