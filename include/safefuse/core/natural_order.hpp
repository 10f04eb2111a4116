// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the natural order of names: layer 2 comes before layer 10.
#ifndef SAFEFUSE_CORE_NATURAL_ORDER_HPP
#define SAFEFUSE_CORE_NATURAL_ORDER_HPP

#include <cstddef>
#include <string_view>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {

[[nodiscard]] constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

}  // namespace detail

/// Whether `a` comes before `b` if digits in a row are compared as a number: model-2 comes before
/// model-10.
[[nodiscard]] constexpr bool natural_less(std::string_view a, std::string_view b) noexcept {
    std::size_t i = 0, j = 0;
    while (i < a.size() && j < b.size()) {
        if (!detail::is_digit(a[i]) || !detail::is_digit(b[j])) {
            if (a[i] != b[j])
                return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[j]);
            ++i, ++j;
            continue;
        }
        while (i < a.size() && a[i] == '0') ++i;
        while (j < b.size() && b[j] == '0') ++j;
        const std::size_t first_a = i, first_b = j;
        while (i < a.size() && detail::is_digit(a[i])) ++i;
        while (j < b.size() && detail::is_digit(b[j])) ++j;
        if (i - first_a != j - first_b) return i - first_a < j - first_b;
        if (const int order =
                a.substr(first_a, i - first_a).compare(b.substr(first_b, j - first_b));
            order != 0)
            return order < 0;
    }
    if (i < a.size() || j < b.size()) return j < b.size();
    return a < b;  // equal except for leading zeros
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
