// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: paths and what the system does with them. Paths are UTF-8 on every system.
#ifndef SAFEFUSE_IO_DETAIL_PATH_HPP
#define SAFEFUSE_IO_DETAIL_PATH_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/io/detail/os_calls.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Copies a path so that the system can take it: zero-terminated, no zero inside.
[[nodiscard]] inline result<text> system_path(std::string_view path) noexcept {
    if (text::lacks_memory(path)) return failure{.code = errc::out_of_memory};
    if (path.empty()) return failure{.code = errc::file_not_found, .detail = "the path is empty"};
    if (path.find('\0') != std::string_view::npos)
        return failure{.code = errc::file_not_found,
                       .file = path,
                       .detail = "the path has a zero character in it"};
    text copy{path};
    if (copy.size() != path.size()) return failure{.code = errc::out_of_memory};
    return copy;
}

/// The part of a path after the last separator.
[[nodiscard]] SAFEFUSE_NOINLINE constexpr std::string_view file_name_of(
    std::string_view path) noexcept {
    std::size_t start = path.size();
    while (start > 0 && !os::is_separator(path[start - 1])) --start;
    return path.substr(start);
}

/// The directory that a path's last component lies in: "." where it has none.
[[nodiscard]] constexpr std::string_view directory_of(std::string_view path) noexcept {
    std::size_t stop = path.size() - file_name_of(path).size();
    if (stop == 0) return ".";
    while (stop > 1 && os::is_separator(path[stop - 1])) --stop;
    return path.substr(0, stop);
}

/// directory/name; a text that lacks_memory() where memory ran out, also for one of the two.
[[nodiscard]] SAFEFUSE_NOINLINE inline text join_path(std::string_view directory,
                                                      std::string_view name) noexcept {
    text path;
    path.append(directory);
    if (!directory.empty() && !os::is_separator(directory.back())) path.append("/");
    path.append(name);
    return path;
}

/// Stores what a path leads to.
///   fails   file_not_found, permission_denied, not_a_directory, io_error, out_of_memory
[[nodiscard]] inline result<os::path_kind> kind_of_path(std::string_view path) noexcept {
    auto native = system_path(path);
    if (!native) return std::move(native).error();
    os::path_kind kind{};
    if (const auto came = os::kind_of(native->c_str(), kind); !came) return came.about(path);
    return kind;
}

/// Calls f(name, is_directory) for every entry of a directory, in no order, links followed, until f
/// returns false.
///   fails   file_not_found, not_a_directory, permission_denied, io_error, out_of_memory
template <class F>
[[nodiscard]] result<void> list_directory(std::string_view path, F&& f) noexcept {
    auto native = system_path(path);
    if (!native) return std::move(native).error();
    if (const auto came = os::list_directory(native->c_str(), f); !came) return came.about(path);
    return {};
}

/// Makes a directory, in one that is there.
///   fails   already_exists, file_not_found, not_a_directory, permission_denied, io_error,
///   out_of_memory
[[nodiscard]] inline result<void> make_directory(
    std::string_view path, std::uint32_t permissions = os::directory_permissions) noexcept {
    auto native = system_path(path);
    if (!native) return std::move(native).error();
    if (const auto came = os::make_directory(native->c_str(), permissions); !came)
        return came.about(path);
    return {};
}

/// Removes an empty directory.
///   fails   file_not_found, destination_not_empty, permission_denied, io_error, out_of_memory
[[nodiscard]] inline result<void> remove_directory(std::string_view path) noexcept {
    auto native = system_path(path);
    if (!native) return std::move(native).error();
    if (const auto came = os::remove_directory(native->c_str()); !came) return came.about(path);
    return {};
}

/// Stores which file a path leads to; a symbolic link at its end is followed only if `follows`.
///   fails   file_not_found, not_a_directory, permission_denied, io_error, out_of_memory
[[nodiscard]] inline result<os::entry_facts> entry_of_path(std::string_view path,
                                                           bool follows) noexcept {
    auto native = system_path(path);
    if (!native) return std::move(native).error();
    os::entry_facts entry;
    if (const auto came = os::entry_of(native->c_str(), follows, entry); !came)
        return came.about(path);
    return entry;
}

/// Makes what happened in a directory last: files that were made, renamed and removed.
///   fails   io_error, disk_full, out_of_memory
[[nodiscard]] inline result<void> sync_directory(std::string_view path) noexcept {
    auto native = system_path(path);
    if (!native) return std::move(native).error();
    if (const auto came = os::sync_directory(native->c_str()); !came) return came.about(path);
    return {};
}

/// A process may be forbidden to write large files, and the system then ends it by a signal. This
/// tells before.
///   fails   io_error
[[nodiscard]] inline result<void> check_file_size_limit(std::string_view path,
                                                        std::uint64_t size_bytes) noexcept {
    const std::uint64_t most = os::largest_file_bytes();
    if (size_bytes <= most) return {};
    return failure{.code = errc::io_error,
                   .file = path,
                   .detail = "this process has a file size limit; `ulimit -f` shows and raises it",
                   .expected = size_bytes,
                   .actual = most};
}

/// Removes a file, or a symbolic link and not what it leads to.
///   fails   file_not_found, permission_denied, io_error, out_of_memory
[[nodiscard]] inline result<void> remove_file(std::string_view path) noexcept {
    auto native = system_path(path);
    if (!native) return std::move(native).error();
    if (const auto came = os::remove_file(native->c_str()); !came) return came.about(path);
    return {};
}

/// Renames a file, over another one if there is one.
///   fails   file_not_found, not_a_file, permission_denied, io_error, out_of_memory
[[nodiscard]] inline result<void> rename_file(std::string_view from, std::string_view to) noexcept {
    auto native_from = system_path(from);
    if (!native_from) return std::move(native_from).error();
    auto native_to = system_path(to);
    if (!native_to) return std::move(native_to).error();
    if (const auto came = os::rename_over(native_from->c_str(), native_to->c_str()); !came)
        return came.about(to);
    return {};
}

/// Gives a file a second name, which must be free.
///   fails   already_exists, file_not_found, permission_denied, io_error (on another disk, say),
///   out_of_memory
[[nodiscard]] inline result<void> link_file(std::string_view from, std::string_view to) noexcept {
    auto native_from = system_path(from);
    if (!native_from) return std::move(native_from).error();
    auto native_to = system_path(to);
    if (!native_to) return std::move(native_to).error();
    if (const auto came = os::link_file(native_from->c_str(), native_to->c_str()); !came)
        return came.about(to);
    return {};
}

/// The one path of a directory that has no links, `.` or `..` in it.
///   fails   file_not_found, not_a_directory, permission_denied, io_error, out_of_memory
[[nodiscard]] inline result<text> real_path(std::string_view path) noexcept {
    auto native = system_path(path);
    if (!native) return std::move(native).error();
    vector<char> real;
    if (const auto came = os::real_path(native->c_str(), real); !came) return came.about(path);
    text copy{detail::characters_at(real.data(), real.size())};
    if (copy.size() != real.size()) return failure{.code = errc::out_of_memory, .file = path};
    return copy;
}

/// The name beside a target under which it is written: ".<name>.<16 digits>.tmp". It must not be
/// longer than names may be, nor end inside a character: some file systems refuse that. Empty when
/// memory ran out.
[[nodiscard]] inline text hidden_name(std::string_view name, std::uint64_t number) noexcept {
    std::string_view stem = name.substr(0, name.size() < 64 ? name.size() : 64);
    if (stem.size() < name.size())
        while (!stem.empty() && (static_cast<unsigned char>(name[stem.size()]) & 0xC0u) == 0x80u)
            stem.remove_suffix(1);
    char digits[16];
    for (char& digit : digits) {
        digit = "0123456789abcdef"[number >> 60];
        number <<= 4;
    }
    text hidden{"."};
    if (!hidden.append(stem) || !hidden.append(".") ||
        !hidden.append(characters_at(digits, sizeof digits)) || !hidden.append(".tmp"))
        return {};
    return hidden;
}

/// Whether a name is that of the hidden file that output_file writes.
[[nodiscard]] constexpr bool is_temporary(std::string_view name) noexcept {
    constexpr std::string_view ending = ".tmp";
    if (!name.starts_with('.') || !name.ends_with(ending)) return false;
    name.remove_suffix(ending.size());
    if (name.size() < 18 || name[name.size() - 17] != '.') return false;
    for (const char c : name.substr(name.size() - 16))
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f')) return false;
    return true;
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
