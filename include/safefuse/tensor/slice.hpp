// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: computes the bytes of a tensor that a slice covers. It reads nothing, so views,
// positional reads and other executors can use the result.
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

/// The part of one axis that a slice keeps: every step-th index of the half-open range [begin,
/// end); a single index drops the axis from the shape.
struct axis_range {
    std::uint64_t begin = 0;     ///< first index
    std::uint64_t end = to_end;  ///< to_end: to the end of the axis
    bool drops_axis = false;     ///< the shape loses the axis; the range has one index
    std::uint64_t step = 1;      ///< distance between indices that are kept; not 0
};

/// The whole axis.
inline constexpr axis_range all{};
/// Index i of an axis; the axis is removed from the shape.
[[nodiscard]] constexpr axis_range at(std::uint64_t i) noexcept { return {i, i, true}; }
/// The half-open range [begin, end) of an axis, or every step-th index of it: range(1, 8, 3) is 1,
/// 4, 7. If begin == end, the range is empty, at any place of the axis.
[[nodiscard]] constexpr axis_range range(std::uint64_t begin, std::uint64_t end,
                                         std::uint64_t step = 1) noexcept {
    return {begin, end, false, step};
}

/// The bytes of a slice as equal runs, in the order of the slice's elements.
///
/// Ranges have the meaning of the reference implementation (Select and Narrow of its TensorIndexer,
/// with the step of version 0.8). Every slice with elements that the reference accepts has the same
/// shape and bytes here. This library also accepts:
///   - empty ranges: range(2, 2) of an axis of 2 entries, and any range within a tensor that has no
///     elements. The slice has no bytes and no runs. The reference refuses a range that begins at
///     the end of its axis, and returns the whole tensor for an empty range with a step (0.8.0).
///   - elements of less than a byte (F4, F6): each run must begin and end at a byte, as in [:, 2:4]
///     of F4. The reference checks each axis, and refuses some slices whose runs are whole bytes.
///     Both refuse slices that cut a byte: slice_cuts_byte.
/// A range that ends before it begins is refused; the reference panics.
class slice_runs {
public:
    /// Resolves ranges against a tensor; axes without a range are kept whole.
    ///   fails   out_of_range (an index, begin or end beyond the axis; begin after end; step 0) and
    ///           slice_cuts_byte (sub-byte elements), which name the axis; too_many_indices,
    ///           size_overflow, partial_byte, out_of_memory
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

    /// Several runs that can be read at once.
    struct group {
        std::uint64_t run_count = 0;   ///< number of successive runs
        std::uint64_t span_bytes = 0;  ///< from the begin of the first run to the end of the last
    };
    /// The largest groups of runs with gaps of at most `most_gap_bytes`. A positional reader can
    /// read a group at once. All groups of a slice are equal, and run_count() is a multiple of the
    /// run_count of a group.
    [[nodiscard]] group grouped(std::uint64_t most_gap_bytes) const noexcept {
        group made{run_count_ == 0 ? 0u : 1u, run_bytes_};
        for (std::size_t i = loops_.size(); i-- != 0;) {
            const loop& each = loops_[i];
            if (each.stride_bytes - made.span_bytes > most_gap_bytes) break;
            made.run_count *= each.extent;
            made.span_bytes += (each.extent - 1) * each.stride_bytes;
        }
        return made;
    }

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

/// The range of one axis with its end resolved. Axes without a range are kept whole. For an index
/// that was not checked yet, the end may wrap to 0.
[[nodiscard]] constexpr axis_range range_of_axis(span<const axis_range> ranges, std::size_t axis,
                                                 std::uint64_t extent) noexcept {
    axis_range kept = axis < ranges.size() ? ranges[axis] : all;
    if (kept.drops_axis) {
        kept.end = kept.begin + 1;
        kept.step = 1;
    } else if (kept.end == to_end) {
        kept.end = extent;
    }
    return kept;
}

/// The number of indices of a range. Its begin must not be after its end.
[[nodiscard]] constexpr std::uint64_t count_of(const axis_range& kept) noexcept {
    return (kept.end - kept.begin) / kept.step + ((kept.end - kept.begin) % kept.step != 0 ? 1 : 0);
}

/// The failure "index 64 is out of range of axis 0, which has 64 entries". `what` says whether the
/// number is an index, or the begin or the end of a range.
[[nodiscard]] SAFEFUSE_COLD inline failure out_of_axis(const char* what, std::uint64_t number,
                                                       std::size_t axis,
                                                       std::uint64_t extent) noexcept {
    failure why{.code = errc::out_of_range, .axis = axis, .expected = extent, .actual = number};
    why.detail.append(what);
    why.detail.append(" ");
    why.detail.append_count(number);
    why.detail.append(" is out of range of axis ");
    why.detail.append_count(axis);
    why.detail.append(", which has ");
    why.detail.append_count(extent);
    why.detail.append(extent == 1 ? " entry" : " entries");
    return why;
}

/// The failure for a bad range of an axis.
[[nodiscard]] SAFEFUSE_COLD inline failure bad_range(const axis_range& kept, std::size_t axis,
                                                     std::uint64_t extent) noexcept {
    failure why{.code = errc::out_of_range, .axis = axis};
    if (kept.step == 0) {
        why.actual = 0;
        why.detail.append("the step along axis ");
        why.detail.append_count(axis);
        why.detail.append(" is 0");
        return why;
    }
    if (kept.drops_axis) return out_of_axis("index", kept.begin, axis, extent);
    if (kept.end > extent) return out_of_axis("end", kept.end, axis, extent);
    if (kept.begin > extent) return out_of_axis("begin", kept.begin, axis, extent);
    why.expected = kept.end;
    why.actual = kept.begin;
    why.detail.append("begin ");
    why.detail.append_count(kept.begin);
    why.detail.append(" is after end ");
    why.detail.append_count(kept.end);
    why.detail.append(" of the range of axis ");
    why.detail.append_count(axis);
    return why;
}

}  // namespace detail

/// Checks all ranges and computes the slice's shape. Returns false for a slice without elements.
inline result<bool> slice_runs::keep(shape_view shape, span<const axis_range> ranges) noexcept {
    bool any = true;
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        const axis_range kept = detail::range_of_axis(ranges, axis, shape[axis]);
        if (kept.step == 0 || kept.end > shape[axis] || kept.begin > kept.end)
            return detail::bad_range(kept, axis, shape[axis]);
        if (!kept.drops_axis && !shape_.push(detail::count_of(kept)))
            return detail::lack_of_memory{};
        any = any && kept.begin != kept.end;
    }
    return any;
}

/// Makes the loops of a slice that has elements. No product exceeds the tensor's size in bits,
/// which was checked, because the distance between two kept indices is less than the extent of the
/// axis.
inline result<void> slice_runs::stride(dtype type, shape_view shape,
                                       span<const axis_range> ranges) noexcept {
    std::uint64_t entry_bits = bits(type), run_bits = bits(type), offset_bits = 0;
    std::uint64_t cut = unknown;  // the innermost axis whose range ends inside a byte
    run_count_ = 1;
    for (std::size_t axis = shape.size(); axis-- > 0; entry_bits *= shape[axis]) {
        const axis_range kept = detail::range_of_axis(ranges, axis, shape[axis]);
        const std::uint64_t count = detail::count_of(kept);
        if (cut == unknown &&
            (kept.begin * entry_bits % 8 != 0 || (count != shape[axis] && run_bits % 8 != 0)))
            cut = axis;
        offset_bits += kept.begin * entry_bits;
        if (count <= 1) continue;
        const std::uint64_t stride_bits = entry_bits * kept.step;
        if (run_bits == stride_bits && loops_.empty()) {
            run_bits *= count;
            continue;
        }
        if (stride_bits % 8 != 0) return failure{.code = errc::slice_cuts_byte, .axis = axis};
        loop* const outermost = loops_.empty() ? nullptr : &loops_.back();
        if (outermost != nullptr && outermost->stride_bytes * outermost->extent == stride_bits / 8)
            outermost->extent *= count;
        else if (!loops_.push({count, stride_bits / 8}))
            return detail::lack_of_memory{};
        run_count_ *= count;
    }
    if (offset_bits % 8 != 0 || run_bits % 8 != 0)
        return failure{.code = errc::slice_cuts_byte, .axis = cut};
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
