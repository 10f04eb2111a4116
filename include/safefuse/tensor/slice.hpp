// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: which bytes of a tensor a slice covers. This is arithmetic only and reads nothing, so
// views, positional reads and other executors can use the same answer.
#ifndef SAFEFUSE_TENSOR_SLICE_HPP
#define SAFEFUSE_TENSOR_SLICE_HPP

#include <cstddef>
#include <cstdint>
#include <utility>

#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/tensor/detail/size_check.hpp>
#include <safefuse/tensor/dtype.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// The end of a range that extends to the end of its axis.
inline constexpr std::uint64_t to_end = ~std::uint64_t{0};

/// The part of one axis that a slice keeps: the half-open range [begin, end). A single index
/// removes the axis from the shape.
struct axis_range {
    std::uint64_t begin = 0;     ///< first index
    std::uint64_t end = to_end;  ///< to_end: to the end of the axis
    /// whether the axis is removed from the shape; the range is then one index
    bool drops_axis = false;
};

/// The whole axis.
inline constexpr axis_range all{};
/// Index i of an axis; the axis is removed from the shape.
[[nodiscard]] constexpr axis_range at(std::uint64_t i) noexcept { return {i, i, true}; }
/// The half-open range [begin, end) of an axis. If begin == end the range is empty.
[[nodiscard]] constexpr axis_range range(std::uint64_t begin, std::uint64_t end) noexcept {
    return {begin, end, false};
}

/// The bytes of a slice as runs of equal size, in the order of the slice's elements.
class slice_runs {
public:
    /// Checks the ranges against a tensor. Axes without a range are kept whole.
    ///   fails   too_many_indices, out_of_range (also if begin > end), slice_cuts_byte (elements
    ///           smaller than a byte), size_overflow, partial_byte, out_of_memory
    static result<slice_runs> of(dtype type, shape_view shape,
                                 span<const axis_range> ranges) noexcept;

    /// Extents of the slice.
    [[nodiscard]] shape_view shape() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return {shape_.data(), shape_.size()};
    }
    /// The size of the slice in bytes.
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return run_bytes_ * run_count_; }
    /// The size of one run in bytes; all runs have the same size.
    [[nodiscard]] std::uint64_t run_bytes() const noexcept { return run_bytes_; }
    /// The number of runs; 0 for a slice without elements.
    [[nodiscard]] std::uint64_t run_count() const noexcept { return run_count_; }
    /// Whether the slice is one run or empty, so that it can be a view.
    [[nodiscard]] bool is_contiguous() const noexcept { return run_count_ <= 1; }
    /// The offset of the first run in the tensor's bytes.
    [[nodiscard]] std::uint64_t offset_bytes() const noexcept { return offset_bytes_; }

    /// Calls f(offset in the tensor's bytes) for every run, in order, until f returns a failure. f
    /// returns result<void>.
    template <class F>
    result<void> for_each_run(F&& f) const {
        if (run_count_ == 0) return {};
        return visit(0, offset_bytes_, f);
    }

private:
    struct loop {
        std::uint64_t extent;
        std::uint64_t stride_bytes;
    };

    result<bool> keep(shape_view shape, span<const axis_range> ranges) noexcept;
    result<void> stride(dtype type, shape_view shape, span<const axis_range> ranges) noexcept;

    template <class F>
    result<void> visit(std::size_t depth, std::uint64_t offset, F& f) const {
        if (depth == loops_.size()) return f(offset);
        for (std::uint64_t i = 0; i < loops_[depth].extent;
             ++i, offset += loops_[depth].stride_bytes)
            if (auto done = visit(depth + 1, offset, f); !done) return done;
        return {};
    }

    vector<std::uint64_t> shape_;
    // outermost first; extents of 1 are left out, so there are at most log2(run count) loops
    vector<loop> loops_;
    std::uint64_t offset_bytes_ = 0;
    std::uint64_t run_bytes_ = 0;
    std::uint64_t run_count_ = 0;
};

namespace detail {

/// The range of one axis with its end resolved; axes without a range are kept whole. An unchecked
/// index may wrap to the end 0.
[[nodiscard]] constexpr axis_range range_of_axis(span<const axis_range> ranges, std::size_t axis,
                                                 std::uint64_t extent) noexcept {
    axis_range kept = axis < ranges.size() ? ranges[axis] : all;
    if (kept.drops_axis)
        kept.end = kept.begin + 1;
    else if (kept.end == to_end)
        kept.end = extent;
    return kept;
}

}  // namespace detail

/// Checks all ranges and computes the slice's shape. Returns false for a slice without elements.
inline result<bool> slice_runs::keep(shape_view shape, span<const axis_range> ranges) noexcept {
    bool any = true;
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        const axis_range kept = detail::range_of_axis(ranges, axis, shape[axis]);
        const bool past_end = kept.end > shape[axis];
        if (past_end || kept.begin > kept.end)
            return failure{.code = errc::out_of_range,
                           .expected = shape[axis],
                           .actual = past_end && !kept.drops_axis ? kept.end : kept.begin};
        if (!kept.drops_axis && !shape_.push(kept.end - kept.begin))
            return failure{.code = errc::out_of_memory};
        any = any && kept.begin != kept.end;
    }
    return any;
}

/// Computes the loops of a slice that has elements. No product exceeds the tensor's size in bits,
/// which is already checked.
inline result<void> slice_runs::stride(dtype type, shape_view shape,
                                       span<const axis_range> ranges) noexcept {
    std::uint64_t stride_bits = bits(type), run_bits = bits(type), offset_bits = 0;
    run_count_ = 1;
    for (std::size_t axis = shape.size(); axis-- > 0; stride_bits *= shape[axis]) {
        const axis_range kept = detail::range_of_axis(ranges, axis, shape[axis]);
        const std::uint64_t count = kept.end - kept.begin;
        offset_bits += kept.begin * stride_bits;
        if (count <= 1) continue;
        if (run_bits == stride_bits && loops_.empty()) {
            run_bits *= count;
            continue;
        }
        if (stride_bits % 8 != 0) return failure{.code = errc::slice_cuts_byte};
        loop* const outermost = loops_.empty() ? nullptr : &loops_.back();
        if (outermost != nullptr && outermost->stride_bytes * outermost->extent == stride_bits / 8)
            outermost->extent *= count;
        else if (!loops_.push({count, stride_bits / 8}))
            return failure{.code = errc::out_of_memory};
        run_count_ *= count;
    }
    if (offset_bits % 8 != 0 || run_bits % 8 != 0) return failure{.code = errc::slice_cuts_byte};
    for (std::size_t i = 0; i < loops_.size() / 2; ++i)
        detail::swap(loops_[i], loops_[loops_.size() - 1 - i]);
    offset_bytes_ = offset_bits / 8;
    run_bytes_ = run_bits / 8;
    return {};
}

inline result<slice_runs> slice_runs::of(dtype type, shape_view shape,
                                         span<const axis_range> ranges) noexcept {
    if (ranges.size() > shape.size())
        return failure{
            .code = errc::too_many_indices, .expected = shape.size(), .actual = ranges.size()};
    std::uint64_t tensor_bytes = 0;
    if (auto fit = detail::check_size(type, shape, tensor_bytes); !fit)
        return std::move(fit).error();
    slice_runs runs;
    const auto any = runs.keep(shape, ranges);
    if (!any) return any.error();
    if (!*any) return runs;
    if (auto done = runs.stride(type, shape, ranges); !done) return std::move(done).error();
    return runs;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
