// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a few words of the standard library without the traits and concepts that its own ask
// the compiler about.
#ifndef SAFEFUSE_CORE_DETAIL_PLAIN_HPP
#define SAFEFUSE_CORE_DETAIL_PLAIN_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// @{
/// The number or the position of nothing: no source, tensor, group or element.
inline constexpr std::uint32_t no_index = ~std::uint32_t{0};
inline constexpr std::size_t no_position = ~std::size_t{0};
/// @}

/// std::swap without the traits that it asks the compiler about.
template <class T>
constexpr void swap(T& a, T& b) noexcept {
    const T kept = a;
    a = b;
    b = kept;
}

/// std::exchange likewise.
template <class T, class U>
constexpr T exchange(T& object, U value) noexcept {
    const T before = object;
    object = static_cast<T>(value);
    return before;
}

/// A std::string_view, from exactly what its constructor takes. Of anything else, a char* or an
/// int, compilers ask first all that C++20 asks of iterators.
[[nodiscard]] constexpr std::string_view characters_at(const char* first,
                                                       std::size_t count) noexcept {
    return {first, count};
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
