// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the composition to o from^-1 of two mappings of one part.
//
// A mapping maps an index of a part to an entry of a stored tensor. Along each axis of the part the
// map is mixed-radix: the index is written in digits (mode), each with a stride.
//
//     index i = (d1, d0) with extents (I / 64, 64)    from(i) = d1 * 128 + d0   (groups of 64 rows)
//     index i = (d0)     with extent  (I)             to(i)   = d0              (rows in order)
//
// A copy needs the pairs (from(i), to(i)). They are a nest of strided loops if each loop steps
// through one digit of both maps: the common refinement of the two digit systems. Loops that
// continue one another on both sides are then joined: coalesce. These are the terms of CuTe's
// layout algebra.
#ifndef SAFEFUSE_PLAN_DETAIL_COMPOSE_HPP
#define SAFEFUSE_PLAN_DETAIL_COMPOSE_HPP

#include <cstddef>
#include <cstdint>

#include <safefuse/core/config.hpp>
#include <safefuse/layout/layout.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

inline constexpr std::size_t max_loops = 6;

/// A nest of loops over a part's entries, outermost first, with strides on both sides. Units:
/// entries, until the caller scales them.
struct loop_nest {
    struct loop {
        std::uint64_t extent;
        std::uint64_t from_stride;
        std::uint64_t to_stride;
    };
    std::uint8_t count = 0;
    std::uint64_t from_offset = 0;
    std::uint64_t to_offset = 0;
    bool is_empty = false;  ///< no index is kept: the nest visits nothing
    loop loops[max_loops]{};
};

/// The half-open range of one part axis that moves. The destination is laid out for exactly this
/// range.
struct kept_range {
    std::uint64_t begin = 0;
    std::uint64_t count = 0;
};

/// Strides of the axes of a stored tensor, row-major, in entries.
SAFEFUSE_NOINLINE constexpr void row_major(const mapping& of,
                                           std::uint64_t (&strides)[max_stored_axes]) noexcept {
    std::uint64_t stride = 1;
    for (std::size_t a = of.axis_count; a-- > 0;) {
        strides[a] = stride;
        stride *= of.axes[a].extent;
    }
}

/// First entry of a part in a stored tensor.
SAFEFUSE_NOINLINE constexpr std::uint64_t first_entry(const mapping& of,
                                                      const part_mapping& part) noexcept {
    std::uint64_t strides[max_stored_axes];
    row_major(of, strides);
    std::uint64_t entry = 0;
    for (std::size_t a = 0; a < of.axis_count; ++a) entry += part.first[a] * strides[a];
    return entry;
}

/// The modes of one part axis, lowest weight first, with strides in entries. Modes of extent 1 are
/// left out.
struct axis_pieces {
    std::uint8_t count = 0;
    mode modes[max_modes]{};

    SAFEFUSE_NOINLINE constexpr axis_pieces(const mapping& of, const part_mapping& part,
                                            std::size_t part_axis) noexcept {
        std::uint64_t strides[max_stored_axes];
        row_major(of, strides);
        for (std::size_t p = 0; p < part.mode_count; ++p) {
            mode piece = part.modes[p];
            if (piece.part_axis != part_axis || piece.extent <= 1) continue;
            piece.stride *= strides[piece.axis];
            std::size_t at = count++;
            for (; at > 0 && modes[at - 1].weight > piece.weight; --at) modes[at] = modes[at - 1];
            modes[at] = piece;
        }
    }

    /// Distance of index `i` from index 0, in entries.
    ///   @post  the sum of digit * stride
    [[nodiscard]] constexpr std::uint64_t entry(std::uint64_t i) const noexcept {
        std::uint64_t sum = 0;
        for (std::size_t p = 0; p < count; ++p)
            sum += i / modes[p].weight % modes[p].extent * modes[p].stride;
        return sum;
    }
};

/// Moves the source's offset to the first kept index, and checks that the kept range is a range of
/// digits as well: a digit that counts within the range begins with the range, and a digit that
/// wraps within the range begins at 0. Only then is the distance from the first kept index a sum
/// over digits:
///   @post  from(begin + i) = from(begin) + from(i)    for all i < count
[[nodiscard]] constexpr mapping_error take_range(loop_nest& nest, const axis_pieces& from,
                                                 kept_range kept) noexcept {
    if (kept.count == 0) {
        nest.is_empty = true;
        return mapping_error::none;
    }
    const std::uint64_t last_index = kept.begin + kept.count - 1;
    for (std::size_t p = 0; p < from.count; ++p) {
        const mode& piece = from.modes[p];
        const std::uint64_t first = kept.begin / piece.weight % piece.extent;
        const std::uint64_t last = last_index / piece.weight % piece.extent;
        const bool wraps =
            kept.begin / piece.weight / piece.extent != last_index / piece.weight / piece.extent;
        const bool counts = wraps || first != last;
        if ((counts && kept.begin % piece.weight != 0) || (wraps && first != 0))
            return mapping_error::uneven_groups;
        nest.from_offset += first * piece.stride;
    }
    return mapping_error::none;
}

/// The common refinement of two mixed-radix systems: the digits of `from` and of `to` are cut where
/// either of them ends, so that each resulting loop steps through one digit on both sides.
///   @post  i = sum of digit_k * (product of the extents before k),  digit_k < extent_k
///   @post  from(i) = sum of digit_k * from_stride_k
///   @post  to(i)   = sum of digit_k * to_stride_k      for all i < count
[[nodiscard]] constexpr mapping_error refine(loop_nest& nest, const axis_pieces& from,
                                             const axis_pieces& to, std::uint64_t count) noexcept {
    std::size_t f = 0, t = 0;
    for (std::uint64_t done = 1; done < count;) {
        if (f == from.count || t == to.count) return mapping_error::uneven_groups;
        const mode& a = from.modes[f];
        const mode& b = to.modes[t];
        // the source's outermost digit may extend past what is kept
        std::uint64_t a_end = f + 1 == from.count ? count : a.weight * a.extent;
        if (a_end > count) a_end = count;
        const std::uint64_t b_end = b.weight * b.extent;
        const std::uint64_t end = a_end < b_end ? a_end : b_end;
        const bool nests =
            end > done && end % done == 0 && done % a.weight == 0 && done % b.weight == 0;
        if (!nests) return mapping_error::uneven_groups;
        if (nest.count == max_loops) return mapping_error::too_complex;
        nest.loops[nest.count++] = {end / done, done / a.weight * a.stride,
                                    done / b.weight * b.stride};
        done = end;
        if (end == a_end) ++f;
        if (end == b_end) ++t;
    }
    return mapping_error::none;
}

/// Composes one axis of a part: adds the loops of to o from^-1 for the kept indices, innermost
/// first. The source has the whole axis, the destination only what is kept.
///   @post  the loops and offsets visit the pairs (from(begin + i), to(i)) for all i < count
[[nodiscard]] constexpr mapping_error compose_axis(loop_nest& nest, const axis_pieces& from,
                                                   const axis_pieces& to,
                                                   kept_range kept) noexcept {
    if (const auto error = take_range(nest, from, kept); error != mapping_error::none) return error;
    return refine(nest, from, to, kept.count);
}

/// Orders the loops by destination stride, outermost first.
///   @post  the nest visits the same pairs, and to_stride_k >= to_stride_(k+1)
constexpr void order_by_destination(loop_nest& nest) noexcept {
    for (std::size_t i = 1; i < nest.count; ++i) {
        const loop_nest::loop loop = nest.loops[i];
        std::size_t at = i;
        for (; at > 0 && nest.loops[at - 1].to_stride < loop.to_stride; --at)
            nest.loops[at] = nest.loops[at - 1];
        nest.loops[at] = loop;
    }
}

/// Orders the loops, and joins an outer loop with the inner one if the outer one continues where
/// the inner one ends, on both sides: (A, B) : (B * s, s) = A * B : s.
///   @post  the nest visits the same pairs, and no two neighbours can be joined
constexpr void coalesce(loop_nest& nest) noexcept {
    order_by_destination(nest);
    std::size_t kept = 0;
    for (std::size_t i = 0; i < nest.count; ++i) {
        const loop_nest::loop inner = nest.loops[i];
        loop_nest::loop* const outer = kept == 0 ? nullptr : &nest.loops[kept - 1];
        const bool continues = outer != nullptr &&
                               outer->from_stride == inner.extent * inner.from_stride &&
                               outer->to_stride == inner.extent * inner.to_stride;
        if (continues)
            *outer = {outer->extent * inner.extent, inner.from_stride, inner.to_stride};
        else
            nest.loops[kept++] = inner;
    }
    nest.count = static_cast<std::uint8_t>(kept);
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
