// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a stable merge sort that reports lack of memory. <algorithm> costs more to compile than
// this library's core.
#ifndef SAFEFUSE_CORE_DETAIL_SORT_HPP
#define SAFEFUSE_CORE_DETAIL_SORT_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <safefuse/core/config.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Sorts stably; `less(a, b)` is true if a must come before b. Returns false and changes nothing if
/// there is no memory for a copy. A sequence that is already sorted costs one pass.
template <class T, class Less>
[[nodiscard]] bool sort(span<T> values, Less less) noexcept {
    const std::size_t count = values.size();
    std::size_t in_order = 1;
    while (in_order < count && !less(values[in_order], values[in_order - 1])) ++in_order;
    if (in_order >= count) return true;
    vector<T> other;
    if (!other.resize_unset(count)) return false;
    T* from = values.data();
    T* to = other.data();
    for (std::size_t width = 1; width < count; width *= 2) {
        for (std::size_t start = 0; start < count; start += 2 * width) {
            const std::size_t middle = count - start < width ? count : start + width;
            const std::size_t stop = count - start < 2 * width ? count : start + 2 * width;
            std::size_t left = start, right = middle;
            for (std::size_t i = start; i < stop; ++i)
                to[i] = (right == stop || (left < middle && !less(from[right], from[left])))
                            ? from[left++]
                            : from[right++];
        }
        T* const sorted = to;
        to = from;
        from = sorted;
    }
    if (from != values.data()) std::memcpy(values.data(), from, count * sizeof(T));
    return true;
}

/// Sorts numbers by size, as sort().
[[nodiscard]] SAFEFUSE_NOINLINE inline bool sort_numbers(span<std::uint32_t> values) noexcept {
    return sort(values, [](std::uint32_t a, std::uint32_t b) noexcept { return a < b; });
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
