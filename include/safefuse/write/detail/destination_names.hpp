// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: classifies the files in a destination directory by name.
#ifndef SAFEFUSE_WRITE_DETAIL_DESTINATION_NAMES_HPP
#define SAFEFUSE_WRITE_DETAIL_DESTINATION_NAMES_HPP

#include <string_view>
#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/shard_index.hpp>
#include <safefuse/io/detail/path.hpp>
#include <safefuse/write/checkpoint_files.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Content of a directory's state file after it was exchanged with the new checkpoint, or shortly
/// before.
inline constexpr std::string_view replaced_state =
    "safefuse has put another checkpoint in the place of this one\n";

/// Kind of a file in a destination, by its name.
[[nodiscard]] constexpr bool is_index_name(std::string_view name) noexcept {
    return !name.starts_with('.') && name.ends_with(shard_index_ending);
}
[[nodiscard]] constexpr bool is_tensor_name(std::string_view name) noexcept {
    return !name.starts_with('.') && name.ends_with(tensor_file_ending);
}
[[nodiscard]] constexpr bool is_checkpoint_name(std::string_view name) noexcept {
    return is_index_name(name) || is_tensor_name(name) || is_unfinished_file_name(name);
}

/// Names of the entries of a directory that are not directories themselves. Symbolic links are not
/// followed.
///   fails   as list_directory
[[nodiscard]] inline result<vector<text>> names_in(std::string_view directory,
                                                   bool& has_directories) noexcept {
    vector<text> names;
    bool has_room = true;
    has_directories = false;
    auto listed = list_directory(directory, [&](std::string_view name, bool is_directory) noexcept {
        const text path = join_path(directory, name);
        has_room = !path.empty();
        if (!has_room) return false;
        if (is_directory) {
            const auto entry = entry_of_path(path, false);
            has_directories = true;
            if (!entry || !entry->is_link) return true;
        }
        text copy{name};
        has_room = copy.size() == name.size() && names.push(std::move(copy));
        return has_room;
    });
    if (!listed) return std::move(listed).error();
    if (!has_room) return failure{.code = errc::out_of_memory, .file = directory};
    return names;
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
