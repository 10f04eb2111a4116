// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: parses and checks the JSON of a header. header_scan parses the formatting that nearly
// every file uses; this file parses the rest.
#ifndef SAFEFUSE_FORMAT_DETAIL_HEADER_READER_HPP
#define SAFEFUSE_FORMAT_DETAIL_HEADER_READER_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/name_table.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/detail/utf8.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/detail/header_bytes.hpp>
#include <safefuse/format/detail/header_scan.hpp>
#include <safefuse/format/detail/json_cursor.hpp>
#include <safefuse/format/metadata.hpp>
#include <safefuse/format/read_options.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// The content of a header.
struct header_content {
    header_rows rows;
    name_table names;
    vector<metadata_entry> metadata;
    name_table metadata_keys;
    vector<char> decoded;  ///< does not grow once something points into it
    std::uint64_t header_bytes = 8;
    std::uint64_t gap_bytes = 0;
    std::uint64_t trailing_bytes = 0;
    bool has_metadata = false;
};

/// Fills a header from its JSON.
class header_reader {
public:
    /// Tests pass `scans` = false to disable the fast path.
    header_reader(header_content& header, std::string_view json, const read_options& options,
                  bool scans) noexcept
        : header_{header}, json_{json}, cursor_{json}, options_{options}, scans_{scans} {}

    /// Fills the header, which must be empty. After a failure the header must not be used.
    ///   fails   as header::parse, for errors in the JSON
    [[nodiscard]] result<void> read(std::uint64_t file_bytes) noexcept {
        header_.header_bytes = length_bytes + json_.size();
        if (const std::size_t good = utf8_prefix(json_); good != json_.size())
            return failure{.code = errc::header_not_utf8, .offset = length_bytes + good};
        rows().hash = name_hash{json_.data()};
        // Enough for real headers; the arrays grow if it is not.
        if (!rows().entries.reserve(json_.size() / 112 + 4) ||
            !rows().extents.reserve(json_.size() / 64 + 8))
            return detail::lack_of_memory{};
        if (!read_root()) return why();
        header_.names = name_table{rows().hash};
        if (!number_names()) return std::move(error_);
        if (!rows().is_valid && !(sort_entries() && check_entries())) return std::move(error_);
        if (!check_file_size(file_bytes)) return std::move(error_);
        return {};
    }

private:
    [[nodiscard]] header_rows& rows() noexcept { return header_.rows; }

    // A step that fails returns false and has either stopped the cursor or filled error_.
    SAFEFUSE_COLD bool fail(failure error) noexcept {
        error_ = std::move(error);
        has_error_ = true;
        return false;
    }
    bool out_of_memory() noexcept { return fail({.code = errc::out_of_memory}); }

    [[nodiscard]] failure why() noexcept {
        if (has_error_) return std::move(error_);
        return {.code = cursor_.is_type_error() ? errc::header_bad_entry : errc::header_not_json,
                .tensor = current_,
                .detail = cursor_.error(),
                .offset = length_bytes + cursor_.offset()};
    }

    /// The offset of a name in the file; `unknown` if the name is written with escapes.
    [[nodiscard]] std::uint64_t place(std::string_view name) const noexcept {
        const auto at = reinterpret_cast<std::uintptr_t>(name.data()),
                   first = reinterpret_cast<std::uintptr_t>(json_.data());
        return at >= first && at - first < json_.size() ? length_bytes + (at - first) : unknown;
    }

    /// Stores a view of the string's characters that stays valid.
    SAFEFUSE_NOINLINE bool keep(const json_string& string, std::string_view& out) noexcept {
        out = string.raw;
        if (!string.escaped) return true;
        vector<char>& decoded = header_.decoded;
        // A decoded string is never longer than its encoded form, so this is room for all strings
        // that follow.
        if (decoded.empty() &&
            !decoded.reserve(static_cast<std::size_t>(cursor_.end() - string.raw.data())))
            return out_of_memory();
        const std::size_t first = decoded.size();
        if (!string.decode(decoded)) return out_of_memory();
        out = characters_at(decoded.data() + first, decoded.size() - first);
        return true;
    }

    bool read_root() noexcept {
        if (!cursor_.enter_object()) return false;
        for (bool has_metadata_key = false;;) {
            if (scans_ && !scan_entries(cursor_, rows())) return out_of_memory();
            json_string key;
            if (!cursor_.next_member(key)) break;
            if (key == metadata_key) {
                if (has_metadata_key) return cursor_.refuse("__metadata__ is repeated");
                has_metadata_key = true;
                if (!read_metadata()) return false;
                continue;
            }
            header_entry entry{};
            if (!keep(key, current_)) return false;
            entry.name_data = current_.data();
            entry.name_bytes = static_cast<std::uint32_t>(current_.size());
            if (!read_entry(entry)) return false;
            if (!rows().add(entry)) return out_of_memory();
            current_ = {};
        }
        const std::size_t behind = cursor_.offset();
        return cursor_.finish() && (options_.any_padding || check_padding(behind));
    }

    bool check_padding(std::size_t behind) noexcept {
        if (json_.front() != '{')
            return fail({.code = errc::header_not_json,
                         .detail = "white space before the {",
                         .offset = length_bytes});
        const std::size_t stop = json_.find_first_not_of(' ', behind);
        return stop == json_.npos || fail({.code = errc::header_not_json,
                                           .detail = "padding other than spaces",
                                           .offset = length_bytes + stop});
    }

    bool read_metadata() noexcept {
        if (cursor_.peek() == json_kind::null) return cursor_.read_null();
        header_.has_metadata = true;
        vector<metadata_entry>& entries = header_.metadata;
        json_string key, value;
        for (cursor_.enter_object(); cursor_.next_member(key);) {
            metadata_entry entry;
            if (!cursor_.read_string(value) || !keep(key, entry.key) || !keep(value, entry.value))
                return false;
            const auto keys = [&](std::uint32_t i) noexcept { return entries[i].key; };
            const auto added = header_.metadata_keys.insert(
                entry.key, static_cast<std::uint32_t>(entries.size()), keys);
            if (added.what == name_table::outcome::out_of_memory) return out_of_memory();
            if (added.what == name_table::outcome::already_there) {
                if (!options_.repeated_metadata)
                    return cursor_.refuse("a metadata key is repeated");
                entries[added.index].value = entry.value;
            } else if (!entries.push(entry)) {
                return out_of_memory();
            }
        }
        return !cursor_.failed();
    }

    bool read_array_entry(header_entry& entry) noexcept {
        const char* const why = "a tensor needs dtype, shape and data_offsets";
        return cursor_.enter_array() && next_element(why) && read_dtype(entry) &&
               next_element(why) && read_shape(entry) && next_element(why) && read_offsets(entry) &&
               no_more_elements(why);
    }

    bool read_entry(header_entry& entry) noexcept {
        if (options_.array_entries && cursor_.peek() == json_kind::array)
            return read_array_entry(entry);
        bool has_dtype = false, has_shape = false, has_offsets = false;
        json_string key;
        const auto once = [&](bool& has, const char* why) noexcept {
            return exchange(has, true) ? cursor_.refuse(why) : true;
        };
        for (cursor_.enter_object(); cursor_.next_member(key);) {
            const bool read =
                key == "dtype"   ? once(has_dtype, "dtype is repeated") && read_dtype(entry)
                : key == "shape" ? once(has_shape, "shape is repeated") && read_shape(entry)
                : key == "data_offsets"
                    ? once(has_offsets, "data_offsets are repeated") && read_offsets(entry)
                : options_.unknown_fields
                    ? cursor_.skip_value()
                    : cursor_.refuse("a tensor has only dtype, shape and data_offsets");
            if (!read) return false;
        }
        if (cursor_.failed()) return false;
        if (!has_dtype) return cursor_.refuse("dtype is missing");
        if (!has_shape) return cursor_.refuse("shape is missing");
        return has_offsets || cursor_.refuse("data_offsets are missing");
    }

    SAFEFUSE_NOINLINE bool next_element(const char* why) noexcept {
        return cursor_.next_element() || cursor_.refuse(why);
    }
    bool no_more_elements(const char* why) noexcept {
        return cursor_.next_element() ? cursor_.refuse(why) : !cursor_.failed();
    }

    bool read_object_dtype(json_string& spelled) noexcept {
        const char* const why = "a dtype written as an object has one key, whose value is null";
        json_string second;
        cursor_.enter_object();
        if (!cursor_.next_member(spelled)) return cursor_.refuse(why);
        if (!cursor_.read_null()) return false;
        if (cursor_.next_member(second)) return cursor_.refuse(why);
        return !cursor_.failed();
    }

    SAFEFUSE_NOINLINE bool read_dtype(header_entry& entry) noexcept {
        json_string spelled;
        const bool is_object = options_.object_dtypes && cursor_.peek() == json_kind::object;
        if (!(is_object ? read_object_dtype(spelled) : cursor_.read_string(spelled))) return false;
        for (std::size_t i = 0; i < dtype_count; ++i) {
            entry.type = static_cast<dtype>(i);
            if (spelled == name(entry.type)) return true;
        }
        return refuse_dtype(spelled.raw);
    }
    SAFEFUSE_COLD bool refuse_dtype(std::string_view spelled) noexcept {
        const std::string_view start = spelled.substr(0, 64);
        return fail({.code = errc::unknown_dtype,
                     .tensor = current_,
                     .detail = start.substr(0, utf8_prefix(start)),
                     .offset = place(spelled)});
    }

    SAFEFUSE_NOINLINE bool read_shape(header_entry& entry) noexcept {
        vector<std::uint64_t>& extents = rows().extents;
        entry.shape_begin = static_cast<std::uint32_t>(extents.size());
        for (cursor_.enter_array(); cursor_.next_element();) {
            std::uint64_t extent = 0;
            if (!cursor_.read_unsigned(extent)) return false;
            if (!extents.push(extent)) return out_of_memory();
        }
        entry.rank = static_cast<std::uint32_t>(extents.size() - entry.shape_begin);
        return !cursor_.failed();
    }

    SAFEFUSE_NOINLINE bool read_offsets(header_entry& entry) noexcept {
        const char* const why = "data_offsets must be two numbers";
        return cursor_.enter_array() && next_element(why) && cursor_.read_unsigned(entry.begin) &&
               next_element(why) && cursor_.read_unsigned(entry.end) && no_more_elements(why);
    }

    /// Fills the name table and handles repeated names.
    bool number_names() noexcept {
        vector<header_entry>& entries = rows().entries;
        header_.names.clear();
        if (!header_.names.reserve(entries.size())) return out_of_memory();
        std::size_t kept = 0;
        for (std::size_t i = 0; i < entries.size(); ++i) {
            const auto added = number_name(i, kept);
            const bool is_new = added.what == name_table::outcome::inserted;
            if (!is_new && !options_.last_duplicate_wins)
                return fail(twice(entries[i], entries[added.index]));
            const std::size_t to = is_new ? kept++ : added.index;
            if (to == i) continue;
            entries[to] = entries[i];
            rows().is_valid = false;
        }
        return entries.resize_unset(kept);  // shrinking needs no memory
    }

    name_table::insertion number_name(std::size_t i, std::size_t number) noexcept {
        const vector<header_entry>& entries = rows().entries;
        constexpr std::size_t ahead = 16;
        if (i + ahead < entries.size()) header_.names.prefetch_slot(entries[i + ahead].hash);
        return header_.names.insert_hashed(
            entries[i].name(), entries[i].hash, static_cast<std::uint32_t>(number),
            [&](std::uint32_t at) noexcept { return entries[at].name(); });
    }

    [[nodiscard]] failure twice(const header_entry& second,
                                const header_entry& first) const noexcept {
        text detail;
        if (place(first.name()) != unknown) {
            detail.append("first at byte ");
            detail.append_count(place(first.name()));
        }
        return {.code = errc::duplicate_tensor,
                .tensor = second.name(),
                .detail = std::move(detail),
                .offset = place(second.name())};
    }

    SAFEFUSE_NOINLINE bool sort_entries() noexcept {
        vector<header_entry>& entries = rows().entries;
        const auto lies_before = [](const header_entry& a, const header_entry& b) noexcept {
            return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
        };
        if (!sort(entries.view(), lies_before)) return out_of_memory();
        return number_names();
    }

    SAFEFUSE_COLD bool refuse(const header_entry& entry, errc code,
                              std::uint64_t expected = unknown, std::uint64_t actual = unknown,
                              std::string_view detail = {}) noexcept {
        return fail({.code = code,
                     .tensor = entry.name(),
                     .detail = detail,
                     .offset = place(entry.name()),
                     .expected = expected,
                     .actual = actual});
    }

    /// Checks in the order of the reference implementation, so that the same tensor is reported for
    /// the same error.
    bool check_entries() noexcept {
        std::uint64_t running = 0;
        for (const header_entry& entry : rows().entries) {
            if (entry.begin < running || (entry.begin > running && !options_.gaps))
                return refuse(entry, errc::bad_offsets, running, entry.begin);
            if (entry.end < entry.begin)
                return refuse(entry, errc::bad_offsets, entry.begin, entry.end,
                              "it ends before it begins");
            header_.gap_bytes += entry.begin - running;
            std::uint64_t size_bytes = 0;
            switch (tensor_size(entry.type, rows().shape(entry), size_bytes)) {
            case size_verdict::overflows: return refuse(entry, errc::size_overflow);
            case size_verdict::partial_byte: return refuse(entry, errc::partial_byte);
            case size_verdict::fits: break;
            }
            if (entry.end - entry.begin != size_bytes)
                return refuse(entry, errc::size_mismatch, size_bytes, entry.end - entry.begin);
            running = entry.end;
        }
        rows().data_bytes = running;
        return true;
    }

    bool check_file_size(std::uint64_t file_bytes) noexcept {
        std::uint64_t expected = 0;
        const bool fits = checked_add(header_.header_bytes, rows().data_bytes, expected);
        if (file_bytes == unknown)
            return fits || fail({.code = errc::size_overflow, .detail = "the sum of all tensors"});
        if (!fits) return fail({.code = errc::data_truncated, .actual = file_bytes});
        if (expected < file_bytes && options_.trailing_bytes) {
            header_.trailing_bytes = file_bytes - expected;
            return true;
        }
        if (expected == file_bytes) return true;
        return fail({.code = expected > file_bytes ? errc::data_truncated : errc::trailing_bytes,
                     .offset = expected > file_bytes ? file_bytes : expected,
                     .expected = expected,
                     .actual = file_bytes});
    }

    header_content& header_;
    std::string_view json_;
    json_cursor cursor_;
    const read_options& options_;
    std::string_view current_;  // the tensor that is being parsed
    failure error_;
    bool has_error_ = false;
    bool scans_;
};

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
