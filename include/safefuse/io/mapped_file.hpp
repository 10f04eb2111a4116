// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a file that is read through a mapping. Paths are UTF-8 on every system.
#ifndef SAFEFUSE_IO_MAPPED_FILE_HPP
#define SAFEFUSE_IO_MAPPED_FILE_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/io/detail/open_file.hpp>
#include <safefuse/io/detail/os_calls.hpp>
#include <safefuse/tensor/byte_source.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// A memory-mapped file: bytes() points into the page cache, nothing is copied.
///   lifetime  spans from bytes() are valid until the mapped_file is destroyed; a move keeps them
///             valid
///   caution   if another process truncates the file, touching a page past its new end raises
///             SIGBUS (an exception on Windows). No library can turn that into a failure. Calling
///             check_size() before a long use makes it less likely; read() is safe, and
///             positional_file is always safe. Planning, fusing and rewriting check each file once
///             before a scope. Tensor names are views into the mapping, so looking one up also
///             touches it.
///   units     one file handle for each open file
class mapped_file {
public:
    mapped_file() noexcept = default;
    /// Leaves the other without a file. Pointers into the mapping stay valid.
    SAFEFUSE_NOINLINE mapped_file(mapped_file&& other) noexcept
        : file_{std::move(other.file_)}, data_{exchange(other.data_, nullptr)} {}
    /// Unmaps the current file and leaves the other without a file.
    mapped_file& operator=(mapped_file&& other) noexcept {
        if (this != &other) {
            unmap();
            file_ = std::move(other.file_);
            data_ = exchange(other.data_, nullptr);
        }
        return *this;
    }
    SAFEFUSE_NOINLINE ~mapped_file() { unmap(); }

    /// Maps a regular file, which may be empty.
    ///   fails   file_not_found, permission_denied, not_a_file, not_a_directory, out_of_memory
    ///           (also: no room in the address space), io_error
    static result<mapped_file> open(std::string_view path) noexcept {
        auto opened = detail::open_file::open(path);
        if (!opened) return std::move(opened).error();
        if (!detail::fits_memory(opened->size_bytes()))
            return failure{.code = errc::out_of_memory,
                           .file = path,
                           .detail = "the file is larger than the address space",
                           .actual = opened->size_bytes()};
        mapped_file mapped;
        mapped.file_ = std::move(*opened);
        if (mapped.size_bytes() != 0)
            if (const auto came =
                    detail::os::map(mapped.file_.handle(),
                                    static_cast<std::size_t>(mapped.size_bytes()), mapped.data_);
                !came)
                return came.about(path);
        return mapped;
    }

    /// The path that was given to open().
    [[nodiscard]] std::string_view path() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return file_.path();
    }
    /// The size of the file when it was opened.
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return file_.size_bytes(); }
    /// All bytes of the file.
    [[nodiscard]] span<const std::byte> bytes() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return {data_, static_cast<std::size_t>(size_bytes())};
    }
    span<const std::byte> bytes() const&& = delete;

    /// Copies bytes with a positional read, not through the mapping, so that a truncated file is a
    /// failure and not a signal.
    ///   fails   read_past_end, file_changed (the file is shorter now), io_error; `out` may then be
    ///           partly written
    result<void> read(std::uint64_t offset, span<std::byte> out) const noexcept {
        return file_.read(offset, out);
    }

    /// Tells the system how a range will be used. done_with affects only pages that are entirely
    /// inside the range.
    void advise(std::uint64_t offset, std::uint64_t size_bytes, advice hint) const noexcept {
        if (data_ != nullptr)
            detail::os::advise_mapping(file_.handle(), data_,
                                       static_cast<std::size_t>(file_.size_bytes()), offset,
                                       size_bytes, hint);
    }

    /// The system's handle of the open file, for system calls that this library does not make.
    [[nodiscard]] std::intptr_t native_handle() const noexcept {
        return detail::os::native_of(file_.handle());
    }

    /// Closes the handle, so that a checkpoint may have more files than a process may have open.
    /// The mapping stays. Later reads and checks open the file again by its path, and
    /// native_handle() returns no_native_handle.
    void close_handle() noexcept { file_.close_handle(); }

    /// Checks that the file still has the size it had when it was opened.
    ///   fails   file_changed (with both sizes), io_error
    [[nodiscard]] result<void> check_size() const noexcept { return file_.check_size(); }

private:
    void unmap() noexcept {
        if (data_ != nullptr)
            detail::os::unmap(exchange(data_, nullptr),
                              static_cast<std::size_t>(file_.size_bytes()));
    }

    detail::open_file file_;
    const std::byte* data_ = nullptr;
};

static_assert(file_source<mapped_file>);

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
