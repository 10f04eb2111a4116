// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: what a layout means, as data. A mapping says where every element of some parts lies in
// one stored tensor: each index of a part is split into modes, and each mode moves along one axis.
#ifndef SAFEFUSE_LAYOUT_MAPPING_HPP
#define SAFEFUSE_LAYOUT_MAPPING_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/config.hpp>
#include <safefuse/layout/fields.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

inline constexpr std::size_t max_stored_axes =
    6;  ///< axes of a stored tensor while terms are applied
inline constexpr std::size_t max_mapped_parts = 8;  ///< parts in one stored tensor
inline constexpr std::size_t max_modes = 8;         ///< modes of the index of one part
inline constexpr std::size_t max_dims =
    8;  ///< named extents of a layout, the number of experts among them

/// Why a mapping cannot be.
enum class mapping_error : std::uint8_t {
    none,
    splits_block,
    unequal_extents,
    uneven_groups,
    too_complex,
    overflow
};

/// The axis of a field's own, as an axis of the part.
inline constexpr std::uint8_t trailing_axis = max_part_axes + 1;

/// A digit of a part's index and where it goes. Digit = index / weight % extent; entry of `axis` +=
/// digit * stride.
struct mode {
    std::uint8_t part_axis =
        0;  ///< 0: the expert's number; a + 1: axis a of the part; trailing_axis: the field's own
    std::uint8_t axis = 0;     ///< of the stored tensor
    std::uint64_t weight = 1;  ///< what one of the digit stands for in the index
    std::uint64_t extent = 1;  ///< how many values the digit has
    std::uint64_t stride = 1;  ///< entries of the stored axis from one value to the next
};

/// Where one part lies in a stored tensor.
struct part_mapping {
    std::string_view part;     ///< its name
    std::string_view experts;  ///< the extent that counts the experts that have the part; empty: it
                               ///< is no expert's
    std::string_view
        after;  ///< the extent that counts the experts before these; empty: these come first
    std::string_view extents[max_part_axes]{};  ///< names of the part's extents
    std::uint8_t part_axes = 0;                 ///< how many axes it has
    std::uint8_t mode_count = 0;                ///< how many of `modes` there are
    mode modes[max_modes]{};                    ///< the digits of all its indices
    std::uint64_t first[max_stored_axes]{};     ///< entry of each axis where the part begins
};

/// One axis of a stored tensor.
struct stored_axis {
    std::uint64_t extent = 1;  ///< entries along it
    bool present = true;       ///< an absent axis has extent 1 and does not show in the shape
    bool whole = true;         ///< its extent holds no incomplete block_size
    bool is_shared =
        false;  ///< parts that are put together along it must be equal and are stored once
    std::uint64_t block_size = 1;   ///< elements that one entry stands for
    std::uint64_t coefficient = 1;  ///< extent * block_size = coefficient * product of the dims,
                                    ///< rounded up; 0: not of that form
    std::uint8_t dims = 0;          ///< set of dims, one bit each
};

/// What a term over parts means: the axes of a stored tensor, and where in it each part lies.
struct mapping {
    mapping_error error = mapping_error::none;  ///< not none: the rest means nothing
    std::uint8_t axis_count = 0;                ///< how many of `axes` there are
    std::uint8_t part_count = 0;                ///< how many of `parts` there are
    stored_axis axes[max_stored_axes]{};        ///< outermost first
    part_mapping parts[max_mapped_parts]{};     ///< in the order in which the term mentions them
};

/// The extents a layout is evaluated for, and the form of the field that it is evaluated for. E,
/// the number of experts, is dim 0; the others are named by the parts.
struct layout_args {
    std::uint8_t dim_count = 1;                                  ///< how many extents have names
    std::string_view names[max_dims]{"E"};                       ///< by dim
    std::uint64_t values[max_dims]{};                            ///< by dim
    const field_form* field = weight::description.forms.data();  ///< never null

    /// The number of a dim, which is added where it is not known; max_dims when there are too many.
    SAFEFUSE_NOINLINE constexpr std::size_t dim(std::string_view name) noexcept {
        for (std::size_t i = 0; i < dim_count; ++i)
            if (names[i] == name) return i;
        if (dim_count == max_dims) return max_dims;
        names[dim_count] = name;
        return dim_count++;
    }
    /// What an extent of that name is; 0 where there is none.
    [[nodiscard]] constexpr std::uint64_t value(std::string_view name) const noexcept {
        for (std::size_t i = 0; i < dim_count; ++i)
            if (names[i] == name) return values[i];
        return 0;
    }
};

/// Which experts have a part: the names of the extents that count them and those before them.
struct expert_group {
    std::string_view count;  ///< of the experts that have the part; empty: it is no expert's
    std::string_view after;  ///< of the experts that are numbered before them; empty: none are
};

/// The names of parts, in the order in which a term mentions them.
template <class... Part>
struct part_list {
    static constexpr std::size_t size = sizeof...(Part);  ///< how many parts
};

/// Where the expert's number stands in the name of a tensor that holds one expert.
inline constexpr std::string_view expert_hole = "{i}";

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
