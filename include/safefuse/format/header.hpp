// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the header of a tensor file, both ways: bytes to a checked table of tensors, and a list of tensors to bytes.
//
//     offset 0      N, the bytes of the header, as a 64-bit little-endian number
//     offset 8      N bytes of JSON: {"__metadata__": {"format": "pt"}, "name": {"dtype": "BF16", "shape": [2, 3],
//                   "data_offsets": [0, 12]}, ...}, with white space before or behind
//     offset 8 + N  the tensors' bytes; data_offsets count from here. The tensors lie end to end, without holes.
#ifndef SAFEFUSE_FORMAT_HEADER_HPP
#define SAFEFUSE_FORMAT_HEADER_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/name_table.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/detail/utf8.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/detail/header_scan.hpp>
#include <safefuse/format/detail/json_cursor.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {
class header_reader;
}

/// What a file may be like. Each flag accepts something that the format's description forbids or leaves open. The defaults
/// give the verdicts of the reference implementation (safetensors 0.8) but for last_duplicate_wins, array_entries and
/// object_dtypes, which it has on.
struct read_options {
    std::uint64_t max_header_bytes = 100'000'000;  ///< of the JSON; above 4 GiB it means 4 GiB
    bool any_padding = true;           ///< accept white space before the JSON, and tabs and line ends behind it, not spaces alone
    bool unknown_fields = true;        ///< accept and ignore what a tensor has beside dtype, shape and data_offsets
    bool repeated_metadata = true;     ///< accept a key of `__metadata__` that stands there twice; the last one counts
    bool last_duplicate_wins = false;  ///< accept a tensor name that stands there twice; the last one counts
    bool array_entries = false;        ///< accept ["U8", [4], [0, 4]] for {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    bool object_dtypes = false;        ///< accept {"U8": null} for "U8"
    bool gaps = false;                 ///< accept bytes of no tensor before and between tensors: header::gap_bytes()
    bool trailing_bytes = false;       ///< accept bytes behind the last tensor: header::trailing_bytes()

    /// The format to the letter: nothing above is accepted.
    [[nodiscard]] static constexpr read_options strict() noexcept {
        return {.any_padding = false, .unknown_fields = false, .repeated_metadata = false};
    }
    /// The verdicts of the reference implementation.
    [[nodiscard]] static constexpr read_options reference() noexcept {
        return {.last_duplicate_wins = true, .array_entries = true, .object_dtypes = true};
    }
    /// The defaults, and bytes that belong to no tensor. Tensors that share bytes are refused all the same.
    [[nodiscard]] static constexpr read_options lenient() noexcept { return {.gaps = true, .trailing_bytes = true}; }
};

/// A tensor of a file. Its bytes are [begin, end) of the data section, which starts at header::header_bytes().
struct tensor_entry : tensor_spec {
    std::uint64_t begin = 0;  ///< first byte in the data section
    std::uint64_t end = 0;    ///< one behind the last

    /// How many bytes the tensor has.
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return end - begin; }
};

/// One of the texts under `__metadata__`.
struct metadata_entry {
    std::string_view key;    ///< unique in a file
    std::string_view value;  ///< any text
};

/// The checked table of the tensors in a file, in the order of their bytes.
///   lifetime  names and metadata point into the bytes that were parsed, which must stay; shapes (and what was spelled with
///             escapes) belong to the header. All of them stay valid when the header is moved.
class header {
public:
    /// What find() returns for a name that is not there.
    static constexpr std::size_t npos = ~std::size_t{0};

    /// A header without tensors.
    header() noexcept = default;
    /// The other is then without tensors.
    SAFEFUSE_NOINLINE header(header&&) noexcept = default;
    /// The other is then without tensors.
    SAFEFUSE_NOINLINE header& operator=(header&&) noexcept = default;
    SAFEFUSE_NOINLINE ~header() = default;

    /// How many bytes from the start of a file parse() needs, told from at least the first 8.
    ///   fails   header_too_short, header_too_large
    [[nodiscard]] static result<std::uint64_t> bytes_needed(span<const std::byte> first_bytes,
                                                            const read_options& options = {}) noexcept;

    /// Reads and checks a header. The bytes of the tensors need not be there.
    ///   file_start  at least the first bytes_needed() bytes of the file
    ///   file_bytes  the size of the file, or unknown if it is unknown: the tensors are then not held against it
    ///   fails   header_too_short, header_too_large, header_past_end, header_not_utf8, header_not_json, header_bad_entry,
    ///           unknown_dtype, duplicate_tensor, bad_offsets, size_overflow, partial_byte, size_mismatch, data_truncated,
    ///           trailing_bytes, out_of_memory
    [[nodiscard]] static result<header> parse(span<const std::byte> file_start SAFEFUSE_LIFETIMEBOUND,
                                              std::uint64_t file_bytes, const read_options& options = {}) noexcept;

    /// How many tensors there are.
    [[nodiscard]] std::size_t size() const noexcept { return rows_.entries.size(); }
    /// Whether there is none.
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }
    /// Tensor i, in the order of the bytes.
    ///   lifetime  valid as long as the header and the bytes that it was parsed from
    [[nodiscard]] tensor_entry operator[](std::size_t i) const noexcept SAFEFUSE_LIFETIMEBOUND {
        const detail::header_entry& entry = rows_.entries[i];
        return {{entry.name(), entry.type, rows_.shape(entry)}, entry.begin, entry.end};
    }
    /// The index of the tensor of that name, or npos.
    [[nodiscard]] std::size_t find(std::string_view name) const noexcept {
        const std::uint32_t i = names_.find(name, [this](std::uint32_t at) noexcept { return rows_.entries[at].name(); });
        return i == detail::name_table::npos ? npos : i;
    }

    /// Whether there is a `__metadata__` that is not null.
    [[nodiscard]] bool has_metadata() const noexcept { return has_metadata_; }
    /// How many texts it has.
    [[nodiscard]] std::size_t metadata_size() const noexcept { return metadata_.size(); }
    /// In the order of the file.
    [[nodiscard]] metadata_entry metadata(std::size_t i) const noexcept SAFEFUSE_LIFETIMEBOUND { return metadata_[i]; }
    /// Stores the text of that key; returns false where there is none.
    [[nodiscard]] bool find_metadata(std::string_view key, std::string_view& value) const noexcept {
        const std::uint32_t i = metadata_keys_.find(key, [this](std::uint32_t at) noexcept { return metadata_[at].key; });
        if (i == detail::name_table::npos) return false;
        value = metadata_[i].value;
        return true;
    }

    /// Where the data section starts in the file.
    [[nodiscard]] std::uint64_t header_bytes() const noexcept { return header_bytes_; }
    /// From there to the end of the last tensor.
    [[nodiscard]] std::uint64_t data_bytes() const noexcept { return rows_.data_bytes; }
    /// How many of these belong to no tensor; 0 unless read_options::gaps accepts them.
    [[nodiscard]] std::uint64_t gap_bytes() const noexcept { return gap_bytes_; }
    /// How many bytes follow the last tensor; 0 unless read_options::trailing_bytes accepts them, and if the file's size was unknown.
    [[nodiscard]] std::uint64_t trailing_bytes() const noexcept { return trailing_bytes_; }
    /// The size that the file has, or must have if it was unknown.
    [[nodiscard]] std::uint64_t file_bytes() const noexcept { return header_bytes_ + rows_.data_bytes + trailing_bytes_; }

private:
    friend class detail::header_reader;

    detail::header_rows rows_;
    detail::name_table names_;
    vector<metadata_entry> metadata_;
    detail::name_table metadata_keys_;
    vector<char> decoded_;  // never grows once something points into it
    std::uint64_t header_bytes_ = 8;
    std::uint64_t gap_bytes_ = 0;
    std::uint64_t trailing_bytes_ = 0;
    bool has_metadata_ = false;
};

/// The first bytes of a new tensor file, and where its tensors' bytes belong.
struct encoded_header {
    vector<std::byte> bytes;        ///< header length, JSON and padding
    vector<std::uint64_t> offsets;  ///< offsets[i]: where in the file tensor i of the list begins
    std::uint64_t file_bytes = 0;          ///< the size of the whole file
};

/// How a new header departs from the reference implementation's; the defaults do not.
struct encode_options {
    std::uint64_t data_alignment = 8;  ///< where the first tensor may begin: a multiple of this, by spaces behind the JSON
    bool keeps_order = false;          ///< tensors lie in the order in which they are given; any reader takes that
};

/// The largest encode_options::data_alignment.
inline constexpr std::uint64_t most_data_alignment = std::uint64_t{1} << 20;

/// The header of a file that holds these tensors end to end, byte for byte as the reference implementation writes it: larger
/// dtypes first, then by name. Metadata are sorted by key; without any there is no `__metadata__`.
///   fails   bad_name (not UTF-8, `__metadata__`, or a metadata key that is there twice), duplicate_tensor, size_overflow,
///           partial_byte, header_too_large (no reader accepts more than 100,000,000 bytes), out_of_range (the alignment is no
///           power of two from 8 to most_data_alignment), out_of_memory
[[nodiscard]] result<encoded_header> encode_header(span<const tensor_spec> tensors,
                                                   span<const metadata_entry> metadata = {},
                                                   const encode_options& options = {}) noexcept;

namespace detail {

inline constexpr std::uint64_t length_bytes = 8;
inline constexpr std::uint64_t largest_written_header = 100'000'000;

/// Fills a header from its JSON.
class header_reader {
public:
    /// `scans` false leaves the fast way out, for tests.
    header_reader(std::string_view json, const read_options& options, bool scans = true) noexcept
        : json_{json}, cursor_{json}, options_{options}, scans_{scans} {}

    [[nodiscard]] result<header> read(std::uint64_t file_bytes) noexcept {
        header_.header_bytes_ = length_bytes + json_.size();
        if (const std::size_t good = utf8_prefix(json_); good != json_.size())
            return failure{.code = errc::header_not_utf8, .offset = length_bytes + good};
        rows().hash = name_hash{json_.data()};
        // What real headers need; the arrays grow where it is not enough.
        if (!rows().entries.reserve(json_.size() / 112 + 4) || !rows().extents.reserve(json_.size() / 64 + 8))
            return failure{.code = errc::out_of_memory};
        if (!read_root()) return why();
        if (!number_names()) return std::move(error_);
        if (!rows().is_valid && !(sort_entries() && check_entries())) return std::move(error_);
        if (!check_file_size(file_bytes)) return std::move(error_);
        return std::move(header_);
    }

private:
    [[nodiscard]] header_rows& rows() noexcept { return header_.rows_; }

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

    /// Where a name stands in the file; unknown if it was spelled with escapes.
    [[nodiscard]] std::uint64_t place(std::string_view name) const noexcept {
        const auto at = reinterpret_cast<std::uintptr_t>(name.data()), first = reinterpret_cast<std::uintptr_t>(json_.data());
        return at >= first && at - first < json_.size() ? length_bytes + (at - first) : unknown;
    }

    /// The characters of a string that stay where they are.
    SAFEFUSE_NOINLINE bool keep(const json_string& string, std::string_view& out) noexcept {
        out = string.raw;
        if (!string.escaped) return true;
        vector<char>& decoded = header_.decoded_;
        // No string is longer decoded than spelled, so this is room for all that are still to come.
        if (decoded.empty() && !decoded.reserve(static_cast<std::size_t>(cursor_.end() - string.raw.data())))
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
                if (has_metadata_key) return cursor_.refuse("__metadata__ is there twice");
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
            return fail({.code = errc::header_not_json, .detail = "white space before the {", .offset = length_bytes});
        const std::size_t stop = json_.find_first_not_of(' ', behind);
        return stop == json_.npos ||
               fail({.code = errc::header_not_json, .detail = "padding other than spaces", .offset = length_bytes + stop});
    }

    bool read_metadata() noexcept {
        if (cursor_.peek() == json_kind::null) return cursor_.read_null();
        header_.has_metadata_ = true;
        vector<metadata_entry>& entries = header_.metadata_;
        json_string key, value;
        for (cursor_.enter_object(); cursor_.next_member(key);) {
            metadata_entry entry;
            if (!cursor_.read_string(value) || !keep(key, entry.key) || !keep(value, entry.value)) return false;
            const auto keys = [&](std::uint32_t i) noexcept { return entries[i].key; };
            const auto added = header_.metadata_keys_.insert(entry.key, static_cast<std::uint32_t>(entries.size()), keys);
            if (added.what == name_table::outcome::out_of_memory) return out_of_memory();
            if (added.what == name_table::outcome::already_there) {
                if (!options_.repeated_metadata) return cursor_.refuse("a metadata key is there twice");
                entries[added.index].value = entry.value;
            } else if (!entries.push(entry)) {
                return out_of_memory();
            }
        }
        return !cursor_.failed();
    }

    bool read_entry(header_entry& entry) noexcept {
        if (options_.array_entries && cursor_.peek() == json_kind::array) {
            const char* const why = "a tensor needs dtype, shape and data_offsets";
            return cursor_.enter_array() && next_element(why) && read_dtype(entry) && next_element(why) && read_shape(entry) &&
                   next_element(why) && read_offsets(entry) && no_more_elements(why);
        }
        bool has_dtype = false, has_shape = false, has_offsets = false;
        json_string key;
        const auto once = [&](bool& has, const char* why) noexcept { return exchange(has, true) ? cursor_.refuse(why) : true; };
        for (cursor_.enter_object(); cursor_.next_member(key);) {
            const bool read = key == "dtype"          ? once(has_dtype, "dtype is there twice") && read_dtype(entry)
                              : key == "shape"        ? once(has_shape, "shape is there twice") && read_shape(entry)
                              : key == "data_offsets" ? once(has_offsets, "data_offsets are there twice") && read_offsets(entry)
                              : options_.unknown_fields
                                  ? cursor_.skip_value()
                                  : cursor_.refuse("a tensor has dtype, shape and data_offsets, nothing else");
            if (!read) return false;
        }
        if (cursor_.failed()) return false;
        if (!has_dtype) return cursor_.refuse("dtype is missing");
        if (!has_shape) return cursor_.refuse("shape is missing");
        return has_offsets || cursor_.refuse("data_offsets are missing");
    }

    SAFEFUSE_NOINLINE bool next_element(const char* why) noexcept { return cursor_.next_element() || cursor_.refuse(why); }
    bool no_more_elements(const char* why) noexcept { return cursor_.next_element() ? cursor_.refuse(why) : !cursor_.failed(); }

    bool read_dtype(header_entry& entry) noexcept {
        json_string spelled, second;
        const bool is_object = options_.object_dtypes && cursor_.peek() == json_kind::object;
        if (is_object) {
            const char* const why = "a dtype given as an object has one key, and null for it";
            cursor_.enter_object();
            if (!cursor_.next_member(spelled)) return cursor_.refuse(why);
            if (!cursor_.read_null()) return false;
            if (cursor_.next_member(second)) return cursor_.refuse(why);
            if (cursor_.failed()) return false;
        } else if (!cursor_.read_string(spelled)) {
            return false;
        }
        for (std::size_t i = 0; i < dtype_count; ++i) {
            entry.type = static_cast<dtype>(i);
            if (spelled == name(entry.type)) return true;
        }
        const std::string_view start = spelled.raw.substr(0, 64);
        return fail({.code = errc::unknown_dtype,
                     .tensor = current_,
                     .detail = start.substr(0, utf8_prefix(start)),
                     .offset = place(spelled.raw)});
    }

    bool read_shape(header_entry& entry) noexcept {
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

    bool read_offsets(header_entry& entry) noexcept {
        const char* const why = "data_offsets must be two numbers";
        return cursor_.enter_array() && next_element(why) && cursor_.read_unsigned(entry.begin) && next_element(why) &&
               cursor_.read_unsigned(entry.end) && no_more_elements(why);
    }

    /// Makes the names findable, and finds the ones that are there twice.
    bool number_names() noexcept {
        vector<header_entry>& entries = rows().entries;
        name_table& names = header_.names_ = name_table{rows().hash};
        if (!names.reserve(entries.size())) return out_of_memory();
        std::size_t kept = 0;
        for (std::size_t i = 0; i < entries.size(); ++i) {
            const auto added = number_name(i, kept);
            const bool is_new = added.what == name_table::outcome::inserted;
            if (!is_new && !options_.last_duplicate_wins) return fail(twice(entries[i], entries[added.index]));
            const std::size_t to = is_new ? kept++ : added.index;
            if (to == i) continue;
            entries[to] = entries[i];
            rows().is_valid = false;
        }
        return entries.resize_unset(kept);  // to shrink needs no memory
    }

    name_table::insertion number_name(std::size_t i, std::size_t number) noexcept {
        const vector<header_entry>& entries = rows().entries;
        constexpr std::size_t ahead = 16;
        if (i + ahead < entries.size()) header_.names_.prefetch_slot(entries[i + ahead].hash);
        return header_.names_.insert_hashed(entries[i].name(), entries[i].hash, static_cast<std::uint32_t>(number),
                                            [&](std::uint32_t at) noexcept { return entries[at].name(); });
    }

    [[nodiscard]] failure twice(const header_entry& second, const header_entry& first) const noexcept {
        text detail;
        if (place(first.name()) != unknown) {
            detail.append("first at byte ");
            detail.append_count(place(first.name()));
        }
        return {
            .code = errc::duplicate_tensor, .tensor = second.name(), .detail = std::move(detail), .offset = place(second.name())};
    }

    SAFEFUSE_NOINLINE bool sort_entries() noexcept {
        vector<header_entry>& entries = rows().entries;
        const auto lies_before = [](const header_entry& a, const header_entry& b) noexcept {
            return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
        };
        if (!sort(entries.view(), lies_before)) return out_of_memory();
        header_.names_.clear();
        for (std::size_t i = 0; i < entries.size(); ++i) number_name(i, i);
        return true;
    }

    SAFEFUSE_COLD bool refuse(const header_entry& entry, errc code, std::uint64_t expected = unknown,
                              std::uint64_t actual = unknown, std::string_view detail = {}) noexcept {
        return fail({.code = code,
                     .tensor = entry.name(),
                     .detail = detail,
                     .offset = place(entry.name()),
                     .expected = expected,
                     .actual = actual});
    }

    /// The reference's checks in its order, so that the same tensor is blamed for the same thing.
    bool check_entries() noexcept {
        std::uint64_t running = 0;
        for (const header_entry& entry : rows().entries) {
            if (entry.begin < running || (entry.begin > running && !options_.gaps))
                return refuse(entry, errc::bad_offsets, running, entry.begin);
            if (entry.end < entry.begin)
                return refuse(entry, errc::bad_offsets, entry.begin, entry.end, "its end lies before its begin");
            header_.gap_bytes_ += entry.begin - running;
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
        const bool fits = checked_add(header_.header_bytes_, rows().data_bytes, expected);
        if (file_bytes == unknown) return fits || fail({.code = errc::size_overflow, .detail = "of all tensors together"});
        if (!fits) return fail({.code = errc::data_truncated, .actual = file_bytes});
        if (expected < file_bytes && options_.trailing_bytes) {
            header_.trailing_bytes_ = file_bytes - expected;
            return true;
        }
        if (expected == file_bytes) return true;
        return fail({.code = expected > file_bytes ? errc::data_truncated : errc::trailing_bytes,
                     .offset = expected > file_bytes ? file_bytes : expected,
                     .expected = expected,
                     .actual = file_bytes});
    }

    std::string_view json_;
    json_cursor cursor_;
    const read_options& options_;
    header header_;
    std::string_view current_;  // the tensor that is being read
    failure error_;
    bool has_error_ = false;
    bool scans_;
};

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

inline result<std::uint64_t> header::bytes_needed(span<const std::byte> first_bytes, const read_options& options) noexcept {
    if (first_bytes.size() < detail::length_bytes)
        return failure{.code = errc::header_too_short, .expected = detail::length_bytes, .actual = first_bytes.size()};
    constexpr std::uint64_t largest = sizeof(std::size_t) < 8 ? PTRDIFF_MAX - detail::length_bytes : 0xFFFFFFFF;
    const std::uint64_t limit = options.max_header_bytes < largest ? options.max_header_bytes : largest;
    const std::uint64_t json_bytes = detail::load_word(reinterpret_cast<const char*>(first_bytes.data()));
    if (json_bytes > limit) return failure{.code = errc::header_too_large, .offset = 0, .expected = limit, .actual = json_bytes};
    return detail::length_bytes + json_bytes;
}

inline result<header> header::parse(span<const std::byte> file_start, std::uint64_t file_bytes,
                                    const read_options& options) noexcept {
    auto needed = bytes_needed(file_start, options);
    if (!needed) return std::move(needed.error());
    if (file_bytes < *needed) return failure{.code = errc::header_past_end, .expected = *needed, .actual = file_bytes};
    if (file_start.size() < *needed)
        return failure{.code = errc::header_past_end,
                       .detail = "not all of it was given to the parser",
                       .expected = *needed,
                       .actual = file_start.size()};
    const char* const json = reinterpret_cast<const char*>(file_start.data()) + detail::length_bytes;
    return detail::header_reader{{json, static_cast<std::size_t>(*needed - detail::length_bytes)}, options}.read(file_bytes);
}

namespace detail {

/// What a header is written from, checked and in order.
struct header_order {
    vector<std::uint32_t> tensors;       ///< numbers of the tensors, in the order of the file
    vector<std::uint32_t> keys;          ///< numbers of the metadata entries, by key
    vector<std::uint64_t> sizes_bytes;   ///< by number of the tensor
};

[[nodiscard]] SAFEFUSE_COLD inline failure bad_name(std::string_view tensor,
                                                    std::string_view detail) noexcept {
    return {.code = errc::bad_name, .tensor = tensor, .detail = detail};
}

/// Checks names and sizes of tensors, and lists both.
///   fails   bad_name, duplicate_tensor, size_overflow, partial_byte, out_of_memory
inline result<void> list_tensors(header_order& order,
                                 span<const tensor_spec> tensors) noexcept {
    const failure out_of_memory{.code = errc::out_of_memory};
    name_table names;
    if (!names.reserve(tensors.size())) return out_of_memory;
    const auto name_of = [&](std::uint32_t i) noexcept { return tensors[i].name; };
    for (std::uint32_t i = 0; i < tensors.size(); ++i) {
        const tensor_spec& tensor = tensors[i];
        if (!is_utf8(tensor.name)) return bad_name(tensor.name, "it is not UTF-8");
        if (tensor.name == metadata_key)
            return bad_name(tensor.name, "the format gives that name a meaning");
        const auto added = names.insert(tensor.name, i, name_of);
        if (added.what == name_table::outcome::out_of_memory) return out_of_memory;
        if (added.what == name_table::outcome::already_there)
            return failure{.code = errc::duplicate_tensor, .tensor = tensor.name};
        std::uint64_t size_bytes = 0;
        switch (tensor_size(tensor.type, tensor.shape, size_bytes)) {
        case size_verdict::overflows:
            return failure{.code = errc::size_overflow, .tensor = tensor.name};
        case size_verdict::partial_byte:
            return failure{.code = errc::partial_byte, .tensor = tensor.name};
        case size_verdict::fits: break;
        }
        if (!order.tensors.push(i) || !order.sizes_bytes.push(size_bytes)) return out_of_memory;
    }
    return {};
}

/// Checks and orders what a header is written from.
///   fails   header_too_large, bad_name, duplicate_tensor, size_overflow, partial_byte,
///           out_of_memory
inline result<header_order> order_header(span<const tensor_spec> tensors,
                                         span<const metadata_entry> metadata,
                                         bool keeps_order) noexcept {
    const failure out_of_memory{.code = errc::out_of_memory};
    if (tensors.size() >= largest_written_header || metadata.size() >= largest_written_header)
        return failure{.code = errc::header_too_large, .expected = largest_written_header};
    header_order out;
    if (!out.tensors.reserve(tensors.size()) || !out.sizes_bytes.reserve(tensors.size()) ||
        !out.keys.reserve(metadata.size()))
        return out_of_memory;
    if (auto listed = list_tensors(out, tensors); !listed) return std::move(listed).error();
    for (std::uint32_t i = 0; i < metadata.size(); ++i) {
        if (!is_utf8(metadata[i].key) || !is_utf8(metadata[i].value))
            return bad_name({}, "metadata must be UTF-8");
        if (!out.keys.push(i)) return out_of_memory;
    }
    const auto before = [&](std::uint32_t a, std::uint32_t b) noexcept {
        const tensor_spec &one = tensors[a], &other = tensors[b];
        return one.type != other.type ? one.type > other.type : one.name < other.name;
    };
    const auto key_before = [&](std::uint32_t a, std::uint32_t b) noexcept {
        return metadata[a].key < metadata[b].key;
    };
    if (!keeps_order && !detail::sort(out.tensors.view(), before)) return out_of_memory;
    if (!detail::sort(out.keys.view(), key_before)) return out_of_memory;
    return out;
}

/// Writes "__metadata__" and its entries, if there are any.
///   fails   bad_name (a key is there twice)
inline result<void> put_metadata(json_writer& json, span<const metadata_entry> metadata,
                                 span<const std::uint32_t> keys) noexcept {
    if (keys.empty()) return {};
    json.put("\"__metadata__\":{");
    for (std::size_t i = 0; i < keys.size(); ++i) {
        const metadata_entry& entry = metadata[keys[i]];
        if (i != 0 && entry.key == metadata[keys[i - 1]].key)
            return bad_name({}, "a metadata key is there twice");
        json.put(i == 0 ? "" : ",").put_string(entry.key).put(":").put_string(entry.value);
    }
    json.put("}");
    return {};
}

/// Writes a tensor and the range of its bytes.
inline void put_tensor(json_writer& json, const tensor_spec& tensor, std::uint64_t begin,
                       std::uint64_t end) noexcept {
    json.put_string(tensor.name).put(":{\"dtype\":\"").put(name(tensor.type));
    json.put("\",\"shape\":[");
    for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis)
        json.put(axis == 0 ? "" : ",").put_number(tensor.shape[axis]);
    json.put("],\"data_offsets\":[").put_number(begin).put(",").put_number(end).put("]}");
}

}  // namespace detail

inline result<encoded_header> encode_header(span<const tensor_spec> tensors,
                                            span<const metadata_entry> metadata,
                                            const encode_options& options) noexcept {
    const std::uint64_t alignment = options.data_alignment;
    if (alignment < 8 || alignment > most_data_alignment || (alignment & (alignment - 1)) != 0)
        return failure{.code = errc::out_of_range,
                       .detail = "of the alignment of the data",
                       .expected = most_data_alignment,
                       .actual = alignment};
    auto order = detail::order_header(tensors, metadata, options.keeps_order);
    if (!order) return std::move(order).error();

    encoded_header made;
    if (!made.bytes.resize(detail::length_bytes) || !made.offsets.resize_unset(tensors.size()))
        return failure{.code = errc::out_of_memory};
    detail::json_writer json{made.bytes};
    json.put("{");
    if (auto put = detail::put_metadata(json, metadata, order->keys.view()); !put)
        return std::move(put).error();
    std::uint64_t begin = 0;
    for (const std::uint32_t t : order->tensors) {
        std::uint64_t end = 0;
        if (!detail::checked_add(begin, order->sizes_bytes[t], end))
            return failure{.code = errc::size_overflow,
                           .tensor = tensors[t].name,
                           .detail = "of all tensors together"};
        const bool is_first = t == order->tensors[0] && order->keys.empty();
        detail::put_tensor(json.put(is_first ? "" : ","), tensors[t], begin, end);
        made.offsets[t] = begin;
        begin = end;
    }
    json.put("}");
    while (!json.failed() && made.bytes.size() % alignment != 0) json.put(" ");
    if (json.failed()) return failure{.code = errc::out_of_memory};

    const std::uint64_t json_bytes = made.bytes.size() - detail::length_bytes;
    if (json_bytes > detail::largest_written_header)
        return failure{.code = errc::header_too_large,
                       .expected = detail::largest_written_header,
                       .actual = json_bytes};
    for (std::size_t i = 0; i < detail::length_bytes; ++i)
        made.bytes[i] = static_cast<std::byte>(json_bytes >> 8 * i);
    if (!detail::checked_add(begin, made.bytes.size(), made.file_bytes))
        return failure{.code = errc::size_overflow, .detail = "of all tensors together"};
    for (std::uint64_t& offset : made.offsets) offset += made.bytes.size();
    return made;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
