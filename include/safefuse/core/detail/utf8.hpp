// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: checks whether bytes are UTF-8.
#ifndef SAFEFUSE_CORE_DETAIL_UTF8_HPP
#define SAFEFUSE_CORE_DETAIL_UTF8_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// The number of leading bytes that form whole UTF-8 characters: all of them, or those before the
/// first error. Strict: no surrogates, no overlong encodings, nothing above U+10FFFF.
[[nodiscard]] inline std::size_t utf8_prefix(std::string_view characters) noexcept {
    const char* const begin = characters.data();
    const std::size_t size = characters.size();
    std::size_t i = 0;
    while (i < size) {
        for (std::uint64_t words[4]; size - i >= sizeof words; i += sizeof words) {
            std::memcpy(words, begin + i, sizeof words);
            if (((words[0] | words[1] | words[2] | words[3]) & 0x8080808080808080) != 0) break;
        }
        while (i < size && static_cast<unsigned char>(begin[i]) < 0x80) ++i;
        if (i == size) break;
        const auto byte = [&](std::size_t at) noexcept {
            return static_cast<unsigned char>(begin[i + at]);
        };
        const unsigned char first = byte(0);
        const std::size_t length = first < 0xC2   ? 0
                                   : first < 0xE0 ? 2
                                   : first < 0xF0 ? 3
                                   : first < 0xF5 ? 4
                                                  : 0;
        if (length == 0 || length > size - i) return i;
        for (std::size_t at = 1; at < length; ++at)
            if ((byte(at) & 0xC0) != 0x80) return i;
        const unsigned char second = byte(1);
        if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) ||
            (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F))
            return i;
        i += length;
    }
    return size;
}

[[nodiscard]] inline bool is_utf8(std::string_view characters) noexcept {
    return utf8_prefix(characters) == characters.size();
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
