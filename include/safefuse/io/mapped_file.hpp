// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: files. Two ways to read one (mapped, positional), one way to write one. Paths are UTF-8 on every system.
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
#include <safefuse/core/vector.hpp>
#include <safefuse/tensor/byte_source.hpp>

#if defined(_WIN32)
#include <safefuse/io/detail/os_windows.hpp>
#else
#include <safefuse/io/detail/os_posix.hpp>
#endif

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {

/// Copies a path so that the system can take it: zero-terminated, no zero inside.
[[nodiscard]] inline result<text> system_path(std::string_view path) noexcept {
    if (text::lacks_memory(path)) return failure{.code = errc::out_of_memory};
    if (path.empty()) return failure{.code = errc::file_not_found, .detail = "the path is empty"};
    if (path.find('\0') != std::string_view::npos)
        return failure{.code = errc::file_not_found, .file = path, .detail = "the path has a zero character in it"};
    text copy{path};
    if (copy.size() != path.size()) return failure{.code = errc::out_of_memory};
    return copy;
}

/// The part of a path after the last separator.
[[nodiscard]] SAFEFUSE_NOINLINE constexpr std::string_view file_name_of(std::string_view path) noexcept {
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
[[nodiscard]] SAFEFUSE_NOINLINE inline text join_path(std::string_view directory, std::string_view name) noexcept {
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

/// Calls f(name, is_directory) for every entry of a directory, in no order, links followed, until f returns false.
///   fails   file_not_found, not_a_directory, permission_denied, io_error, out_of_memory
template <class F>
[[nodiscard]] result<void> list_directory(std::string_view path, F&& f) noexcept {
    auto native = system_path(path);
    if (!native) return std::move(native).error();
    if (const auto came = os::list_directory(native->c_str(), f); !came) return came.about(path);
    return {};
}

/// Makes a directory, in one that is there.
///   fails   already_exists, file_not_found, not_a_directory, permission_denied, io_error, out_of_memory
[[nodiscard]] inline result<void> make_directory(std::string_view path,
                                                 std::uint32_t permissions = os::directory_permissions) noexcept {
    auto native = system_path(path);
    if (!native) return std::move(native).error();
    if (const auto came = os::make_directory(native->c_str(), permissions); !came) return came.about(path);
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
[[nodiscard]] inline result<os::entry_facts> entry_of_path(std::string_view path, bool follows) noexcept {
    auto native = system_path(path);
    if (!native) return std::move(native).error();
    os::entry_facts entry;
    if (const auto came = os::entry_of(native->c_str(), follows, entry); !came) return came.about(path);
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

/// A process may be forbidden to write large files, and the system then ends it by a signal. This tells before.
///   fails   io_error
[[nodiscard]] inline result<void> check_file_size_limit(std::string_view path, std::uint64_t size_bytes) noexcept {
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
    if (const auto came = os::rename_over(native_from->c_str(), native_to->c_str()); !came) return came.about(to);
    return {};
}

/// Gives a file a second name, which must be free.
///   fails   already_exists, file_not_found, permission_denied, io_error (on another disk, say), out_of_memory
[[nodiscard]] inline result<void> link_file(std::string_view from, std::string_view to) noexcept {
    auto native_from = system_path(from);
    if (!native_from) return std::move(native_from).error();
    auto native_to = system_path(to);
    if (!native_to) return std::move(native_to).error();
    if (const auto came = os::link_file(native_from->c_str(), native_to->c_str()); !came) return came.about(to);
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

/// An open file, closed at the end.
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
    /// The handle, which is then the caller's to close.
    [[nodiscard]] os::handle give() noexcept { return exchange(file_, os::no_handle); }
    void close() noexcept { (void)close_and_tell(); }
    /// What came of closing: the last moment at which some systems tell that bytes were lost.
    [[nodiscard]] os::outcome close_and_tell() noexcept {
        return file_ == os::no_handle ? os::outcome{} : os::close_file(exchange(file_, os::no_handle));
    }

private:
    os::handle file_ = os::no_handle;
};

/// What both ways to read a file share: the file, open, and its size at that time.
class open_file {
public:
    open_file() noexcept = default;

    static result<open_file> open(std::string_view path) noexcept {
        auto native = system_path(path);
        if (!native) return std::move(native).error();
        open_file opened;
        os::handle file = os::no_handle;
        if (const auto came = os::open_file(native->c_str(), file, opened.size_bytes_); !came) return came.about(path);
        opened.file_ = open_handle{file};
        opened.path_ = std::move(*native);
        return opened;
    }

    [[nodiscard]] os::handle handle() const noexcept { return file_.get(); }
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return file_.is_open() ? size_bytes_ : 0; }
    [[nodiscard]] std::string_view path() const noexcept { return path_; }

    [[nodiscard]] result<void> read(std::uint64_t offset, span<std::byte> out) const noexcept {
        if (offset > size_bytes() || size_bytes() - offset < out.size())
            return failure{
                .code = errc::read_past_end, .file = path_, .offset = offset, .expected = out.size(), .actual = size_bytes()};
        if (out.empty()) return {};
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
        if (!file_.is_open()) return {};
        std::uint64_t now = 0;
        if (const auto came = os::size_of(file_.get(), now); !came) return came.about(path_);
        if (now == size_bytes_) return {};
        return failure{.code = errc::file_changed,
                       .file = path_,
                       .detail = now < size_bytes_ ? "it is shorter now" : "it is longer now",
                       .expected = size_bytes_,
                       .actual = now};
    }

private:
    open_handle file_;
    std::uint64_t size_bytes_ = 0;
    text path_;
};

}  // namespace detail

/// A file that is read where it lies: bytes() points into the page cache, nothing is copied.
///   lifetime  spans from bytes() die with the mapped_file; a move keeps them
///   caution   no mapping survives its file being cut short by somebody else: touching a page that is gone raises SIGBUS (an
///             exception on Windows), which no library can turn into a failure. check_size() before a long use narrows the
///             gap, read() is safe, and positional_file has no such gap. Planning, fusing and rewriting check it themselves, of each
///             file once before a scope; tensors' names are views into the mapping, so looking one up touches it, too.
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
    ///   fails   file_not_found, permission_denied, not_a_file, not_a_directory, out_of_memory (also: no room for it in the
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
                    detail::os::map(mapped.file_.handle(), static_cast<std::size_t>(mapped.size_bytes()), mapped.data_);
                !came)
                return came.about(path);
        return mapped;
    }

    /// The path it was opened by.
    [[nodiscard]] std::string_view path() const noexcept SAFEFUSE_LIFETIMEBOUND { return file_.path(); }
    /// The size when it was opened.
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return file_.size_bytes(); }
    /// The whole file.
    [[nodiscard]] span<const std::byte> bytes() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return {data_, static_cast<std::size_t>(size_bytes())};
    }
    span<const std::byte> bytes() const&& = delete;

    /// Copies bytes by a positional read, not through the mapping, so that a file cut short is a failure and not a signal.
    ///   fails   read_past_end, file_changed (it is shorter now), io_error; `out` may then be part-written
    result<void> read(std::uint64_t offset, span<std::byte> out) const noexcept { return file_.read(offset, out); }

    /// Tells the system what comes next. done_with touches only pages that lie wholly inside the range.
    void advise(std::uint64_t offset, std::uint64_t size_bytes, advice hint) const noexcept {
        if (data_ != nullptr)
            detail::os::advise_mapping(file_.handle(), data_, static_cast<std::size_t>(file_.size_bytes()), offset, size_bytes,
                                       hint);
    }

    /// The system's number of the open file, for calls that this library does not make.
    [[nodiscard]] std::intptr_t native_handle() const noexcept { return detail::os::native_of(file_.handle()); }

    /// Whether the file still has the size it had when it was opened.
    ///   fails   file_changed (with both sizes), io_error
    [[nodiscard]] result<void> check_size() const noexcept { return file_.check_size(); }

private:
    void unmap() noexcept {
        if (data_ != nullptr) detail::os::unmap(exchange(data_, nullptr), static_cast<std::size_t>(file_.size_bytes()));
    }

    detail::open_file file_;
    const std::byte* data_ = nullptr;
};

/// A file that is read by offset, never mapped: for network file systems, for memory shared with a GPU, and where a file may be
/// cut short while it is open, which is an ordinary failure here.
///   units     one file handle for each file that is open
class positional_file {
public:
    positional_file() noexcept = default;

    /// Opens a regular file; an empty one is legal.
    ///   fails   file_not_found, permission_denied, not_a_file, not_a_directory, out_of_memory, io_error
    static result<positional_file> open(std::string_view path) noexcept {
        auto opened = detail::open_file::open(path);
        if (!opened) return std::move(opened).error();
        positional_file file;
        file.file_ = std::move(*opened);
        return file;
    }

    /// The path it was opened by.
    [[nodiscard]] std::string_view path() const noexcept SAFEFUSE_LIFETIMEBOUND { return file_.path(); }
    /// The size when it was opened.
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return file_.size_bytes(); }
    /// Empty: the bytes must be read.
    [[nodiscard]] span<const std::byte> bytes() const noexcept { return {}; }

    /// Copies bytes.
    ///   fails   read_past_end, file_changed (it is shorter now), io_error; `out` may then be part-written
    result<void> read(std::uint64_t offset, span<std::byte> out) const noexcept { return file_.read(offset, out); }

    /// Tells the system what comes next. done_with touches only pages that lie wholly inside the range.
    void advise(std::uint64_t offset, std::uint64_t size_bytes, advice hint) const noexcept {
        if (file_.size_bytes() != 0) detail::os::advise_file(file_.handle(), file_.size_bytes(), offset, size_bytes, hint);
    }

    /// The system's number of the open file, for calls that this library does not make.
    [[nodiscard]] std::intptr_t native_handle() const noexcept { return detail::os::native_of(file_.handle()); }

    /// Whether the file still has the size it had when it was opened.
    ///   fails   file_changed (with both sizes), io_error
    [[nodiscard]] result<void> check_size() const noexcept { return file_.check_size(); }

private:
    detail::open_file file_;
};

static_assert(file_source<mapped_file> && file_source<positional_file> && byte_source<memory_source>);

/// How long commit() waits.
enum class durability : std::uint8_t {
    synced,   ///< until the bytes and the name are on the disk: a power cut leaves the old file or the new one
    renamed,  ///< not at all: a crash of the program leaves the old file or the new one, a power cut may leave neither
};

/// Which file or directory a path leads to, links followed: equal for two paths that lead to one, whatever they are called.
class file_identity {
public:
    /// Asks the system.
    ///   fails   file_not_found (also: a link to nothing), not_a_directory, permission_denied, io_error, out_of_memory
    static result<file_identity> of(std::string_view path) noexcept {
        auto entry = detail::entry_of_path(path, true);
        if (!entry) return std::move(entry).error();
        file_identity found;
        found.entry_ = *entry;
        return found;
    }

    /// Whether they are one file.
    friend bool operator==(const file_identity& a, const file_identity& b) noexcept { return a.entry_.is_same(b.entry_); }

private:
    detail::os::entry_facts entry_;
};

/// The unit of output_file::share.
inline constexpr std::uint64_t share_multiple_bytes = 4096;

/// How much more the caller can write to the file system of a directory; unknown where the system does not tell.
///   fails   file_not_found, not_a_directory, permission_denied, io_error, out_of_memory
[[nodiscard]] inline result<std::uint64_t> free_space_bytes(std::string_view directory) noexcept {
    auto native = detail::system_path(directory);
    if (!native) return std::move(native).error();
    std::uint64_t size_bytes = 0;
    if (const auto came = detail::os::free_space(native->c_str(), size_bytes); !came) return came.about(directory);
    return size_bytes;
}

/// A file being written: it appears under its own name, complete, when commit() is called, and otherwise never.
/// Until then its bytes are in a hidden file beside it, which the destructor removes; only a killed program leaves that behind.
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

    /// A new file of `size_bytes` zeros, its place on the disk reserved where the file system can do that and `reserve` asks for
    /// it. A file or symbolic link that is already at `path` stays as it is, also for those who have it mapped, until commit() puts
    /// the new file there.
    /// The file gets `permissions` (as POSIX counts them) less what the umask takes away, and others get no more rights than they
    /// have to a file that is at `path` already.
    ///   fails   file_not_found (no such directory), not_a_directory, not_a_file (`path` is a directory), permission_denied,
    ///           already_exists (no free name beside it), disk_full, io_error (also: larger than this process may write, which
    ///           would be a signal), out_of_memory
    static result<output_file> create(std::string_view path, std::uint64_t size_bytes, bool reserve = true,
                                      std::uint32_t permissions = detail::os::file_permissions) noexcept;

    /// The path that commit() will give it.
    [[nodiscard]] std::string_view path() const noexcept SAFEFUSE_LIFETIMEBOUND { return path_; }
    /// How many bytes the file will have.
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_bytes_; }

    /// Writes bytes at an offset. Several threads may write ranges that do not overlap at once.
    ///   fails   out_of_range (past size_bytes()), disk_full, io_error; part of the range may then be written
    result<void> write(std::uint64_t offset, span<const std::byte> bytes) noexcept {
        if (offset > size_bytes_ || size_bytes_ - offset < bytes.size())
            return failure{
                .code = errc::out_of_range, .file = path_, .offset = offset, .expected = size_bytes_, .actual = bytes.size()};
        if (const auto came = detail::os::write_at(file_.get(), offset, bytes); !came) {
            failure why = came.about(path_);
            why.offset = offset;
            return why;
        }
        return {};
    }

    /// Sends what was written to the disk and does not wait, so that memory does not fill with it and sync() has little left to do.
    void start_writing() noexcept {
        if (file_.is_open()) detail::os::start_writing(file_.get());
    }

    /// Lets a range share its place on the disk with a range of another file, instead of writing the bytes there. Everything is a
    /// multiple of share_multiple_bytes. False where the file system cannot do that: the bytes must then be written.
    [[nodiscard]] bool share(std::uint64_t offset, std::intptr_t native_handle, std::uint64_t source_offset,
                             std::uint64_t size) noexcept {
        if (offset > size_bytes_ || size_bytes_ - offset < size || native_handle == no_native_handle || !file_.is_open())
            return false;
        return static_cast<bool>(
            detail::os::share_blocks(detail::os::handle_of(native_handle), source_offset, file_.get(), offset, size));
    }

    /// Waits until what was written is on the disk.
    ///   fails   io_error
    result<void> sync() noexcept {
        if (!file_.is_open()) return {};
        if (const auto came = detail::os::sync_file(file_.get()); !came) return came.about(path_);
        return {};
    }

    /// Puts the file in place, over one that is there, and closes it; there is nothing left to write to then.
    ///   fails   io_error, disk_full (some systems tell only when a file is closed), permission_denied, not_a_file (a directory
    ///           has taken the place), file_not_found (the directory is gone); the old file is then still there, unless the
    ///           detail says that only the directory could not be synced
    result<void> commit(durability wait = durability::synced) noexcept {
        if (temporary_.empty()) return failure{.code = errc::io_error, .file = path_, .detail = "there is nothing to commit"};
        if (wait == durability::synced)
            if (auto synced = sync(); !synced) return synced;
        if (const auto closed = file_.close_and_tell(); !closed) {
            abandon();  // its bytes may be lost
            return closed.about(path_);
        }
        if (const auto came = detail::os::rename_over(temporary_.c_str(), path_.c_str()); !came) return came.about(path_);
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

namespace detail {

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

}  // namespace detail

inline result<output_file> output_file::create(std::string_view path, std::uint64_t size_bytes, bool reserve,
                                               std::uint32_t permissions) noexcept {
    auto native = detail::system_path(path);
    if (!native) return std::move(native).error();
    const std::string_view name = detail::file_name_of(path);
    detail::os::entry_facts old;
    const bool is_there = static_cast<bool>(detail::os::entry_of(native->c_str(), true, old));
    if (name.empty() || name == "." || name == ".." || (is_there && old.kind == detail::os::path_kind::directory))
        return failure{.code = errc::not_a_file, .file = path, .detail = "it is a directory"};
    if (auto fits = detail::check_file_size_limit(path, size_bytes); !fits) return std::move(fits).error();
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
    const auto sized = reserve ? detail::os::preallocate(file, size_bytes) : detail::os::set_size(file, size_bytes);
    if (!sized) {
        failure why = sized.about(path);
        why.expected = size_bytes;
        return why;
    }
    return made;
}

namespace detail {

/// Reads a small file whole.
///   fails   as positional_file::open and read; io_error (larger than `most_bytes`)
[[nodiscard]] inline result<vector<std::byte>> read_whole_file(std::string_view path, std::uint64_t most_bytes) noexcept {
    auto file = open_file::open(path);
    if (!file) return std::move(file).error();
    if (file->size_bytes() > most_bytes)
        return failure{.code = errc::io_error,
                       .file = path,
                       .detail = "it is too large to be what it should be",
                       .expected = most_bytes,
                       .actual = file->size_bytes()};
    vector<std::byte> bytes;
    if (!bytes.resize_unset(static_cast<std::size_t>(file->size_bytes())))
        return failure{.code = errc::out_of_memory, .file = path};
    if (auto done = file->read(0, bytes.view()); !done) return std::move(done).error();
    return bytes;
}

}  // namespace detail

/// Copies a regular file as output_file writes one: the copy appears under its name when it is complete. Who may read and write it
/// stays as it was. A file or symbolic link at `to` is replaced; if it is the file `from` itself, nothing is done.
///   fails   as positional_file::open, positional_file::read, output_file::create, write and commit; what was at `to` is then still
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
                                    is_told ? entry.permissions & 0777u : detail::os::file_permissions);
    if (!copy) return std::move(copy).error();
    vector<std::byte> buffer;
    constexpr std::size_t piece = std::size_t{1} << 20;
    if (!buffer.resize_unset(piece)) return failure{.code = errc::out_of_memory, .file = from};
    for (std::uint64_t offset = 0; offset < source->size_bytes(); offset += piece) {
        const std::uint64_t left = source->size_bytes() - offset;
        const span<std::byte> part = buffer.view().subspan(0, left < piece ? static_cast<std::size_t>(left) : piece);
        if (auto done = source->read(offset, part); !done) return done;
        if (auto done = copy->write(offset, part); !done) return done;
    }
    return copy->commit(wait);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
