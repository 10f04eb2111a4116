// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: casts elements between float types, in memory and while running a plan.
#ifndef SAFEFUSE_RUN_DETAIL_CAST_ELEMENTS_HPP
#define SAFEFUSE_RUN_DETAIL_CAST_ELEMENTS_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/config.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/run/detail/execute.hpp>
#include <safefuse/run/detail/number_codec.hpp>
#include <safefuse/run/detail/strided_copy.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

inline failure no_cast(dtype from, dtype to) noexcept {
    const auto is_other = [](dtype type) noexcept {
        return type == dtype::boolean || type == dtype::c64;
    };
    const bool codes = !is_other(from) && !is_other(to);
    text detail{name(from)};
    detail.append(" to ");
    detail.append(name(to));
    return {.code = codes ? errc::missing_scales : errc::wrong_dtype, .detail = std::move(detail)};
}

inline failure wrong_type(std::string_view what, dtype type) noexcept {
    text detail{what};
    detail.append(name(type));
    return {.code = errc::wrong_dtype, .detail = std::move(detail)};
}

inline failure wrong_buffer(std::uint64_t expected, std::uint64_t actual) noexcept {
    return {.code = errc::wrong_buffer_size, .expected = expected, .actual = actual};
}

/// The BF16 bits that a NaN of another type becomes.
[[nodiscard]] constexpr std::uint32_t bf16_nan_from(dtype type) noexcept {
    return type == dtype::f16 ? 0x7FC0 : 0xFFFF;
}

/// Casts elements between float types.
inline void cast_elements(dtype from, const std::byte* source, dtype to, std::byte* out,
                          std::uint64_t count, bool streams) noexcept {
    if (from == to) {
        if (count > 0) copy_bytes(out, source, static_cast<std::size_t>(count * (bits(to) / 8)));
        return;
    }
    number_writer writer{to, out, streams, bf16_nan_from(from)};
    const std::uint64_t each_bytes = bits(from) / 8;
    const bool are_numbers = from == dtype::f32 && std::endian::native == std::endian::little;
    for (std::uint64_t done = 0; done < count;) {
        const std::byte* const elements = source + done * each_bytes;
        if (from == dtype::bf16 && writer.stream_bf16(elements, count - done)) return;
        const std::size_t next = writer.next(count - done);
        if (!are_numbers) decode_numbers(from, elements, writer.numbers(), next);
        writer.write(are_numbers ? elements : writer.numbers(), next);
        done += next;
    }
}

/// Size of the pieces of an output that are gathered, converted and dropped. They fit the cache.
inline constexpr std::size_t piece_bytes = std::size_t{256} * 1024;
/// Runs of at least this size are cast in place; shorter ones are gathered first.
inline constexpr std::uint64_t direct_cast_bytes = 512;

/// Whether an output can be cast run by run: all its sources are in memory, its runs are long
/// enough, and it has no equality checks.
inline bool casts_directly(const copy_plan& plan, std::uint32_t output) noexcept {
    for (const copy_block& block : plan.equal_blocks())
        if (block.output == output) return false;
    for (const copy_block& block : plan.blocks())
        if (block.output == output &&
            (block.run_bytes < direct_cast_bytes || plan.set().source_bytes(block.source).empty()))
            return false;
    return true;
}

inline result<void> cast_runs(const copy_plan& plan, std::uint32_t output, dtype to,
                              span<std::byte> out) noexcept {
    const dtype from = plan.outputs()[output].type;
    const std::uint64_t each = bits(from) / 8, made = bits(to) / 8;
    const bool large = out.size() >= streamed_bytes;
    source_check check{plan.set()};
    for (const copy_block& block : plan.blocks()) {
        if (block.output != output) continue;
        if (auto same = check.before(block.source); !same) return same;
        const span<const std::byte> resident = plan.set().source_bytes(block.source);
        const std::uint64_t extent = block.source_extent_bytes();
        if (auto there = check_resident(plan.set(), block, resident); !there) return there;
        const auto cast = [&](std::uint64_t source, std::uint64_t destination,
                              std::uint64_t size) noexcept {
            cast_elements(from, resident.data() + source, to,
                          out.data() + destination / each * made, size / each,
                          large && size >= 16 * direct_cast_bytes);
            return result<void>{};
        };
        auto done = ordered_block{block, block_side::source}.for_each_run(
            {block.source_offset, block.source_offset + extent}, cast);
        if (!done) return done;
    }
    return {};
}

inline failure of_output(failure error, const plan_output& output) noexcept {
    if (error.tensor.empty()) error.tensor = text{output.name};
    return error;
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
