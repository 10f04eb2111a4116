// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: replacements for a few parts of the standard library that are cheaper to compile.
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
/// The index or position that stands for none: no source, tensor, group or element.
inline constexpr std::uint32_t no_index = ~std::uint32_t{0};
inline constexpr std::size_t no_position = ~std::size_t{0};
/// @}

/// std::swap without the type traits, which cost compile time.
template <class T>
constexpr void swap(T& a, T& b) noexcept {
    const T kept = a;
    a = b;
    b = kept;
}

/// std::exchange without the type traits, which cost compile time.
template <class T, class U>
constexpr T exchange(T& object, U value) noexcept {
    const T before = object;
    object = static_cast<T>(value);
    return before;
}

/// Makes a std::string_view from exactly the types its constructor takes. From a char* or an int,
/// compilers would first check all range constructors of C++20.
[[nodiscard]] constexpr std::string_view characters_at(const char* first,
                                                       std::size_t count) noexcept {
    return {first, count};
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
