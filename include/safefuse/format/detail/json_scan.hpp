// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: finds the end of a plain run of string characters, the inner loop of the JSON parser.
// There are versions by vectors, words and bytes; tests/unit/format/json_cursor.test.cpp checks
// that they agree.
#ifndef SAFEFUSE_FORMAT_DETAIL_JSON_SCAN_HPP
#define SAFEFUSE_FORMAT_DETAIL_JSON_SCAN_HPP

#include <bit>
#include <cstdint>
#include <cstring>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Loads eight bytes; the first is in the lowest bits.
[[nodiscard]] inline std::uint64_t load_word(const char* at) noexcept {
    std::uint64_t word;
    std::memcpy(&word, at, sizeof word);
    if constexpr (std::endian::native == std::endian::big) {
        std::uint64_t swapped = 0;
        for (int i = 0; i < 8; ++i) swapped = swapped << 8 | (word >> 8 * i & 0xFF);
        word = swapped;
    }
    return word;
}

inline constexpr std::uint64_t every_byte = 0x0101010101010101;
inline constexpr std::uint64_t every_high_bit = 0x8080808080808080;

/// Sets the high bit of every byte that ends a plain run of string characters: a quote, a backslash
/// or a control character. Only the lowest bit set is reliable; higher ones may be wrong. A result
/// of zero is reliable.
[[nodiscard]] constexpr std::uint64_t string_stops(std::uint64_t word) noexcept {
    const std::uint64_t quote = word ^ every_byte * '"';
    const std::uint64_t backslash = word ^ every_byte * '\\';
    return (((word - every_byte * 0x20) & ~word) | ((quote - every_byte) & ~quote) |
            ((backslash - every_byte) & ~backslash)) &
           every_high_bit;
}

/// The first byte from `at` on that ends a plain run of string characters, or `end`. Compares eight
/// bytes at a time, then one.
[[nodiscard]] SAFEFUSE_NOINLINE inline const char* find_string_stop_in_words(
    const char* at, const char* end) noexcept {
    for (; end - at >= 8; at += 8)
        if (const std::uint64_t stops = string_stops(load_word(at)); stops != 0)
            return at + std::countr_zero(stops) / 8;
    while (at != end && *at != '"' && *at != '\\' && static_cast<unsigned char>(*at) >= 0x20) ++at;
    return at;
}

/// Like find_string_stop_in_words, but sixteen bytes at a time on processors with vector
/// instructions.
[[nodiscard]] inline const char* find_string_stop(const char* at, const char* end) noexcept {
#if defined(__SSE2__) || (defined(__ARM_NEON) && !defined(__ARM_BIG_ENDIAN))
    using vector = unsigned char __attribute__((vector_size(16)));
    for (; end - at >= 16; at += 16) {
        vector bytes;
        std::memcpy(&bytes, at, sizeof bytes);
        // all bits of a byte, or none
        const auto stops = (bytes == '"') | (bytes == '\\') | (bytes < 0x20);
        std::uint64_t halves[2];
        std::memcpy(halves, &stops, sizeof halves);
        if (halves[0] != 0) return at + std::countr_zero(halves[0]) / 8;
        if (halves[1] != 0) return at + 8 + std::countr_zero(halves[1]) / 8;
    }
#endif
    return find_string_stop_in_words(at, end);
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
