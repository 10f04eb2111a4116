// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: an open file whose reads notice that the file has changed.
#ifndef SAFEFUSE_IO_DETAIL_OPEN_FILE_HPP
#define SAFEFUSE_IO_DETAIL_OPEN_FILE_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/io/detail/os_calls.hpp>
#include <safefuse/io/detail/path.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// An open file. The destructor closes it.
class open_handle {
public:
    open_handle() noexcept = default;
    explicit open_handle(os::handle file) noexcept : file_{file} {}
    open_handle(open_handle&& other) noexcept : file_{exchange(other.file_, os::no_handle)} {}
    open_handle& operator=(open_handle&& other) noexcept {
        if (this != &other) {
            close();
            file_ = exchange(other.file_, os::no_handle);
        }
        return *this;
    }
    ~open_handle() { close(); }

    [[nodiscard]] os::handle get() const noexcept { return file_; }
    [[nodiscard]] bool is_open() const noexcept { return file_ != os::no_handle; }
    /// Releases the handle; the caller must close it.
    [[nodiscard]] os::handle give() noexcept { return exchange(file_, os::no_handle); }
    void close() noexcept { (void)close_and_tell(); }
    /// Closes the file and returns the outcome: some systems report lost bytes only here.
    [[nodiscard]] os::outcome close_and_tell() noexcept {
        return file_ == os::no_handle ? os::outcome{}
                                      : os::close_file(exchange(file_, os::no_handle));
    }

private:
    os::handle file_ = os::no_handle;
};

/// The common part of mapped_file and positional_file: the open file, and its size when it was
/// opened.
class open_file {
public:
    open_file() noexcept = default;

    static result<open_file> open(std::string_view path) noexcept {
        auto native = system_path(path);
        if (!native) return std::move(native).error();
        open_file opened;
        os::handle file = os::no_handle;
        if (const auto came = os::open_file(native->c_str(), file, opened.size_bytes_); !came)
            return came.about(path);
        opened.file_ = open_handle{file};
        opened.path_ = std::move(*native);
        return opened;
    }

    [[nodiscard]] os::handle handle() const noexcept { return file_.get(); }
    [[nodiscard]] std::uint64_t size_bytes() const noexcept {
        return file_.is_open() || is_parked_ ? size_bytes_ : 0;
    }
    /// Closes the handle. Each later read or check opens the file again by its path.
    void close_handle() noexcept {
        is_parked_ = is_parked_ || file_.is_open();
        file_.close();
    }
    [[nodiscard]] std::string_view path() const noexcept { return path_; }

    [[nodiscard]] result<void> read(std::uint64_t offset, span<std::byte> out) const noexcept {
        if (offset > size_bytes() || size_bytes() - offset < out.size())
            return failure{.code = errc::read_past_end,
                           .file = path_,
                           .offset = offset,
                           .expected = out.size(),
                           .actual = size_bytes()};
        if (out.empty()) return {};
        if (is_parked_) {
            auto again = open_again();
            if (!again) return std::move(again).error();
            return again->read(offset, out);
        }
        std::size_t read_bytes = 0;
        if (const auto came = os::read_at(file_.get(), offset, out, read_bytes); !came) {
            failure why = came.about(path_);
            why.offset = offset + read_bytes;
            return why;
        }
        if (read_bytes == out.size()) return {};
        if (auto same = check_size(); !same) return same;
        return failure{.code = errc::file_changed,
                       .file = path_,
                       .detail = "it was shorter for a while",
                       .offset = offset + read_bytes,
                       .expected = out.size(),
                       .actual = read_bytes};
    }

    [[nodiscard]] result<void> check_size() const noexcept {
        if (is_parked_) {
            const auto again = open_again();
            return again ? result<void>{} : again.error();
        }
        if (!file_.is_open()) return {};
        std::uint64_t now = 0;
        if (const auto came = os::size_of(file_.get(), now); !came) return came.about(path_);
        return now == size_bytes_ ? result<void>{} : changed(now);
    }

private:
    [[nodiscard]] SAFEFUSE_NOINLINE failure changed(std::uint64_t now) const noexcept {
        return failure{.code = errc::file_changed,
                       .file = path_,
                       .detail = now < size_bytes_ ? "it is shorter now" : "it is longer now",
                       .expected = size_bytes_,
                       .actual = now};
    }
    /// Opens the file that is at the path now, if its size is still the same.
    [[nodiscard]] result<open_file> open_again() const noexcept {
        open_file again;
        os::handle file = os::no_handle;
        if (const auto came = os::open_file(path_.c_str(), file, again.size_bytes_); !came)
            return came.about(path_);
        again.file_ = open_handle{file};
        if (again.size_bytes_ != size_bytes_) return changed(again.size_bytes_);
        again.path_ = path_;
        return again;
    }

    open_handle file_;
    std::uint64_t size_bytes_ = 0;
    bool is_parked_ = false;
    text path_;
};

/// Reads a whole, small file.
///   fails   as positional_file::open and read; io_error (larger than `most_bytes`)
[[nodiscard]] inline result<vector<std::byte>> read_whole_file(std::string_view path,
                                                               std::uint64_t most_bytes) noexcept {
    auto file = open_file::open(path);
    if (!file) return std::move(file).error();
    if (file->size_bytes() > most_bytes)
        return failure{.code = errc::io_error,
                       .file = path,
                       .detail = "it is too large for a file of this kind",
                       .expected = most_bytes,
                       .actual = file->size_bytes()};
    vector<std::byte> bytes;
    if (!bytes.resize_unset(static_cast<std::size_t>(file->size_bytes())))
        return lack_of_memory_for{path};
    if (auto done = file->read(0, bytes.view()); !done) return std::move(done).error();
    return bytes;
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
