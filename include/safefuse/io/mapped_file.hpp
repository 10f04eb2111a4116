// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a file that is read through a mapping. Its path is UTF-8 on every system.
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

/// A file that is read where it lies: bytes() points into the page cache, nothing is copied.
///   lifetime  spans from bytes() die with the mapped_file; a move keeps them
///   caution   no mapping survives its file being cut short by somebody else: touching a page that
///   is gone raises SIGBUS (an
///             exception on Windows), which no library can turn into a failure. check_size() before
///             a long use narrows the gap, read() is safe, and positional_file has no such gap.
///             Planning, fusing and rewriting check it themselves, of each file once before a
///             scope; tensors' names are views into the mapping, so looking one up touches it, too.
///   units     one file handle for each file that is open
class mapped_file {
public:
    mapped_file() noexcept = default;
    /// The other is then without a file; pointers into the mapping stay valid.
    SAFEFUSE_NOINLINE mapped_file(mapped_file&& other) noexcept
        : file_{std::move(other.file_)}, data_{exchange(other.data_, nullptr)} {}
    /// What was mapped here is let go; the other is then without a file.
    mapped_file& operator=(mapped_file&& other) noexcept {
        if (this != &other) {
            unmap();
            file_ = std::move(other.file_);
            data_ = exchange(other.data_, nullptr);
        }
        return *this;
    }
    SAFEFUSE_NOINLINE ~mapped_file() { unmap(); }

    /// Maps a regular file; an empty one is legal.
    ///   fails   file_not_found, permission_denied, not_a_file, not_a_directory, out_of_memory
    ///   (also: no room for it in the
    ///           address space), io_error
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

    /// The path it was opened by.
    [[nodiscard]] std::string_view path() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return file_.path();
    }
    /// The size when it was opened.
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return file_.size_bytes(); }
    /// The whole file.
    [[nodiscard]] span<const std::byte> bytes() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return {data_, static_cast<std::size_t>(size_bytes())};
    }
    span<const std::byte> bytes() const&& = delete;

    /// Copies bytes by a positional read, not through the mapping, so that a file cut short is a
    /// failure and not a signal.
    ///   fails   read_past_end, file_changed (it is shorter now), io_error; `out` may then be
    ///   part-written
    result<void> read(std::uint64_t offset, span<std::byte> out) const noexcept {
        return file_.read(offset, out);
    }

    /// Tells the system what comes next. done_with touches only pages that lie wholly inside the
    /// range.
    void advise(std::uint64_t offset, std::uint64_t size_bytes, advice hint) const noexcept {
        if (data_ != nullptr)
            detail::os::advise_mapping(file_.handle(), data_,
                                       static_cast<std::size_t>(file_.size_bytes()), offset,
                                       size_bytes, hint);
    }

    /// The system's number of the open file, for calls that this library does not make.
    [[nodiscard]] std::intptr_t native_handle() const noexcept {
        return detail::os::native_of(file_.handle());
    }

    /// Closes the handle, so that a checkpoint may have more files than a process may have open.
    /// What is mapped stays; reads and checks open the file again by its path, and native_handle()
    /// is none.
    void close_handle() noexcept { file_.close_handle(); }

    /// Whether the file still has the size it had when it was opened.
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
