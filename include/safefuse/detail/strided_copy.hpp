// safefuse: the copies of a plan, carried out between two places in memory.
#ifndef SAFEFUSE_DETAIL_STRIDED_COPY_HPP
#define SAFEFUSE_DETAIL_STRIDED_COPY_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <safefuse/copy_plan.hpp>

namespace safefuse::inline SAFEFUSE_ABI::detail {

/// Copies single elements in two loops, tile by tile, so that neither side jumps through the cache for each of them.
template <class Element>
void copy_tiled(const std::byte* from, std::byte* to, const copy_loop& outer, const copy_loop& inner) noexcept {
    constexpr std::uint64_t tile = 64 / sizeof(Element);
    // A plain transpose: whole lines are read into a small square first, for rows of the source whose distance is a large power
    // of two all compete for the same few lines of the cache.
    const bool is_transpose = outer.source_stride == sizeof(Element) && inner.destination_stride == sizeof(Element);
    Element square[tile][tile];
    for (std::uint64_t o = 0; o < outer.extent; o += tile)
        for (std::uint64_t i = 0; i < inner.extent; i += tile) {
            const std::uint64_t rows = outer.extent - o < tile ? outer.extent - o : tile;
            const std::uint64_t columns = inner.extent - i < tile ? inner.extent - i : tile;
            const std::byte* const from_tile = from + o * outer.source_stride + i * inner.source_stride;
            std::byte* const to_tile = to + o * outer.destination_stride + i * inner.destination_stride;
            if (is_transpose && rows == tile && columns == tile) {
                for (std::uint64_t ii = 0; ii < tile; ++ii) std::memcpy(square[ii], from_tile + ii * inner.source_stride, sizeof square[ii]);
                for (std::uint64_t oo = 0; oo < tile; ++oo) {
                    Element row[tile];
                    for (std::uint64_t ii = 0; ii < tile; ++ii) row[ii] = square[ii][oo];
                    std::memcpy(to_tile + oo * outer.destination_stride, row, sizeof row);
                }
                continue;
            }
            for (std::uint64_t oo = 0; oo < rows; ++oo)
                for (std::uint64_t ii = 0; ii < columns; ++ii) {
                    Element element;
                    std::memcpy(&element, from_tile + oo * outer.source_stride + ii * inner.source_stride, sizeof element);
                    std::memcpy(to_tile + oo * outer.destination_stride + ii * inner.destination_stride, &element, sizeof element);
                }
        }
}

/// Runs the loops of a block from `depth` on; `from` and `to` point to the first run.
inline void copy_loops(const copy_block& block, std::uint32_t depth, const std::byte* from, std::byte* to) noexcept {
    const std::uint32_t left = block.loop_count - depth;
    if (left == 0) {
        std::memcpy(to, from, static_cast<std::size_t>(block.run_bytes));
        return;
    }
    if (left <= 2) {
        const copy_loop outer = left == 2 ? block.loops[depth] : copy_loop{1, 0, 0};
        const copy_loop& inner = block.loops[block.loop_count - 1];
        switch (block.run_bytes) {
        case 1: return copy_tiled<std::uint8_t>(from, to, outer, inner);
        case 2: return copy_tiled<std::uint16_t>(from, to, outer, inner);
        case 4: return copy_tiled<std::uint32_t>(from, to, outer, inner);
        case 8: return copy_tiled<std::uint64_t>(from, to, outer, inner);
        default: break;
        }
    }
    const copy_loop& loop = block.loops[depth];
    for (std::uint64_t i = 0; i < loop.extent; ++i)
        copy_loops(block, depth + 1, from + i * loop.source_stride, to + i * loop.destination_stride);
}

/// The half-open range of bytes that a caller wants, of one side of a block.
struct byte_window {
    std::uint64_t begin;
    std::uint64_t end;
};

/// Which side of a block a window is of.
enum class block_side : std::uint8_t { source, destination };

/// A block's loops in the order of one side: strides falling, so that no run of an outer step lies among those of another.
class ordered_block {
public:
    ordered_block(const copy_block& block, block_side side) noexcept : block_{block}, side_{side} {
        for (std::uint32_t i = 1; i < block_.loop_count; ++i) {
            const copy_loop loop = block_.loops[i];
            std::uint32_t at = i;
            for (; at > 0 && stride(block_.loops[at - 1]) < stride(loop); --at) block_.loops[at] = block_.loops[at - 1];
            block_.loops[at] = loop;
        }
        span_[block_.loop_count] = block_.run_bytes;
        for (std::uint32_t i = block_.loop_count; i-- > 0;)
            span_[i] = span_[i + 1] + (block_.loops[i].extent - 1) * stride(block_.loops[i]);
    }

    /// Calls f(source offset, destination offset, bytes) for the runs, or the pieces of runs, inside the window, in its order,
    /// until f returns a failure. f returns result<void>.
    template <class F>
    result<void> for_each_run(byte_window window, F&& f) const {
        return visit(0, block_.source_offset, block_.destination_offset, window, f);
    }

    /// The bytes from `at` on to the end of the first stretch that ends behind it; runs less than `gap` bytes apart are one stretch.
    /// Empty where there is none.
    [[nodiscard]] byte_window stretch(std::uint64_t at, std::uint64_t gap) const noexcept {
        std::uint64_t here = side_ == block_side::source ? block_.source_offset : block_.destination_offset;
        if (at >= here + span_[0]) return {at, at};
        const std::uint32_t solid = solid_from(gap);
        for (std::uint32_t depth = 0; depth < solid; ++depth) {
            const std::uint64_t step = stride(block_.loops[depth]), each = span_[depth + 1];
            if (at >= here + each) here += ((at - here - each) / step + 1) * step;
        }
        return {at > here ? at : here, here + span_[solid]};
    }
    /// Whether every run is `gap` bytes or more away from the next.
    [[nodiscard]] bool runs_apart(std::uint64_t gap) const noexcept { return solid_from(gap) == block_.loop_count; }

private:
    /// The loops from this one on have steps less than `gap` bytes apart.
    [[nodiscard]] std::uint32_t solid_from(std::uint64_t gap) const noexcept {
        std::uint32_t depth = block_.loop_count;
        while (depth > 0 && (stride(block_.loops[depth - 1]) < span_[depth] || stride(block_.loops[depth - 1]) - span_[depth] < gap)) --depth;
        return depth;
    }
    [[nodiscard]] std::uint64_t stride(const copy_loop& loop) const noexcept {
        return side_ == block_side::source ? loop.source_stride : loop.destination_stride;
    }

    template <class F>
    result<void> visit(std::uint32_t depth, std::uint64_t from, std::uint64_t to, byte_window window, F& f) const {
        const std::uint64_t here = side_ == block_side::source ? from : to;
        if (here >= window.end || here + span_[depth] <= window.begin) return {};
        // loop_count is at most max_copy_loops; g++ 12 does not see it and warns of reads behind the array
        if (depth == block_.loop_count || depth == max_copy_loops) {
            const std::uint64_t skipped = here < window.begin ? window.begin - here : 0;
            const std::uint64_t end = here + block_.run_bytes < window.end ? here + block_.run_bytes : window.end;
            return f(from + skipped, to + skipped, end - here - skipped);
        }
        const copy_loop& loop = block_.loops[depth];
        const std::uint64_t step = stride(loop);
        // the first step that ends behind the window's begin, and the first that begins at or behind its end
        std::uint64_t first = 0, last = loop.extent;
        if (step > 0) {
            if (here + span_[depth + 1] <= window.begin) first = (window.begin - here - span_[depth + 1]) / step + 1;
            const std::uint64_t reach = (window.end - here + step - 1) / step;
            if (reach < last) last = reach;
        }
        for (std::uint64_t i = first; i < last; ++i)
            if (auto done = visit(depth + 1, from + i * loop.source_stride, to + i * loop.destination_stride, window, f); !done) return done;
        return {};
    }

    copy_block block_;
    block_side side_;
    std::uint64_t span_[max_copy_loops + 1]{};
};

/// Calls f(part) for the parts of a block that lie in a window of one side and together are all of it that does: blocks
/// themselves, as large as can be, until f returns a failure. f returns result<void>.
template <class F>
result<void> cut(const copy_block& block, block_side side, byte_window window, F& f) {
    const auto stride = [&](const copy_loop& loop) noexcept { return side == block_side::source ? loop.source_stride : loop.destination_stride; };
    const std::uint64_t here = side == block_side::source ? block.source_offset : block.destination_offset;
    const std::uint64_t extent = side == block_side::source ? block.source_extent_bytes() : block.destination_extent_bytes();
    if (here >= window.end || here + extent <= window.begin) return {};
    if (here >= window.begin && here + extent <= window.end) return f(block);
    copy_block part = block;
    if (block.loop_count == 0) {
        const std::uint64_t skipped = here < window.begin ? window.begin - here : 0;
        part.source_offset += skipped;
        part.destination_offset += skipped;
        part.run_bytes = (here + block.run_bytes < window.end ? here + block.run_bytes : window.end) - here - skipped;
        return f(part);
    }

    // The loop with the longest step comes first; what its steps cover does not overlap.
    std::uint32_t longest = 0;
    for (std::uint32_t i = 1; i < block.loop_count; ++i)
        if (stride(block.loops[i]) > stride(block.loops[longest])) longest = i;
    const copy_loop loop = block.loops[longest];
    const std::uint64_t step = stride(loop), each = extent - (loop.extent - 1) * step;
    const auto take = [&](std::uint64_t first, std::uint64_t count) noexcept {
        part = block;
        part.source_offset += first * loop.source_stride;
        part.destination_offset += first * loop.destination_stride;
        part.loops[longest].extent = count;
        if (count != 1) return;
        for (std::uint32_t i = longest; i + 1 < block.loop_count; ++i) part.loops[i] = part.loops[i + 1];
        --part.loop_count;
    };
    // steps that touch the window: [first, last); those that lie in it: [inner_first, inner_last)
    const std::uint64_t first = here + each > window.begin ? 0 : (window.begin - here - each) / step + 1;
    std::uint64_t last = (window.end - here + step - 1) / step;
    if (last > loop.extent) last = loop.extent;
    std::uint64_t inner_first = here >= window.begin ? 0 : (window.begin - here + step - 1) / step;
    std::uint64_t inner_last = window.end < here + each ? 0 : (window.end - here - each) / step + 1;
    if (inner_last > loop.extent) inner_last = loop.extent;
    if (inner_first >= inner_last) inner_first = inner_last = last;
    for (std::uint64_t i = first; i < inner_first && i < last; ++i) {
        take(i, 1);
        if (auto done = cut(part, side, window, f); !done) return done;
    }
    if (inner_first < inner_last) {
        take(inner_first, inner_last - inner_first);
        if (auto done = f(part); !done) return done;
    }
    for (std::uint64_t i = inner_last > first ? inner_last : first; i < last; ++i) {
        take(i, 1);
        if (auto done = cut(part, side, window, f); !done) return done;
    }
    return {};
}

}  // namespace safefuse::inline SAFEFUSE_ABI::detail

#endif
