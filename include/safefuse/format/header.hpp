// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: parses the header of a tensor file into a checked table of tensors. header_writer.hpp
// does the inverse.
//
//     offset 0      N, the size of the header in bytes, as a 64-bit little-endian number
//     offset 8      N bytes of JSON, with white space before or after it:
//                   {"__metadata__": {"format": "pt"}, "name": {"dtype": "BF16",
//                   "shape": [2, 3], "data_offsets": [0, 12]}, ...}
//     offset 8 + N  the tensors' bytes; data_offsets count from here. The tensors follow each
//                   other without holes.
#ifndef SAFEFUSE_FORMAT_HEADER_HPP
#define SAFEFUSE_FORMAT_HEADER_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/name_table.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/format/detail/header_bytes.hpp>
#include <safefuse/format/detail/header_reader.hpp>
#include <safefuse/format/detail/header_scan.hpp>
#include <safefuse/format/detail/json_scan.hpp>
#include <safefuse/format/metadata.hpp>
#include <safefuse/format/read_options.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

class header;

namespace detail {
inline result<header> read_header(std::string_view json, std::uint64_t file_bytes,
                                  const read_options& options, bool scans = true) noexcept;
}  // namespace detail

/// A tensor of a file. Its bytes are [begin, end) of the data section, which starts at
/// header::header_bytes().
struct tensor_entry : tensor_spec {
    std::uint64_t begin = 0;  ///< first byte in the data section
    std::uint64_t end = 0;    ///< one past the last byte

    /// The size of the tensor in bytes.
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return end - begin; }
};

/// The checked table of the tensors in a file, in the order of their bytes.
///   lifetime  names and metadata point into the parsed bytes, which must stay alive; shapes, and
///             strings that the file writes with escapes, belong to the header. Everything stays
///             valid when the header is moved
class header {
public:
    /// What find() returns if there is no such tensor.
    static constexpr std::size_t npos = ~std::size_t{0};

    /// A header without tensors.
    header() noexcept = default;
    /// Leaves the other header without tensors.
    SAFEFUSE_NOINLINE header(header&&) noexcept = default;
    /// Leaves the other header without tensors.
    SAFEFUSE_NOINLINE header& operator=(header&&) noexcept = default;
    SAFEFUSE_NOINLINE ~header() = default;

    /// How many bytes from the start of a file parse() needs. `first_bytes` must contain at least
    /// the first 8.
    ///   fails   header_too_short, header_too_large
    [[nodiscard]] static result<std::uint64_t> bytes_needed(
        span<const std::byte> first_bytes, const read_options& options = {}) noexcept;

    /// Parses and checks a header. The bytes of the tensors are not needed.
    ///   file_start  at least the first bytes_needed() bytes of the file
    ///   file_bytes  the size of the file, or `unknown`: then it is not compared with the header
    ///   fails   header_too_short, header_too_large, header_past_end, header_not_utf8,
    ///           header_not_json, header_bad_entry, unknown_dtype, duplicate_tensor, bad_offsets,
    ///           size_overflow, partial_byte, size_mismatch, data_truncated, trailing_bytes,
    ///           out_of_memory
    [[nodiscard]] static result<header> parse(
        span<const std::byte> file_start SAFEFUSE_LIFETIMEBOUND, std::uint64_t file_bytes,
        const read_options& options = {}) noexcept;
    /// Of bytes that end with the expression no names may be kept.
    template <class Bytes>
        requires detail::ending_owner<Bytes, std::byte>
    static result<header> parse(Bytes&&, std::uint64_t, const read_options& = {}) = delete;

    /// The number of tensors.
    [[nodiscard]] std::size_t size() const noexcept { return content_.rows.entries.size(); }
    /// Whether there are no tensors.
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }
    /// Tensor i, in the order of the bytes.
    ///   lifetime  as long as the header and the bytes it was parsed from
    [[nodiscard]] tensor_entry operator[](std::size_t i) const noexcept SAFEFUSE_LIFETIMEBOUND {
        const detail::header_entry& entry = content_.rows.entries[i];
        return {{entry.name(), entry.type, content_.rows.shape(entry)}, entry.begin, entry.end};
    }
    /// The index of the tensor with this name, or npos.
    [[nodiscard]] std::size_t find(std::string_view name) const noexcept {
        const std::uint32_t i = content_.names.find(
            name, [this](std::uint32_t at) noexcept { return content_.rows.entries[at].name(); });
        return i == detail::name_table::npos ? npos : i;
    }

    /// Whether there is a `__metadata__` that is not null.
    [[nodiscard]] bool has_metadata() const noexcept { return content_.has_metadata; }
    /// The number of metadata entries.
    [[nodiscard]] std::size_t metadata_size() const noexcept { return content_.metadata.size(); }
    /// Metadata entry i, in the order of the file.
    [[nodiscard]] metadata_entry metadata(std::size_t i) const noexcept SAFEFUSE_LIFETIMEBOUND {
        return content_.metadata[i];
    }
    /// Stores the metadata value of a key. Returns false if the key does not exist.
    [[nodiscard]] bool find_metadata(std::string_view key, std::string_view& value) const noexcept {
        const std::uint32_t i = content_.metadata_keys.find(
            key, [this](std::uint32_t at) noexcept { return content_.metadata[at].key; });
        if (i == detail::name_table::npos) return false;
        value = content_.metadata[i].value;
        return true;
    }

    /// The offset of the data section in the file.
    [[nodiscard]] std::uint64_t header_bytes() const noexcept { return content_.header_bytes; }
    /// The size of the data section, up to the end of the last tensor.
    [[nodiscard]] std::uint64_t data_bytes() const noexcept { return content_.rows.data_bytes; }
    /// How many bytes of the data section belong to no tensor; 0 unless read_options::gaps is set.
    [[nodiscard]] std::uint64_t gap_bytes() const noexcept { return content_.gap_bytes; }
    /// How many bytes follow the last tensor; 0 unless read_options::trailing_bytes is set and the
    /// file's size is known.
    [[nodiscard]] std::uint64_t trailing_bytes() const noexcept { return content_.trailing_bytes; }
    /// The size of the file; if it was not given, the size that follows from the header.
    [[nodiscard]] std::uint64_t file_bytes() const noexcept {
        return content_.header_bytes + content_.rows.data_bytes + content_.trailing_bytes;
    }

private:
    friend result<header> detail::read_header(std::string_view, std::uint64_t, const read_options&,
                                              bool) noexcept;

    detail::header_content content_;
};

inline result<std::uint64_t> header::bytes_needed(span<const std::byte> first_bytes,
                                                  const read_options& options) noexcept {
    if (first_bytes.size() < detail::length_bytes)
        return failure{.code = errc::header_too_short,
                       .expected = detail::length_bytes,
                       .actual = first_bytes.size()};
    constexpr std::uint64_t largest =
        sizeof(std::size_t) < 8 ? PTRDIFF_MAX - detail::length_bytes : 0xFFFFFFFF;
    const std::uint64_t limit =
        options.max_header_bytes < largest ? options.max_header_bytes : largest;
    const std::uint64_t json_bytes =
        detail::load_word(reinterpret_cast<const char*>(first_bytes.data()));
    if (json_bytes > limit)
        return failure{
            .code = errc::header_too_large, .offset = 0, .expected = limit, .actual = json_bytes};
    return detail::length_bytes + json_bytes;
}

inline result<header> header::parse(span<const std::byte> file_start, std::uint64_t file_bytes,
                                    const read_options& options) noexcept {
    auto needed = bytes_needed(file_start, options);
    if (!needed) return std::move(needed.error());
    if (file_bytes < *needed)
        return failure{.code = errc::header_past_end, .expected = *needed, .actual = file_bytes};
    if (file_start.size() < *needed)
        return failure{.code = errc::header_past_end,
                       .detail = "the parser was given only a part of it",
                       .expected = *needed,
                       .actual = file_start.size()};
    const char* const json =
        reinterpret_cast<const char*>(file_start.data()) + detail::length_bytes;
    return detail::read_header({json, static_cast<std::size_t>(*needed - detail::length_bytes)},
                               file_bytes, options);
}

namespace detail {

/// Parses the JSON of a header. Tests pass `scans` = false to disable the fast path.
inline result<header> read_header(std::string_view json, std::uint64_t file_bytes,
                                  const read_options& options, bool scans) noexcept {
    header read;
    if (auto done = header_reader{read.content_, json, options, scans}.read(file_bytes); !done)
        return std::move(done).error();
    return read;
}

}  // namespace detail

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
