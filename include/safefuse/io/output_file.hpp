// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: writes files that appear under their names only when they are complete. Paths are UTF-8
// on every system.
#ifndef SAFEFUSE_IO_OUTPUT_FILE_HPP
#define SAFEFUSE_IO_OUTPUT_FILE_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/io/detail/open_file.hpp>
#include <safefuse/io/detail/os_calls.hpp>
#include <safefuse/io/detail/path.hpp>
#include <safefuse/tensor/byte_source.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// What commit() waits for.
enum class durability : std::uint8_t {
    /// the bytes and the name are on the disk; after a power cut either the old or the new file is
    /// there
    synced,
    /// nothing; after a crash of the program either the old or the new file is there, after a power
    /// cut possibly neither
    renamed,
};

/// The identity of a file or directory, with links followed. Two paths that lead to the same file
/// compare equal.
class file_identity {
public:
    /// Asks the system about a path.
    ///   fails   file_not_found (also: a dangling link), not_a_directory, permission_denied,
    ///           io_error, out_of_memory
    static result<file_identity> of(std::string_view path) noexcept {
        auto entry = detail::entry_of_path(path, true);
        if (!entry) return std::move(entry).error();
        file_identity found;
        found.entry_ = *entry;
        return found;
    }

    /// Whether both are the same file.
    friend bool operator==(const file_identity& a, const file_identity& b) noexcept {
        return a.entry_.is_same(b.entry_);
    }

private:
    detail::os::entry_facts entry_;
};

/// The unit of output_file::share.
inline constexpr std::uint64_t share_multiple_bytes = 4096;

/// The space in bytes that the caller may still use on the file system of a directory; `unknown` if
/// the system does not say.
///   fails   file_not_found, not_a_directory, permission_denied, io_error, out_of_memory
[[nodiscard]] inline result<std::uint64_t> free_space_bytes(std::string_view directory) noexcept {
    auto native = detail::system_path(directory);
    if (!native) return std::move(native).error();
    std::uint64_t size_bytes = 0;
    if (const auto came = detail::os::free_space(native->c_str(), size_bytes); !came)
        return came.about(directory);
    return size_bytes;
}

/// The permissions of new files, as POSIX mode bits, before the umask is applied.
inline constexpr std::uint32_t default_file_permissions = detail::os::file_permissions;

/// Recognises the temporary file that a killed output_file leaves next to its target. Returns the
/// name of the target, cut after 64 bytes if it is longer, or an empty view if `name` is not such a
/// file.
[[nodiscard]] constexpr std::string_view unfinished_target(std::string_view name) noexcept {
    if (!detail::is_temporary(name)) return {};
    constexpr std::size_t ending = std::string_view{".0123456789abcdef.tmp"}.size();
    return name.substr(1, name.size() - 1 - ending);
}

/// A file that is being written. It appears under its own name, complete, when commit() is called,
/// and otherwise never. Until then its bytes are in a hidden file in the same directory. The
/// destructor removes that file; only a killed program leaves it behind.
class output_file {
public:
    output_file() noexcept = default;
    /// Leaves the other with nothing to commit or to remove.
    output_file(output_file&& other) noexcept
        : file_{std::move(other.file_)},
          size_bytes_{detail::exchange(other.size_bytes_, 0)},
          path_{std::move(other.path_)},
          temporary_{std::move(other.temporary_)} {}
    /// Removes an uncommitted file of this object, then takes over the other's.
    output_file& operator=(output_file&& other) noexcept {
        if (this != &other) {
            abandon();
            file_ = std::move(other.file_);
            size_bytes_ = detail::exchange(other.size_bytes_, 0);
            path_ = std::move(other.path_);
            temporary_ = std::move(other.temporary_);
        }
        return *this;
    }
    ~output_file() { abandon(); }

    /// Creates a file of `size_bytes` zeros. If `reserve` is true, disk space is reserved on file
    /// systems that support it. An existing file or symbolic link at `path` is unchanged until
    /// commit() replaces it, also for processes that have it mapped. The file gets `permissions`
    /// (POSIX mode bits) minus the umask; if `path` already exists, others get no more rights than
    /// they have to that file.
    ///   fails   file_not_found (no such directory), not_a_directory, not_a_file (`path` is a
    ///           directory), permission_denied, already_exists (no free temporary name), disk_full,
    ///           io_error (also: larger than this process may write, which would otherwise raise a
    ///           signal), out_of_memory
    static result<output_file> create(
        std::string_view path, std::uint64_t size_bytes, bool reserve = true,
        std::uint32_t permissions = default_file_permissions) noexcept;

    /// The path that commit() gives the file.
    [[nodiscard]] std::string_view path() const noexcept SAFEFUSE_LIFETIMEBOUND { return path_; }
    /// The size of the file in bytes.
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_bytes_; }

    /// Writes bytes at an offset. Several threads may write at once if their ranges do not overlap.
    ///   fails   out_of_range (past size_bytes()), disk_full, io_error; part of the range may then
    ///           be written
    result<void> write(std::uint64_t offset, span<const std::byte> bytes) noexcept {
        if (offset > size_bytes_ || size_bytes_ - offset < bytes.size())
            return failure{.code = errc::out_of_range,
                           .file = path_,
                           .offset = offset,
                           .expected = size_bytes_,
                           .actual = bytes.size()};
        if (const auto came = detail::os::write_at(file_.get(), offset, bytes); !came) {
            failure why = came.about(path_);
            why.offset = offset;
            return why;
        }
        return {};
    }

    /// Starts writing the data to the disk without waiting, so that memory does not fill up and
    /// sync() has little left to do.
    void start_writing() noexcept {
        if (file_.is_open()) detail::os::start_writing(file_.get());
    }

    /// Makes a range share its disk blocks with a range of another file instead of copying the
    /// bytes. All offsets and sizes must be multiples of share_multiple_bytes. Returns false if the
    /// file system cannot do this; the caller must then write the bytes.
    [[nodiscard]] bool share(std::uint64_t offset, std::intptr_t native_handle,
                             std::uint64_t source_offset, std::uint64_t size) noexcept {
        if (offset > size_bytes_ || size_bytes_ - offset < size ||
            native_handle == no_native_handle || !file_.is_open())
            return false;
        return static_cast<bool>(detail::os::share_blocks(
            detail::os::handle_of(native_handle), source_offset, file_.get(), offset, size));
    }

    /// Waits until everything written is on the disk.
    ///   fails   io_error
    result<void> sync() noexcept {
        if (!file_.is_open()) return {};
        if (const auto came = detail::os::sync_file(file_.get()); !came) return came.about(path_);
        return {};
    }

    /// Moves the file to its path, replacing an existing file, and closes it. Nothing can be
    /// written afterwards.
    ///   fails   io_error, disk_full (some systems report it only on close), permission_denied,
    ///           not_a_file (a directory is at the path now), file_not_found (the directory is
    ///           gone). The old file is then still there, unless the detail says that only the
    ///           directory could not be synced
    result<void> commit(durability wait = durability::synced) noexcept {
        if (temporary_.empty())
            return failure{
                .code = errc::io_error, .file = path_, .detail = "there is nothing to commit"};
        if (wait == durability::synced)
            if (auto synced = sync(); !synced) return synced;
        if (const auto closed = file_.close_and_tell(); !closed) {
            abandon();  // its bytes may be lost
            return closed.about(path_);
        }
        if (const auto came = detail::os::rename_over(temporary_.c_str(), path_.c_str()); !came)
            return came.about(path_);
        temporary_ = text{};
        size_bytes_ = 0;
        if (wait != durability::synced) return {};
        const text directory{detail::directory_of(path_)};
        if (const auto came = detail::os::sync_directory(directory.c_str()); !came) {
            failure why = came.about(path_);
            why.detail = "it is in place, but its directory could not be synced";
            return why;
        }
        return {};
    }

private:
    void abandon() noexcept {
        file_.close();
        if (!temporary_.empty()) (void)detail::os::remove_file(temporary_.c_str());
        temporary_ = text{};
    }

    detail::open_handle file_;
    std::uint64_t size_bytes_ = 0;
    text path_;
    text temporary_;  // empty after commit()
};

inline result<output_file> output_file::create(std::string_view path, std::uint64_t size_bytes,
                                               bool reserve, std::uint32_t permissions) noexcept {
    auto native = detail::system_path(path);
    if (!native) return std::move(native).error();
    const std::string_view name = detail::file_name_of(path);
    detail::os::entry_facts old;
    const bool is_there = static_cast<bool>(detail::os::entry_of(native->c_str(), true, old));
    if (name.empty() || name == "." || name == ".." ||
        (is_there && old.kind == detail::os::path_kind::directory))
        return failure{.code = errc::not_a_file, .file = path, .detail = "it is a directory"};
    if (auto fits = detail::check_file_size_limit(path, size_bytes); !fits)
        return std::move(fits).error();
    if (is_there && old.kind == detail::os::path_kind::file) permissions &= old.permissions | 0600u;

    output_file made;
    detail::os::outcome came;
    detail::os::handle file = detail::os::no_handle;
    text temporary;
    const std::uint64_t start = detail::os::unlikely_number();
    for (std::uint64_t attempt = 0; attempt < 100; ++attempt) {
        text hidden = detail::hidden_name(name, (start + attempt) * 0x9E3779B97F4A7C15u);
        if (hidden.empty()) return detail::lack_of_memory_for{path};
        const std::string_view directory = path.substr(0, path.size() - name.size());
        temporary = directory.empty() ? std::move(hidden) : detail::join_path(directory, hidden);
        if (temporary.empty()) return detail::lack_of_memory_for{path};
        came = detail::os::create_exclusive(temporary.c_str(), permissions, file);
        if (came || came.code != errc::already_exists) break;
    }
    if (!came) {
        failure why = came.about(path);
        if (why.code == errc::file_not_found) why.detail = "there is no such directory to write to";
        return why;
    }
    made.file_ = detail::open_handle{file};
    made.temporary_ = std::move(temporary);
    made.path_ = std::move(*native);
    made.size_bytes_ = size_bytes;
    const auto sized = reserve ? detail::os::preallocate(file, size_bytes)
                               : detail::os::set_size(file, size_bytes);
    if (!sized) {
        failure why = sized.about(path);
        why.expected = size_bytes;
        return why;
    }
    return made;
}

/// Copies a regular file. Like an output_file, the copy appears under its name only when it is
/// complete. Permissions are kept. A file or symbolic link at `to` is replaced; if it is the file
/// `from` itself, nothing happens.
///   fails   as positional_file::open, positional_file::read, output_file::create, write and
///           commit; the old file at `to` is then still there
[[nodiscard]] inline result<void> copy_file(std::string_view from, std::string_view to,
                                            durability wait = durability::synced) noexcept {
    auto source = detail::open_file::open(from);
    if (!source) return std::move(source).error();
    detail::os::entry_facts entry;
    const bool is_told = static_cast<bool>(detail::os::entry_of(source->handle(), entry));
    const auto there = detail::entry_of_path(to, false);
    if (is_told && there && there->is_same(entry)) return {};
    auto copy = output_file::create(to, source->size_bytes(), true,
                                    is_told ? entry.permissions & 0777u : default_file_permissions);
    if (!copy) return std::move(copy).error();
    vector<std::byte> buffer;
    constexpr std::size_t piece = std::size_t{1} << 20;
    if (!buffer.resize_unset(piece)) return detail::lack_of_memory_for{from};
    for (std::uint64_t offset = 0; offset < source->size_bytes(); offset += piece) {
        const std::uint64_t left = source->size_bytes() - offset;
        const span<std::byte> part =
            buffer.view().subspan(0, left < piece ? static_cast<std::size_t>(left) : piece);
        if (auto done = source->read(offset, part); !done) return done;
        if (auto done = copy->write(offset, part); !done) return done;
    }
    return copy->commit(wait);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
