// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the checked and ordered input of a new header, and its entries as JSON.
#ifndef SAFEFUSE_FORMAT_DETAIL_HEADER_ORDER_HPP
#define SAFEFUSE_FORMAT_DETAIL_HEADER_ORDER_HPP

#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/name_table.hpp>
#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/detail/utf8.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/detail/header_bytes.hpp>
#include <safefuse/format/detail/json_writer.hpp>
#include <safefuse/format/metadata.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// The largest JSON that is written: the reference implementation refuses to read more.
inline constexpr std::uint64_t largest_written_header = 100'000'000;

/// The checked and ordered input of a new header.
struct header_order {
    vector<std::uint32_t> tensors;      ///< indices of the tensors, in file order
    vector<std::uint32_t> keys;         ///< indices of the metadata entries, sorted by key
    vector<std::uint64_t> sizes_bytes;  ///< sizes of the tensors, by tensor index
};

[[nodiscard]] SAFEFUSE_COLD inline failure bad_name(std::string_view tensor,
                                                    std::string_view detail) noexcept {
    return {.code = errc::bad_name, .tensor = tensor, .detail = detail};
}

/// Checks the names and sizes of tensors, and lists their indices and sizes.
///   fails   bad_name, duplicate_tensor, size_overflow, partial_byte, out_of_memory
inline result<void> list_tensors(header_order& order, span<const tensor_spec> tensors) noexcept {
    const failure out_of_memory{.code = errc::out_of_memory};
    name_table names;
    if (!names.reserve(tensors.size())) return out_of_memory;
    const auto name_of = [&](std::uint32_t i) noexcept { return tensors[i].name; };
    for (std::uint32_t i = 0; i < tensors.size(); ++i) {
        const tensor_spec& tensor = tensors[i];
        if (!is_utf8(tensor.name)) return bad_name(tensor.name, "it is not UTF-8");
        if (tensor.name == metadata_key)
            return bad_name(tensor.name, "the format reserves this name");
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

/// Checks and orders the input of a new header.
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

/// Writes "__metadata__" and its entries.
///   fails   bad_name (a key is there twice)
inline result<void> put_metadata(json_writer& json, span<const metadata_entry> metadata,
                                 span<const std::uint32_t> keys) noexcept {
    json.put("\"__metadata__\":{");
    for (std::size_t i = 0; i < keys.size(); ++i) {
        const metadata_entry& entry = metadata[keys[i]];
        if (i != 0 && entry.key == metadata[keys[i - 1]].key)
            return bad_name({}, "a metadata key is repeated");
        json.put(i == 0 ? "" : ",").put_string(entry.key).put(":").put_string(entry.value);
    }
    json.put("}");
    return {};
}

/// Writes a tensor with its byte range.
inline void put_tensor(json_writer& json, const tensor_spec& tensor, std::uint64_t begin,
                       std::uint64_t end) noexcept {
    json.put_string(tensor.name).put(":{\"dtype\":\"").put(name(tensor.type));
    json.put("\",\"shape\":[");
    for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis)
        json.put(axis == 0 ? "" : ",").put_number(tensor.shape[axis]);
    json.put("],\"data_offsets\":[").put_number(begin).put(",").put_number(end).put("]}");
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
