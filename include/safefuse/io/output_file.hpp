// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: files that are written: each appears under its name when it is complete. Paths are
// UTF-8 on every system.
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

/// How long commit() waits.
enum class durability : std::uint8_t {
    synced,   ///< until the bytes and the name are on the disk: a power cut leaves the old file or
              ///< the new one
    renamed,  ///< not at all: a crash of the program leaves the old file or the new one, a power
              ///< cut may leave neither
};

/// Which file or directory a path leads to, links followed: equal for two paths that lead to one,
/// whatever they are called.
class file_identity {
public:
    /// Asks the system.
    ///   fails   file_not_found (also: a link to nothing), not_a_directory, permission_denied,
    ///   io_error, out_of_memory
    static result<file_identity> of(std::string_view path) noexcept {
        auto entry = detail::entry_of_path(path, true);
        if (!entry) return std::move(entry).error();
        file_identity found;
        found.entry_ = *entry;
        return found;
    }

    /// Whether they are one file.
    friend bool operator==(const file_identity& a, const file_identity& b) noexcept {
        return a.entry_.is_same(b.entry_);
    }

private:
    detail::os::entry_facts entry_;
};

/// The unit of output_file::share.
inline constexpr std::uint64_t share_multiple_bytes = 4096;

/// How much more the caller can write to the file system of a directory; unknown where the system
/// does not tell.
///   fails   file_not_found, not_a_directory, permission_denied, io_error, out_of_memory
[[nodiscard]] inline result<std::uint64_t> free_space_bytes(std::string_view directory) noexcept {
    auto native = detail::system_path(directory);
    if (!native) return std::move(native).error();
    std::uint64_t size_bytes = 0;
    if (const auto came = detail::os::free_space(native->c_str(), size_bytes); !came)
        return came.about(directory);
    return size_bytes;
}

/// The permissions of new files, as POSIX counts them, before the umask takes some away.
inline constexpr std::uint32_t default_file_permissions = detail::os::file_permissions;

/// What an output_file that was killed has left beside its target, told by its name: the name of
/// the target, of which long ones are cut after 64 bytes. Empty: it is no such name.
[[nodiscard]] constexpr std::string_view unfinished_target(std::string_view name) noexcept {
    if (!detail::is_temporary(name)) return {};
    constexpr std::size_t ending = std::string_view{".0123456789abcdef.tmp"}.size();
    return name.substr(1, name.size() - 1 - ending);
}

/// A file being written: it appears under its own name, complete, when commit() is called, and
/// otherwise never. Until then its bytes are in a hidden file beside it, which the destructor
/// removes; only a killed program leaves that behind.
class output_file {
public:
    output_file() noexcept = default;
    /// The other has then nothing to finish or to remove.
    output_file(output_file&& other) noexcept
        : file_{std::move(other.file_)},
          size_bytes_{detail::exchange(other.size_bytes_, 0)},
          path_{std::move(other.path_)},
          temporary_{std::move(other.temporary_)} {}
    /// What was not finished here is removed.
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

    /// A new file of `size_bytes` zeros, its place on the disk reserved where the file system can
    /// do that and `reserve` asks for it. A file or symbolic link that is already at `path` stays
    /// as it is, also for those who have it mapped, until commit() puts the new file there. The
    /// file gets `permissions` (as POSIX counts them) less what the umask takes away, and others
    /// get no more rights than they have to a file that is at `path` already.
    ///   fails   file_not_found (no such directory), not_a_directory, not_a_file (`path` is a
    ///   directory), permission_denied,
    ///           already_exists (no free name beside it), disk_full, io_error (also: larger than
    ///           this process may write, which would be a signal), out_of_memory
    static result<output_file> create(
        std::string_view path, std::uint64_t size_bytes, bool reserve = true,
        std::uint32_t permissions = default_file_permissions) noexcept;

    /// The path that commit() will give it.
    [[nodiscard]] std::string_view path() const noexcept SAFEFUSE_LIFETIMEBOUND { return path_; }
    /// How many bytes the file will have.
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_bytes_; }

    /// Writes bytes at an offset. Several threads may write ranges that do not overlap at once.
    ///   fails   out_of_range (past size_bytes()), disk_full, io_error; part of the range may then
    ///   be written
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

    /// Sends what was written to the disk and does not wait, so that memory does not fill with it
    /// and sync() has little left to do.
    void start_writing() noexcept {
        if (file_.is_open()) detail::os::start_writing(file_.get());
    }

    /// Lets a range share its place on the disk with a range of another file, instead of writing
    /// the bytes there. Everything is a multiple of share_multiple_bytes. False where the file
    /// system cannot do that: the bytes must then be written.
    [[nodiscard]] bool share(std::uint64_t offset, std::intptr_t native_handle,
                             std::uint64_t source_offset, std::uint64_t size) noexcept {
        if (offset > size_bytes_ || size_bytes_ - offset < size ||
            native_handle == no_native_handle || !file_.is_open())
            return false;
        return static_cast<bool>(detail::os::share_blocks(
            detail::os::handle_of(native_handle), source_offset, file_.get(), offset, size));
    }

    /// Waits until what was written is on the disk.
    ///   fails   io_error
    result<void> sync() noexcept {
        if (!file_.is_open()) return {};
        if (const auto came = detail::os::sync_file(file_.get()); !came) return came.about(path_);
        return {};
    }

    /// Puts the file in place, over one that is there, and closes it; there is nothing left to
    /// write to then.
    ///   fails   io_error, disk_full (some systems tell only when a file is closed),
    ///   permission_denied, not_a_file (a directory
    ///           has taken the place), file_not_found (the directory is gone); the old file is then
    ///           still there, unless the detail says that only the directory could not be synced
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
    text temporary_;  // empty once committed
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
        if (hidden.empty()) return failure{.code = errc::out_of_memory, .file = path};
        const std::string_view directory = path.substr(0, path.size() - name.size());
        temporary = directory.empty() ? std::move(hidden) : detail::join_path(directory, hidden);
        if (temporary.empty()) return failure{.code = errc::out_of_memory, .file = path};
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

/// Copies a regular file as output_file writes one: the copy appears under its name when it is
/// complete. Who may read and write it stays as it was. A file or symbolic link at `to` is
/// replaced; if it is the file `from` itself, nothing is done.
///   fails   as positional_file::open, positional_file::read, output_file::create, write and
///   commit; what was at `to` is then still
///           there
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
    if (!buffer.resize_unset(piece)) return failure{.code = errc::out_of_memory, .file = from};
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
