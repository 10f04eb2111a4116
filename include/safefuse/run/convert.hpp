// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: casts among F64, F32, F16 and BF16, in memory and while fusing. Rounding is to nearest,
// ties to even. Results equal PyTorch's bit for bit. Codes (F8, F4, F6, integers) are never cast as
// numbers: run/dequantize.hpp applies their scales.
//
// NaNs: PyTorch's results depend on the machine and on an element's position in its tensor. Here
// each pair of types has one result, that of `tensor.to(dtype)` for a contiguous tensor on a
// processor with AVX2: to BF16, FFFF from F64 and F32, 7FC0 from F16; from BF16 to F32, the same
// bits; otherwise sign and upper bits, made quiet.
#ifndef SAFEFUSE_RUN_CONVERT_HPP
#define SAFEFUSE_RUN_CONVERT_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/config.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/run/detail/cast_elements.hpp>
#include <safefuse/run/detail/copy_bytes.hpp>
#include <safefuse/run/fuse.hpp>
#include <safefuse/run/fuse_range.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Whether the elements are floating-point numbers without scales: F64, F32, F16 or BF16.
[[nodiscard]] constexpr bool is_float(dtype type) noexcept {
    return type == dtype::f64 || type == dtype::f32 || type == dtype::f16 || type == dtype::bf16;
}

/// Casts contiguous elements: a whole tensor or any range of it, with equal results. Neither side
/// needs to be aligned. The two must not overlap. If both types are equal, the bytes are copied,
/// whatever the type.
///   fails   missing_scales (one of the types is a code or an integer), wrong_dtype (BOOL, C64),
///           wrong_buffer_size (`elements` is not a whole number of elements, or `out` does not fit
///           that number)
inline result<void> convert_elements(dtype from, span<const std::byte> elements, dtype to,
                                     span<std::byte> out) noexcept {
    if (from == to) {
        if (out.size() != elements.size()) return detail::wrong_buffer(elements.size(), out.size());
        const bool streams = out.size() >= detail::streamed_bytes;
        const detail::streaming past_cache{streams};
        if (!out.empty())
            streams ? detail::stream_bytes(out.data(), elements.data(), out.size())
                    : detail::copy_bytes(out.data(), elements.data(), out.size());
        return {};
    }
    if (!is_float(from) || !is_float(to)) return detail::no_cast(from, to);
    const std::size_t each = static_cast<std::size_t>(bits(from) / 8),
                      made = static_cast<std::size_t>(bits(to) / 8);
    const std::size_t count = elements.size() / each;
    if (elements.size() % each != 0)
        return detail::wrong_buffer((count + 1) * each, elements.size());
    if (out.size() / made != count || out.size() % made != 0)
        return detail::wrong_buffer(std::uint64_t{count} * made, out.size());
    detail::cast_elements(from, elements.data(), to, out.data(), count,
                          out.size() >= detail::streamed_bytes);
    return {};
}

/// Casts a tensor. `out` has room for exactly as many elements of type `to`.
///   fails   as convert_elements
inline result<void> convert(const tensor_view& from, dtype to, span<std::byte> out) noexcept {
    return convert_elements(from.type(), from.bytes(), to, out);
}

/// Fuses one output of a plan and casts it, in one pass. `out` has room for exactly as many
/// elements of type `to`.
///   memory  at most 256 KiB beside `out`, and what reading strided copies takes
///   fails   output_not_found, missing_scales and wrong_dtype (as convert_elements),
///           wrong_buffer_size (nothing is written then), out_of_memory, and as reading the sources
///           does (`out` may be partly written)
inline result<void> fuse_as(const copy_plan& plan, std::string_view local_name, dtype to,
                            span<std::byte> out) noexcept {
    const auto output = plan.output(local_name);
    if (!output) return output.error();
    const dtype from = output->type;
    if (from == to) return fuse(plan, local_name, out);
    if (!is_float(from) || !is_float(to))
        return detail::of_output(detail::no_cast(from, to), *output);
    const std::uint64_t each = bits(from) / 8, made = bits(to) / 8,
                        count = output->size_bytes / each;
    if (out.size() / made != count || out.size() % made != 0)
        return detail::of_output(detail::wrong_buffer(count * made, out.size()), *output);
    const auto number = static_cast<std::uint32_t>(plan.index_of(local_name));
    if (detail::casts_directly(plan, number)) return detail::cast_runs(plan, number, to, out);

    vector<std::byte> piece;
    if (!piece.resize_unset(detail::piece_bytes)) return detail::lack_of_memory{};
    for (std::uint64_t begin = 0; begin < output->size_bytes; begin += piece.size()) {
        const std::uint64_t left = output->size_bytes - begin,
                            size = left < piece.size() ? left : piece.size();
        if (auto done =
                fuse_range(plan, number, begin, {piece.data(), static_cast<std::size_t>(size)});
            !done)
            return done;
        detail::cast_elements(from, piece.data(), to, out.data() + begin / each * made, size / each,
                              out.size() >= detail::streamed_bytes);
    }
    return {};
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
