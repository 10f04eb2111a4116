// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: names of the files that an unfinished write leaves in its directory.
#ifndef SAFEFUSE_WRITE_CHECKPOINT_FILES_HPP
#define SAFEFUSE_WRITE_CHECKPOINT_FILES_HPP

#include <string_view>

#include <safefuse/core/config.hpp>
#include <safefuse/format/shard_index.hpp>
#include <safefuse/io/detail/path.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Name of the state file. It locks a directory while a checkpoint is written to it and records
/// which checkpoint that is. Remove it, too, if you clean up an unfinished directory by hand.
inline constexpr std::string_view writer_state_file = ".safefuse-writing";

/// Whether a file name is that of an unfinished shard or index: the hidden file that output_file
/// writes to before it renames it. A killed run leaves such files. They can be removed if no writer
/// is running.
[[nodiscard]] constexpr bool is_unfinished_file_name(std::string_view name) noexcept {
    if (!name.starts_with(".model") || !detail::is_temporary(name)) return false;
    name.remove_suffix(std::string_view{".0123456789abcdef.tmp"}.size());
    return name.ends_with(tensor_file_ending) || name.ends_with(shard_index_ending);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
