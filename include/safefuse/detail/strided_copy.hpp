// safefuse: the copies of a plan, carried out between two places in memory.
#ifndef SAFEFUSE_DETAIL_STRIDED_COPY_HPP
#define SAFEFUSE_DETAIL_STRIDED_COPY_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <safefuse/copy_plan.hpp>
#include <safefuse/detail/copy_bytes.hpp>
#include <safefuse/detail/transpose.hpp>

namespace safefuse::inline SAFEFUSE_ABI::detail {

/// Copies single elements in two loops, tile by tile, so that neither side jumps through the cache for each of them.
template <class Element>
void copy_tiled(const std::byte* from, std::byte* to, const copy_loop& outer, const copy_loop& inner, bool streams) noexcept {
    if (outer.source_stride == sizeof(Element) && inner.destination_stride == sizeof(Element))
        return transpose<Element>(from, static_cast<std::size_t>(inner.source_stride), to,
                                  static_cast<std::size_t>(outer.destination_stride), static_cast<std::size_t>(inner.extent),
                                  static_cast<std::size_t>(outer.extent), streams);
    constexpr std::uint64_t tile = 64 / sizeof(Element);
    for (std::uint64_t o = 0; o < outer.extent; o += tile)
        for (std::uint64_t i = 0; i < inner.extent; i += tile) {
            const std::uint64_t rows = outer.extent - o < tile ? outer.extent - o : tile;
            const std::uint64_t columns = inner.extent - i < tile ? inner.extent - i : tile;
            const std::byte* const from_tile = from + o * outer.source_stride + i * inner.source_stride;
            std::byte* const to_tile = to + o * outer.destination_stride + i * inner.destination_stride;
            for (std::uint64_t oo = 0; oo < rows; ++oo)
                for (std::uint64_t ii = 0; ii < columns; ++ii) {
                    Element element;
                    std::memcpy(&element, from_tile + oo * outer.source_stride + ii * inner.source_stride, sizeof element);
                    std::memcpy(to_tile + oo * outer.destination_stride + ii * inner.destination_stride, &element,
                                sizeof element);
                }
        }
}

/// Runs the loops of a block from `depth` on; `from` and `to` point to the first run. `streams`: past the cache;
/// finish_streaming() follows.
inline void copy_loops(const copy_block& block, std::uint32_t depth, const std::byte* from, std::byte* to,
                       bool streams) noexcept {
    const std::uint32_t left = block.loop_count - depth;
    const auto run_bytes = static_cast<std::size_t>(block.run_bytes);
    const auto copy_run = [=](std::byte* run_to, const std::byte* run_from) noexcept {
        streams ? stream_bytes(run_to, run_from, run_bytes) : copy_bytes(run_to, run_from, run_bytes);
    };
    if (left == 0) return copy_run(to, from);
    if (left <= 2) {
        const copy_loop outer = left == 2 ? block.loops[depth] : copy_loop{1, 0, 0};
        const copy_loop& inner = block.loops[block.loop_count - 1];
        switch (block.run_bytes) {
        case 1: return copy_tiled<std::uint8_t>(from, to, outer, inner, streams);
        case 2: return copy_tiled<std::uint16_t>(from, to, outer, inner, streams);
        case 4: return copy_tiled<std::uint32_t>(from, to, outer, inner, streams);
        case 8: return copy_tiled<std::uint64_t>(from, to, outer, inner, streams);
        default: break;
        }
    }
    const copy_loop loop = block.loops[depth];
    if (left == 1) {
        for (std::uint64_t i = 0; i < loop.extent; ++i) copy_run(to + i * loop.destination_stride, from + i * loop.source_stride);
        return;
    }
    for (std::uint64_t i = 0; i < loop.extent; ++i)
        copy_loops(block, depth + 1, from + i * loop.source_stride, to + i * loop.destination_stride, streams);
}

/// Runs a block; `from` and `to` point to its first run. `streams`: past the cache; finish_streaming() follows.
SAFEFUSE_OUT_OF_LINE inline void copy_runs(const copy_block& block, const std::byte* from, std::byte* to, bool streams) noexcept {
    if (block.loop_count < 3 || block.run_bytes > 8) return copy_loops(block, 0, from, to, streams);
    // Single elements: where neighbours of one side lie apart on the other and the other way round, those two loops are a
    // transpose when they are the last two. The order of loops says nothing of what is copied.
    copy_block ordered = block;
    const auto move_last = [&](auto stride) noexcept {
        for (std::uint32_t i = 0; i < ordered.loop_count; ++i) {
            if (ordered.loops[i].*stride != block.run_bytes) continue;
            const copy_loop loop = ordered.loops[i];
            for (; i + 1 < ordered.loop_count; ++i) ordered.loops[i] = ordered.loops[i + 1];
            ordered.loops[i] = loop;
            return;
        }
    };
    move_last(&copy_loop::source_stride);
    move_last(&copy_loop::destination_stride);
    copy_loops(ordered, 0, from, to, streams);
}

/// What is copied past the cache is there for everybody when this goes.
class streaming {
public:
    explicit streaming(bool streams) noexcept : streams_{streams} {}
    streaming(const streaming&) = delete;
    streaming& operator=(const streaming&) = delete;
    ~streaming() {
        if (streams_) finish_streaming();
    }

private:
    bool streams_;
};

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
    SAFEFUSE_OUT_OF_LINE ordered_block(const copy_block& block, block_side side) noexcept : block_{block}, side_{side} {
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
    [[nodiscard]] SAFEFUSE_OUT_OF_LINE byte_window stretch(std::uint64_t at, std::uint64_t gap) const noexcept {
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
        while (depth > 0 &&
               (stride(block_.loops[depth - 1]) < span_[depth] || stride(block_.loops[depth - 1]) - span_[depth] < gap))
            --depth;
        return depth;
    }
    [[nodiscard]] std::uint64_t stride(const copy_loop& loop) const noexcept {
        return side_ == block_side::source ? loop.source_stride : loop.destination_stride;
    }

    template <class F>
    SAFEFUSE_OUT_OF_LINE result<void> visit(std::uint32_t depth, std::uint64_t from, std::uint64_t to, byte_window window,
                                            F& f) const {
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
            if (auto done = visit(depth + 1, from + i * loop.source_stride, to + i * loop.destination_stride, window, f); !done)
                return done;
        return {};
    }

    copy_block block_;
    block_side side_;
    std::uint64_t span_[max_copy_loops + 1]{};
};

/// The number of the loop with the longest step on one side. What its steps cover there does not overlap. The block has loops.
[[nodiscard]] inline std::uint32_t longest_loop(const copy_block& block, block_side side) noexcept {
    const auto stride = [&](const copy_loop& loop) noexcept {
        return side == block_side::source ? loop.source_stride : loop.destination_stride;
    };
    std::uint32_t longest = 0;
    for (std::uint32_t i = 1; i < block.loop_count; ++i)
        if (stride(block.loops[i]) > stride(block.loops[longest])) longest = i;
    return longest;
}

/// Some steps of one loop of a block, as a block.
[[nodiscard]] SAFEFUSE_OUT_OF_LINE inline copy_block steps_of(const copy_block& block, std::uint32_t number, std::uint64_t first,
                                                              std::uint64_t count) noexcept {
    const copy_loop loop = block.loops[number];
    copy_block part = block;
    part.source_offset += first * loop.source_stride;
    part.destination_offset += first * loop.destination_stride;
    part.loops[number].extent = count;
    if (count != 1) return part;
    for (std::uint32_t i = number; i + 1 < block.loop_count; ++i) part.loops[i] = part.loops[i + 1];
    --part.loop_count;
    return part;
}

/// Calls f(part) for the parts of a block that lie in a window of one side and together are all of it that does: blocks
/// themselves, as large as can be, until f returns a failure. f returns result<void>.
template <class F>
result<void> cut(const copy_block& block, block_side side, byte_window window, F& f) {
    const auto stride = [&](const copy_loop& loop) noexcept {
        return side == block_side::source ? loop.source_stride : loop.destination_stride;
    };
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

    // The loop with the longest step comes first.
    const std::uint32_t longest = longest_loop(block, side);
    const copy_loop loop = block.loops[longest];
    const std::uint64_t step = stride(loop), each = extent - (loop.extent - 1) * step;
    // steps that touch the window: [first, last); those that lie in it: [inner_first, inner_last)
    const std::uint64_t first = here + each > window.begin ? 0 : (window.begin - here - each) / step + 1;
    std::uint64_t last = (window.end - here + step - 1) / step;
    if (last > loop.extent) last = loop.extent;
    std::uint64_t inner_first = here >= window.begin ? 0 : (window.begin - here + step - 1) / step;
    std::uint64_t inner_last = window.end < here + each ? 0 : (window.end - here - each) / step + 1;
    if (inner_last > loop.extent) inner_last = loop.extent;
    if (inner_first >= inner_last) inner_first = inner_last = last;
    for (std::uint64_t i = first, count = 0; i < last; i += count) {
        const bool whole = i == inner_first && inner_first < inner_last;
        count = whole ? inner_last - inner_first : 1;
        part = steps_of(block, longest, i, count);
        if (auto done = whole ? f(part) : cut(part, side, window, f); !done) return done;
    }
    return {};
}

/// Calls f(part) for parts of a block of about `most` bytes that together are all of it, in the order of one side, until f returns
/// false.
template <class F>
bool split(const copy_block& block, block_side side, std::uint64_t most, const F& f) {
    const std::uint64_t size_bytes = block.size_bytes();
    if (size_bytes <= most + most / 2) return f(block);
    if (block.loop_count == 0) {
        copy_block part = block;
        for (std::uint64_t done = 0; done < size_bytes; done += part.run_bytes) {
            part.source_offset = block.source_offset + done;
            part.destination_offset = block.destination_offset + done;
            part.run_bytes = size_bytes - done < most ? size_bytes - done : most;
            if (!f(part)) return false;
        }
        return true;
    }
    const std::uint32_t longest = longest_loop(block, side);
    const std::uint64_t extent = block.loops[longest].extent, each = size_bytes / extent;
    constexpr std::uint64_t together = 64;  // steps that may share lines of the other side
    std::uint64_t steps = most / each;
    if (steps == 0) steps = 1;
    if (steps > together) steps -= steps % together;
    for (std::uint64_t first = 0; first < extent; first += steps) {
        const copy_block part = steps_of(block, longest, first, extent - first < steps ? extent - first : steps);
        if (!(part.loop_count < block.loop_count ? split(part, side, most, f) : f(part))) return false;
    }
    return true;
}

}  // namespace safefuse::inline SAFEFUSE_ABI::detail

#endif
