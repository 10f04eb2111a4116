// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: paths, and the operations of the system on them. Paths are UTF-8 on every system.
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

/// Copies a path in the form the system needs: zero-terminated, without zeros inside.
[[nodiscard]] inline result<text> system_path(std::string_view path) noexcept {
    if (text::lacks_memory(path)) return detail::lack_of_memory{};
    if (path.empty()) return failure{.code = errc::file_not_found, .detail = "the path is empty"};
    if (path.find('\0') != std::string_view::npos)
        return failure{.code = errc::file_not_found,
                       .file = path,
                       .detail = "the path contains a zero character"};
    text copy{path};
    if (copy.size() != path.size()) return detail::lack_of_memory{};
    return copy;
}

/// The part of a path after the last separator.
[[nodiscard]] SAFEFUSE_NOINLINE constexpr std::string_view file_name_of(
    std::string_view path) noexcept {
    std::size_t start = path.size();
    while (start > 0 && !os::is_separator(path[start - 1])) --start;
    return path.substr(start);
}

/// The directory of a path's last component; "." if the path has only one component.
[[nodiscard]] constexpr std::string_view directory_of(std::string_view path) noexcept {
    std::size_t stop = path.size() - file_name_of(path).size();
    if (stop == 0) return ".";
    while (stop > 1 && os::is_separator(path[stop - 1])) --stop;
    return path.substr(0, stop);
}

/// directory/name. The text lacks_memory() if memory ran out, now or before for one of the
/// arguments.
[[nodiscard]] SAFEFUSE_NOINLINE inline text join_path(std::string_view directory,
                                                      std::string_view name) noexcept {
    text path;
    path.append(directory);
    if (!directory.empty() && !os::is_separator(directory.back())) path.append("/");
    path.append(name);
    return path;
}

/// What a path leads to: a file, a directory or something else.
///   fails   file_not_found, permission_denied, not_a_directory, io_error, out_of_memory
[[nodiscard]] inline result<os::path_kind> kind_of_path(std::string_view path) noexcept {
    auto native = system_path(path);
    if (!native) return std::move(native).error();
    os::path_kind kind{};
    if (const auto came = os::kind_of(native->c_str(), kind); !came) return came.about(path);
    return kind;
}

/// Calls f(name, is_directory) for every entry of a directory, in no particular order, with links
/// followed, until f returns false.
///   fails   file_not_found, not_a_directory, permission_denied, io_error, out_of_memory
template <class F>
[[nodiscard]] result<void> list_directory(std::string_view path, F&& f) noexcept {
    auto native = system_path(path);
    if (!native) return std::move(native).error();
    if (const auto came = os::list_directory(native->c_str(), f); !came) return came.about(path);
    return {};
}

/// Creates a directory in an existing one.
///   fails   already_exists, file_not_found, not_a_directory, permission_denied, io_error,
///           out_of_memory
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

/// The identity of the file a path leads to. A symbolic link at the end of the path is followed
/// only if `follows`.
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

/// Makes changes in a directory durable: files that were created, renamed or removed.
///   fails   io_error, disk_full, out_of_memory
[[nodiscard]] inline result<void> sync_directory(std::string_view path) noexcept {
    auto native = system_path(path);
    if (!native) return std::move(native).error();
    if (const auto came = os::sync_directory(native->c_str()); !came) return came.about(path);
    return {};
}

/// Checks the process's file size limit. The system would end the process with a signal if it
/// writes more.
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

/// Removes a file, or a symbolic link without its target.
///   fails   file_not_found, permission_denied, io_error, out_of_memory
[[nodiscard]] inline result<void> remove_file(std::string_view path) noexcept {
    auto native = system_path(path);
    if (!native) return std::move(native).error();
    if (const auto came = os::remove_file(native->c_str()); !came) return came.about(path);
    return {};
}

/// Renames a file and replaces an existing file at the new name.
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

/// Gives a file a second name, which must not exist.
///   fails   already_exists, file_not_found, permission_denied, io_error (for example: on another
///           disk), out_of_memory
[[nodiscard]] inline result<void> link_file(std::string_view from, std::string_view to) noexcept {
    auto native_from = system_path(from);
    if (!native_from) return std::move(native_from).error();
    auto native_to = system_path(to);
    if (!native_to) return std::move(native_to).error();
    if (const auto came = os::link_file(native_from->c_str(), native_to->c_str()); !came)
        return came.about(to);
    return {};
}

/// The canonical path of a directory: no links, no `.`, no `..`.
///   fails   file_not_found, not_a_directory, permission_denied, io_error, out_of_memory
[[nodiscard]] inline result<text> real_path(std::string_view path) noexcept {
    auto native = system_path(path);
    if (!native) return std::move(native).error();
    vector<char> real;
    if (const auto came = os::real_path(native->c_str(), real); !came) return came.about(path);
    text copy{detail::characters_at(real.data(), real.size())};
    if (copy.size() != real.size()) return lack_of_memory_for{path};
    return copy;
}

/// The temporary name under which a file is written: ".<name>.<16 digits>.tmp". It is not longer
/// than file names may be, and `name` is not cut inside a UTF-8 character: some file systems refuse
/// that. Empty if memory ran out.
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

/// Whether a name is that of a temporary file of output_file.
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
