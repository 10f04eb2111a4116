// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: options and summary of a rewrite.
#ifndef SAFEFUSE_WRITE_REWRITE_OPTIONS_HPP
#define SAFEFUSE_WRITE_REWRITE_OPTIONS_HPP

#include <cstddef>
#include <cstdint>

#include <safefuse/core/span.hpp>
#include <safefuse/format/metadata.hpp>
#include <safefuse/io/output_file.hpp>
#include <safefuse/tensor/byte_source.hpp>
#include <safefuse/write/shard_split.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// What the new checkpoint may share with the old one on disk if the file system supports it.
/// Everything else is copied.
enum class sharing : std::uint8_t {
    nothing,
    /// Disk blocks (reflinks), if equal bytes are at equal positions within blocks of both files.
    /// Either file may change later.
    blocks,
    /// Disk blocks, and whole files: a shard that equals a source file byte for byte becomes a hard
    /// link to it. Writing to one of them then changes both.
    files,
};

/// The buffer of a rewrite, where outputs are put together from strided copies.
inline constexpr std::size_t rewrite_buffer_bytes = std::size_t{4} << 20;

/// How large that buffer becomes, if need be, where sources must be read: a matrix that is
/// transposed is read once as long as what is made of it fits.
inline constexpr std::size_t largest_rewrite_buffer_bytes = std::size_t{24} << 20;

/// How a rewrite splits, waits, shares and goes on.
struct rewrite_options {
    /// Largest size of a shard in bytes of tensor data, or one_tensor_per_file.
    std::uint64_t max_shard_bytes = default_shard_bytes;
    /// Metadata of every file.
    span<const metadata_entry> metadata = pytorch_metadata;
    /// What a call waits for before it returns.
    durability wait = durability::synced;
    /// What happens to the source's pages after use. advice::done_with also frees the page cache.
    advice used_source = advice::release;
    /// Resume what a killed run has left, or begin if nothing is left. Complete shards are kept.
    bool resume = false;
    /// Check for free disk space before anything is written. Not checked if files are shared.
    bool check_free_space = true;
    /// As write_options: bytes that the caller writes beside the shards.
    std::uint64_t other_bytes = 0;
    /// What the new files may share with the old ones.
    sharing share = sharing::nothing;
    /// As write_options. The plan may ask for more.
    std::uint64_t data_alignment = 8;
    /// As write_options. checkpoint_destination needs it.
    bool keep_state = false;
};

/// What a rewrite did.
struct rewrite_summary {
    /// Files with tensors.
    std::uint32_t shard_count = 0;
    /// Of these, files that were already complete.
    std::uint32_t kept_shard_count = 0;
    /// Of these, hard links to files of the source.
    std::uint32_t linked_shard_count = 0;
    /// Bytes that share their disk blocks with the source.
    std::uint64_t shared_bytes = 0;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
