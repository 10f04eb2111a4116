// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the names of what a checkpoint that is being written leaves in its directory.
#ifndef SAFEFUSE_WRITE_CHECKPOINT_FILES_HPP
#define SAFEFUSE_WRITE_CHECKPOINT_FILES_HPP

#include <string_view>

#include <safefuse/core/config.hpp>
#include <safefuse/format/shard_index.hpp>
#include <safefuse/io/detail/path.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// In a directory that a checkpoint is being written to: its lock, and what is being written.
/// Whoever clears the directory by hand removes it, too.
inline constexpr std::string_view writer_state_file = ".safefuse-writing";

/// Whether a file name is that of a shard or an index that is being written, or was when a run was
/// killed: the hidden file that output_file writes to. Where nobody writes, such a file can be
/// removed.
[[nodiscard]] constexpr bool is_unfinished_file_name(std::string_view name) noexcept {
    if (!name.starts_with(".model") || !detail::is_temporary(name)) return false;
    name.remove_suffix(std::string_view{".0123456789abcdef.tmp"}.size());
    return name.ends_with(tensor_file_ending) || name.ends_with(shard_index_ending);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
