// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: writes JSON piece by piece. The writer remembers a lack of memory, so the caller checks
// once at the end.
#ifndef SAFEFUSE_FORMAT_DETAIL_JSON_WRITER_HPP
#define SAFEFUSE_FORMAT_DETAIL_JSON_WRITER_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/detail/json_scan.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Appends JSON to a buffer. After memory runs out, failed() is true.
class json_writer {
public:
    explicit json_writer(vector<std::byte>& out) noexcept : out_{out} {}

    [[nodiscard]] bool failed() const noexcept { return failed_; }

    json_writer& put(std::string_view plain) noexcept {
        const auto* const first = reinterpret_cast<const std::byte*>(plain.data());
        failed_ = failed_ || !out_.append(first, plain.size());
        return *this;
    }

    json_writer& put_number(std::uint64_t number) noexcept {
        char digits[20];
        std::size_t first = sizeof digits;
        do digits[--first] = static_cast<char>('0' + number % 10);
        while ((number /= 10) != 0);
        return put(characters_at(digits + first, sizeof digits - first));
    }

    /// Writes a quoted string with the escapes that serde_json writes: only those that JSON
    /// requires.
    json_writer& put_string(std::string_view string) noexcept {
        put("\"");
        const char* at = string.data();
        const char* const end = at + string.size();
        while (at != end && !failed_) {
            const char* const stop = find_string_stop(at, end);
            put({at, static_cast<std::size_t>(stop - at)});
            if (stop != end) put_escape(*stop);
            at = stop == end ? end : stop + 1;
        }
        return put("\"");
    }

private:
    void put_escape(char c) noexcept {
        constexpr std::string_view meanings = "\"\\\b\f\n\r\t", letters = "\"\\bfnrt",
                                   hex = "0123456789abcdef";
        const std::size_t letter = meanings.find(c);
        if (letter != meanings.npos) {
            put("\\").put(letters.substr(letter, 1));
            return;
        }
        const auto code = static_cast<unsigned char>(c);
        put("\\u00").put(hex.substr(code >> 4, 1)).put(hex.substr(code & 0xF, 1));
    }

    vector<std::byte>& out_;
    bool failed_ = false;
};

/// Appends a string as Python's json.dumps writes it, in ASCII. Returns false if memory runs out.
[[nodiscard]] inline bool append_ascii_json(vector<std::byte>& out,
                                            std::string_view characters) noexcept {
    const auto put = [&](std::string_view more) noexcept {
        return out.append(reinterpret_cast<const std::byte*>(more.data()), more.size());
    };
    const auto put_unit = [&](std::uint32_t unit) noexcept {
        char spelled[6] = {'\\', 'u'};
        for (int i = 0; i < 4; ++i) spelled[2 + i] = "0123456789abcdef"[unit >> (12 - 4 * i) & 15];
        return put(characters_at(spelled, sizeof spelled));
    };
    bool fits = put("\"");
    for (std::size_t i = 0; fits && i < characters.size();) {
        std::size_t plain = i;
        while (plain < characters.size() && characters[plain] >= ' ' && characters[plain] <= '~' &&
               characters[plain] != '"' && characters[plain] != '\\')
            ++plain;
        fits = put(characters.substr(i, plain - i));
        i = plain;
        if (!fits || i == characters.size()) continue;
        const unsigned char first = static_cast<unsigned char>(characters[i]);
        constexpr std::string_view meanings = "\"\\\b\f\n\r\t", letters = "\"\\bfnrt";
        if (const std::size_t known = meanings.find(characters[i]); known != meanings.npos) {
            fits = put("\\") && put(letters.substr(known, 1));
            ++i;
            continue;
        }
        // valid UTF-8: the caller checked
        const std::size_t length = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
        std::uint32_t point = length == 1 ? first : first & (0xFFu >> (length + 1));
        for (std::size_t at = 1; at < length; ++at)
            point = point << 6 | (static_cast<unsigned char>(characters[i + at]) & 0x3Fu);
        fits = point < 0x10000 ? put_unit(point)
                               : put_unit(0xD800 + ((point - 0x10000) >> 10)) &&
                                     put_unit(0xDC00 + ((point - 0x10000) & 0x3FF));
        i += length;
    }
    return fits && put("\"");
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
