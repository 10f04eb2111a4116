// safefuse: writing tensor files and sharded checkpoints. Streaming: bytes may come in any order and in any pieces, and none
// are kept. A file appears under its name when it is complete; the shard index appears last.
#ifndef SAFEFUSE_WRITER_HPP
#define SAFEFUSE_WRITER_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include <safefuse/detail/array.hpp>
#include <safefuse/detail/list.hpp>
#include <safefuse/detail/name_table.hpp>
#include <safefuse/header.hpp>
#include <safefuse/mapped_file.hpp>
#include <safefuse/result.hpp>
#include <safefuse/sequence.hpp>
#include <safefuse/shard_index.hpp>
#include <safefuse/tensor_set.hpp>
#include <safefuse/tensor_view.hpp>

namespace safefuse::inline SAFEFUSE_ABI {

/// What accelerate and transformers ask to find in every file.
inline constexpr metadata_entry pytorch_metadata[] = {{"format", "pt"}};

/// A tensor file being written.
class tensor_file_writer {
public:
    tensor_file_writer() noexcept = default;

    /// A file with these tensors, whose bytes are to be written; the header is byte for byte the reference writer's.
    ///   fails   as encode_header and output_file::create
    static result<tensor_file_writer> create(std::string_view path, sequence<const tensor_spec> tensors,
                                             sequence<const metadata_entry> metadata = pytorch_metadata) noexcept {
        auto header = encode_header(tensors, metadata);
        if (!header) {
            if (header.error().file.empty()) header.error().file = path;
            return std::move(header).error();
        }
        auto file = output_file::create(path, header->file_bytes);
        if (!file) return std::move(file).error();
        if (auto written = file->write(0, header->bytes.span()); !written) return std::move(written).error();
        tensor_file_writer writer;
        if (!writer.sizes_.reserve(tensors.size())) return failure{.code = errc::out_of_memory, .file = path};
        for (const tensor_spec& each : tensors) {
            std::uint64_t size_bytes = 0;
            static_cast<void>(tensor_size(each.type, each.shape, size_bytes));  // encode_header has checked it
            static_cast<void>(writer.sizes_.push(size_bytes));
        }
        writer.file_ = std::move(*file);
        writer.offsets_ = std::move(header->offsets);
        return writer;
    }

    /// Writes bytes of tensor `i` of the list given to create(), from byte `offset` of it on. Several threads may write ranges
    /// that do not overlap at once.
    ///   fails   out_of_range, io_error
    result<void> write(std::size_t i, std::uint64_t offset, std::span<const std::byte> bytes) noexcept {
        if (i >= sizes_.size() || offset > sizes_[i] || sizes_[i] - offset < bytes.size())
            return failure{.code = errc::out_of_range,
                           .file = file_.path(),
                           .offset = offset,
                           .expected = i < sizes_.size() ? sizes_[i] : 0,
                           .actual = bytes.size()};
        return file_.write(offsets_[i] + offset, bytes);
    }

    /// Puts the file in place. Bytes that were never written are zero.
    ///   fails   as output_file::commit
    result<void> commit(durability wait = durability::synced) noexcept { return file_.commit(wait); }

    /// Size of the whole file.
    [[nodiscard]] std::uint64_t file_bytes() const noexcept { return file_.size_bytes(); }

private:
    output_file file_;
    detail::array<std::uint64_t> offsets_;
    detail::array<std::uint64_t> sizes_;
};

/// Writes one tensor file from tensors in memory, byte for byte as the reference writer does (metadata sorted by key).
///   fails   as tensor_file_writer; nothing is left at `path` then that was not there before
inline result<void> write_tensor_file(std::string_view path, sequence<const named_tensor> tensors,
                                      sequence<const metadata_entry> metadata = pytorch_metadata) noexcept {
    detail::array<tensor_spec> specs;
    for (const named_tensor& each : tensors)
        if (!specs.push({each.name, each.tensor.type(), each.tensor.shape()})) return failure{.code = errc::out_of_memory, .file = path};
    auto writer = tensor_file_writer::create(path, specs.span(), metadata);
    if (!writer) return std::move(writer).error();
    for (std::size_t i = 0; i < tensors.size(); ++i)
        if (auto written = writer->write(i, 0, tensors[i].tensor.bytes()); !written) return written;
    return writer->commit();
}

/// The default of huggingface_hub.
inline constexpr std::uint64_t default_shard_bytes = 5'000'000'000;

/// Which shard each tensor goes to.
struct shard_split {
    detail::array<std::uint32_t> shard_of;  ///< by tensor
    std::uint32_t shard_count = 0;
};

/// Splits tensors, in the order given, as huggingface_hub does: a shard is closed before the tensor that would take it over
/// `max_shard_bytes`, and a tensor larger than that gets a shard of its own, numbered before the one that is open.
///   source  huggingface_hub serialization/_base.py split_state_dict_into_shards_factory; tests/writer.test.cpp
///   fails   size_overflow, partial_byte, out_of_memory
[[nodiscard]] inline result<shard_split> split_into_shards(sequence<const tensor_spec> tensors, std::uint64_t max_shard_bytes) noexcept {
    constexpr std::uint32_t open = ~std::uint32_t{0};
    shard_split split;
    if (!split.shard_of.resize(tensors.size(), open)) return failure{.code = errc::out_of_memory};
    std::uint64_t open_bytes = 0;
    std::size_t open_count = 0, first_open = 0;
    const auto close = [&](std::size_t end) noexcept {
        for (std::size_t i = first_open; i < end; ++i)
            if (split.shard_of[i] == open) split.shard_of[i] = split.shard_count;
        if (open_count > 0) ++split.shard_count;
        first_open = end;
        open_bytes = open_count = 0;
    };
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        std::uint64_t size_bytes = 0;
        switch (tensor_size(tensors[i].type, tensors[i].shape, size_bytes)) {
        case size_verdict::overflows: return failure{.code = errc::size_overflow, .tensor = tensors[i].name};
        case size_verdict::partial_byte: return failure{.code = errc::partial_byte, .tensor = tensors[i].name};
        case size_verdict::fits: break;
        }
        if (size_bytes > max_shard_bytes) {
            split.shard_of[i] = split.shard_count++;
            continue;
        }
        if (size_bytes > max_shard_bytes - open_bytes) close(i);  // the sum could overflow
        open_bytes += size_bytes;
        ++open_count;
    }
    close(tensors.size());
    return split;
}

/// A checkpoint being written to a directory: shard after shard, then the index.
class checkpoint_writer {
public:
    /// Splits the tensors, in the order given. Makes the directory if it is not there; nothing else is written yet. A directory
    /// that holds tensor files or an index is refused: a reader could take old and new files for one checkpoint.
    ///   lifetime  names, shapes and metadata stay the caller's, who keeps them until finish()
    ///   fails   duplicate_tensor, size_overflow, partial_byte, not_a_directory, destination_not_empty, and as making a directory
    ///           does
    static result<checkpoint_writer> create(std::string_view directory, sequence<const tensor_spec> tensors SAFEFUSE_LIFETIMEBOUND,
                                            std::uint64_t max_shard_bytes = default_shard_bytes,
                                            sequence<const metadata_entry> metadata = pytorch_metadata) noexcept {
        auto split = split_into_shards(tensors, max_shard_bytes);
        if (!split) return std::move(split).error();
        checkpoint_writer writer;
        writer.directory_ = directory;
        if (writer.directory_.size() != directory.size()) return failure{.code = errc::out_of_memory, .file = directory};
        writer.tensors_ = tensors;
        writer.metadata_ = metadata;
        writer.split_ = std::move(*split);
        if (writer.split_.shard_count == 0) writer.split_.shard_count = 1;
        if (auto distinct = check_names(tensors); !distinct) return std::move(distinct).error();
        if (auto made = detail::make_directory(directory); !made && made.error().code != errc::already_exists) return std::move(made).error();
        auto kind = detail::kind_of_path(directory);
        if (!kind) return std::move(kind).error();
        if (*kind != detail::os::path_kind::directory) return failure{.code = errc::not_a_directory, .file = directory};
        if (auto vacant = check_vacant(directory); !vacant) return std::move(vacant).error();
        return writer;
    }

    [[nodiscard]] std::uint32_t shard_count() const noexcept { return split_.shard_count; }
    /// The number of the shard that tensor `i` goes to.
    [[nodiscard]] std::uint32_t shard_of(std::size_t i) const noexcept { return split_.shard_of[i]; }
    /// The file name of a shard, in the directory.
    [[nodiscard]] text shard_file(std::uint32_t shard) const noexcept {
        return shard_name("model", std::uint64_t{shard} + 1, split_.shard_count);
    }

    /// A shard's file, to be written and committed; its tensors are those i with shard_of(i) == shard, in order.
    ///   fails   as tensor_file_writer::create
    [[nodiscard]] result<tensor_file_writer> open_shard(std::uint32_t shard) const noexcept {
        detail::array<tensor_spec> specs;
        for (std::size_t i = 0; i < tensors_.size(); ++i)
            if (split_.shard_of[i] == shard && !specs.push(tensors_[i])) return failure{.code = errc::out_of_memory};
        return tensor_file_writer::create(detail::join_path(directory_, shard_file(shard)), specs.span(), metadata_);
    }

    /// Writes the shard index, if there is more than one shard. Call it when all shards are committed.
    ///   fails   as encode_index and output_file
    result<void> finish(durability wait = durability::synced) const noexcept {
        if (split_.shard_count == 1) return {};
        detail::list<text> files;
        for (std::uint32_t shard = 0; shard < split_.shard_count; ++shard)
            if (!files.push(shard_file(shard))) return failure{.code = errc::out_of_memory};
        detail::array<shard_entry> entries;
        std::uint64_t total_bytes = 0;
        for (std::size_t i = 0; i < tensors_.size(); ++i) {
            std::uint64_t size_bytes = 0;
            static_cast<void>(tensor_size(tensors_[i].type, tensors_[i].shape, size_bytes));  // the split has checked it
            total_bytes += size_bytes;
            if (!entries.push({tensors_[i].name, files[split_.shard_of[i]].view()})) return failure{.code = errc::out_of_memory};
        }
        auto encoded = encode_index(entries.span(), total_bytes);
        if (!encoded) return std::move(encoded).error();
        auto file = output_file::create(detail::join_path(directory_, "model.safetensors.index.json"), encoded->size());
        if (!file) return std::move(file).error();
        if (auto written = file->write(0, encoded->span()); !written) return written;
        return file->commit(wait);
    }

private:
    /// No name is there twice, in whichever shards.
    static result<void> check_names(sequence<const tensor_spec> tensors) noexcept {
        detail::name_table table;
        const auto names = [&](std::uint32_t i) noexcept { return tensors[i].name; };
        if (!table.reserve(tensors.size())) return failure{.code = errc::out_of_memory};
        for (std::uint32_t i = 0; i < tensors.size(); ++i)
            if (table.insert(tensors[i].name, i, names).what != detail::name_table::outcome::inserted)  // room was reserved
                return failure{.code = errc::duplicate_tensor, .tensor = tensors[i].name};
        return {};
    }
    static result<void> check_vacant(std::string_view directory) noexcept {
        failure occupied{.code = errc::destination_not_empty, .file = directory};
        auto listed = detail::list_directory(directory, [&](std::string_view name, bool is_directory) noexcept {
            if (is_directory || name.starts_with('.') || !(name.ends_with(tensor_file_ending) || name.ends_with(shard_index_ending))) return true;
            detail::append_quoted(occupied.detail, name);
            occupied.detail.append(" is there");
            return false;
        });
        if (!listed) return listed;
        if (!occupied.detail.empty()) return occupied;
        return {};
    }

    text directory_;
    sequence<const tensor_spec> tensors_;
    sequence<const metadata_entry> metadata_;
    shard_split split_;
};

}  // namespace safefuse::inline SAFEFUSE_ABI

#endif
