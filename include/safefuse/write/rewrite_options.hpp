// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: how a rewrite is done, and what it tells of what it did.
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

/// What the new checkpoint may share with the old one, where the file system can do that;
/// everything else is copied.
enum class sharing : std::uint8_t {
    nothing,
    blocks,  ///< places on the disk (reflinks), where bytes lie alike in blocks of both files;
             ///< either file may change later
    files,   ///< and files: a shard that would be byte for byte a file of the source is a second
             ///< name of it (a hard link). Whoever writes into the one then changes the other.
};

/// The buffer of a rewrite, where outputs are put together from strided copies.
inline constexpr std::size_t rewrite_buffer_bytes = std::size_t{4} << 20;

/// How large that buffer becomes, if need be, where sources must be read: a matrix that is
/// transposed is read once as long as what is made of it fits.
inline constexpr std::size_t largest_rewrite_buffer_bytes = std::size_t{24} << 20;

/// How a rewrite splits, waits, shares and goes on.
struct rewrite_options {
    std::uint64_t max_shard_bytes = default_shard_bytes;     ///< or one_tensor_per_file
    span<const metadata_entry> metadata = pytorch_metadata;  ///< of every file
    durability wait = durability::synced;  ///< what a call waits for before it returns
    /// What becomes of the source's pages as they are used up; done_with gives the page cache back
    /// as well.
    advice used_source = advice::release;
    /// Go on with what a run that was killed has left, or begin where there is nothing. Complete
    /// shards are kept.
    bool resume = false;
    bool check_free_space = true;   ///< before anything is written; not asked for with sharing
    std::uint64_t other_bytes = 0;  ///< as write_options: what the caller writes beside the shards
    sharing share = sharing::nothing;  ///< what the new files may have in common with the old
    std::uint64_t data_alignment = 8;  ///< as write_options; the plan may ask for more
    bool keep_state = false;           ///< as write_options; checkpoint_destination asks for it
};

/// What a rewrite did.
struct rewrite_summary {
    std::uint32_t shard_count = 0;         ///< files with tensors
    std::uint32_t kept_shard_count = 0;    ///< that were there already
    std::uint32_t linked_shard_count = 0;  ///< that are files of the source
    std::uint64_t shared_bytes = 0;        ///< that share their place on the disk with the source
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
