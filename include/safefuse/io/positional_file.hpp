// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a file that is read by offset. Paths are UTF-8 on every system.
#ifndef SAFEFUSE_IO_POSITIONAL_FILE_HPP
#define SAFEFUSE_IO_POSITIONAL_FILE_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/io/detail/open_file.hpp>
#include <safefuse/io/detail/os_calls.hpp>
#include <safefuse/tensor/byte_source.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// A file that is read by offset and never mapped. Use it for network file systems, for memory
/// shared with a GPU, and for files that may be truncated while they are open: here that is an
/// ordinary failure.
///   units     one file handle for each open file
class positional_file {
public:
    positional_file() noexcept = default;

    /// Opens a regular file, which may be empty.
    ///   fails   file_not_found, permission_denied, not_a_file, not_a_directory, out_of_memory,
    ///           io_error
    static result<positional_file> open(std::string_view path) noexcept {
        auto opened = detail::open_file::open(path);
        if (!opened) return std::move(opened).error();
        positional_file file;
        file.file_ = std::move(*opened);
        return file;
    }

    /// The path that was given to open().
    [[nodiscard]] std::string_view path() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return file_.path();
    }
    /// The size of the file when it was opened.
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return file_.size_bytes(); }
    /// Empty: the bytes must be read.
    [[nodiscard]] span<const std::byte> bytes() const noexcept { return {}; }

    /// Copies bytes from `offset` on into `out`.
    ///   fails   read_past_end, file_changed (the file is shorter now), io_error; `out` may then be
    ///           partly written
    result<void> read(std::uint64_t offset, span<std::byte> out) const noexcept {
        return file_.read(offset, out);
    }

    /// Tells the system how a range will be used. done_with affects only pages that are entirely
    /// inside the range.
    void advise(std::uint64_t offset, std::uint64_t size_bytes, advice hint) const noexcept {
        if (file_.size_bytes() != 0)
            detail::os::advise_file(file_.handle(), file_.size_bytes(), offset, size_bytes, hint);
    }

    /// The system's handle of the open file, for system calls that this library does not make.
    [[nodiscard]] std::intptr_t native_handle() const noexcept {
        return detail::os::native_of(file_.handle());
    }

    /// Closes the handle, so that a checkpoint may have more files than a process may have open.
    /// Later reads and checks open the file again by its path, and native_handle() returns
    /// no_native_handle.
    void close_handle() noexcept { file_.close_handle(); }

    /// Checks that the file still has the size it had when it was opened.
    ///   fails   file_changed (with both sizes), io_error
    [[nodiscard]] result<void> check_size() const noexcept { return file_.check_size(); }

private:
    detail::open_file file_;
};

static_assert(file_source<positional_file>);

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
