// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the common part of os_posix.hpp and os_windows.hpp. Both define the same functions. No
// other header of the library includes an operating-system header.
#ifndef SAFEFUSE_IO_DETAIL_OS_HPP
#define SAFEFUSE_IO_DETAIL_OS_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/result.hpp>
#include <safefuse/tensor/byte_source.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {
namespace os {

/// The outcome of a system call: success, or the errc with the system's error number.
struct outcome {
    bool done = true;
    errc code{};
    int os_error = 0;
    std::string_view hint{};

    explicit operator bool() const noexcept { return done; }
    [[nodiscard]] failure about(std::string_view path) const noexcept {
        return failure{.code = code, .file = path, .detail = hint, .os_error = os_error};
    }
};

/// What a path leads to, with symbolic links followed.
enum class path_kind : std::uint8_t { file, directory, other };

/// The identity of a file. Two paths lead to the same file if device and number are equal, no
/// matter which links and mounts are between.
struct entry_facts {
    std::uint64_t device = 0;       ///< the file system (the volume, on Windows)
    std::uint64_t number = 0;       ///< the inode (the file index, on Windows)
    std::uint64_t link_count = 1;   ///< number of names of the file
    std::uint32_t permissions = 0;  ///< POSIX mode bits, at most 07777
    path_kind kind = path_kind::other;
    bool is_link = false;  ///< a symbolic link that was not followed

    [[nodiscard]] bool is_same(const entry_facts& other) const noexcept {
        return device == other.device && number == other.number;
    }
};

/// The permissions of new files and directories, before the umask is applied.
inline constexpr std::uint32_t file_permissions = 0666;
inline constexpr std::uint32_t directory_permissions = 0777;

/// The largest size of one read or write call: some systems refuse or shorten calls of 2 GiB.
inline constexpr std::size_t piece_bytes = std::size_t{1} << 30;

}  // namespace os
}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
