// safefuse: runs a plan into memory. Each byte is copied once; positional sources with strided copies use one buffer of
// at most fuse_buffer_bytes, everything else none.
#ifndef SAFEFUSE_FUSE_HPP
#define SAFEFUSE_FUSE_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include <safefuse/copy_plan.hpp>
#include <safefuse/detail/array.hpp>
#include <safefuse/detail/strided_copy.hpp>
#include <safefuse/result.hpp>
#include <safefuse/sequence.hpp>
#include <safefuse/tensor_traits.hpp>
#include <safefuse/tensor_view.hpp>

namespace safefuse::inline SAFEFUSE_ABI {

/// The most memory that fusing takes beside the output.
inline constexpr std::size_t fuse_buffer_bytes = std::size_t{1} << 20;

namespace detail {

inline failure no_such_output(const copy_plan& plan, std::string_view name) noexcept {
    return {.code = errc::output_not_found, .scope = text{plan.scope()}, .detail = text{name}};
}

/// Runs longer than this are read where they go; shorter ones by way of a buffer.
inline constexpr std::uint64_t direct_read_bytes = 16 * 1024;

/// Runs one block whose source is in memory into the output's memory.
inline result<void> copy_resident(const tensor_set_ref& set, const copy_block& block, std::span<const std::byte> resident, std::byte* output) noexcept {
    const std::uint64_t extent = block.source_extent_bytes();
    if (block.source_offset > resident.size() || resident.size() - block.source_offset < extent)
        return failure{.code = errc::read_past_end,
                       .file = text{set.source_name(block.source)},
                       .offset = block.source_offset,
                       .expected = extent,
                       .actual = resident.size()};
    copy_loops(block, 0, resident.data() + block.source_offset, output + block.destination_offset);
    return {};
}

/// Runs blocks that lie among one another in a source that must be read: piece by piece, so that no byte is read twice.
template <class MemoryOf>
result<void> read_together(const tensor_set_ref& set, sequence<const copy_block> blocks, std::uint64_t source_end, array<std::byte>& buffer,
                           const MemoryOf& memory_of) noexcept {
    if (!buffer.resize_unset(fuse_buffer_bytes)) return failure{.code = errc::out_of_memory};
    for (std::uint64_t begin = blocks[0].source_offset; begin < source_end; begin += buffer.size()) {
        const std::uint64_t size = source_end - begin < buffer.size() ? source_end - begin : buffer.size();
        if (auto filled = set.read(blocks[0].source, begin, {buffer.data(), static_cast<std::size_t>(size)}); !filled) return filled;
        for (const copy_block& block : blocks) {
            std::byte* const output = memory_of(block.output);
            if (output == nullptr) continue;
            const auto scatter = [&](const copy_block& part) noexcept {
                copy_loops(part, 0, buffer.data() + (part.source_offset - begin), output + part.destination_offset);
                return result<void>{};
            };
            auto scattered = cut(block, block_side::source, {begin, begin + size}, scatter);
            if (!scattered) return scattered;
        }
    }
    return {};
}

/// Runs the blocks of all outputs that memory_of(output) has memory for; null leaves an output out.
template <class MemoryOf>
result<void> run_blocks(const copy_plan& plan, const MemoryOf& memory_of) noexcept {
    const tensor_set_ref& set = plan.set();
    const sequence<const copy_block> blocks = plan.blocks();
    const auto scatters = [](const copy_block& block) noexcept { return block.loop_count > 0 && block.run_bytes < direct_read_bytes; };
    array<std::byte> buffer;
    source_check check{set};
    for (std::size_t i = 0, next = 0; i < blocks.size(); i = next) {
        next = i + 1;
        const copy_block& block = blocks[i];
        std::byte* const output = memory_of(block.output);
        if (output == nullptr) continue;
        result<void> done;
        const std::uint64_t extent = block.source_extent_bytes();
        if (const std::span<const std::byte> resident = set.source_bytes(block.source); !resident.empty()) {
            done = check.before(block.source);
            if (done) done = copy_resident(set, block, resident, output);
        } else if (scatters(block)) {
            std::uint64_t end = block.source_offset + extent;
            for (; next < blocks.size() && blocks[next].source == block.source && blocks[next].source_offset < end && scatters(blocks[next]); ++next) {
                const std::uint64_t other_end = blocks[next].source_offset + blocks[next].source_extent_bytes();
                if (other_end > end && memory_of(blocks[next].output) != nullptr) end = other_end;
            }
            done = read_together(set, blocks.subspan(i, next - i), end, buffer, memory_of);
        } else {
            const auto read = [&](std::uint64_t from, std::uint64_t to, std::uint64_t size) noexcept {
                return set.read(block.source, from, {output + to, static_cast<std::size_t>(size)});
            };
            done = ordered_block{block, block_side::source}.for_each_run({block.source_offset, block.source_offset + extent}, read);
        }
        if (!done) return done;
    }
    return {};
}

}  // namespace detail

/// Makes all outputs of a plan at once, reading the sources front to back. `buffers[i]` is for plan.outputs()[i]; an empty buffer
/// leaves that output out.
///   fails   wrong_buffer_size (nothing is written then), file_changed (a mapped file has another size now: each is checked once,
///           before the first byte is copied from it), and as reading the sources does (buffers may be part-written)
inline result<void> fuse(const copy_plan& plan, sequence<const std::span<std::byte>> buffers) noexcept {
    const sequence<const plan_output> outputs = plan.outputs();
    if (buffers.size() != outputs.size())
        return failure{.code = errc::wrong_buffer_size, .scope = text{plan.scope()}, .detail = "another number of buffers than outputs", .expected = outputs.size(), .actual = buffers.size()};
    for (std::size_t i = 0; i < outputs.size(); ++i)
        if (!buffers[i].empty() && buffers[i].size() != outputs[i].size_bytes)
            return failure{.code = errc::wrong_buffer_size, .tensor = text{outputs[i].name}, .expected = outputs[i].size_bytes, .actual = buffers[i].size()};
    return detail::run_blocks(plan, [&](std::uint32_t i) noexcept { return buffers[i].empty() ? nullptr : buffers[i].data(); });
}

/// Makes one output of a plan. `out` has exactly its size.
///   fails   output_not_found, wrong_buffer_size (nothing is written then), and as reading the sources does (`out` may be part-written)
inline result<void> fuse(const copy_plan& plan, std::string_view local_name, std::span<std::byte> out) noexcept {
    const plan_output* const output = plan.output(local_name);
    if (output == nullptr) return detail::no_such_output(plan, local_name);
    if (out.size() != output->size_bytes)
        return failure{.code = errc::wrong_buffer_size, .tensor = text{output->name}, .expected = output->size_bytes, .actual = out.size()};
    const auto number = static_cast<std::uint32_t>(output - plan.outputs().data());
    return detail::run_blocks(plan, [&](std::uint32_t i) noexcept { return i == number ? out.data() : nullptr; });
}

/// Makes one output of a plan in a tensor of a framework's own, whose dtype and shape must be the output's.
///   fails   dtype_mismatch, shape_mismatch (nothing is written then), and as above
template <writable_tensor T>
result<void> fuse(const copy_plan& plan, std::string_view local_name, T& tensor) noexcept {
    const plan_output* const output = plan.output(local_name);
    if (output == nullptr) return detail::no_such_output(plan, local_name);
    if (tensor_traits<T>::type(tensor) != output->type)
        return failure{.code = errc::dtype_mismatch, .tensor = text{output->name}, .detail = text{name(output->type)}};
    const auto& shape = tensor_traits<T>::shape(tensor);
    const shape_view extents{shape};
    bool same = extents.size() == output->shape.size();
    for (std::size_t a = 0; same && a < extents.size(); ++a) same = extents[a] == output->shape[a];
    if (!same) return failure{.code = errc::shape_mismatch, .tensor = text{output->name}, .detail = "the tensor to fuse into has another shape"};
    return fuse(plan, local_name, std::span<std::byte>{tensor_traits<T>::bytes(tensor)});
}

/// An output that need not be made because it lies in one piece in memory: fused already, or a single expert's matrix.
///   lifetime  the view's bytes are the source's, its shape the plan's
///   fails   output_not_found, not_resident (it must be copied together, or read)
[[nodiscard]] inline result<tensor_view> view(const copy_plan& plan SAFEFUSE_LIFETIMEBOUND, std::string_view local_name) noexcept {
    const plan_output* const output = plan.output(local_name);
    if (output == nullptr) return detail::no_such_output(plan, local_name);
    if (output->size_bytes == 0) return tensor_view::of(output->type, output->shape, {});
    const copy_block* const run = plan.single_run(static_cast<std::size_t>(output - plan.outputs().data()));
    const std::span<const std::byte> resident = run == nullptr ? std::span<const std::byte>{} : plan.set().source_bytes(run->source);
    if (resident.empty() || run->source_offset > resident.size() || resident.size() - run->source_offset < run->run_bytes)
        return failure{.code = errc::not_resident, .tensor = text{output->name}};
    return tensor_view::of(output->type, output->shape,
                           resident.subspan(static_cast<std::size_t>(run->source_offset), static_cast<std::size_t>(run->run_bytes)));
}

namespace detail {

/// Copies a part of a block to `out`, which stands for the output from byte `begin` on.
inline result<void> gather_part(const tensor_set_ref& set, const copy_block& part, std::byte* out, std::uint64_t begin, array<std::byte>& buffer,
                                source_check& check) noexcept {
    if (const std::span<const std::byte> resident = set.source_bytes(part.source); !resident.empty()) {
        if (auto same = check.before(part.source); !same) return same;
        copy_block moved = part;
        moved.destination_offset -= begin;
        return copy_resident(set, moved, resident, out);
    }
    const std::uint64_t source_end = part.source_offset + part.source_extent_bytes();
    if (part.loop_count == 0 || part.run_bytes >= direct_read_bytes)
        return ordered_block{part, block_side::source}.for_each_run(
            {part.source_offset, source_end}, [&](std::uint64_t from, std::uint64_t to, std::uint64_t size) noexcept {
                return set.read(part.source, from, {out + (to - begin), static_cast<std::size_t>(size)});
            });
    // short runs: what lies between them is read as well, in large pieces
    if (!buffer.resize_unset(fuse_buffer_bytes)) return failure{.code = errc::out_of_memory};
    for (std::uint64_t at = part.source_offset; at < source_end; at += buffer.size()) {
        const std::uint64_t size = source_end - at < buffer.size() ? source_end - at : buffer.size();
        if (auto filled = set.read(part.source, at, {buffer.data(), static_cast<std::size_t>(size)}); !filled) return filled;
        const auto scatter = [&](const copy_block& piece) noexcept {
            copy_loops(piece, 0, buffer.data() + (piece.source_offset - at), out + (piece.destination_offset - begin));
            return result<void>{};
        };
        if (auto scattered = cut(part, block_side::source, {at, at + size}, scatter); !scattered) return scattered;
    }
    return {};
}

}  // namespace detail

/// Makes bytes [begin, begin + out.size()) of one output, for callers that write it out piece by piece. Where a source must be
/// read and its runs are short, what lies between them is read as well, at every call.
///   fails   output_not_found, out_of_range, out_of_memory, and as reading the sources does (`out` may be part-written)
inline result<void> gather(const copy_plan& plan, std::size_t output, std::uint64_t begin, std::span<std::byte> out) noexcept {
    if (output >= plan.outputs().size()) return detail::no_such_output(plan, {});
    const std::uint64_t size_bytes = plan.outputs()[output].size_bytes;
    if (begin > size_bytes || size_bytes - begin < out.size())
        return failure{.code = errc::out_of_range, .tensor = text{plan.outputs()[output].name}, .expected = size_bytes, .actual = begin};
    if (out.empty()) return {};
    const detail::byte_window window{begin, begin + out.size()};
    detail::array<std::byte> buffer;
    detail::source_check check{plan.set()};
    for (const copy_block& block : plan.blocks()) {
        if (block.output != output || block.destination_offset >= window.end ||
            block.destination_offset + block.destination_extent_bytes() <= window.begin)
            continue;
        const auto copy = [&](const copy_block& part) noexcept { return detail::gather_part(plan.set(), part, out.data(), begin, buffer, check); };
        auto done = detail::cut(block, detail::block_side::destination, window, copy);
        if (!done) return done;
    }
    return {};
}

}  // namespace safefuse::inline SAFEFUSE_ABI

#endif
