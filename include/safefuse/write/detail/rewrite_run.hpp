// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: runs a rewrite_plan: reads the sources front to back, each byte once, and passes on the
// bytes of the new tensors. Memory: the plan of one scope and one or two buffers.
#ifndef SAFEFUSE_WRITE_DETAIL_REWRITE_RUN_HPP
#define SAFEFUSE_WRITE_DETAIL_REWRITE_RUN_HPP

#include <cstddef>
#include <cstdint>
#include <utility>

#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/progress.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/run/detail/strided_copy.hpp>
#include <safefuse/run/fuse_range.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/write/rewrite_options.hpp>
#include <safefuse/write/rewrite_plan.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {

/// Bytes that are read and written at once if nothing has to be assembled. A piece of this size
/// stays in a core's cache.
inline constexpr std::size_t run_piece_bytes = std::size_t{512} << 10;

/// Releases a source's pages after use, in strides large enough for a system call.
class source_release {
public:
    source_release(const tensor_set_ref& set, advice hint) noexcept : set_{set}, hint_{hint} {}
    ~source_release() { flush(); }
    source_release(const source_release&) = delete;
    source_release& operator=(const source_release&) = delete;

    /// Tells that bytes [begin, end) of a source have been used.
    void used(std::uint32_t source, std::uint64_t begin, std::uint64_t end) noexcept {
        if (source != source_ || begin < begin_ || begin > end_ + page_multiple) {
            flush();
            source_ = source;
            begin_ = end_ = begin / page_multiple * page_multiple;
        }
        if (end > end_) end_ = end;
        if (end_ - begin_ >= stride_bytes) flush();
    }

private:
    static constexpr std::uint64_t page_multiple = 65536;
    static constexpr std::uint64_t stride_bytes = std::uint64_t{8} << 20;

    void flush() noexcept {
        if (end_ > begin_) set_.advise(source_, begin_, end_ - begin_, hint_);
        begin_ = end_ / page_multiple * page_multiple;
        end_ = begin_;
    }

    const tensor_set_ref& set_;
    advice hint_;
    std::uint32_t source_ = 0;
    std::uint64_t begin_ = 0;
    std::uint64_t end_ = 0;
};

/// A range that need not be sent, as offsets from the start of a run.
struct shared_range {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
};

/// Sends the bytes of a plan's tensors to `accept`: a new file or a comparison.
///     accept(tensor, offset, bytes)     bytes of a tensor of the rewrite_plan; returns a
///     result<void> accept.share(source, from, size, tensor, offset)
///                                       optional: returns the part of a run that need not be sent
class rewrite_run {
public:
    rewrite_run(const rewrite_plan& plan, progress_ref progress, advice used_source) noexcept
        : plan_{plan},
          set_{plan.set()},
          progress_{progress},
          check_{set_},
          release_{set_, used_source} {}

    /// Counts bytes that are already written.
    result<void> skip(std::uint32_t t, std::uint64_t size_bytes) noexcept {
        return progressed(t, size_bytes);
    }

    /// Sends the bytes of the tensors `chosen` (indices into the plan), in the order of their
    /// sources.
    template <class Accept>
    result<void> send(span<const std::uint32_t> chosen, Accept&& accept) noexcept {
        vector<step> steps;
        if (auto made = list_steps(steps, chosen); !made) return made;
        for (const step& each : steps) {
            check_.forget();
            auto sent = each.scope == rewrite_plan::passthrough
                            ? send_tensor(each.tensor, accept)
                            : send_scope(each.scope, chosen, accept);
            if (!sent) return sent;
        }
        return {};
    }

private:
    /// One passed-through tensor, or all chosen outputs of a scope.
    struct step {
        std::uint32_t source;
        std::uint32_t scope;
        std::uint64_t offset;
        std::uint32_t tensor;
    };

    result<void> list_steps(vector<step>& steps, span<const std::uint32_t> chosen) noexcept {
        const failure no_memory{.code = errc::out_of_memory};
        vector<bool> listed;
        if (!listed.resize(plan_.scopes().size(), false)) return no_memory;
        for (const std::uint32_t t : chosen) {
            const rewrite_plan::origin from = plan_.origin_of(t);
            const bool passthrough = from.scope == rewrite_plan::passthrough;
            if (!passthrough && exchange(listed[from.scope], true)) continue;
            const std::size_t first =
                passthrough ? from.number : plan_.scopes()[from.scope].tensors[0];
            const tensor_location place = set_.place(first);
            if (!steps.push({place.source, from.scope, place.offset, t})) return no_memory;
        }
        const auto before = [](const step& a, const step& b) noexcept {
            return a.source != b.source ? a.source < b.source : a.offset < b.offset;
        };
        if (!sort(steps.view(), before)) return no_memory;
        return {};
    }

    /// Sends [from, from + size) of a source as bytes of a tensor, except for what the receiver
    /// shares.
    template <class Accept>
    result<void> send_run(std::uint32_t source, std::uint64_t from, std::uint64_t size,
                          std::uint32_t t, std::uint64_t to, Accept& accept) noexcept {
        if constexpr (requires { accept.share(source, from, size, t, to); }) {
            const shared_range shared = accept.share(source, from, size, t, to);
            if (shared.end > shared.begin) {
                if (auto sent = send_pieces(source, from, shared.begin, t, to, accept); !sent)
                    return sent;
                if (auto going = progressed(t, shared.end - shared.begin); !going) return going;
                return send_pieces(source, from + shared.end, size - shared.end, t, to + shared.end,
                                   accept);
            }
        }
        return send_pieces(source, from, size, t, to, accept);
    }

    template <class Accept>
    result<void> send_pieces(std::uint32_t source, std::uint64_t from, std::uint64_t size,
                             std::uint32_t t, std::uint64_t to, Accept& accept) noexcept {
        const span<const std::byte> resident = set_.source_bytes(source);
        if (!resident.empty())
            if (auto same = check_.before(source); !same) return same;
        for (std::uint64_t done = 0; done < size;) {
            const std::size_t piece = static_cast<std::size_t>(
                size - done < run_piece_bytes ? size - done : run_piece_bytes);
            span<const std::byte> bytes;
            if (!resident.empty()) {
                if (auto there = check_resident(set_, source, resident, from, size); !there)
                    return there;
                bytes = resident.subspan(static_cast<std::size_t>(from + done), piece);
            } else {
                if (!buffer_.reserve(run_piece_bytes)) return failure{.code = errc::out_of_memory};
                if (auto read = set_.read(source, from + done, {buffer_.data(), piece}); !read)
                    return read;
                bytes = {buffer_.data(), piece};
            }
            if (auto accepted = accept(t, to + done, bytes); !accepted) {
                // if a mapped file was truncated meanwhile, the OS reports a bad pointer
                if (!resident.empty())
                    if (auto same = set_.check(source); !same) return same;
                return accepted;
            }
            if (auto going = progressed(t, piece); !going) return going;
            release_.used(source, from + done, from + done + piece);
            done += piece;
        }
        return {};
    }

    result<void> progressed(std::uint32_t t, std::uint64_t size_bytes) noexcept {
        done_bytes_ += size_bytes;
        if (size_bytes != 0 &&
            !progress_({plan_.tensors()[t].name, done_bytes_, plan_.total_bytes()}))
            return failure{.code = errc::canceled};
        return {};
    }

    template <class Accept>
    result<void> send_tensor(std::uint32_t t, Accept& accept) noexcept {
        const tensor_location place = set_.place(plan_.origin_of(t).number);
        return send_run(place.source, place.offset, place.size_bytes, t, 0, accept);
    }

    template <class Accept>
    result<void> send_scope(std::uint32_t scope, span<const std::uint32_t> chosen,
                            Accept& accept) noexcept {
        if (planned_scope_ != scope) {
            planned_ = plan_.plan_of(scope);
            planned_scope_ = planned_ ? scope : rewrite_plan::passthrough;
        }
        if (!planned_) return std::move(planned_).error();
        const copy_plan& plan = *planned_;
        vector<std::uint32_t> tensor_of;  // by output
        // an output with strided copies or with equality checks is assembled piece by piece; all
        // others are sent as runs
        vector<bool> gathered;
        if (!tensor_of.resize(plan.outputs().size(), no_index) ||
            !gathered.resize(plan.outputs().size(), false))
            return failure{.code = errc::out_of_memory};
        for (const std::uint32_t t : chosen)
            if (plan_.origin_of(t).scope == scope) tensor_of[plan_.origin_of(t).number] = t;
        for (const copy_block& block : plan.blocks())
            gathered[block.output] = gathered[block.output] || block.loop_count != 0;
        for (const copy_block& block : plan.equal_blocks()) gathered[block.output] = true;
        for (const copy_block& block : plan.blocks()) {
            const std::uint32_t t = tensor_of[block.output];
            if (t == no_index || gathered[block.output]) continue;
            if (auto sent = send_run(block.source, block.source_offset, block.run_bytes, t,
                                     block.destination_offset, accept);
                !sent)
                return sent;
        }
        for (std::size_t o = 0; o < plan.outputs().size(); ++o)
            if (tensor_of[o] != no_index && gathered[o])
                if (auto sent = send_gathered(plan, o, tensor_of[o], accept); !sent) return sent;
        return {};
    }

    template <class Accept>
    result<void> send_gathered(const copy_plan& plan, std::size_t output, std::uint32_t t,
                               Accept& accept) noexcept {
        const std::uint64_t size = plan.outputs()[output].size_bytes;
        for (std::uint64_t done = 0; done < size;) {
            const std::size_t piece =
                static_cast<std::size_t>(window_end(plan, output, done) - done);
            if (!buffer_.reserve(piece < rewrite_buffer_bytes ? rewrite_buffer_bytes : piece))
                return failure{.code = errc::out_of_memory};
            if (auto gathered = fuse_range(plan, output, done, {buffer_.data(), piece}); !gathered)
                return gathered;
            if (auto accepted = accept(t, done, span<const std::byte>{buffer_.data(), piece});
                !accepted)
                return accepted;
            if (auto going = progressed(t, piece); !going) return going;
            release_gathered(plan, output, {done, done + piece});
            done += piece;
        }
        return {};
    }

    /// End of the next piece of an output: about one buffer after `begin`, moved so that no source
    /// is read twice.
    [[nodiscard]] std::uint64_t window_end(const copy_plan& plan, std::size_t output,
                                           std::uint64_t begin) const noexcept {
        const std::uint64_t size = plan.outputs()[output].size_bytes;
        const auto at_most = [&](std::uint64_t bytes) noexcept {
            return size - begin < bytes ? size : begin + bytes;
        };
        const std::uint64_t usual = at_most(rewrite_buffer_bytes);
        const std::uint64_t latest = at_most(largest_rewrite_buffer_bytes);
        const auto is_clean = [&](std::uint64_t end) noexcept {
            for (const copy_block& block : plan.blocks())
                if (block.output == output && block.destination_offset < end &&
                    block.destination_offset + block.destination_extent_bytes() > end &&
                    is_turned(block) && set_.source_bytes(block.source).empty())
                    return false;
            return true;
        };
        if (is_clean(usual)) return usual;
        std::uint64_t before = begin, behind = latest;
        for (const copy_block& block : plan.blocks()) {
            const std::uint64_t end = block.destination_offset + block.destination_extent_bytes();
            if (block.output != output || end <= begin || end > latest) continue;
            if ((end <= usual ? end <= before : end >= behind) || !is_clean(end)) continue;
            (end <= usual ? before : behind) = end;
        }
        return before > begin ? before : behind;
    }
    /// Whether the block transposes: neighbours in the output are far apart in the source, so a
    /// piece of the output is not a contiguous piece of the source.
    [[nodiscard]] static bool is_turned(const copy_block& block) noexcept {
        for (std::uint32_t i = 1; i < block.loop_count; ++i)
            if (block.loops[i - 1].source_stride < block.loops[i].source_stride) return true;
        return false;
    }

    /// Releases the source pages of a block when its last byte is in the window. A very large block
    /// is released piece by piece, although the next piece may touch the same pages again.
    void release_gathered(const copy_plan& plan, std::size_t output, byte_window window) noexcept {
        constexpr std::uint64_t large_bytes = std::uint64_t{64} << 20;
        for (const copy_block& block : plan.blocks()) {
            if (block.output != output) continue;
            const std::uint64_t end = block.destination_offset + block.destination_extent_bytes();
            if (block.destination_offset >= window.end || end <= window.begin) continue;
            const auto let_go = [&](const copy_block& part) noexcept {
                release_.used(part.source, part.source_offset,
                              part.source_offset + part.source_extent_bytes());
                return result<void>{};
            };
            if (end <= window.end && block.source_extent_bytes() <= large_bytes)
                (void)let_go(block);
            else if (block.source_extent_bytes() > large_bytes)
                (void)cut(block, block_side::destination, window, let_go);
        }
    }

    const rewrite_plan& plan_;
    const tensor_set_ref& set_;
    progress_ref progress_;
    source_check check_;
    source_release release_;
    vector<std::byte> buffer_;
    std::uint32_t planned_scope_ = rewrite_plan::passthrough;
    result<copy_plan> planned_{failure{}};
    std::uint64_t done_bytes_ = 0;
};

}  // namespace detail

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
