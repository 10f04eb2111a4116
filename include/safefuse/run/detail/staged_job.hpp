// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: divides a plan, or some tensors, into fills, and fills staging slabs. A fill is what
// one slab contains at a time. Independent of any device.
#ifndef SAFEFUSE_RUN_DETAIL_STAGED_JOB_HPP
#define SAFEFUSE_RUN_DETAIL_STAGED_JOB_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/run/detail/copy_bytes.hpp>
#include <safefuse/run/detail/execute.hpp>
#include <safefuse/run/detail/strided_copy.hpp>
#include <safefuse/run/fuse_range.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// The bytes of an output that are made. None if size_bytes is 0.
struct staged_window {
    std::uint64_t begin = 0;
    std::uint64_t size_bytes = 0;
};

/// Bytes that are contiguous in the slab and in the output. They become one copy to the device.
struct staged_piece {
    std::uint32_t output = 0;
    std::uint32_t source = 0;  // of a run
    std::uint32_t set = 0;     // index of the source's set in the job
    // For a run: offset in the source. For a window: index of its first block.
    std::uint64_t from = 0;
    std::uint64_t to = 0;        // offset in the output
    std::size_t size_bytes = 0;  // at most one slab
    std::size_t at = 0;          // offset in the slab
    // 0 for a run. Otherwise the piece is a window of the output that so many blocks make.
    std::uint32_t block_count = 0;
};

/// The bytes of some plans or tensors in the order in which slabs take them. Long runs are read in
/// source order, one copy each. Outputs with short runs are assembled in the slab, window by
/// window, one copy per window.
class staged_job {
public:
    /// `least_run_bytes`: outputs whose runs are shorter on average are assembled in the slab.
    staged_job(std::size_t slab_bytes, std::uint64_t least_run_bytes) noexcept
        : slab_bytes_{slab_bytes}, least_run_bytes_{least_run_bytes} {}

    /// Everything added from here on is read from this set.
    ///   fails   out_of_memory
    result<void> read_from(const tensor_set_ref& set) noexcept {
        if (!sets_.push(set)) return detail::lack_of_memory{};
        return {};
    }

    /// Adds everything that the plan makes in the windows. Output i of the plan is output
    /// first_output + i of the job. The plan must outlive the job.
    ///   fails   out_of_memory, size_overflow
    SAFEFUSE_NOINLINE result<void> divide(const copy_plan& plan, span<const staged_window> windows,
                                          std::uint32_t first_output = 0) noexcept {
        if (auto set = read_from(plan.set()); !set) return set;
        const std::size_t already = order_.size();
        const span<const copy_block> blocks = plan.blocks();
        if (blocks.size() > UINT32_MAX)
            return failure{.code = errc::size_overflow, .actual = blocks.size()};
        vector<bool> are_short;
        if (auto found = find_short_runs(are_short, plan, windows.size()); !found) return found;
        for (const copy_block& block : blocks) {
            const staged_window& window = windows[block.output];
            if (window.size_bytes == 0) continue;
            if (are_short[block.output]) {
                if (!order_.push(&block)) return detail::lack_of_memory{};
                continue;
            }
            const auto keep = [&](const copy_block& part) noexcept {
                const auto keep_run = [&](std::uint64_t from, std::uint64_t to,
                                          std::uint64_t size) noexcept {
                    return add_run(first_output + part.output, part.source, from, to, size);
                };
                return ordered_block{part, block_side::source}.for_each_run(
                    {part.source_offset, part.source_offset + part.source_extent_bytes()},
                    keep_run);
            };
            auto kept = cut(block, block_side::destination,
                            {window.begin, window.begin + window.size_bytes}, keep);
            if (!kept) return kept;
        }
        const auto before = [](const copy_block* a, const copy_block* b) noexcept {
            return a->output != b->output ? a->output < b->output
                                          : a->destination_offset < b->destination_offset;
        };
        if (!sort(order_.view().subspan(already), before)) return detail::lack_of_memory{};
        for (std::size_t first = already, end = already; first < order_.size(); first = end) {
            const std::uint32_t output = order_[first]->output;
            while (end < order_.size() && order_[end]->output == output) ++end;
            if (auto added = add_windows(first_output + output, windows[output], first, end);
                !added)
                return added;
        }
        return {};
    }

    /// Adds a run of a source to an output.
    ///   fails   out_of_memory
    result<void> add_run(std::uint32_t output, std::uint32_t source, std::uint64_t from,
                         std::uint64_t to, std::uint64_t size_bytes) noexcept {
        // a run longer than a slab becomes pieces of similar size, because short copies are slow
        const std::uint64_t count = size_bytes / slab_bytes_ + (size_bytes % slab_bytes_ != 0);
        std::uint64_t most = count == 0 ? 0 : size_bytes / count + (size_bytes % count != 0);
        if (most < slab_bytes_ && slab_bytes_ - most >= 4096) most = (most + 4095) / 4096 * 4096;
        for (std::uint64_t done = 0; done < size_bytes; done += most) {
            const std::uint64_t size = size_bytes - done < most ? size_bytes - done : most;
            if (!add({output, source, last_set(), from + done, to + done,
                      static_cast<std::size_t>(size), 0, 0}))
                return detail::lack_of_memory{};
        }
        return {};
    }

    /// Number of slab fills.
    [[nodiscard]] std::size_t fill_count() const noexcept { return fills_.size(); }
    /// The pieces of fill i, in slab order.
    [[nodiscard]] span<const staged_piece> pieces(std::size_t i) const noexcept {
        const std::size_t end = i + 1 < fills_.size() ? fills_[i + 1] : pieces_.size();
        return pieces_.view().subspan(fills_[i], end - fills_[i]);
    }
    /// Sum of the bytes of all pieces.
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_bytes_; }

    /// Puts the bytes of fill i into a slab. `scratch` is a read buffer that the caller keeps. May
    /// be called from many threads. On failure, `output` is the output that failed.
    ///   fails   as reading the sources does
    SAFEFUSE_NOINLINE result<void> fill(std::size_t number, std::byte* slab,
                                        vector<std::byte>& scratch,
                                        std::uint32_t& output) const noexcept {
        const span<const staged_piece> pieces = this->pieces(number);
        for (std::size_t i = 0; i < pieces.size();) {
            const std::uint32_t number_of_set = pieces[i].set;
            const tensor_set_ref& set = sets_[number_of_set];
            source_check check{set};
            for (std::size_t next = i; i < pieces.size() && pieces[i].set == number_of_set;
                 i = next) {
                const staged_piece& piece = pieces[i];
                output = piece.output;
                next = i + 1;
                if (piece.block_count > 0) {
                    if (auto made = make_window(set, piece, slab + piece.at, scratch, check); !made)
                        return made;
                    continue;
                }
                std::size_t size_bytes = piece.size_bytes;
                for (; next < pieces.size() && continues(pieces[next - 1], pieces[next]); ++next)
                    size_bytes += pieces[next].size_bytes;
                if (auto read = read_run(set, piece, size_bytes, slab + piece.at, check); !read)
                    return read;
            }
        }
        return {};
    }

private:
    /// Bytes transposed at a time; they fit a core's cache.
    static constexpr std::size_t turned_bytes = std::size_t{320} << 10;
    /// Alignment of a piece in its slab.
    static constexpr std::size_t piece_alignment = 64;

    [[nodiscard]] static bool continues(const staged_piece& a, const staged_piece& b) noexcept {
        return a.block_count == 0 && b.block_count == 0 && a.set == b.set && a.source == b.source &&
               a.from + a.size_bytes == b.from && a.at + a.size_bytes == b.at;
    }

    [[nodiscard]] std::uint32_t last_set() const noexcept {
        return static_cast<std::uint32_t>(sets_.size() - 1);
    }

    [[nodiscard]] bool add(staged_piece piece) noexcept {
        piece.at = (used_ + piece_alignment - 1) / piece_alignment * piece_alignment;
        if (!pieces_.empty()) {  // contiguous source bytes are read together
            staged_piece close = piece;
            close.at = used_;
            if (continues(pieces_.back(), close)) piece = close;
        }
        const bool fits = !fills_.empty() && piece.at <= slab_bytes_ &&
                          slab_bytes_ - piece.at >= piece.size_bytes;
        if (!fits) {
            piece.at = 0;
            if (!fills_.push(pieces_.size())) return false;
        }
        if (!pieces_.push(piece)) {
            if (!fits) fills_.pop();
            return false;
        }
        used_ = piece.at + piece.size_bytes;
        size_bytes_ += piece.size_bytes;
        return true;
    }

    /// Whether the runs of an output are so short that it is made in windows.
    ///   fails   out_of_memory
    result<void> find_short_runs(vector<bool>& are_short, const copy_plan& plan,
                                 std::size_t outputs) const noexcept {
        vector<std::uint64_t> runs;
        if (!runs.resize(outputs) || !are_short.resize(outputs)) return detail::lack_of_memory{};
        for (const copy_block& block : plan.blocks()) runs[block.output] += block.run_count();
        for (std::size_t i = 0; i < outputs; ++i)
            are_short[i] = runs[i] > 1 && plan.outputs()[i].size_bytes / runs[i] < least_run_bytes_;
        return {};
    }

    /// The windows of an output that blocks order_[first..end) make.
    result<void> add_windows(std::uint32_t output, const staged_window& whole, std::size_t first,
                             std::size_t end) noexcept {
        // Windows end at a multiple of the longest loop stride that fits a slab, so that few blocks
        // are cut.
        std::uint64_t step = 1;
        for (std::size_t i = first; i < end; ++i) {
            const copy_block& block = *order_[i];
            for (std::uint32_t l = 0; l < block.loop_count; ++l) {
                const std::uint64_t stride = block.loops[l].destination_stride;
                if (stride <= slab_bytes_ && stride > step) step = stride;
            }
        }
        const std::uint64_t stop = whole.begin + whole.size_bytes;
        std::size_t next = first;  // blocks before this one end before the window
        for (std::uint64_t begin = whole.begin; begin < stop;) {
            std::uint64_t window_end = stop;
            if (stop - begin > slab_bytes_)
                window_end = (begin + slab_bytes_) / step * step;  // step <= slab_bytes_
            const auto ends_before = [&](const copy_block& block) noexcept {
                return block.destination_offset + block.destination_extent_bytes() <= begin;
            };
            while (next < end && ends_before(*order_[next])) ++next;
            std::size_t last = next;
            while (last < end && order_[last]->destination_offset < window_end) ++last;
            if (last > next && !add({output, 0, last_set(), next, begin,
                                     static_cast<std::size_t>(window_end - begin), 0,
                                     static_cast<std::uint32_t>(last - next)}))
                return detail::lack_of_memory{};
            begin = window_end;
        }
        return {};
    }

    static result<void> read_run(const tensor_set_ref& set, const staged_piece& piece,
                                 std::size_t size_bytes, std::byte* to,
                                 source_check& check) noexcept {
        const span<const std::byte> resident = set.source_bytes(piece.source);
        if (resident.empty()) return set.read(piece.source, piece.from, {to, size_bytes});
        if (auto same = check.before(piece.source); !same) return same;
        if (auto there = check_resident(set, piece.source, resident, piece.from, size_bytes);
            !there)
            return there;
        const std::byte* const from = resident.data() + piece.from;
        copy_to_read_soon(to, from, size_bytes);
        return {};
    }

    result<void> make_window(const tensor_set_ref& set, const staged_piece& piece, std::byte* to,
                             vector<std::byte>& scratch, source_check& check) const noexcept {
        for (std::size_t i = 0; i < piece.block_count; ++i) {
            const auto copy = [&](const copy_block& part) noexcept {
                if (const span<const std::byte> resident = set.source_bytes(part.source);
                    !resident.empty() && is_turned(part)) {
                    if (auto same = check.before(part.source); !same) return same;
                    if (auto there = check_resident(set, part, resident); !there) return there;
                    return turn(part, resident.data() + part.source_offset,
                                to + (part.destination_offset - piece.to), scratch);
                }
                return gather_part(set, part, to, piece.to, scratch, check, false);
            };
            auto copied =
                cut(*order_[static_cast<std::size_t>(piece.from) + i], block_side::destination,
                    {piece.to, piece.to + piece.size_bytes}, copy);
            if (!copied) return copied;
        }
        return {};
    }

    /// Whether a block is a transpose of single elements: along one loop they are contiguous in the
    /// source, along the other in the output.
    [[nodiscard]] static bool is_turned(const copy_block& block) noexcept {
        if (block.loop_count != 2 || block.run_bytes > 8) return false;
        const std::uint32_t along = block.loops[0].source_stride == block.run_bytes ? 0 : 1;
        return block.loops[along].source_stride == block.run_bytes &&
               block.loops[1 - along].destination_stride == block.run_bytes &&
               block.loops[along].extent <= turned_bytes / 16 / block.run_bytes;
    }
    /// Runs a transposing block through a buffer of a few source rows, each copied contiguously:
    /// reading columns of rows that are a page apart is slow.
    static result<void> turn(const copy_block& block, const std::byte* from, std::byte* to,
                             vector<std::byte>& scratch) noexcept {
        const std::uint32_t along = block.loops[0].source_stride == block.run_bytes ? 0 : 1;
        const copy_loop rows = block.loops[1 - along];
        const auto row_bytes =
            static_cast<std::size_t>(block.loops[along].extent * block.run_bytes);
        // Not a power of two: otherwise rows would compete for the same cache lines.
        const std::size_t apart = row_bytes + cache_line_bytes;
        std::uint64_t most = turned_bytes / apart;
        for (const std::uint64_t lines :
             // Whole lines of the output, four of them if possible.
             {128u, 32u})
            if (most >= lines) {
                most -= most % lines;
                break;
            }
        if (!scratch.resize_unset(turned_bytes)) return detail::lack_of_memory{};
        copy_block band = block;
        band.loops[1 - along].source_stride = apart;
        for (std::uint64_t first = 0; first < rows.extent; first += most) {
            const std::uint64_t count = rows.extent - first < most ? rows.extent - first : most;
            const std::byte* const first_row = from + first * rows.source_stride;
            for (std::uint64_t r = 0; r < count; ++r)
                copy_bytes(scratch.data() + r * apart, first_row + r * rows.source_stride,
                           row_bytes);
            band.loops[1 - along].extent = count;
            copy_runs(band, scratch.data(), to + first * rows.destination_stride, false);
        }
        return {};
    }

    std::size_t slab_bytes_;
    std::uint64_t least_run_bytes_;
    vector<tensor_set_ref> sets_;
    // Blocks of outputs with short runs, by output and offset.
    vector<const copy_block*> order_;
    vector<staged_piece> pieces_;
    vector<std::size_t> fills_;  // fill i is the pieces [fills_[i], fills_[i + 1])
    std::size_t used_ = 0;       // bytes used in the last fill's slab
    std::uint64_t size_bytes_ = 0;
};

/// Runs the plan's equality checks in the windows, from the sources alone.
inline result<void> compare_equal_sources(const copy_plan& plan,
                                          span<const staged_window> windows) noexcept {
    vector<std::byte> made;
    for (const copy_block& block : plan.equal_blocks()) {
        const staged_window& window = windows[block.output];
        const byte_window common =
            intersect(block.destination_offset, block.destination_extent_bytes(),
                      {window.begin, window.begin + window.size_bytes});
        for (std::uint64_t begin = common.begin, size = 0; begin < common.end; begin += size) {
            const std::uint64_t left = common.end - begin;
            size = left < read_buffer_bytes ? left : read_buffer_bytes;
            if (!made.resize_unset(static_cast<std::size_t>(size))) return detail::lack_of_memory{};
            if (auto equal = fuse_range(plan, block.output, begin, made.view()); !equal)
                return equal;  // fuse_range runs the checks
        }
    }
    return {};
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
