// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the header of a new tensor file, from a list of tensors.
#ifndef SAFEFUSE_FORMAT_HEADER_WRITER_HPP
#define SAFEFUSE_FORMAT_HEADER_WRITER_HPP

#include <cstddef>
#include <cstdint>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/detail/header_bytes.hpp>
#include <safefuse/format/detail/header_order.hpp>
#include <safefuse/format/detail/json_writer.hpp>
#include <safefuse/format/metadata.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// The first bytes of a new tensor file, and the offsets of its tensors.
struct encoded_header {
    vector<std::byte> bytes;        ///< header length, JSON and padding
    vector<std::uint64_t> offsets;  ///< offsets[i]: the offset in the file of tensor i of the list
    std::uint64_t file_bytes = 0;   ///< size of the whole file
};

/// Options for a new header. With the defaults it is the same as the reference implementation's.
struct encode_options {
    /// The first tensor begins at a multiple of this many bytes. Spaces after the JSON fill the
    /// gap.
    std::uint64_t data_alignment = 8;
    /// Whether tensors keep the order in which they are given. Every reader accepts that.
    bool keeps_order = false;
    /// Whether a header without metadata entries contains an empty `__metadata__`. The reference
    /// writes one for an empty map, and none for None.
    bool keeps_empty_metadata = false;
};

/// The largest encode_options::data_alignment.
inline constexpr std::uint64_t most_data_alignment = std::uint64_t{1} << 20;

/// The header of a file that holds these tensors end to end, byte for byte as the reference
/// implementation writes it: larger dtypes first, then by name. Metadata are sorted by key; without
/// any there is no `__metadata__`, unless options.keeps_empty_metadata.
///   fails   bad_name (not UTF-8, `__metadata__`, or a metadata key that is there twice),
///   duplicate_tensor, size_overflow,
///           partial_byte, header_too_large (no reader accepts more than 100,000,000 bytes),
///           out_of_range (the alignment is no power of two from 8 to most_data_alignment),
///           out_of_memory
[[nodiscard]] result<encoded_header> encode_header(span<const tensor_spec> tensors,
                                                   span<const metadata_entry> metadata = {},
                                                   const encode_options& options = {}) noexcept;

inline result<encoded_header> encode_header(span<const tensor_spec> tensors,
                                            span<const metadata_entry> metadata,
                                            const encode_options& options) noexcept {
    const std::uint64_t alignment = options.data_alignment;
    if (alignment < 8 || alignment > most_data_alignment || (alignment & (alignment - 1)) != 0)
        return failure{.code = errc::out_of_range,
                       .detail = "the data alignment is not valid",
                       .expected = most_data_alignment,
                       .actual = alignment};
    auto order = detail::order_header(tensors, metadata, options.keeps_order);
    if (!order) return std::move(order).error();

    encoded_header made;
    if (!made.bytes.resize(detail::length_bytes) || !made.offsets.resize_unset(tensors.size()))
        return detail::lack_of_memory{};
    detail::json_writer json{made.bytes};
    json.put("{");
    const bool has_metadata = !order->keys.empty() || options.keeps_empty_metadata;
    if (has_metadata)
        if (auto put = detail::put_metadata(json, metadata, order->keys.view()); !put)
            return std::move(put).error();
    std::uint64_t begin = 0;
    for (const std::uint32_t t : order->tensors) {
        std::uint64_t end = 0;
        if (!detail::checked_add(begin, order->sizes_bytes[t], end))
            return failure{.code = errc::size_overflow,
                           .tensor = tensors[t].name,
                           .detail = "the sum of all tensors"};
        const bool is_first = t == order->tensors[0] && !has_metadata;
        detail::put_tensor(json.put(is_first ? "" : ","), tensors[t], begin, end);
        made.offsets[t] = begin;
        begin = end;
    }
    json.put("}");
    while (!json.failed() && made.bytes.size() % alignment != 0) json.put(" ");
    if (json.failed()) return detail::lack_of_memory{};

    const std::uint64_t json_bytes = made.bytes.size() - detail::length_bytes;
    if (json_bytes > detail::largest_written_header)
        return failure{.code = errc::header_too_large,
                       .expected = detail::largest_written_header,
                       .actual = json_bytes};
    for (std::size_t i = 0; i < detail::length_bytes; ++i)
        made.bytes[i] = static_cast<std::byte>(json_bytes >> 8 * i);
    if (!detail::checked_add(begin, made.bytes.size(), made.file_bytes))
        return failure{.code = errc::size_overflow, .detail = "the sum of all tensors"};
    for (std::uint64_t& offset : made.offsets) offset += made.bytes.size();
    return made;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
