// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: 64-bit arithmetic that reports overflow. Every offset and size from a file goes through
// it.
#ifndef SAFEFUSE_CORE_DETAIL_CHECKED_HPP
#define SAFEFUSE_CORE_DETAIL_CHECKED_HPP

#include <cstddef>
#include <cstdint>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Stores a + b and returns true; returns false if the sum does not fit.
[[nodiscard]] constexpr bool checked_add(std::uint64_t a, std::uint64_t b,
                                         std::uint64_t& sum) noexcept {
    sum = a + b;
    return sum >= a;
}

/// Stores a * b and returns true; returns false if the product does not fit.
[[nodiscard]] constexpr bool checked_mul(std::uint64_t a, std::uint64_t b,
                                         std::uint64_t& product) noexcept {
    product = a * b;
    return a == 0 || product / a == b;
}

/// Whether elements [first, first + size) are inside a range of `whole` elements. Nothing is added,
/// so nothing overflows.
[[nodiscard]] constexpr bool lies_inside(std::uint64_t first, std::uint64_t size,
                                         std::uint64_t whole) noexcept {
    return first <= whole && size <= whole - first;
}

/// Whether a size from a file can be the size of an object in this process.
[[nodiscard]] constexpr bool fits_memory(std::uint64_t size_bytes) noexcept {
    return size_bytes <= static_cast<std::uint64_t>(PTRDIFF_MAX);
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
