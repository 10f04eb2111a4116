// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: runs the blocks of a plan into memory. Sources in memory are copied block by block.
// Other sources are read, short runs through a buffer, so that no byte is read twice.
#ifndef SAFEFUSE_RUN_DETAIL_EXECUTE_HPP
#define SAFEFUSE_RUN_DETAIL_EXECUTE_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <safefuse/core/config.hpp>
#include <safefuse/core/progress.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/run/detail/strided_copy.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

inline failure no_such_output(const copy_plan& plan, std::size_t output) noexcept {
    return {.code = errc::output_not_found,
            .scope = text{plan.scope()},
            .detail = "there are fewer outputs",
            .expected = plan.outputs().size(),
            .actual = output};
}

/// Most memory in bytes that running blocks takes beside the outputs.
inline constexpr std::size_t read_buffer_bytes = std::size_t{1} << 20;
/// Runs of at least this size are read in place; shorter ones are read through a buffer.
inline constexpr std::uint64_t direct_read_bytes = 16 * 1024;
/// Gaps below this are read through: seeking costs as much as reading about 256 KiB (measured:
/// reading 230 KB costs as much as a separate read, 460 KB costs more).
inline constexpr std::uint64_t read_gap_bytes = 256 * 1024;

/// What a run with somebody to tell copies or reads before it asks whether to go on.
inline constexpr std::uint64_t watched_piece_bytes = std::uint64_t{4} << 20;

/// Tells of a run's progress, and asks whether to go on.
class run_watch {
public:
    run_watch(const copy_plan& plan, const progress_ref& progress,
              std::uint64_t total_bytes) noexcept
        : plan_{plan}, progress_{progress}, total_bytes_{total_bytes} {}

    /// So many more bytes of an output are made.
    ///   fails   canceled
    SAFEFUSE_NOINLINE result<void> made(std::uint32_t output, std::uint64_t size_bytes) noexcept {
        done_bytes_ += size_bytes;
        if (done_bytes_ - told_bytes_ < least_bytes && done_bytes_ < total_bytes_) return {};
        told_bytes_ = done_bytes_;
        if (progress_({plan_.outputs()[output].name, done_bytes_, total_bytes_})) return {};
        return failure{.code = errc::canceled,
                       .scope = text{plan_.scope()},
                       .expected = total_bytes_,
                       .actual = done_bytes_};
    }
    /// Where somebody is to be told; else null, which costs nothing.
    [[nodiscard]] run_watch* if_told() noexcept { return progress_ ? this : nullptr; }

private:
    static constexpr std::uint64_t least_bytes = std::uint64_t{1}
                                                 << 20;  // from one time to the next

    const copy_plan& plan_;
    progress_ref progress_;
    std::uint64_t total_bytes_;
    std::uint64_t done_bytes_ = 0;
    std::uint64_t told_bytes_ = 0;
};

/// Whether there is a buffer of the right size, or an empty one, for each output of a plan.
inline result<void> check_buffers(const copy_plan& plan,
                                  span<const span<std::byte>> buffers) noexcept {
    const span<const plan_output> outputs = plan.outputs();
    if (buffers.size() != outputs.size())
        return failure{.code = errc::wrong_buffer_size,
                       .scope = text{plan.scope()},
                       .detail = "the number of buffers is not the number of outputs",
                       .expected = outputs.size(),
                       .actual = buffers.size()};
    for (std::size_t i = 0; i < outputs.size(); ++i)
        if (!buffers[i].empty() && buffers[i].size() != outputs[i].size_bytes)
            return failure{.code = errc::wrong_buffer_size,
                           .tensor = text{outputs[i].name},
                           .expected = outputs[i].size_bytes,
                           .actual = buffers[i].size()};
    return {};
}

/// Checks that everything a block reads from a source in memory is inside the source.
inline result<void> check_resident(const tensor_set_ref& set, const copy_block& block,
                                   span<const std::byte> resident) noexcept {
    return check_resident(set, block.source, resident, block.source_offset,
                          block.source_extent_bytes());
}

/// Copies one block, whose source is in memory, into the output's memory.
inline result<void> copy_resident(const tensor_set_ref& set, const copy_block& block,
                                  span<const std::byte> resident, std::byte* output, bool streams,
                                  run_watch* watch = nullptr) noexcept {
    if (auto there = check_resident(set, block, resident); !there) return there;
    const auto copy = [&](const copy_block& part) noexcept {
        copy_runs(part, resident.data() + part.source_offset, output + part.destination_offset,
                  streams);
    };
    result<void> going;
    if (watch == nullptr) {
        copy(block);
        return going;
    }
    static_cast<void>(
        split(block, block_side::destination, watched_piece_bytes, [&](const copy_block& part) {
            copy(part);
            going = watch->made(part.output, part.size_bytes());
            return going.has_value();
        }));
    return going;
}

/// Reads a run of a source to `to`.
inline result<void> read_run(const tensor_set_ref& set, const copy_block& block, std::uint64_t from,
                             span<std::byte> to, run_watch* watch) noexcept {
    if (watch == nullptr) return set.read(block.source, from, to);
    for (std::size_t done = 0, piece = 0; done < to.size(); done += piece) {
        piece = to.size() - done;
        if (piece > watched_piece_bytes) piece = static_cast<std::size_t>(watched_piece_bytes);
        if (auto read = set.read(block.source, from + done, to.subspan(done, piece)); !read)
            return read;
        if (auto going = watch->made(block.output, piece); !going) return going;
    }
    return {};
}

/// Memory of the outputs: a buffer for each, or one output only.
class output_memory {
public:
    /// An empty buffer skips its output.
    explicit output_memory(span<const span<std::byte>> buffers) noexcept : buffers_{buffers} {}
    output_memory(std::uint32_t output, std::byte* memory) noexcept
        : only_{memory}, output_{output} {}

    /// Memory of an output, or null if it is skipped.
    [[nodiscard]] std::byte* operator[](std::uint32_t output) const noexcept {
        if (buffers_.data() == nullptr) return output == output_ ? only_ : nullptr;
        return buffers_[output].empty() ? nullptr : buffers_[output].data();
    }

private:
    span<const span<std::byte>> buffers_;
    std::byte* only_ = nullptr;
    std::uint32_t output_ = 0;
};

/// The first bytes at or after `at` that any of the blocks needs. Empty if there are none.
inline byte_window first_stretch(span<const copy_block> blocks, const output_memory& memory,
                                 std::uint64_t at) noexcept {
    byte_window found{unknown, unknown};
    for (const copy_block& block : blocks) {
        if (memory[block.output] == nullptr) continue;
        const byte_window first =
            ordered_block{block, block_side::source}.stretch(at, read_gap_bytes);
        if (first.begin < first.end && first.begin < found.begin) found = first;
    }
    return found;
}

/// Extends a stretch by what one block needs next, as long as gaps are short and the stretch is
/// below `most` bytes. Returns whether it was extended.
inline bool grow(byte_window& stretch, const ordered_block& block, std::uint64_t most) noexcept {
    bool grown = false;
    while (stretch.end - stretch.begin < most) {
        const byte_window next = block.stretch(stretch.end, read_gap_bytes);
        if (next.begin == next.end || next.begin - stretch.end >= read_gap_bytes) break;
        stretch.end = next.end;
        grown = true;
    }
    return grown;
}

/// The next bytes to read for some blocks: starts at or after `at`, at most `most` bytes, with
/// short gaps included. Empty at the end.
inline byte_window next_stretch(span<const copy_block> blocks, const output_memory& memory,
                                std::uint64_t at, std::uint64_t most) noexcept {
    byte_window found = first_stretch(blocks, memory, at);
    if (found.begin == unknown) return {at, at};
    for (bool grows = true; grows;) {
        grows = false;
        for (const copy_block& block : blocks)
            if (memory[block.output] != nullptr &&
                grow(found, ordered_block{block, block_side::source}, most))
                grows = true;
    }
    if (found.end - found.begin > most) found.end = found.begin + most;
    return found;
}

/// Runs blocks that interleave in a source that must be read. Reads stretch by stretch, so that no
/// byte is read twice.
inline result<void> read_together(const tensor_set_ref& set, span<const copy_block> blocks,
                                  std::uint64_t source_end, vector<std::byte>& buffer,
                                  const output_memory& memory, bool streams,
                                  run_watch* watch = nullptr) noexcept {
    const std::uint64_t begin = blocks[0].source_offset,
                        most = source_end - begin < read_buffer_bytes ? source_end - begin
                                                                      : read_buffer_bytes;
    if (!buffer.resize_unset(static_cast<std::size_t>(most))) return detail::lack_of_memory{};
    for (byte_window wanted{begin, begin};;) {
        wanted = next_stretch(blocks, memory, wanted.end, most);
        if (wanted.begin == wanted.end) return {};
        if (auto filled =
                set.read(blocks[0].source, wanted.begin,
                         {buffer.data(), static_cast<std::size_t>(wanted.end - wanted.begin)});
            !filled)
            return filled;
        for (const copy_block& block : blocks) {
            std::byte* const output = memory[block.output];
            if (output == nullptr) continue;
            const auto scatter = [&](const copy_block& part) noexcept {
                copy_runs(part, buffer.data() + (part.source_offset - wanted.begin),
                          output + part.destination_offset, streams);
                return watch == nullptr ? result<void>{}
                                        : watch->made(part.output, part.size_bytes());
            };
            auto scattered = cut(block, block_side::source, wanted, scatter);
            if (!scattered) return scattered;
        }
    }
}

/// Whether a block has many runs that are too short to be read one by one.
inline bool has_short_runs(const copy_block& block) noexcept {
    return block.loop_count > 0 && block.run_bytes < direct_read_bytes;
}

/// Whether a block's runs are read through the buffer, gaps included. Other runs are read in place,
/// one by one.
inline bool reads_through(const copy_block& block) noexcept {
    return has_short_runs(block) &&
           !ordered_block{block, block_side::source}.runs_apart(read_gap_bytes);
}

/// Passes `size` bytes of a source, starting at `from`, to f piece by piece: f(bytes, offset in the
/// range) returns result<void>. The pieces are in the source's memory, or read into `buffer`.
///   fails   read_past_end, out_of_memory, and as reading and f do
template <class F>
result<void> for_each_piece(const tensor_set_ref& set, std::uint32_t source, std::uint64_t from,
                            std::uint64_t size, vector<std::byte>& buffer, F& f) noexcept {
    const span<const std::byte> resident = set.source_bytes(source);
    if (!resident.empty())
        if (auto there = check_resident(set, source, resident, from, size); !there) return there;
    for (std::uint64_t done = 0, piece = 0; done < size; done += piece) {
        piece = size - done < read_buffer_bytes ? size - done : read_buffer_bytes;
        const auto count = static_cast<std::size_t>(piece);
        const std::byte* bytes = resident.data() + (resident.empty() ? 0 : from + done);
        if (resident.empty()) {
            if (!buffer.resize_unset(count)) return detail::lack_of_memory{};
            if (auto read = set.read(source, from + done, buffer.view()); !read) return read;
            bytes = buffer.data();
        }
        if (auto taken = f(span<const std::byte>{bytes, count}, done); !taken) return taken;
    }
    return {};
}

/// Checks the plan's equality checks of an output against the bytes `made`, which are the output's
/// bytes from `window.begin`.
inline result<void> compare_equal(const copy_plan& plan, std::uint32_t output, byte_window window,
                                  const std::byte* made) noexcept {
    const tensor_set_ref& set = plan.set();
    vector<std::byte> buffer;
    source_check check{set};
    for (const copy_block& block : plan.equal_blocks()) {
        if (block.output != output) continue;
        if (!set.source_bytes(block.source).empty())
            if (auto same = check.before(block.source); !same) return same;
        const auto compare_run = [&](std::uint64_t from, std::uint64_t to,
                                     std::uint64_t size) noexcept {
            const auto compare = [&](span<const std::byte> bytes,
                                     std::uint64_t at) noexcept -> result<void> {
                if (std::memcmp(bytes.data(), made + (to + at - window.begin), bytes.size()) == 0)
                    return {};
                return failure{.code = errc::parts_differ,
                               .file = text{set.source_name(block.source)},
                               .tensor = text{plan.outputs()[output].name},
                               .scope = text{plan.scope()},
                               .offset = from + at};
            };
            return for_each_piece(set, block.source, from, size, buffer, compare);
        };
        const ordered_block ordered{block, block_side::destination};
        if (auto done = ordered.for_each_run(window, compare_run); !done) return done;
    }
    return {};
}

/// Runs the equality checks of all outputs that have memory.
inline result<void> compare_all_equal(const copy_plan& plan, const output_memory& memory) noexcept {
    for (std::uint32_t i = 0; !plan.equal_blocks().empty() && i < plan.outputs().size(); ++i)
        if (const std::byte* const made = memory[i]; made != nullptr)
            if (auto equal = compare_equal(plan, i, {0, plan.outputs()[i].size_bytes}, made);
                !equal)
                return equal;
    return {};
}

/// Sum of the sizes of all outputs that have memory.
inline std::uint64_t bytes_to_make(const copy_plan& plan, const output_memory& memory) noexcept {
    std::uint64_t sum = 0;
    for (std::uint32_t i = 0; i < plan.outputs().size(); ++i)
        if (memory[i] != nullptr) sum += plan.outputs()[i].size_bytes;
    return sum;
}

/// Number of blocks, starting at block i, that are read together: blocks with short runs that
/// interleave, since the gaps of one may contain runs of another. Stores the end of the last one in
/// the source.
inline std::size_t blocks_among(span<const copy_block> blocks, std::size_t i,
                                const output_memory& memory, std::uint64_t& source_end) noexcept {
    source_end = blocks[i].source_offset + blocks[i].source_extent_bytes();
    std::size_t next = i + 1;
    for (; has_short_runs(blocks[i]) && next < blocks.size(); ++next) {
        const copy_block& other = blocks[next];
        if (other.source != blocks[i].source || other.source_offset >= source_end ||
            !has_short_runs(other))
            break;
        // Possible for parts of a plan: reading must start at the lowest offset.
        if (other.source_offset < blocks[i].source_offset) break;
        const std::uint64_t end = other.source_offset + other.source_extent_bytes();
        if (end > source_end && memory[other.output] != nullptr) source_end = end;
    }
    return next - i;
}

/// Runs some blocks of a plan, for the outputs that have memory.
inline result<void> run_blocks(const tensor_set_ref& set, span<const copy_block> blocks,
                               vector<std::byte>& buffer, const output_memory& memory, bool streams,
                               run_watch* watch = nullptr) noexcept {
    source_check check{set};
    const streaming past_cache{streams};
    for (std::size_t i = 0, next = 0; i < blocks.size(); i = next) {
        next = i + 1;
        const copy_block& block = blocks[i];
        std::byte* const output = memory[block.output];
        if (output == nullptr) continue;
        result<void> done;
        if (const span<const std::byte> resident = set.source_bytes(block.source);
            !resident.empty()) {
            done = check.before(block.source);
            if (done) done = copy_resident(set, block, resident, output, streams, watch);
        } else {
            std::uint64_t end = 0;
            const std::size_t count = blocks_among(blocks, i, memory, end);
            next = i + count;
            const auto read = [&](std::uint64_t from, std::uint64_t to,
                                  std::uint64_t size) noexcept {
                return read_run(set, block, from, {output + to, static_cast<std::size_t>(size)},
                                watch);
            };
            done = count > 1 || reads_through(block)
                       ? read_together(set, blocks.subspan(i, count), end, buffer, memory, streams,
                                       watch)
                       : ordered_block{block, block_side::source}.for_each_run(
                             {block.source_offset, end}, read);
        }
        if (!done) return done;
    }
    return {};
}

/// Makes all outputs of a plan that there is memory for.
inline result<void> run_plan(const copy_plan& plan, const output_memory& memory,
                             run_watch* watch = nullptr) noexcept {
    const bool streams = bytes_to_make(plan, memory) >= streamed_bytes;
    vector<std::byte> buffer;
    if (auto done = run_blocks(plan.set(), plan.blocks(), buffer, memory, streams, watch); !done)
        return done;
    return compare_all_equal(plan, memory);
}

/// Copies a part of a block to `out`, which is the output from byte `begin`.
inline result<void> gather_part(const tensor_set_ref& set, const copy_block& part, std::byte* out,
                                std::uint64_t begin, vector<std::byte>& buffer, source_check& check,
                                bool streams, run_watch* watch = nullptr) noexcept {
    if (const span<const std::byte> resident = set.source_bytes(part.source); !resident.empty()) {
        if (auto same = check.before(part.source); !same) return same;
        copy_block moved = part;
        moved.destination_offset -= begin;
        return copy_resident(set, moved, resident, out, streams, watch);
    }
    const std::uint64_t source_end = part.source_offset + part.source_extent_bytes();
    copy_block moved = part;
    moved.destination_offset -= begin;
    if (reads_through(part))
        return read_together(set, {&moved, 1}, source_end, buffer, output_memory{part.output, out},
                             streams, watch);
    return ordered_block{moved, block_side::source}.for_each_run(
        {part.source_offset, source_end},
        [&](std::uint64_t from, std::uint64_t to, std::uint64_t size) noexcept {
            return read_run(set, part, from, {out + to, static_cast<std::size_t>(size)}, watch);
        });
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
