// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a layout's meaning as data. A mapping says where every element of some parts is in one
// stored tensor: each index of a part is split into digits (modes), and each digit moves along one
// axis.
#ifndef SAFEFUSE_LAYOUT_MAPPING_HPP
#define SAFEFUSE_LAYOUT_MAPPING_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/config.hpp>
#include <safefuse/layout/fields.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Most axes of a stored tensor while terms are applied.
inline constexpr std::size_t max_stored_axes = 6;
/// Most parts in one stored tensor.
inline constexpr std::size_t max_mapped_parts = 8;
/// Most modes of one part.
inline constexpr std::size_t max_modes = 8;
/// Most named extents of a layout, the number of experts included.
inline constexpr std::size_t max_dims = 8;

/// Why a mapping is impossible.
enum class mapping_error : std::uint8_t {
    none,
    splits_block,
    unequal_extents,
    uneven_groups,
    too_complex,
    overflow
};

/// Value of mode::part_axis for the field's own axis.
inline constexpr std::uint8_t trailing_axis = max_part_axes + 1;

/// One digit of a part's index and where it goes: digit = index / weight % extent, and the entry
/// along `axis` grows by digit * stride.
struct mode {
    /// 0: the expert index; a + 1: axis a of the part; trailing_axis: the field's own axis.
    std::uint8_t part_axis = 0;
    std::uint8_t axis = 0;     ///< axis of the stored tensor
    std::uint64_t weight = 1;  ///< value of a digit of 1 in the index
    std::uint64_t extent = 1;  ///< number of values of the digit
    std::uint64_t stride = 1;  ///< stored entries from one value to the next
};

/// Where one part is in a stored tensor.
struct part_mapping {
    /// Name of the part.
    std::string_view part;
    /// Extent that counts the experts that have the part. Empty if it belongs to no expert.
    std::string_view experts;
    /// Extent that counts the experts before these. Empty if these come first.
    std::string_view after;
    /// Names of the part's extents.
    std::string_view extents[max_part_axes]{};
    /// Number of the part's axes.
    std::uint8_t part_axes = 0;
    /// Number of `modes` in use.
    std::uint8_t mode_count = 0;
    /// The digits of all indices of the part.
    mode modes[max_modes]{};
    /// By axis: the entry where the part begins.
    std::uint64_t first[max_stored_axes]{};
};

/// One axis of a stored tensor.
struct stored_axis {
    /// Number of entries.
    std::uint64_t extent = 1;
    /// An absent axis has extent 1 and does not appear in the shape.
    bool present = true;
    /// Whether all blocks along the axis are complete.
    bool whole = true;
    /// Parts that are concatenated along the axis must be equal and are stored once.
    bool is_shared = false;
    /// Elements per entry.
    std::uint64_t block_size = 1;
    /// `extent` * block_size = coefficient * product of the dims, rounded up. 0 if this does not
    /// hold.
    std::uint64_t coefficient = 1;
    /// The dims, one bit each.
    std::uint8_t dims = 0;
};

/// The value of a term over parts: the axes of a stored tensor, and where each part is in it.
struct mapping {
    /// If not none, the other members mean nothing.
    mapping_error error = mapping_error::none;
    /// Number of `axes` in use.
    std::uint8_t axis_count = 0;
    /// Number of `parts` in use.
    std::uint8_t part_count = 0;
    /// Outermost first.
    stored_axis axes[max_stored_axes]{};
    /// In the order in which the term mentions them.
    part_mapping parts[max_mapped_parts]{};
};

/// Arguments for evaluating a layout: its extents and the form of a field. Dim 0 is E, the number
/// of experts; the parts name the others.
struct layout_args {
    /// Number of named extents.
    std::uint8_t dim_count = 1;
    /// By dim.
    std::string_view names[max_dims]{"E"};
    /// By dim.
    std::uint64_t values[max_dims]{};
    /// Never null.
    const field_form* field = weight::description.forms.data();

    /// The dim of a name, added if it is new. max_dims if there are too many.
    SAFEFUSE_NOINLINE constexpr std::size_t dim(std::string_view name) noexcept {
        for (std::size_t i = 0; i < dim_count; ++i)
            if (names[i] == name) return i;
        if (dim_count == max_dims) return max_dims;
        names[dim_count] = name;
        return dim_count++;
    }
    /// The value of an extent, or 0 if the name is unknown.
    [[nodiscard]] constexpr std::uint64_t value(std::string_view name) const noexcept {
        for (std::size_t i = 0; i < dim_count; ++i)
            if (names[i] == name) return values[i];
        return 0;
    }
};

/// The experts that have a part, as names of extents.
struct expert_group {
    /// Counts the experts that have the part. Empty if it belongs to no expert.
    std::string_view count;
    /// Counts the experts that are numbered before them. Empty if there are none.
    std::string_view after;
};

/// A list of parts, in the order in which a term mentions them.
template <class... Part>
struct part_list {
    static constexpr std::size_t size = sizeof...(Part);  ///< number of parts
};

/// Stands for the expert's number in the name of a tensor per expert.
inline constexpr std::string_view expert_hole = "{i}";

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
