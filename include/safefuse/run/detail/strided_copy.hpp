// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: runs the copies of a plan between two places in memory.
#ifndef SAFEFUSE_RUN_DETAIL_STRIDED_COPY_HPP
#define SAFEFUSE_RUN_DETAIL_STRIDED_COPY_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <safefuse/core/config.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/run/detail/copy_bytes.hpp>
#include <safefuse/run/detail/transpose.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Copies the elements of two loops, one by one.
template <class Element>
void copy_tile(const std::byte* from, std::byte* to, const copy_loop& outer, const copy_loop& inner,
               std::uint64_t rows, std::uint64_t columns) noexcept {
    const std::uint64_t from_step = inner.source_stride, to_step = inner.destination_stride;
    for (std::uint64_t o = 0; o < rows; ++o) {
        const std::byte* const from_row = from + o * outer.source_stride;
        std::byte* const to_row = to + o * outer.destination_stride;
        for (std::uint64_t i = 0; i < columns; ++i) {
            Element element;
            std::memcpy(&element, from_row + i * from_step, sizeof element);
            std::memcpy(to_row + i * to_step, &element, sizeof element);
        }
    }
}

/// What depends on the type of the elements when they are copied in two loops.
struct element_copies {
    std::size_t element_bytes;
    band_function transpose;
    void (*copy)(const std::byte*, std::byte*, const copy_loop&, const copy_loop&, std::uint64_t,
                 std::uint64_t) noexcept;
};

/// Copies single elements in two loops, tile by tile, so that neither side touches a new cache line
/// for each element.
SAFEFUSE_NOINLINE inline void copy_tiled(const std::byte* from, std::byte* to,
                                         const copy_loop& outer, const copy_loop& inner,
                                         element_copies each, bool streams) noexcept {
    if (outer.source_stride == each.element_bytes && inner.destination_stride == each.element_bytes)
        return transpose_tiles(from, static_cast<std::size_t>(inner.source_stride), to,
                               static_cast<std::size_t>(outer.destination_stride),
                               static_cast<std::size_t>(inner.extent),
                               static_cast<std::size_t>(outer.extent), each.element_bytes,
                               each.transpose, streams);
    const std::uint64_t tile = 64 / each.element_bytes;
    for (std::uint64_t o = 0; o < outer.extent; o += tile)
        for (std::uint64_t i = 0; i < inner.extent; i += tile)
            each.copy(from + o * outer.source_stride + i * inner.source_stride,
                      to + o * outer.destination_stride + i * inner.destination_stride, outer,
                      inner, outer.extent - o < tile ? outer.extent - o : tile,
                      inner.extent - i < tile ? inner.extent - i : tile);
}
template <class Element>
void copy_tiled(const std::byte* from, std::byte* to, const copy_loop& outer,
                const copy_loop& inner, bool streams) noexcept {
    copy_tiled(from, to, outer, inner, {sizeof(Element), band_of<Element>(), &copy_tile<Element>},
               streams);
}

/// Runs the loops of a block from `depth` on. `from` and `to` point to the first run. With
/// `streams`, uses streaming stores; call finish_streaming() afterwards.
inline void copy_loops(const copy_block& block, std::uint32_t depth, const std::byte* from,
                       std::byte* to, bool streams) noexcept {
    const std::uint32_t left = block.loop_count - depth;
    const auto run_bytes = static_cast<std::size_t>(block.run_bytes);
    const auto copy_run = [=](std::byte* run_to, const std::byte* run_from) noexcept {
        streams ? stream_bytes(run_to, run_from, run_bytes)
                : copy_bytes(run_to, run_from, run_bytes);
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
        for (std::uint64_t i = 0; i < loop.extent; ++i)
            copy_run(to + i * loop.destination_stride, from + i * loop.source_stride);
        return;
    }
    for (std::uint64_t i = 0; i < loop.extent; ++i)
        copy_loops(block, depth + 1, from + i * loop.source_stride,
                   to + i * loop.destination_stride, streams);
}

/// Runs a block. `from` and `to` point to its first run. With `streams`, uses streaming stores;
/// call finish_streaming() afterwards.
SAFEFUSE_NOINLINE inline void copy_runs(const copy_block& block, const std::byte* from,
                                        std::byte* to, bool streams) noexcept {
    if (block.loop_count < 3 || block.run_bytes > 8) return copy_loops(block, 0, from, to, streams);
    // Single elements: move the loops that are contiguous in the source and in the destination to
    // the end, where they form a transpose. The order of loops does not change what is copied.
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

/// Issues the store fence for streaming stores on destruction.
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

/// A half-open range of bytes on one side of a block.
struct byte_window {
    std::uint64_t begin;
    std::uint64_t end;
};

/// The side of a block that a window applies to.
enum class block_side : std::uint8_t { source, destination };

/// @{
/// One side of a block: the stride of a loop, the offset of the first run, and the bytes from there
/// to the end of the last run.
[[nodiscard]] constexpr std::uint64_t stride_of(const copy_loop& loop, block_side side) noexcept {
    return side == block_side::source ? loop.source_stride : loop.destination_stride;
}
[[nodiscard]] constexpr std::uint64_t offset_of(const copy_block& block, block_side side) noexcept {
    return side == block_side::source ? block.source_offset : block.destination_offset;
}
[[nodiscard]] constexpr std::uint64_t extent_of(const copy_block& block, block_side side) noexcept {
    return side == block_side::source ? block.source_extent_bytes()
                                      : block.destination_extent_bytes();
}
/// @}

/// The bytes that a loop's steps cover on one side. Step i covers [b, b + each) with b = begin + i
/// * step.
struct loop_steps {
    std::uint64_t begin;
    std::uint64_t step;
    std::uint64_t each;
    std::uint64_t count;

    /// The first step that ends after byte `at`. It may be past the last one.
    [[nodiscard]] constexpr std::uint64_t first_after(std::uint64_t at) const noexcept {
        return at < begin + each || step == 0 ? 0 : (at - begin - each) / step + 1;
    }
    /// Number of steps that begin before byte `at`.
    [[nodiscard]] constexpr std::uint64_t count_before(std::uint64_t at) const noexcept {
        if (at <= begin) return 0;
        if (step == 0) return count;
        const std::uint64_t steps = (at - begin + step - 1) / step;
        return steps < count ? steps : count;
    }
    /// Number of steps that end at or before byte `at`.
    [[nodiscard]] constexpr std::uint64_t count_up_to(std::uint64_t at) const noexcept {
        if (at < begin + each) return 0;
        const std::uint64_t steps = first_after(at);
        return steps < count && step != 0 ? steps : count;
    }
};

/// The steps [first, last) of a loop.
struct step_range {
    std::uint64_t first;
    std::uint64_t last;

    [[nodiscard]] constexpr bool is_empty() const noexcept { return first >= last; }
};
/// The steps that have bytes in a window.
[[nodiscard]] constexpr step_range steps_touching(const loop_steps& steps,
                                                  byte_window window) noexcept {
    return {steps.first_after(window.begin), steps.count_before(window.end)};
}
/// The steps that have all of their bytes in a window.
[[nodiscard]] constexpr step_range steps_inside(const loop_steps& steps,
                                                byte_window window) noexcept {
    return {steps.count_before(window.begin), steps.count_up_to(window.end)};
}
/// The part of [begin, begin + size) that is in a window. The two must overlap.
[[nodiscard]] constexpr byte_window intersect(std::uint64_t begin, std::uint64_t size,
                                              byte_window window) noexcept {
    return {begin < window.begin ? window.begin : begin,
            begin + size < window.end ? begin + size : window.end};
}

/// A block whose loops are sorted by falling stride on one side, so that runs of different outer
/// steps never interleave.
class ordered_block {
public:
    SAFEFUSE_NOINLINE ordered_block(const copy_block& block, block_side side) noexcept
        : block_{block}, side_{side} {
        for (std::uint32_t i = 1; i < block_.loop_count; ++i) {
            const copy_loop loop = block_.loops[i];
            std::uint32_t at = i;
            for (; at > 0 && stride(at - 1) < stride_of(loop, side_); --at)
                block_.loops[at] = block_.loops[at - 1];
            block_.loops[at] = loop;
        }
        span_[block_.loop_count] = block_.run_bytes;
        for (std::uint32_t i = block_.loop_count; i-- > 0;)
            span_[i] = span_[i + 1] + (block_.loops[i].extent - 1) * stride(i);
    }

    /// Calls f(source offset, destination offset, bytes) for the runs, or parts of runs, inside the
    /// window, in the order of the side, until f returns a failure. f returns result<void>.
    template <class F>
    result<void> for_each_run(byte_window window, F&& f) const noexcept {
        const run_call call{const_cast<void*>(static_cast<const void*>(&f)),
                            [](void* object, std::uint64_t from, std::uint64_t to,
                               std::uint64_t size_bytes) noexcept -> result<void> {
                                return (*static_cast<std::remove_reference_t<F>*>(object))(
                                    from, to, size_bytes);
                            }};
        return visit(0, block_.source_offset, block_.destination_offset, window, call);
    }

    /// The rest, from `at` on, of the first stretch that ends after `at`. Runs less than `gap`
    /// bytes apart form one stretch. Empty if there is none.
    [[nodiscard]] SAFEFUSE_NOINLINE byte_window stretch(std::uint64_t at,
                                                        std::uint64_t gap) const noexcept {
        std::uint64_t here = offset_of(block_, side_);
        if (at >= here + span_[0]) return {at, at};
        const std::uint32_t solid = solid_from(gap);
        for (std::uint32_t depth = 0; depth < solid; ++depth)
            here += steps_at(depth, here).first_after(at) * stride(depth);
        return {at > here ? at : here, here + span_[solid]};
    }
    /// Whether all runs are at least `gap` bytes apart.
    [[nodiscard]] bool runs_apart(std::uint64_t gap) const noexcept {
        return solid_from(gap) == block_.loop_count;
    }

private:
    /// What for_each_run() calls, without its type: all callers share visit().
    struct run_call {
        void* object;
        result<void> (*f)(void*, std::uint64_t, std::uint64_t, std::uint64_t) noexcept;
    };

    /// Index of the first loop from which on all steps are less than `gap` bytes apart.
    [[nodiscard]] std::uint32_t solid_from(std::uint64_t gap) const noexcept {
        std::uint32_t depth = block_.loop_count;
        while (depth > 0 &&
               (stride(depth - 1) < span_[depth] || stride(depth - 1) - span_[depth] < gap))
            --depth;
        return depth;
    }
    [[nodiscard]] std::uint64_t stride(std::uint32_t depth) const noexcept {
        return stride_of(block_.loops[depth], side_);
    }
    /// The steps of a loop whose first step begins at byte `begin`.
    [[nodiscard]] loop_steps steps_at(std::uint32_t depth, std::uint64_t begin) const noexcept {
        return {begin, stride(depth), span_[depth + 1], block_.loops[depth].extent};
    }

    SAFEFUSE_NOINLINE result<void> visit(std::uint32_t depth, std::uint64_t from, std::uint64_t to,
                                         byte_window window, const run_call& call) const noexcept {
        const std::uint64_t here = side_ == block_side::source ? from : to;
        if (here >= window.end || here + span_[depth] <= window.begin) return {};
        // loop_count is at most max_copy_loops; g++ 12 does not see this and warns of reads past
        // the array
        if (depth == block_.loop_count || depth == max_copy_loops) {
            const byte_window part = intersect(here, block_.run_bytes, window);
            const std::uint64_t skipped = part.begin - here;
            return call.f(call.object, from + skipped, to + skipped, part.end - part.begin);
        }
        const copy_loop& loop = block_.loops[depth];
        const step_range steps = steps_touching(steps_at(depth, here), window);
        for (std::uint64_t i = steps.first; i < steps.last; ++i)
            if (auto done = visit(depth + 1, from + i * loop.source_stride,
                                  to + i * loop.destination_stride, window, call);
                !done)
                return done;
        return {};
    }

    copy_block block_;
    block_side side_;
    std::uint64_t span_[max_copy_loops + 1]{};
};

/// Index of the loop with the longest stride on one side. Its steps do not overlap there. The block
/// must have a loop.
[[nodiscard]] inline std::uint32_t longest_loop(const copy_block& block, block_side side) noexcept {
    std::uint32_t longest = 0;
    for (std::uint32_t i = 1; i < block.loop_count; ++i)
        if (stride_of(block.loops[i], side) > stride_of(block.loops[longest], side)) longest = i;
    return longest;
}

/// The steps [first, first + count) of one loop of a block, as a block.
[[nodiscard]] SAFEFUSE_NOINLINE inline copy_block steps_of(const copy_block& block,
                                                           std::uint32_t number,
                                                           std::uint64_t first,
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

/// The part of a block without loops that is in a window of one side, as a block.
[[nodiscard]] inline copy_block run_inside(const copy_block& block, block_side side,
                                           byte_window window) noexcept {
    const std::uint64_t here = offset_of(block, side);
    const byte_window inside = intersect(here, block.run_bytes, window);
    copy_block part = block;
    part.source_offset += inside.begin - here;
    part.destination_offset += inside.begin - here;
    part.run_bytes = inside.end - inside.begin;
    return part;
}

/// Calls f(part) for blocks that together are the part of a block inside a window of one side. The
/// parts are as large as possible. Stops if f returns a failure. f returns result<void>.
template <class F>
result<void> cut(const copy_block& block, block_side side, byte_window window, F& f) noexcept {
    const std::uint64_t here = offset_of(block, side), extent = extent_of(block, side);
    if (here >= window.end || here + extent <= window.begin) return {};
    if (here >= window.begin && here + extent <= window.end) return f(block);
    if (block.loop_count == 0) return f(run_inside(block, side, window));
    // start with the loop with the longest stride, because its steps do not overlap
    const std::uint32_t longest = longest_loop(block, side);
    const copy_loop loop = block.loops[longest];
    const std::uint64_t step = stride_of(loop, side);
    const loop_steps steps{here, step, extent - (loop.extent - 1) * step, loop.extent};
    const step_range touching = steps_touching(steps, window), inside = steps_inside(steps, window);
    for (std::uint64_t i = touching.first, count = 0; i < touching.last; i += count) {
        const bool whole = !inside.is_empty() && i == inside.first;
        count = whole ? inside.last - inside.first : 1;
        const copy_block part = steps_of(block, longest, i, count);
        if (auto done = whole ? f(part) : cut(part, side, window, f); !done) return done;
    }
    return {};
}

/// Calls f(part) for parts of about `most` bytes that together are the whole block, in the order of
/// one side, until f returns false.
template <class F>
bool split(const copy_block& block, block_side side, std::uint64_t most, const F& f) noexcept {
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
    constexpr std::uint64_t together = 64;  // steps that may share cache lines of the other side
    std::uint64_t steps = most / each;
    if (steps == 0) steps = 1;
    if (steps > together) steps -= steps % together;
    for (std::uint64_t first = 0; first < extent; first += steps) {
        const copy_block part =
            steps_of(block, longest, first, extent - first < steps ? extent - first : steps);
        if (!(part.loop_count < block.loop_count ? split(part, side, most, f) : f(part)))
            return false;
    }
    return true;
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
