// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: JSON that is written piece by piece. Where memory runs out the writer remembers it, and whoever writes asks once.
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

/// Appends JSON to what becomes a file. Where memory runs out, `failed` says so from then on.
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

    /// A quoted string, escaped as serde_json does it: no more than JSON demands.
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

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
