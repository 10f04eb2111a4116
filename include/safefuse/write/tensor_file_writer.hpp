// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: writes one tensor file as a stream: bytes may arrive in any order and in pieces of any
// size, and none are kept. The file appears under its name when it is complete.
#ifndef SAFEFUSE_WRITE_TENSOR_FILE_WRITER_HPP
#define SAFEFUSE_WRITE_TENSOR_FILE_WRITER_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/header_writer.hpp>
#include <safefuse/format/metadata.hpp>
#include <safefuse/io/output_file.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Writes one tensor file.
class tensor_file_writer {
public:
    tensor_file_writer() noexcept = default;

    /// Creates a file with these tensors; their bytes are written later. Unless `options` say
    /// otherwise, the header equals the reference writer's byte for byte.
    ///   fails   as encode_header and output_file::create
    static result<tensor_file_writer> create(std::string_view path, span<const tensor_spec> tensors,
                                             span<const metadata_entry> metadata = pytorch_metadata,
                                             const encode_options& options = {}) noexcept {
        auto header = encode_header(tensors, metadata, options);
        if (!header) {
            if (header.error().file.empty()) header.error().file = path;
            return std::move(header).error();
        }
        return create(path, tensors, std::move(*header));
    }
    /// Creates a file with a header that encode_header made for these tensors. Reserves the file's
    /// disk space if `reserve` is true; `permissions` are as in output_file::create.
    ///   fails   out_of_range (the header belongs to another number of tensors), and as
    ///           output_file::create
    static result<tensor_file_writer> create(
        std::string_view path, span<const tensor_spec> tensors, encoded_header&& header,
        bool reserve = true, std::uint32_t permissions = default_file_permissions) noexcept {
        if (header.offsets.size() != tensors.size())
            return failure{.code = errc::out_of_range,
                           .file = path,
                           .detail = "the header is for a different number of tensors",
                           .expected = tensors.size(),
                           .actual = header.offsets.size()};
        auto file = output_file::create(path, header.file_bytes, reserve, permissions);
        if (!file) return std::move(file).error();
        if (auto written = file->write(0, header.bytes.view()); !written)
            return std::move(written).error();
        tensor_file_writer writer;
        if (!writer.sizes_.reserve(tensors.size()))
            return failure{.code = errc::out_of_memory, .file = path};
        for (const tensor_spec& each : tensors) {
            std::uint64_t size_bytes = 0;
            static_cast<void>(
                tensor_size(each.type, each.shape, size_bytes));  // checked by encode_header
            static_cast<void>(writer.sizes_.push(size_bytes));
        }
        writer.file_ = std::move(*file);
        writer.offsets_ = std::move(header.offsets);
        return writer;
    }

    /// Writes bytes of tensor `i` of the list given to create(), starting at its byte `offset`.
    /// Several threads may write disjoint ranges at once.
    ///   fails   out_of_range, disk_full, io_error
    result<void> write(std::size_t i, std::uint64_t offset, span<const std::byte> bytes) noexcept {
        if (i >= sizes_.size() || offset > sizes_[i] || sizes_[i] - offset < bytes.size())
            return failure{.code = errc::out_of_range,
                           .file = file_.path(),
                           .offset = offset,
                           .expected = i < sizes_.size() ? sizes_[i] : 0,
                           .actual = bytes.size()};
        return file_.write(offsets_[i] + offset, bytes);
    }

    /// As output_file::share, for bytes of tensor `i`. offset_bytes(i) + offset must also be a
    /// multiple of share_multiple_bytes.
    [[nodiscard]] bool share(std::size_t i, std::uint64_t offset, std::intptr_t native_handle,
                             std::uint64_t source_offset, std::uint64_t size) noexcept {
        if (i >= sizes_.size() || offset > sizes_[i] || sizes_[i] - offset < size) return false;
        return file_.share(offsets_[i] + offset, native_handle, source_offset, size);
    }

    /// As output_file::start_writing.
    void start_writing() noexcept { file_.start_writing(); }

    /// Puts the file in place. Bytes that were not written are zero.
    ///   fails   as output_file::commit
    result<void> commit(durability wait = durability::synced) noexcept {
        return file_.commit(wait);
    }

    /// Offset of tensor i in bytes from the start of the file.
    [[nodiscard]] std::uint64_t offset_bytes(std::size_t i) const noexcept { return offsets_[i]; }
    /// Size of the whole file in bytes.
    [[nodiscard]] std::uint64_t file_bytes() const noexcept { return file_.size_bytes(); }

private:
    output_file file_;
    vector<std::uint64_t> offsets_;
    vector<std::uint64_t> sizes_;
};

namespace detail {

/// What the tensors are, without their bytes. A tensor_view{} is none: it has too few bytes.
///   fails   wrong_buffer_size, out_of_memory
[[nodiscard]] inline result<vector<tensor_spec>> specs_of(
    span<const named_tensor> tensors) noexcept {
    vector<tensor_spec> specs;
    if (!specs.reserve(tensors.size())) return failure{.code = errc::out_of_memory};
    for (const named_tensor& each : tensors) {
        const tensor_view& view = each.tensor;
        if (auto whole = tensor_view::of(view.type(), view.shape(), view.bytes()); !whole) {
            whole.error().tensor = each.name;
            return std::move(whole).error();
        }
        if (!specs.push({each.name, view.type(), view.shape()}))
            return failure{.code = errc::out_of_memory};
    }
    return specs;
}

}  // namespace detail

/// Writes one tensor file from tensors in memory, byte for byte as the reference writer does
/// (metadata sorted by key) unless `options` ask for something else.
///   metadata  the reference writes none unless it is told to: no_metadata. The default is what
///   transformers tells it to write
///   wait      durability::renamed returns without waiting for the disk
///   fails     wrong_buffer_size (of a tensor_view{}), and as tensor_file_writer; nothing is left
///   at `path` then that was not there before
inline result<void> write_tensor_file(std::string_view path, span<const named_tensor> tensors,
                                      span<const metadata_entry> metadata = pytorch_metadata,
                                      const encode_options& options = {},
                                      durability wait = durability::synced) noexcept {
    auto specs = detail::specs_of(tensors);
    if (!specs) {
        specs.error().file = path;
        return std::move(specs).error();
    }
    auto writer = tensor_file_writer::create(path, specs->view(), metadata, options);
    if (!writer) return std::move(writer).error();
    for (std::size_t i = 0; i < tensors.size(); ++i)
        if (auto written = writer->write(i, 0, tensors[i].tensor.bytes()); !written) return written;
    return writer->commit(wait);
}

/// The bytes of the file that write_tensor_file would write, in memory.
///   fails   wrong_buffer_size (of a tensor_view{}), out_of_memory, and as encode_header
[[nodiscard]] inline result<vector<std::byte>> encode_tensor_file(
    span<const named_tensor> tensors, span<const metadata_entry> metadata = pytorch_metadata,
    const encode_options& options = {}) noexcept {
    const auto specs = detail::specs_of(tensors);
    if (!specs) return specs.error();
    auto header = encode_header(specs->view(), metadata, options);
    if (!header) return std::move(header).error();
    vector<std::byte> file = std::move(header->bytes);
    if (!detail::fits_memory(header->file_bytes) ||
        !file.resize_unset(static_cast<std::size_t>(header->file_bytes)))
        return failure{.code = errc::out_of_memory, .expected = header->file_bytes};
    for (std::size_t i = 0; i < tensors.size(); ++i)
        if (const auto bytes = tensors[i].tensor.bytes(); !bytes.empty())
            std::memcpy(file.data() + header->offsets[i], bytes.data(), bytes.size());
    return file;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
