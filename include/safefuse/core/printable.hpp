// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: escapes text from a file so that a terminal can print it safely.
#ifndef SAFEFUSE_CORE_PRINTABLE_HPP
#define SAFEFUSE_CORE_PRINTABLE_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/config.hpp>
#include <safefuse/core/detail/utf8.hpp>
#include <safefuse/core/text.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// One character of a text that should be UTF-8.
struct character {
    std::uint32_t code = 0;  ///< the code point; for a byte that is not UTF-8, the byte itself
    std::uint32_t size = 0;  ///< size in bytes
    bool is_valid = false;   ///< whether these bytes are UTF-8
    /// valid UTF-8, and not a character that controls a terminal: see append_printable
    bool is_printable = false;
};

/// The first character of a text, which must not be empty.
[[nodiscard]] inline character first_character(std::string_view characters) noexcept {
    const auto byte = [&](std::size_t i) noexcept {
        return static_cast<unsigned char>(characters[i]);
    };
    character out{.code = byte(0), .size = 1};
    const std::uint32_t size = out.code < 0x80 ? 1 : out.code < 0xE0 ? 2 : out.code < 0xF0 ? 3 : 4;
    if (characters.size() < size || !detail::is_utf8(characters.substr(0, size))) return out;
    out.size = size;
    out.is_valid = true;
    if (size > 1) out.code &= 0x7Fu >> size;
    for (std::uint32_t i = 1; i < size; ++i) out.code = out.code << 6 | (byte(i) & 0x3Fu);
    const auto within = [&](std::uint32_t first, std::uint32_t last) noexcept {
        return first <= out.code && out.code <= last;
    };
    out.is_printable =
        !(within(0, 0x1F) || within(0x7F, 0x9F) || out.code == 0x61C || within(0x200E, 0x200F) ||
          within(0x2028, 0x202E) || within(0x2066, 0x2069));
    return out;
}

/// Appends text and escapes every character that controls a terminal:
/// - control characters (C0, DEL, C1);
/// - characters that change the writing direction or begin a line (U+061C, U+200E, U+200F, U+2028
///   to U+202E, U+2066 to U+2069);
/// - bytes that are not UTF-8.
///
/// They become \n, \r, \t, \u001b or \xff. A backslash is not escaped: the result is meant for
/// people, not for programs. Print every name, metadata value or path from a file this way;
/// `failure::message()` does. Returns false if memory runs out; part of the text may already be
/// appended.
SAFEFUSE_NOINLINE inline bool append_printable(text& out, std::string_view characters) noexcept {
    std::size_t kept = 0;  // bytes at the front that need no escape
    while (kept < characters.size()) {
        const character next = first_character(characters.substr(kept));
        if (next.is_printable) {
            kept += next.size;
            continue;
        }
        constexpr const char* digits = "0123456789abcdef";
        char escape[] = {'\\',
                         'u',
                         digits[next.code >> 12 & 15],
                         digits[next.code >> 8 & 15],
                         digits[next.code >> 4 & 15],
                         digits[next.code & 15]};
        std::size_t size = 6;
        if (!next.is_valid) {
            escape[1] = 'x';
            escape[2] = escape[4];
            escape[3] = escape[5];
            size = 4;
        } else if (next.code == '\n' || next.code == '\r' || next.code == '\t') {
            escape[1] = next.code == '\n' ? 'n' : next.code == '\r' ? 'r' : 't';
            size = 2;
        }
        if (!out.append(characters.substr(0, kept)) ||
            !out.append(detail::characters_at(escape, size)))
            return false;
        characters.remove_prefix(kept + next.size);
        kept = 0;
    }
    return out.append(characters);
}

/// The text as append_printable writes it.
[[nodiscard]] inline text printable(std::string_view characters) noexcept {
    text out;
    append_printable(out, characters);
    return out;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
