// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: outline of a checkpoint to be written: its files, their tensors in order, and their
// headers.
#ifndef SAFEFUSE_WRITE_CHECKPOINT_OUTLINE_HPP
#define SAFEFUSE_WRITE_CHECKPOINT_OUTLINE_HPP

#include <cstddef>
#include <cstdint>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/name_table.hpp>
#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/header_writer.hpp>
#include <safefuse/format/metadata.hpp>
#include <safefuse/format/shard_index.hpp>
#include <safefuse/io/output_file.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_view.hpp>
#include <safefuse/write/detail/fingerprint.hpp>
#include <safefuse/write/fingerprint.hpp>
#include <safefuse/write/shard_split.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Options for writing a checkpoint.
struct write_options {
    /// Largest size of a shard in bytes of tensor data, or one_tensor_per_file.
    std::uint64_t max_shard_bytes = default_shard_bytes;
    /// Metadata of every file.
    span<const metadata_entry> metadata = pytorch_metadata;
    /// The data of each file begins at a multiple of this many bytes (see encode_options).
    std::uint64_t data_alignment = 8;
    /// One group number per tensor, or empty. Neighbours with the same number go to one file, one
    /// after the other. Groups whose size is a multiple of data_alignment come first in the file,
    /// so each of them begins at such a multiple.
    span<const std::uint32_t> groups{};
    /// When data is forced to the disk. After a power cut, a run can resume only from synced files.
    durability wait = durability::synced;
    /// Resume what a killed run has left. If nothing is left, begin.
    bool resume = false;
    /// Identifies everything that decides the bytes, apart from names, dtypes and shapes. A run
    /// resumes only what was begun with the same identity.
    fingerprint identity{};
    /// Check for free disk space before anything is written.
    bool check_free_space = true;
    /// Bytes that the caller writes beside the shards. They count in the check for free space.
    std::uint64_t other_bytes = 0;
    /// Reserve the disk space of each file before it is written.
    bool reserve = true;
    /// POSIX permission bits of the files, before the umask is applied.
    std::uint32_t permissions = default_file_permissions;
    /// If true, finish() leaves the state file, so the directory can still be resumed. The code
    /// that completes the directory must then remove it, as checkpoint_destination does.
    bool keep_state = false;
};

/// The files that a checkpoint will have. Nothing is written.
///   lifetime  refers to the caller's names, shapes, metadata and groups
class checkpoint_outline {
public:
    /// Splits the tensors into shards, in the order given.
    ///   fails   duplicate_tensor, size_overflow, partial_byte, out_of_memory
    static result<checkpoint_outline> make(span<const tensor_spec> tensors SAFEFUSE_LIFETIMEBOUND,
                                           const write_options& options = {}) noexcept {
        checkpoint_outline made;
        if (auto done = made.fill(tensors, options); !done) return std::move(done).error();
        return made;
    }

    /// Number of shards (files with tensors).
    [[nodiscard]] std::uint32_t shard_count() const noexcept { return split_.shard_count; }
    /// Index of the shard that tensor `i` goes to.
    [[nodiscard]] std::uint32_t shard_of(std::size_t i) const noexcept {
        return split_.shard_of[i];
    }
    /// Indices of a shard's tensors in the list given to make(), in the order of the shard's
    /// header.
    [[nodiscard]] span<const std::uint32_t> tensors_of(std::uint32_t shard) const noexcept
        SAFEFUSE_LIFETIMEBOUND {
        return order_.view().subspan(first_[shard], first_[shard + 1] - first_[shard]);
    }
    /// File name of a shard, without the directory.
    [[nodiscard]] text shard_file(std::uint32_t shard) const noexcept {
        return shard_name("model", std::uint64_t{shard} + 1, split_.shard_count);
    }
    /// The encoded header of a shard and the size of its file.
    ///   fails   as encode_header
    [[nodiscard]] result<encoded_header> header_of(std::uint32_t shard) const noexcept {
        vector<tensor_spec> specs;
        if (!specs_of(shard, specs)) return failure{.code = errc::out_of_memory};
        return encode_header(specs.view(), metadata_,
                             {.data_alignment = data_alignment_, .keeps_order = !groups_.empty()});
    }
    /// Text of the shard index. Empty if there is only one shard, which needs no index.
    ///   fails   as encode_index; size_overflow (sum of all tensors)
    [[nodiscard]] result<vector<std::byte>> index() const noexcept {
        if (split_.shard_count == 1) return vector<std::byte>{};
        vector<text> files;
        for (std::uint32_t shard = 0; shard < split_.shard_count; ++shard)
            if (!files.push(shard_file(shard)) || files.back().lacks_memory())
                return failure{.code = errc::out_of_memory};
        vector<shard_entry> entries;
        std::uint64_t total_bytes = 0;
        for (std::size_t i = 0; i < tensors_.size(); ++i) {
            std::uint64_t size_bytes = 0;
            static_cast<void>(tensor_size(tensors_[i].type, tensors_[i].shape,
                                          size_bytes));  // checked by the split
            if (!detail::checked_add(total_bytes, size_bytes, total_bytes))
                return failure{.code = errc::size_overflow,
                               .tensor = tensors_[i].name,
                               .detail = "the sum of all tensors"};
            if (!entries.push({tensors_[i].name, files[split_.shard_of[i]].view()}))
                return failure{.code = errc::out_of_memory};
        }
        return encode_index(entries.view(), total_bytes);
    }

protected:
    checkpoint_outline() noexcept = default;

    /// Does the work of make(), for derived classes.
    ///   fails   as make
    result<void> fill(span<const tensor_spec> tensors, const write_options& options) noexcept {
        auto split = split_into_shards(tensors, options.max_shard_bytes, options.groups);
        if (!split) return std::move(split).error();
        tensors_ = tensors;
        metadata_ = options.metadata;
        groups_ = options.groups;
        data_alignment_ = options.data_alignment;
        split_ = std::move(*split);
        if (split_.shard_count == 0) split_.shard_count = 1;
        if (auto distinct = check_names(); !distinct) return distinct;
        if (!first_.resize(split_.shard_count + std::size_t{2}, 0) ||
            !order_.resize(tensors.size(), 0))
            return failure{.code = errc::out_of_memory};
        for (const std::uint32_t shard : split_.shard_of) ++first_[shard + std::size_t{2}];
        for (std::size_t s = 2; s < first_.size(); ++s) first_[s] += first_[s - 1];
        for (std::uint32_t i = 0; i < tensors.size(); ++i)
            order_[first_[split_.shard_of[i] + std::size_t{1}]++] = i;
        for (std::uint32_t shard = 0; !groups_.empty() && shard < split_.shard_count; ++shard)
            if (!arrange(order_.view().subspan(first_[shard], first_[shard + 1] - first_[shard])))
                return failure{.code = errc::out_of_memory};
        return {};
    }

    /// A fingerprint of everything that the files depend on. `identity` stands for the tensors'
    /// bytes.
    [[nodiscard]] fingerprint whole_identity(const fingerprint& identity) const noexcept {
        detail::fingerprint_maker maker;
        maker.add(identity.high);
        maker.add(identity.low);
        maker.add(data_alignment_);
        maker.add(metadata_.size());
        for (const metadata_entry& each : metadata_) {
            maker.add(each.key);
            maker.add(each.value);
        }
        maker.add(tensors_.size());
        for (const tensor_spec& each : tensors_) {
            maker.add(each.name);
            maker.add(name(each.type));
            maker.add(each.shape.size());
            for (const std::uint64_t extent : each.shape) maker.add(extent);
        }
        maker.add(groups_.size());
        for (const std::uint32_t i : order_) {
            maker.add(i);
            maker.add(split_.shard_of[i]);
        }
        return maker.made();
    }

    /// Appends the tensors of a shard in the order of its file. Returns false if memory runs out.
    [[nodiscard]] bool specs_of(std::uint32_t shard, vector<tensor_spec>& specs) const noexcept {
        for (const std::uint32_t i : tensors_of(shard))
            if (!specs.push(tensors_[i])) return false;
        return true;
    }

private:
    /// Checks that no name occurs twice in the whole checkpoint.
    result<void> check_names() const noexcept {
        detail::name_table table;
        const auto names = [&](std::uint32_t i) noexcept { return tensors_[i].name; };
        if (!table.reserve(tensors_.size())) return failure{.code = errc::out_of_memory};
        for (std::uint32_t i = 0; i < tensors_.size(); ++i)
            if (table.insert(tensors_[i].name, i, names).what !=
                detail::name_table::outcome::inserted)  // memory was reserved
                return failure{.code = errc::duplicate_tensor, .tensor = tensors_[i].name};
        return {};
    }

    /// Sorts the tensors of a shard into the order of a file with groups: first the groups whose
    /// size keeps the end aligned, then larger dtypes first, groups before single tensors, single
    /// tensors by name.
    bool arrange(span<std::uint32_t> shard) const noexcept {
        struct place {
            std::uint32_t tensor;
            std::uint32_t head;  // first tensor of its group
            bool grouped;
            bool aligned;
        };
        vector<place> places;
        for (std::size_t i = 0, next = 0; i < shard.size(); i = next) {
            const std::uint32_t group = groups_[shard[i]];
            std::uint64_t size_bytes = 0;
            do {
                std::uint64_t one_bytes = 0;
                static_cast<void>(tensor_size(tensors_[shard[next]].type,
                                              tensors_[shard[next]].shape, one_bytes));
                size_bytes += one_bytes;
                ++next;
            } while (next < shard.size() && group != no_group && groups_[shard[next]] == group);
            for (std::size_t t = i; t < next; ++t)
                if (!places.push({shard[t], shard[i], group != no_group,
                                  group != no_group && size_bytes % data_alignment_ == 0}))
                    return false;
        }
        const auto before = [&](const place& a, const place& b) noexcept {
            if (a.aligned != b.aligned) return a.aligned;
            if (a.aligned) return a.tensor < b.tensor;
            const dtype a_type = tensors_[a.head].type, b_type = tensors_[b.head].type;
            if (a_type != b_type) return a_type > b_type;
            if (a.grouped != b.grouped) return a.grouped;
            return a.grouped ? a.tensor < b.tensor
                             : tensors_[a.tensor].name < tensors_[b.tensor].name;
        };
        if (!detail::sort(places.view(), before)) return false;
        for (std::size_t i = 0; i < places.size(); ++i) shard[i] = places[i].tensor;
        return true;
    }

protected:
    span<const tensor_spec> tensors_;  ///< the list given to fill()

private:
    span<const metadata_entry> metadata_;
    span<const std::uint32_t> groups_;
    std::uint64_t data_alignment_ = 8;
    shard_split split_;
    // By shard, with one more entry at the end: index in order_ of its first tensor.
    vector<std::uint32_t> first_;
    vector<std::uint32_t> order_;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
