// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: compares the scales that an output collects from the parts of each expert.
#ifndef SAFEFUSE_RUN_COMPARE_SCALES_HPP
#define SAFEFUSE_RUN_COMPARE_SCALES_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include <safefuse/core/config.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/run/fuse_range.hpp>
#include <safefuse/tensor/dtype.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// How an output's collected entries differ. Such an output has one entry per part of an expert,
/// for example the global scales of gate and up.
struct collected_entries {
    /// Number of experts with such entries; 0 if the output collects nothing.
    std::uint64_t experts = 0;
    /// Number of experts whose entries are not equal byte for byte.
    std::uint64_t differing = 0;
    /// The first of these experts, counted from the output's first expert; or unknown.
    std::uint64_t first = unknown;
    /// The largest ratio of the greatest to the least entry of an expert, for positive F32 and BF16
    /// entries. Infinite if an entry is NaN or not positive. 0 if entries of another dtype differ.
    double ratio = 1;
};

namespace detail {
inline double ratio_of(dtype type, const std::byte* values, std::uint64_t count) noexcept;
}

/// Compares the entries that an output of a plan collects from the parts of each expert. Fusing
/// keeps them all; an engine that expects one scale per expert must know whether they are equal.
///   fails   output_not_found, out_of_memory, and as reading the sources does
[[nodiscard]] inline result<collected_entries> compare_scales(const copy_plan& plan,
                                                              std::size_t output) noexcept {
    if (output >= plan.outputs().size()) return detail::no_such_output(plan, output);
    const plan_output& of = plan.outputs()[output];
    collected_entries out;
    const std::uint64_t entry_bytes = bits(of.type) / 8,
                        row_bytes = of.per_part_scales * entry_bytes;
    if (row_bytes == 0) return out;
    out.experts = of.size_bytes / row_bytes;
    vector<std::byte> rows;
    const std::uint64_t rows_at_once = out.experts < 1024 ? out.experts : 1024;
    for (std::uint64_t begin = 0; begin < out.experts; begin += rows_at_once) {
        const std::uint64_t count =
            out.experts - begin < rows_at_once ? out.experts - begin : rows_at_once;
        if (!rows.resize_unset(static_cast<std::size_t>(count * row_bytes)))
            return detail::lack_of_memory{};
        if (auto done = fuse_range(plan, output, begin * row_bytes, rows.view()); !done)
            return std::move(done).error();
        for (std::uint64_t i = 0; i < count; ++i) {
            const std::byte* const row = rows.data() + i * row_bytes;
            // true if every entry equals the next one
            if (std::memcmp(row, row + entry_bytes,
                            static_cast<std::size_t>(row_bytes - entry_bytes)) == 0)
                continue;
            if (out.differing++ == 0) out.first = begin + i;
            const double ratio = detail::ratio_of(of.type, row, of.per_part_scales);
            if (ratio == 0 || (out.ratio != 0 && ratio > out.ratio)) out.ratio = ratio;
        }
    }
    return out;
}

namespace detail {

/// Ratio of the greatest to the least of some F32 or BF16 values.
inline double ratio_of(dtype type, const std::byte* values, std::uint64_t count) noexcept {
    if (type != dtype::f32 && type != dtype::bf16) return 0;
    const std::uint64_t width = bits(type) / 8;
    const double infinite = std::bit_cast<double>(std::uint64_t{0x7FF0'0000'0000'0000});
    double least = infinite, greatest = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        std::uint32_t pattern = 0;
        for (std::uint64_t b = 0; b < width; ++b)
            pattern |= std::to_integer<std::uint32_t>(values[i * width + b]) << (8 * b);
        const double value = std::bit_cast<float>(type == dtype::f32 ? pattern : pattern << 16);
        if (!(value > 0)) return infinite;
        if (value < least) least = value;
        if (value > greatest) greatest = value;
    }
    return least == infinite ? infinite : greatest / least;
}

}  // namespace detail

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
