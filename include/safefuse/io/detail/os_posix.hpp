// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: files, mappings and directories on Linux, macOS and the BSDs. Only os_calls.hpp
// includes this file.
#ifndef SAFEFUSE_IO_DETAIL_OS_POSIX_HPP
#define SAFEFUSE_IO_DETAIL_OS_POSIX_HPP

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#endif

#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/io/detail/os.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {
namespace os {

// clang-format off
#if defined(__GLIBC__) && defined(_LARGEFILE64_SOURCE) && __SIZEOF_LONG__ == 4
// 64-bit offsets, also in 32-bit programs compiled without -D_FILE_OFFSET_BITS=64. 64-bit programs
// call the plain functions by their plain names: clang's memory sanitizer knows only those.
using file_offset = off64_t;
using file_facts = struct ::stat64;
using file_system_facts = struct ::statvfs64;
using directory_entry = struct ::dirent64;
template <class... T> auto call_open(T... given) noexcept { return ::open64(given...); }
template <class... T> auto call_stat(T... given) noexcept { return ::stat64(given...); }
template <class... T> auto call_fstat(T... given) noexcept { return ::fstat64(given...); }
template <class... T> auto call_fstatat(T... given) noexcept { return ::fstatat64(given...); }
template <class... T> auto call_statvfs(T... given) noexcept { return ::statvfs64(given...); }
template <class... T> auto call_pread(T... given) noexcept { return ::pread64(given...); }
template <class... T> auto call_pwrite(T... given) noexcept { return ::pwrite64(given...); }
template <class... T> auto call_ftruncate(T... given) noexcept { return ::ftruncate64(given...); }
template <class... T> auto call_fallocate(T... given) noexcept { return ::fallocate64(given...); }
template <class... T> auto call_fadvise(T... given) noexcept { return ::posix_fadvise64(given...); }
template <class... T> auto call_readdir(T... given) noexcept { return ::readdir64(given...); }
#else
using file_offset = off_t;
using file_facts = struct ::stat;
using file_system_facts = struct ::statvfs;
using directory_entry = struct ::dirent;
template <class... T> auto call_open(T... given) noexcept { return ::open(given...); }
template <class... T> auto call_stat(T... given) noexcept { return ::stat(given...); }
template <class... T> auto call_fstat(T... given) noexcept { return ::fstat(given...); }
template <class... T> auto call_fstatat(T... given) noexcept { return ::fstatat(given...); }
template <class... T> auto call_statvfs(T... given) noexcept { return ::statvfs(given...); }
template <class... T> auto call_pread(T... given) noexcept { return ::pread(given...); }
template <class... T> auto call_pwrite(T... given) noexcept { return ::pwrite(given...); }
template <class... T> auto call_ftruncate(T... given) noexcept { return ::ftruncate(given...); }
#if defined(__linux__)
template <class... T> auto call_fallocate(T... given) noexcept { return ::fallocate(given...); }
#endif
#if defined(POSIX_FADV_WILLNEED)
template <class... T> auto call_fadvise(T... given) noexcept { return ::posix_fadvise(given...); }
#endif
template <class... T> auto call_readdir(T... given) noexcept { return ::readdir(given...); }
#endif
// clang-format on
static_assert(
    sizeof(file_offset) == 8,
    "safefuse reads files of more than 2 GiB: compile for this host with -D_FILE_OFFSET_BITS=64");

using handle = int;
inline constexpr handle no_handle = -1;
[[nodiscard]] inline handle handle_of(std::intptr_t native) noexcept {
    return static_cast<handle>(native);
}
[[nodiscard]] inline std::intptr_t native_of(handle file) noexcept { return file; }

[[nodiscard]] inline outcome failed(int error) noexcept {
    switch (error) {
    case ENOENT: return {false, errc::file_not_found, error};
    case EACCES:
    case EPERM: return {false, errc::permission_denied, error};
    case EROFS: return {false, errc::permission_denied, error, "the file system is read-only"};
    case EISDIR: return {false, errc::not_a_file, error, "it is a directory"};
    case ENXIO: return {false, errc::not_a_file, error};
    case ENOTDIR: return {false, errc::not_a_directory, error};
    case EEXIST: return {false, errc::already_exists, error};
    case ENOTEMPTY: return {false, errc::destination_not_empty, error};
    case ENOMEM: return {false, errc::out_of_memory, error};
    case EMFILE:
    case ENFILE:
        return {false, errc::io_error, error, "too many open files; `ulimit -n` raises the limit"};
    case ENOSPC: return {false, errc::disk_full, error};
    case EDQUOT: return {false, errc::disk_full, error, "the disk quota is used up"};
    case EFBIG:
        return {false, errc::io_error, error,
                "the file is too large for this file system or process"};
    case ELOOP: return {false, errc::io_error, error, "the symbolic links form a loop"};
    case ENAMETOOLONG: return {false, errc::io_error, error, "the name is too long"};
    default: return {false, errc::io_error, error};
    }
}

/// Closes a file. Some file systems report failed writes only here.
inline outcome close_file(handle file) noexcept {
    // After EINTR the descriptor is already closed on Linux, and nothing is lost.
    return ::close(file) == 0 || errno == EINTR ? outcome{} : failed(errno);
}

[[nodiscard]] inline entry_facts facts_from(const file_facts& facts) noexcept {
    return {.device = static_cast<std::uint64_t>(facts.st_dev),
            .number = static_cast<std::uint64_t>(facts.st_ino),
            .link_count = static_cast<std::uint64_t>(facts.st_nlink),
            .permissions = static_cast<std::uint32_t>(facts.st_mode) & 07777u,
            .kind = S_ISREG(facts.st_mode)   ? path_kind::file
                    : S_ISDIR(facts.st_mode) ? path_kind::directory
                                             : path_kind::other,
            .is_link = S_ISLNK(facts.st_mode)};
}
[[nodiscard]] inline outcome entry_of(handle file, entry_facts& entry) noexcept {
    file_facts facts;
    if (call_fstat(file, &facts) != 0) return failed(errno);
    entry = facts_from(facts);
    return {};
}
/// Stores the identity of the file a path leads to. A symbolic link at the end of the path is
/// followed only if `follows`.
[[nodiscard]] inline outcome entry_of(const char* path, bool follows, entry_facts& entry) noexcept {
    file_facts facts;
    if (call_fstatat(AT_FDCWD, path, &facts, follows ? 0 : AT_SYMLINK_NOFOLLOW) != 0)
        return failed(errno);
    entry = facts_from(facts);
    return {};
}

/// The largest file that this process may write. Writing more raises a signal (SIGXFSZ) by default.
[[nodiscard]] inline std::uint64_t largest_file_bytes() noexcept {
    struct rlimit limit;
    if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return unknown;
    return static_cast<std::uint64_t>(limit.rlim_cur);
}

[[nodiscard]] inline outcome set_permissions(const char* path, std::uint32_t permissions) noexcept {
    return ::chmod(path, static_cast<mode_t>(permissions)) == 0 ? outcome{} : failed(errno);
}

/// Whether two directories have the same extended attributes, which include access control lists.
[[nodiscard]] inline bool has_same_attributes([[maybe_unused]] const char* one,
                                              [[maybe_unused]] const char* other) noexcept {
#if defined(__linux__)
    char names[1024], other_names[1024], value[1024], other_value[1024];
    const ssize_t size = ::listxattr(one, names, sizeof names);
    if (size < 0) return errno == EOPNOTSUPP || errno == ENOSYS;
    if (::listxattr(other, other_names, sizeof other_names) != size) return false;
    for (const char* name = names; name < names + size; name += std::string_view{name}.size() + 1) {
        const ssize_t value_size = ::getxattr(one, name, value, sizeof value);
        if (value_size < 0 ||
            ::getxattr(other, name, other_value, sizeof other_value) != value_size)
            return false;
        for (ssize_t i = 0; i < value_size; ++i)
            if (value[i] != other_value[i]) return false;
    }
#endif
    return true;
}

/// Gives a directory the owner, group and permissions of another one. Fails if the access rights
/// also depend on extended attributes that differ.
[[nodiscard]] inline outcome copy_ownership(const char* from, const char* to) noexcept {
    file_facts old, made;
    if (call_stat(from, &old) != 0 || call_stat(to, &made) != 0) return failed(errno);
    if ((old.st_uid != made.st_uid || old.st_gid != made.st_gid) &&
        ::chown(to, old.st_uid, old.st_gid) != 0)
        return failed(errno);
    if (::chmod(to, old.st_mode & 07777) != 0) return failed(errno);
    return has_same_attributes(from, to) ? outcome{} : failed(EOPNOTSUPP);
}

/// Whether this system can exchange two directories at all; a file system may still refuse it.
#if (defined(__linux__) && defined(SYS_renameat2)) || defined(RENAME_SWAP)
inline constexpr bool can_exchange = true;
#else
inline constexpr bool can_exchange = false;
#endif
/// Exchanges the names of two directories of one parent, atomically.
[[nodiscard]] inline outcome exchange_directories([[maybe_unused]] const char* one,
                                                  [[maybe_unused]] const char* other) noexcept {
#if defined(__linux__) && defined(SYS_renameat2)
    constexpr unsigned int exchange_flag = 2;  // RENAME_EXCHANGE of <linux/fs.h>
    return ::syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, exchange_flag) == 0
               ? outcome{}
               : failed(errno);
#elif defined(RENAME_SWAP)
    return ::renamex_np(one, other, RENAME_SWAP) == 0 ? outcome{} : failed(errno);
#else
    return failed(ENOSYS);
#endif
}

/// Whether a rename can replace an open file.
inline constexpr bool replaces_open_files = true;

[[nodiscard]] inline outcome size_of(handle file, std::uint64_t& size_bytes) noexcept {
    file_facts facts;
    if (call_fstat(file, &facts) != 0) return failed(errno);
    size_bytes = static_cast<std::uint64_t>(facts.st_size);
    return {};
}

/// Opens a regular file for reading. A FIFO without a writer is refused at once.
[[nodiscard]] inline outcome open_file(const char* path, handle& file,
                                       std::uint64_t& size_bytes) noexcept {
    int opened = 0;
    do opened = call_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (opened < 0 && errno == EINTR);
    if (opened < 0) return failed(errno);
    file_facts facts;
    outcome came;
    if (call_fstat(opened, &facts) != 0)
        came = failed(errno);
    else if (S_ISDIR(facts.st_mode))
        came = failed(EISDIR);
    else if (!S_ISREG(facts.st_mode))
        came = {false, errc::not_a_file, 0, "it is a pipe, a device or a socket"};
    if (!came) {
        ::close(opened);
        return came;
    }
    // O_NONBLOCK was for opening only; some user-space file systems obey it later
    ::fcntl(opened, F_SETFL, 0);
    file = opened;
    size_bytes = static_cast<std::uint64_t>(facts.st_size);
    return {};
}

/// Reads until `out` is full or the file ends, and stores the number of bytes read.
[[nodiscard]] inline outcome read_at(handle file, std::uint64_t offset, span<std::byte> out,
                                     std::size_t& read_bytes) noexcept {
    read_bytes = 0;
    while (read_bytes < out.size()) {
        const std::size_t left = out.size() - read_bytes;
        const ssize_t got =
            call_pread(file, out.data() + read_bytes, left < piece_bytes ? left : piece_bytes,
                       static_cast<file_offset>(offset + read_bytes));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return failed(errno);
        if (got == 0) break;
        read_bytes += static_cast<std::size_t>(got);
    }
    return {};
}

[[nodiscard]] inline outcome write_at(handle file, std::uint64_t offset,
                                      span<const std::byte> bytes) noexcept {
    while (!bytes.empty()) {
        const ssize_t written =
            call_pwrite(file, bytes.data(), bytes.size() < piece_bytes ? bytes.size() : piece_bytes,
                        static_cast<file_offset>(offset));
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return failed(errno);
        if (written == 0) return failed(ENOSPC);
        bytes = bytes.subspan(static_cast<std::size_t>(written));
        offset += static_cast<std::uint64_t>(written);
    }
    return {};
}

/// Maps a whole file for reading. `size_bytes` is not 0.
[[nodiscard]] inline outcome map(handle file, std::size_t size_bytes,
                                 const std::byte*& data) noexcept {
    // Private, not shared: the pages are the same as long as nothing writes to them, and FUSE
    // mounts with direct_io refuse shared mappings.
    void* const mapped = ::mmap(nullptr, size_bytes, PROT_READ, MAP_PRIVATE, file, 0);
    if (mapped == MAP_FAILED) return failed(errno);
    data = static_cast<const std::byte*>(mapped);
    return {};
}

inline void unmap(const std::byte* data, std::size_t size_bytes) noexcept {
    ::munmap(const_cast<std::byte*>(data), size_bytes);
}

/// Clips a range to the file and rounds it to whole pages: inwards if `inwards`, otherwise
/// outwards. Returns false if nothing is left.
inline bool whole_pages(std::uint64_t file_bytes, bool inwards, std::uint64_t& offset,
                        std::uint64_t& size_bytes) noexcept {
    if (offset >= file_bytes) return false;
    if (size_bytes > file_bytes - offset) size_bytes = file_bytes - offset;
    const long page_size = ::sysconf(_SC_PAGESIZE);
    if (page_size <= 0) return false;
    const std::uint64_t page = static_cast<std::uint64_t>(page_size);
    std::uint64_t end = offset + size_bytes;
    if (inwards) {
        offset = (offset + page - 1) / page * page;
        // the last page of a file contains no other data
        if (end != file_bytes) end = end / page * page;
    } else {
        offset = offset / page * page;
    }
    if (offset >= end) return false;
    size_bytes = end - offset;
    return true;
}

inline void advise_file(handle file, std::uint64_t file_bytes, std::uint64_t offset,
                        std::uint64_t size_bytes, advice hint) noexcept {
    // a file that is read by offset occupies no memory of this process
    if (hint == advice::release) return;
    if (!whole_pages(file_bytes, hint == advice::done_with, offset, size_bytes)) return;
#if defined(POSIX_FADV_WILLNEED)
    const int flag = hint == advice::will_need   ? POSIX_FADV_WILLNEED
                     : hint == advice::done_with ? POSIX_FADV_DONTNEED
                                                 : POSIX_FADV_SEQUENTIAL;
    (void)call_fadvise(file, static_cast<file_offset>(offset), static_cast<file_offset>(size_bytes),
                       flag);
#elif defined(F_RDADVISE)
    if (hint == advice::will_need) {
        struct radvisory range;
        range.ra_offset = static_cast<file_offset>(offset);
        range.ra_count = static_cast<int>(size_bytes < piece_bytes ? size_bytes : piece_bytes);
        (void)::fcntl(file, F_RDADVISE, &range);
    }
#else
    (void)file;
#endif
}

inline void advise_mapping(handle file, const std::byte* data, std::size_t file_bytes,
                           std::uint64_t offset, std::uint64_t size_bytes, advice hint) noexcept {
    const bool gives_back = hint == advice::release || hint == advice::done_with;
    if (!whole_pages(file_bytes, gives_back, offset, size_bytes)) return;
    void* const first = const_cast<std::byte*>(data) + static_cast<std::size_t>(offset);
    const std::size_t count = static_cast<std::size_t>(size_bytes);
    switch (hint) {
    case advice::will_need: (void)::madvise(first, count, MADV_WILLNEED); break;
    case advice::release: (void)::madvise(first, count, MADV_DONTNEED); break;
    // pages that are still mapped would stay in the page cache
    case advice::done_with:
        (void)::madvise(first, count, MADV_DONTNEED);
        advise_file(file, file_bytes, offset, size_bytes, hint);
        break;
    case advice::sequential:
        // On a part of the mapping this would split it, and the number of mappings of a process is
        // limited.
        if (count == file_bytes)
            (void)::madvise(first, count, MADV_SEQUENTIAL);
        else
            advise_file(file, file_bytes, offset, size_bytes, hint);
        break;
    }
}

/// Creates a new file for reading and writing; fails if the path exists.
[[nodiscard]] inline outcome create_exclusive(const char* path, std::uint32_t permissions,
                                              handle& file) noexcept {
    int opened = 0;
    do
        opened = call_open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
                           static_cast<mode_t>(permissions));
    while (opened < 0 && errno == EINTR);
    if (opened < 0) return failed(errno);
    file = opened;
    return {};
}

/// Gives an empty file its size without allocating blocks.
[[nodiscard]] inline outcome set_size(handle file, std::uint64_t size_bytes) noexcept {
    if (size_bytes > static_cast<std::uint64_t>(INT64_MAX)) return failed(EFBIG);
    int cut = 0;
    do cut = call_ftruncate(file, static_cast<file_offset>(size_bytes));
    while (cut != 0 && errno == EINTR);
    return cut == 0 ? outcome{} : failed(errno);
}

/// Gives an empty file its size and reserves its blocks if the file system can do that quickly.
[[nodiscard]] inline outcome preallocate(handle file, std::uint64_t size_bytes) noexcept {
    if (size_bytes == 0) return {};
    if (size_bytes > static_cast<std::uint64_t>(INT64_MAX)) return failed(EFBIG);
#if defined(__linux__)
    const file_offset size = static_cast<file_offset>(size_bytes);
    // Not posix_fallocate: if the file system cannot reserve, it writes a byte to every block.
    int error = 0;
    do error = call_fallocate(file, 0, 0, size) == 0 ? 0 : errno;
    while (error == EINTR);
    if (error == 0) return {};
    if (error != EOPNOTSUPP && error != ENOSYS && error != EINVAL) return failed(error);
#elif defined(F_PREALLOCATE)
    fstore_t store{F_ALLOCATEALL, F_PEOFPOSMODE, 0, static_cast<file_offset>(size_bytes), 0};
    (void)::fcntl(file, F_PREALLOCATE, &store);
#endif
    return set_size(file, size_bytes);
}

/// Starts writing the data to the disk without waiting, so that a later sync has little left to do.
inline void start_writing([[maybe_unused]] handle file) noexcept {
#if defined(SYNC_FILE_RANGE_WRITE)
    (void)::sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WRITE);
#endif
}

/// Makes a range of a file share the blocks of a range of another file. Offsets and size are
/// multiples of share_multiple_bytes.
[[nodiscard]] inline outcome share_blocks([[maybe_unused]] handle from,
                                          [[maybe_unused]] std::uint64_t from_offset,
                                          [[maybe_unused]] handle to,
                                          [[maybe_unused]] std::uint64_t to_offset,
                                          [[maybe_unused]] std::uint64_t size_bytes) noexcept {
#if defined(__linux__) && defined(_IOW)
    struct range {  // file_clone_range of <linux/fs.h>, a header whose macros have common names
        std::int64_t source;
        std::uint64_t source_offset, source_bytes, destination_offset;
    } shared{from, from_offset, size_bytes, to_offset};
    return ::ioctl(to, _IOW(0x94, 13, struct range), &shared) == 0 ? outcome{} : failed(errno);
#else
    return failed(EOPNOTSUPP);
#endif
}

[[nodiscard]] inline outcome sync_file(handle file) noexcept {
#if defined(F_FULLFSYNC)
    if (::fcntl(file, F_FULLFSYNC) == 0) return {};
#endif
    int synced = 0;
    do synced = ::fsync(file);
    while (synced != 0 && errno == EINTR);
    return synced == 0 ? outcome{} : failed(errno);
}

/// Waits until the bytes of a file that is not open here are on the disk.
[[nodiscard]] inline outcome sync_path(const char* path) noexcept {
    int opened = 0;
    do opened = call_open(path, O_RDONLY | O_CLOEXEC);
    while (opened < 0 && errno == EINTR);
    if (opened < 0) return failed(errno);
    const outcome came = sync_file(opened);
    ::close(opened);
    return came;
}

/// Makes renames in a directory durable. A directory that cannot be synced is not a failure.
[[nodiscard]] inline outcome sync_directory(const char* path) noexcept {
    const int opened = call_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened < 0) return {};
    int synced = 0;
    do synced = ::fsync(opened);
    while (synced != 0 && errno == EINTR);
    const int error = synced == 0 ? 0 : errno;
    ::close(opened);
    return error == EIO || error == ENOSPC || error == EDQUOT ? failed(error) : outcome{};
}

[[nodiscard]] inline outcome rename_over(const char* from, const char* to) noexcept {
    return ::rename(from, to) == 0 ? outcome{} : failed(errno);
}

/// Gives a file a second name, which must not exist.
[[nodiscard]] inline outcome link_file(const char* from, const char* to) noexcept {
    return ::linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) == 0 ? outcome{}
                                                                          : failed(errno);
}

/// Whether a path leads to the open file.
[[nodiscard]] inline bool is_same_file(handle file, const char* path) noexcept {
    file_facts open, named;
    return call_fstat(file, &open) == 0 && call_stat(path, &named) == 0 &&
           open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

/// The time of the last write to a file, in a system-specific unit; 0 if the system does not say.
[[nodiscard]] inline std::uint64_t modified_time(handle file) noexcept {
    file_facts facts;
    if (call_fstat(file, &facts) != 0) return 0;
#if defined(__APPLE__)
    const struct timespec at = facts.st_mtimespec;
#else
    const struct timespec at = facts.st_mtim;
#endif
    return static_cast<std::uint64_t>(at.tv_sec) * 1'000'000'000u +
           static_cast<std::uint64_t>(at.tv_nsec);
}

/// The space that this user may still use on the file system of a directory; `unknown` if the
/// system does not say.
[[nodiscard]] inline outcome free_space(const char* directory, std::uint64_t& size_bytes) noexcept {
    file_system_facts facts;
    int came = 0;
    do came = call_statvfs(directory, &facts);
    while (came != 0 && errno == EINTR);
    if (came != 0) return failed(errno);
    const auto block_bytes =
        static_cast<std::uint64_t>(facts.f_frsize != 0 ? facts.f_frsize : facts.f_bsize);
    const auto blocks = static_cast<std::uint64_t>(facts.f_bavail);
    const bool tells = facts.f_blocks != 0 && block_bytes != 0 && blocks <= unknown / block_bytes;
    size_bytes = tells ? blocks * block_bytes : unknown;
    return {};
}

/// Opens a file for reading and writing, creates it if `make`, and locks it until it is closed. A
/// killed process holds no lock. On file systems without locks it excludes nobody. Anything but a
/// regular file is refused, also a symbolic link: otherwise another file would be overwritten.
[[nodiscard]] inline outcome lock_file(const char* path, bool make, handle& file) noexcept {
    for (int attempt = 0; attempt < 100; ++attempt) {
        int opened = 0;
        do
            opened = call_open(
                path,
                O_RDWR | (make ? O_CREAT : 0) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
                0666);
        while (opened < 0 && errno == EINTR);
        if (opened < 0 && (errno == ELOOP || errno == EMLINK))
            return {false, errc::not_a_file, errno, "the state file is a symbolic link"};
        if (opened < 0) return failed(errno);
        entry_facts entry;
        if (!entry_of(opened, entry) || entry.kind != path_kind::file) {
            ::close(opened);
            return {false, errc::not_a_file, 0, "the state file is not a regular file"};
        }
        int locked = 0;
        do locked = ::flock(opened, LOCK_EX | LOCK_NB);
        while (locked != 0 && errno == EINTR);
        if (locked != 0 && errno == EWOULDBLOCK) {
            ::close(opened);
            return {false, errc::in_use, 0};
        }
        if (is_same_file(opened, path)) {
            file = opened;
            return {};
        }
        // the previous owner removed the file, so the locked file has no name any more
        ::close(opened);
    }
    return {false, errc::in_use, 0};
}

/// Removes and closes a file that lock_file opened.
inline void remove_locked(handle file, const char* path) noexcept {
    (void)::unlink(path);
    ::close(file);
}

/// The canonical path of a directory: no links, no `.`, no `..`.
[[nodiscard]] inline outcome real_path(const char* path, vector<char>& real) noexcept {
    char* const found = ::realpath(path, nullptr);
    if (found == nullptr) return failed(errno);
    const std::string_view characters{found};
    real.clear();
    const bool fits = real.append(characters.data(), characters.size());
    ::free(found);
    return fits ? outcome{} : failed(ENOMEM);
}

[[nodiscard]] inline outcome remove_file(const char* path) noexcept {
    return ::unlink(path) == 0 ? outcome{} : failed(errno);
}

[[nodiscard]] inline outcome make_directory(
    const char* path, std::uint32_t permissions = directory_permissions) noexcept {
    return ::mkdir(path, static_cast<mode_t>(permissions)) == 0 ? outcome{} : failed(errno);
}

/// Removes an empty directory.
[[nodiscard]] inline outcome remove_directory(const char* path) noexcept {
    return ::rmdir(path) == 0 ? outcome{} : failed(errno);
}

[[nodiscard]] inline outcome kind_of(const char* path, path_kind& kind) noexcept {
    file_facts facts;
    if (call_stat(path, &facts) != 0) return failed(errno);
    kind = S_ISREG(facts.st_mode)   ? path_kind::file
           : S_ISDIR(facts.st_mode) ? path_kind::directory
                                    : path_kind::other;
    return {};
}

/// Calls f(name, is_directory) for every entry except `.` and `..`, in no particular order, with
/// links followed, until f returns false.
template <class F>
[[nodiscard]] outcome list_directory(const char* path, F& f) noexcept {
    DIR* const directory = ::opendir(path);
    if (directory == nullptr) return failed(errno);
    outcome came;
    for (;;) {
        errno = 0;
        const directory_entry* const entry = call_readdir(directory);
        if (entry == nullptr) {
            if (errno != 0) came = failed(errno);
            break;
        }
        const std::string_view name{entry->d_name};
        if (name == "." || name == "..") continue;
        bool is_directory = false;
        bool known = false;
#if defined(DT_DIR)
        is_directory = entry->d_type == DT_DIR;
        known = entry->d_type != DT_UNKNOWN && entry->d_type != DT_LNK;
#endif
        file_facts facts;
        if (!known && call_fstatat(::dirfd(directory), entry->d_name, &facts, 0) == 0)
            is_directory = S_ISDIR(facts.st_mode);
        if (!f(name, is_directory)) break;
    }
    ::closedir(directory);
    return came;
}

/// A number that is unlikely to repeat in another process or thread or at another time. The search
/// for a free name starts from it.
[[nodiscard]] inline std::uint64_t unlikely_number() noexcept {
    struct timespec now{};
    (void)::clock_gettime(CLOCK_REALTIME, &now);
    const auto here = reinterpret_cast<std::uintptr_t>(&now);
    return (static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
            static_cast<std::uint64_t>(now.tv_nsec)) ^
           (static_cast<std::uint64_t>(::getpid()) << 40) ^ (std::uint64_t{here} << 20);
}

inline constexpr bool is_separator(char c) noexcept { return c == '/'; }

}  // namespace os
}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
