// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the rows of a header, and the fast path that parses the formatting that nearly every
// file uses. json_cursor parses everything else. Both produce the same rows, which
// tests/unit/format/header.test.cpp checks.
#ifndef SAFEFUSE_FORMAT_DETAIL_HEADER_SCAN_HPP
#define SAFEFUSE_FORMAT_DETAIL_HEADER_SCAN_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include <safefuse/core/detail/name_table.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/detail/header_bytes.hpp>
#include <safefuse/format/detail/json_cursor.hpp>
#include <safefuse/tensor/dtype.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// A tensor of a header.
struct header_entry {
    const char* name_data;  ///< in the header, or in the buffer of decoded names
    std::uint32_t name_bytes;
    std::uint32_t shape_begin;  ///< index in header_rows::extents
    std::uint32_t rank;
    std::uint32_t hash;  ///< hash of the name
    dtype type;
    std::uint64_t begin;
    std::uint64_t end;

    [[nodiscard]] std::string_view name() const noexcept {
        return characters_at(name_data, name_bytes);
    }
};

/// The tensors of a header in the order in which they were parsed.
struct header_rows {
    vector<header_entry> entries;
    vector<std::uint64_t> extents;
    name_hash hash;
    std::uint64_t data_bytes = 0;  ///< where the next tensor must begin
    /// Whether so far every tensor begins where the previous one ends, does not end before it
    /// begins, and has the size of its shape. Then offsets never decrease, so no sum of sizes
    /// overflowed.
    bool is_valid = true;

    [[nodiscard]] shape_view shape(const header_entry& entry) const noexcept {
        return {extents.data() + entry.shape_begin, entry.rank};
    }

    /// Adds an entry whose extents are already in `extents`, and hashes its name while it is in the
    /// CPU cache. Returns false if memory runs out.
    [[nodiscard]] bool add(header_entry& entry) noexcept {
        std::uint64_t size_bytes = 0;
        is_valid = is_valid && entry.begin == data_bytes && entry.begin <= entry.end &&
                   tensor_size(entry.type, shape(entry), size_bytes) == size_verdict::fits &&
                   entry.end - entry.begin == size_bytes;
        data_bytes = entry.end;
        entry.hash = hash(entry.name());
        return entries.push(entry);
    }
};

/// Parses a number without sign or leading zero and with at most 19 digits, so that it fits 64
/// bits. Moves `at` past it.
[[nodiscard]] inline bool scan_number(const char*& at, const char* end,
                                      std::uint64_t& number) noexcept {
    const char* const first = at;
    number = 0;
    for (; at != end && *at >= '0' && *at <= '9'; ++at)
        number = number * 10 + static_cast<std::uint64_t>(*at - '0');
    return at != first && at - first <= 19 && (*first != '0' || at - first == 1);
}

/// Moves `at` past `expected`. Returns false if something else is there.
template <std::size_t Size>
[[nodiscard]] inline bool scan_text(const char*& at, const char* end,
                                    const char (&expected)[Size]) noexcept {
    if (end - at < static_cast<std::ptrdiff_t>(Size - 1) ||
        std::memcmp(at, expected, Size - 1) != 0)
        return false;
    at += Size - 1;
    return true;
}

/// Parses one entry in the formatting of the reference writer, from the name's opening quote to the
/// closing brace:
///     "lm_head.weight":{"dtype":"BF16","shape":[151936,2048],"data_offsets":[0,622329856]}
/// Moves `at` past it and fills `entry` and `rows.extents`; returns false for any other formatting.
/// `last` is the dtype to try first.
[[nodiscard]] inline bool scan_entry(const char*& at, const char* end, dtype last,
                                     header_rows& rows, header_entry& entry) noexcept {
    if (!scan_text(at, end, "\"")) return false;
    const char* const name_end = find_string_stop(at, end);
    entry.name_data = at;
    entry.name_bytes = static_cast<std::uint32_t>(name_end - at);
    at = name_end;
    if (!scan_text(at, end, "\":{\"dtype\":\"") || entry.name() == metadata_key) return false;

    entry.type = last;
    std::string_view spelled = name(last);
    if (static_cast<std::size_t>(end - at) <= spelled.size() ||
        std::memcmp(at, spelled.data(), spelled.size()) != 0 || at[spelled.size()] != '"') {
        const char* const dtype_end = find_string_stop(at, end);
        spelled = {at, static_cast<std::size_t>(dtype_end - at)};
        if (!parse_dtype(spelled, entry.type)) return false;
    }
    at += spelled.size();

    if (!scan_text(at, end, "\",\"shape\":[")) return false;
    entry.shape_begin = static_cast<std::uint32_t>(rows.extents.size());
    entry.rank = 0;
    if (at != end && *at != ']') {
        do {
            std::uint64_t extent = 0;
            if (!scan_number(at, end, extent) || !rows.extents.push(extent)) return false;
            ++entry.rank;
        } while (scan_text(at, end, ","));
    }
    return scan_text(at, end, "],\"data_offsets\":[") && scan_number(at, end, entry.begin) &&
           scan_text(at, end, ",") && scan_number(at, end, entry.end) && scan_text(at, end, "]}");
}

/// Adds to `rows` all entries that scan_entry can parse, and moves the cursor past them. The cursor
/// must be where an object's next member or end is expected. Returns false if memory runs out.
[[nodiscard]] inline bool scan_entries(json_cursor& cursor, header_rows& rows) noexcept {
    const char* at = cursor.here();
    const char* done = at;
    bool is_first = cursor.is_first();
    dtype last = rows.entries.empty() ? dtype::bf16 : rows.entries.back().type;
    for (header_entry entry;;) {
        if (!is_first && !scan_text(at, cursor.end(), ",")) break;
        const std::size_t extents = rows.extents.size();
        if (!scan_entry(at, cursor.end(), last, rows, entry)) {
            static_cast<void>(rows.extents.resize_unset(extents));  // shrinking needs no memory
            break;
        }
        if (!rows.add(entry)) return false;
        is_first = false;
        last = entry.type;
        done = at;
    }
    if (done != cursor.here()) cursor.resume_after_value(done);
    return true;
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
