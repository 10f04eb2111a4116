// safefuse: two placements of one part, put together: the strided loops that move it from one to the other.
#ifndef SAFEFUSE_DETAIL_COMPOSE_HPP
#define SAFEFUSE_DETAIL_COMPOSE_HPP

#include <cstddef>
#include <cstdint>

#include <safefuse/layout.hpp>

namespace safefuse::inline SAFEFUSE_ABI::detail {

inline constexpr std::size_t max_loops = 6;

/// A nest of loops over a part's entries, outermost first, with the distance of neighbours on both sides. Units: entries, until
/// the caller scales them.
struct loop_nest {
    struct loop {
        std::uint64_t extent;
        std::uint64_t from_stride;
        std::uint64_t to_stride;
    };
    std::uint8_t count = 0;
    std::uint64_t from_offset = 0;
    std::uint64_t to_offset = 0;
    loop loops[max_loops]{};
};

/// The half-open range of one part axis that moves: the destination is laid out for exactly this range.
struct kept_range {
    std::uint64_t begin = 0;
    std::uint64_t count = 0;
};

/// Entries between neighbours along each axis of a stored tensor, row-major.
SAFEFUSE_OUT_OF_LINE constexpr void row_major(const placement& of, std::uint64_t (&strides)[max_stored_axes]) noexcept {
    std::uint64_t stride = 1;
    for (std::size_t a = of.axis_count; a-- > 0;) {
        strides[a] = stride;
        stride *= of.axes[a].extent;
    }
}

/// Where in a stored tensor a part begins, in entries.
constexpr std::uint64_t first_entry(const placement& of, const part_placement& part) noexcept {
    std::uint64_t strides[max_stored_axes];
    row_major(of, strides);
    std::uint64_t entry = 0;
    for (std::size_t a = 0; a < of.axis_count; ++a) entry += part.first[a] * strides[a];
    return entry;
}

/// How far index `i` of a part axis lies behind index 0, in entries.
constexpr std::uint64_t entry_of(const placement& of, const part_placement& part, std::size_t part_axis,
                                 std::uint64_t i) noexcept {
    std::uint64_t strides[max_stored_axes];
    row_major(of, strides);
    std::uint64_t entry = 0;
    for (std::size_t p = 0; p < part.piece_count; ++p) {
        const index_piece& piece = part.pieces[p];
        if (piece.part_axis == part_axis && piece.extent > 0)
            entry += i / piece.weight % piece.extent * piece.stride * strides[piece.axis];
    }
    return entry;
}

/// The pieces of one part axis, lowest weight first, with strides in entries; extents of 1 are left out.
struct axis_pieces {
    std::uint8_t count = 0;
    index_piece pieces[max_pieces]{};

    SAFEFUSE_OUT_OF_LINE constexpr axis_pieces(const placement& of, const part_placement& part, std::size_t part_axis) noexcept {
        std::uint64_t strides[max_stored_axes];
        row_major(of, strides);
        for (std::size_t p = 0; p < part.piece_count; ++p) {
            index_piece piece = part.pieces[p];
            if (piece.part_axis != part_axis || piece.extent <= 1) continue;
            piece.stride *= strides[piece.axis];
            std::size_t at = count++;
            for (; at > 0 && pieces[at - 1].weight > piece.weight; --at) pieces[at] = pieces[at - 1];
            pieces[at] = piece;
        }
    }
};

/// Adds the loops of one part axis, innermost first. The source holds the whole axis, the destination only `kept`.
[[nodiscard]] constexpr placement_error add_axis(loop_nest& nest, const axis_pieces& from, const axis_pieces& to,
                                                 kept_range kept) noexcept {
    std::size_t f = 0, t = 0;
    for (std::size_t p = 0; p < from.count && kept.count > 0; ++p) {
        const index_piece& piece = from.pieces[p];
        const std::uint64_t first = kept.begin / piece.weight % piece.extent;
        nest.from_offset += first * piece.stride;
        // a digit that turns over within the range must do so in step with the range
        const bool turns =
            kept.begin / piece.weight / piece.extent != (kept.begin + kept.count - 1) / piece.weight / piece.extent;
        const bool counts = turns || first != (kept.begin + kept.count - 1) / piece.weight % piece.extent;
        if ((counts && kept.begin % piece.weight != 0) || (turns && first != 0)) return placement_error::uneven_groups;
    }
    for (std::uint64_t done = 1; done < kept.count;) {
        if (f == from.count || t == to.count) return placement_error::uneven_groups;
        const index_piece& a = from.pieces[f];
        const index_piece& b = to.pieces[t];
        // the outermost piece of the source may reach beyond what is kept
        std::uint64_t a_end = f + 1 == from.count ? kept.count : a.weight * a.extent;
        if (a_end > kept.count) a_end = kept.count;
        const std::uint64_t b_end = b.weight * b.extent;
        const std::uint64_t end = a_end < b_end ? a_end : b_end;
        if (end % done != 0 || done % a.weight != 0 || done % b.weight != 0 || end <= done) return placement_error::uneven_groups;
        if (nest.count == max_loops) return placement_error::too_complex;
        nest.loops[nest.count++] = {end / done, done / a.weight * a.stride, done / b.weight * b.stride};
        done = end;
        if (end == a_end) ++f;
        if (end == b_end) ++t;
    }
    return placement_error::none;
}

/// Orders the loops by destination, outermost first, and makes one of two where they step alike on both sides.
constexpr void normalise(loop_nest& nest) noexcept {
    for (std::size_t i = 1; i < nest.count; ++i) {
        const loop_nest::loop loop = nest.loops[i];
        std::size_t at = i;
        for (; at > 0 && nest.loops[at - 1].to_stride < loop.to_stride; --at) nest.loops[at] = nest.loops[at - 1];
        nest.loops[at] = loop;
    }
    std::size_t kept = 0;
    for (std::size_t i = 0; i < nest.count; ++i) {
        const loop_nest::loop inner = nest.loops[i];
        if (kept > 0) {
            loop_nest::loop& outer = nest.loops[kept - 1];
            if (outer.from_stride == inner.extent * inner.from_stride && outer.to_stride == inner.extent * inner.to_stride) {
                outer = {outer.extent * inner.extent, inner.from_stride, inner.to_stride};
                continue;
            }
        }
        nest.loops[kept++] = inner;
    }
    nest.count = static_cast<std::uint8_t>(kept);
}

}  // namespace safefuse::inline SAFEFUSE_ABI::detail

#endif
