// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: files, mappings and directories on Windows. Only os_calls.hpp includes this file. It
// declares the few functions of kernel32 itself, with the exact types of <windows.h>. So the macros
// of that header stay out of user code, and both headers can be included. Paths of more than 260
// characters need the system's long path setting.
#ifndef SAFEFUSE_IO_DETAIL_OS_WINDOWS_HPP
#define SAFEFUSE_IO_DETAIL_OS_WINDOWS_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/io/detail/os.hpp>

struct _SECURITY_ATTRIBUTES;
struct _OVERLAPPED;
struct _WIN32_FIND_DATAW;
struct _BY_HANDLE_FILE_INFORMATION;
union _LARGE_INTEGER;
union _ULARGE_INTEGER;

extern "C" {
__declspec(dllimport) void* __stdcall CreateFileW(const wchar_t*, unsigned long, unsigned long,
                                                  struct _SECURITY_ATTRIBUTES*, unsigned long,
                                                  unsigned long, void*);
__declspec(dllimport) int __stdcall CloseHandle(void*);
__declspec(dllimport) unsigned long __stdcall GetFileType(void*);
__declspec(dllimport) int __stdcall GetFileSizeEx(void*, union _LARGE_INTEGER*);
__declspec(dllimport) unsigned long __stdcall GetFileAttributesW(const wchar_t*);
__declspec(dllimport) int __stdcall ReadFile(void*, void*, unsigned long, unsigned long*,
                                             struct _OVERLAPPED*);
__declspec(dllimport) int __stdcall WriteFile(void*, const void*, unsigned long, unsigned long*,
                                              struct _OVERLAPPED*);
__declspec(dllimport) unsigned long __stdcall SetFilePointer(void*, long, long*, unsigned long);
__declspec(dllimport) int __stdcall SetEndOfFile(void*);
__declspec(dllimport) int __stdcall FlushFileBuffers(void*);
__declspec(dllimport) void* __stdcall CreateFileMappingW(void*, struct _SECURITY_ATTRIBUTES*,
                                                         unsigned long, unsigned long,
                                                         unsigned long, const wchar_t*);
#if defined(_WIN64)
__declspec(dllimport) void* __stdcall MapViewOfFile(void*, unsigned long, unsigned long,
                                                    unsigned long, unsigned long long);
#else
__declspec(dllimport) void* __stdcall MapViewOfFile(void*, unsigned long, unsigned long,
                                                    unsigned long, unsigned long);
#endif
__declspec(dllimport) int __stdcall UnmapViewOfFile(const void*);
__declspec(dllimport) int __stdcall MoveFileExW(const wchar_t*, const wchar_t*, unsigned long);
__declspec(dllimport) int __stdcall DeleteFileW(const wchar_t*);
__declspec(dllimport) int __stdcall CreateDirectoryW(const wchar_t*, struct _SECURITY_ATTRIBUTES*);
__declspec(dllimport) int __stdcall RemoveDirectoryW(const wchar_t*);
__declspec(dllimport) void* __stdcall FindFirstFileW(const wchar_t*, struct _WIN32_FIND_DATAW*);
__declspec(dllimport) int __stdcall FindNextFileW(void*, struct _WIN32_FIND_DATAW*);
__declspec(dllimport) int __stdcall FindClose(void*);
__declspec(dllimport) int __stdcall MultiByteToWideChar(unsigned int, unsigned long, const char*,
                                                        int, wchar_t*, int);
__declspec(dllimport) int __stdcall WideCharToMultiByte(unsigned int, unsigned long, const wchar_t*,
                                                        int, char*, int, const char*, int*);
__declspec(dllimport) int __stdcall CreateHardLinkW(const wchar_t*, const wchar_t*,
                                                    struct _SECURITY_ATTRIBUTES*);
__declspec(dllimport) int __stdcall GetDiskFreeSpaceExW(const wchar_t*, union _ULARGE_INTEGER*,
                                                        union _ULARGE_INTEGER*,
                                                        union _ULARGE_INTEGER*);
__declspec(dllimport) int __stdcall GetFileInformationByHandle(void*,
                                                               struct _BY_HANDLE_FILE_INFORMATION*);
__declspec(dllimport) unsigned long __stdcall GetFinalPathNameByHandleW(void*, wchar_t*,
                                                                        unsigned long,
                                                                        unsigned long);
__declspec(dllimport) unsigned long __stdcall GetLastError(void);
__declspec(dllimport) unsigned long __stdcall GetCurrentProcessId(void);
__declspec(dllimport) int __stdcall QueryPerformanceCounter(union _LARGE_INTEGER*);
}

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {
namespace os {

using handle = void*;
inline constexpr handle no_handle = nullptr;
[[nodiscard]] inline handle handle_of(std::intptr_t native) noexcept {
    return reinterpret_cast<handle>(native);
}
[[nodiscard]] inline std::intptr_t native_of(handle file) noexcept {
    return file == no_handle ? no_native_handle : reinterpret_cast<std::intptr_t>(file);
}

[[nodiscard]] inline outcome failed(unsigned long error) noexcept {
    const int number = static_cast<int>(error);
    switch (error) {
    case 2:    // ERROR_FILE_NOT_FOUND
    case 3:    // ERROR_PATH_NOT_FOUND
    case 53:   // ERROR_BAD_NETPATH
    case 123:  // ERROR_INVALID_NAME
        return {false, errc::file_not_found, number};
    case 5: return {false, errc::permission_denied, number};  // ERROR_ACCESS_DENIED
    case 19:                                                  // ERROR_WRITE_PROTECT
        return {false, errc::permission_denied, number, "the disk is write-protected"};
    case 32:    // ERROR_SHARING_VIOLATION
    case 33:    // ERROR_LOCK_VIOLATION
    case 1224:  // ERROR_USER_MAPPED_FILE
        return {false, errc::permission_denied, number, "another process has it open"};
    case 267: return {false, errc::not_a_directory, number};        // ERROR_DIRECTORY
    case 80:                                                        // ERROR_FILE_EXISTS
    case 183: return {false, errc::already_exists, number};         // ERROR_ALREADY_EXISTS
    case 145: return {false, errc::destination_not_empty, number};  // ERROR_DIR_NOT_EMPTY
    case 8:                                                         // ERROR_NOT_ENOUGH_MEMORY
    case 14:                                                        // ERROR_OUTOFMEMORY
    case 1455: return {false, errc::out_of_memory, number};         // ERROR_COMMITMENT_LIMIT
    case 4:                                                         // ERROR_TOO_MANY_OPEN_FILES
        return {false, errc::io_error, number, "too many open files"};
    case 39:                                            // ERROR_HANDLE_DISK_FULL
    case 112: return {false, errc::disk_full, number};  // ERROR_DISK_FULL
    case 206:                                           // ERROR_FILENAME_EXCED_RANGE
        return {false, errc::io_error, number, "the name is too long"};
    case 223:  // ERROR_FILE_TOO_LARGE
        return {false, errc::io_error, number, "the file is too large for this file system"};
    case 1113:  // ERROR_NO_UNICODE_TRANSLATION
        return {false, errc::io_error, number, "the path is not UTF-8"};
    default: return {false, errc::io_error, number};
    }
}
[[nodiscard]] inline outcome failed() noexcept { return failed(::GetLastError()); }

/// A path in UTF-16, with `tail` after it. Every slash becomes a backslash: after the prefix
/// of real_path the system takes nothing else for a separator.
[[nodiscard]] inline outcome widen(const char* path, std::wstring_view tail,
                                   vector<wchar_t>& wide) noexcept {
    // CP_UTF8, MB_ERR_INVALID_CHARS
    const int count = ::MultiByteToWideChar(65001, 8, path, -1, nullptr, 0);
    if (count <= 0) return failed();
    if (!wide.resize_unset(static_cast<std::size_t>(count))) return failed(8);
    if (::MultiByteToWideChar(65001, 8, path, -1, wide.data(), count) != count) return failed();
    for (wchar_t& each : wide)
        if (each == L'/') each = L'\\';
    if (tail.empty()) return {};
    wide.pop();
    return wide.append(tail.data(), tail.size()) && wide.push(L'\0') ? outcome{} : failed(8);
}

/// The failure for a path that does not exist. The system reports the same error if a directory is
/// missing and if a component is a file; this tells them apart.
[[nodiscard]] inline outcome failed_at(vector<wchar_t>& wide) noexcept {
    const outcome came = failed();
    if (came.os_error != 3) return came;  // ERROR_PATH_NOT_FOUND
    for (std::size_t i = wide.size(); i-- > 1;) {
        if (wide[i] != L'/' && wide[i] != L'\\') continue;
        wide[i] = L'\0';
        if (const unsigned long attributes = ::GetFileAttributesW(wide.data());
            attributes != 0xFFFFFFFFul)
            return (attributes & 0x10) != 0 ? came
                                            : outcome{false, errc::not_a_directory, came.os_error};
    }
    return came;
}

/// OVERLAPPED: the offset of a read or write.
struct file_position {
    explicit file_position(std::uint64_t offset) noexcept
        : low{static_cast<unsigned long>(offset)}, high{static_cast<unsigned long>(offset >> 32)} {}
    [[nodiscard]] struct ::_OVERLAPPED* get() noexcept {
        return reinterpret_cast<struct ::_OVERLAPPED*>(this);
    }

    std::uintptr_t internal[2] = {};
    unsigned long low;
    unsigned long high;
    void* event = nullptr;
};

inline outcome close_file(handle file) noexcept {
    return ::CloseHandle(file) != 0 ? outcome{} : failed();
}

[[nodiscard]] inline outcome size_of(handle file, std::uint64_t& size_bytes) noexcept {
    std::int64_t size = 0;
    if (::GetFileSizeEx(file, reinterpret_cast<union ::_LARGE_INTEGER*>(&size)) == 0)
        return failed();
    size_bytes = static_cast<std::uint64_t>(size);
    return {};
}

[[nodiscard]] inline outcome kind_of(const char* path, path_kind& kind) noexcept {
    vector<wchar_t> wide;
    if (const outcome came = widen(path, {}, wide); !came) return came;
    const unsigned long attributes = ::GetFileAttributesW(wide.data());
    if (attributes == 0xFFFFFFFFul) return failed_at(wide);
    kind = (attributes & 0x10) != 0 ? path_kind::directory
                                    : path_kind::file;  // FILE_ATTRIBUTE_DIRECTORY
    return {};
}

/// Opens a regular file for reading. Other processes may still read, write, rename and remove it.
[[nodiscard]] inline outcome open_file(const char* path, handle& file,
                                       std::uint64_t& size_bytes) noexcept {
    vector<wchar_t> wide;
    if (const outcome came = widen(path, {}, wide); !came) return came;
    path_kind kind{};
    if (kind_of(path, kind) && kind == path_kind::directory)
        return {false, errc::not_a_file, 0, "it is a directory"};
    // GENERIC_READ, OPEN_EXISTING
    void* const opened = ::CreateFileW(wide.data(), 0x80000000ul, 7, nullptr, 3, 0x80, nullptr);
    if (reinterpret_cast<std::intptr_t>(opened) == -1) return failed_at(wide);
    outcome came = size_of(opened, size_bytes);
    if (::GetFileType(opened) != 1)
        came = {false, errc::not_a_file, 0, "it is a pipe or a device"};  // FILE_TYPE_DISK
    if (came)
        file = opened;
    else
        ::CloseHandle(opened);
    return came;
}

/// Reads until `out` is full or the file ends, and stores the number of bytes read.
[[nodiscard]] inline outcome read_at(handle file, std::uint64_t offset, span<std::byte> out,
                                     std::size_t& read_bytes) noexcept {
    read_bytes = 0;
    while (read_bytes < out.size()) {
        const std::size_t left = out.size() - read_bytes;
        file_position position{offset + read_bytes};
        unsigned long got = 0;
        if (::ReadFile(file, out.data() + read_bytes,
                       static_cast<unsigned long>(left < piece_bytes ? left : piece_bytes), &got,
                       position.get()) == 0) {
            if (::GetLastError() == 38) break;  // ERROR_HANDLE_EOF
            return failed();
        }
        if (got == 0) break;
        read_bytes += got;
    }
    return {};
}

[[nodiscard]] inline outcome write_at(handle file, std::uint64_t offset,
                                      span<const std::byte> bytes) noexcept {
    while (!bytes.empty()) {
        file_position position{offset};
        unsigned long written = 0;
        if (::WriteFile(
                file, bytes.data(),
                static_cast<unsigned long>(bytes.size() < piece_bytes ? bytes.size() : piece_bytes),
                &written, position.get()) == 0)
            return failed();
        if (written == 0) return failed(112);
        bytes = bytes.subspan(written);
        offset += written;
    }
    return {};
}

/// Maps a whole file for reading. `size_bytes` is not 0.
[[nodiscard]] inline outcome map(handle file, std::size_t size_bytes,
                                 const std::byte*& data) noexcept {
    void* const mapping = ::CreateFileMappingW(file, nullptr, 2, 0, 0, nullptr);  // PAGE_READONLY
    if (mapping == nullptr) return failed();
    void* const view = ::MapViewOfFile(mapping, 4, 0, 0, size_bytes);  // FILE_MAP_READ
    const outcome came = view == nullptr ? failed() : outcome{};
    ::CloseHandle(mapping);  // the view stays valid without it
    if (came) data = static_cast<const std::byte*>(view);
    return came;
}

inline void unmap(const std::byte* data, std::size_t) noexcept { ::UnmapViewOfFile(data); }

// Windows reads ahead on its own and has no call to drop the cached pages of a part of a file.
inline void advise_file(handle, std::uint64_t, std::uint64_t, std::uint64_t, advice) noexcept {}
inline void advise_mapping(handle, const std::byte*, std::size_t, std::uint64_t, std::uint64_t,
                           advice) noexcept {}

/// Creates a new file for reading and writing; fails if the path exists.
[[nodiscard]] inline outcome create_exclusive(const char* path, std::uint32_t,
                                              handle& file) noexcept {
    vector<wchar_t> wide;
    if (const outcome came = widen(path, {}, wide); !came) return came;
    // CREATE_NEW
    void* const opened = ::CreateFileW(wide.data(), 0xC0000000ul, 7, nullptr, 1, 0x80, nullptr);
    if (reinterpret_cast<std::intptr_t>(opened) == -1) return failed_at(wide);
    file = opened;
    return {};
}

/// Gives an empty file its size, which also reserves its blocks.
[[nodiscard]] inline outcome preallocate(handle file, std::uint64_t size_bytes) noexcept;
[[nodiscard]] inline outcome set_size(handle file, std::uint64_t size_bytes) noexcept {
    return preallocate(file, size_bytes);
}

[[nodiscard]] inline outcome preallocate(handle file, std::uint64_t size_bytes) noexcept {
    if (size_bytes == 0) return {};
    if (size_bytes > static_cast<std::uint64_t>(INT64_MAX)) return failed(223);
    long high = static_cast<long>(size_bytes >> 32);
    if (::SetFilePointer(file, static_cast<long>(static_cast<std::uint32_t>(size_bytes)), &high,
                         0) == 0xFFFFFFFFul)
        if (const unsigned long error = ::GetLastError(); error != 0) return failed(error);
    return ::SetEndOfFile(file) != 0 ? outcome{} : failed();
}

/// Does nothing: the system decides when to write.
inline void start_writing(handle) noexcept {}

/// Not supported: file systems that share blocks are rare on Windows.
[[nodiscard]] inline outcome share_blocks(handle, std::uint64_t, handle, std::uint64_t,
                                          std::uint64_t) noexcept {
    return failed(50);
}

[[nodiscard]] inline outcome sync_file(handle file) noexcept {
    return ::FlushFileBuffers(file) != 0 ? outcome{} : failed();
}

/// Does nothing: a directory cannot be synced on Windows; rename_over waits instead.
[[nodiscard]] inline outcome sync_directory(const char*) noexcept { return {}; }

[[nodiscard]] inline outcome rename_over(const char* from, const char* to) noexcept {
    vector<wchar_t> wide_from, wide_to;
    if (const outcome came = widen(from, {}, wide_from); !came) return came;
    if (const outcome came = widen(to, {}, wide_to); !came) return came;
    return ::MoveFileExW(wide_from.data(), wide_to.data(), 1 | 8) != 0
               ? outcome{}
               : failed_at(wide_to);  // REPLACE_EXISTING, WRITE_THROUGH
}

/// Waits until the bytes of a file that is not open here are on the disk.
[[nodiscard]] inline outcome sync_path(const char* path) noexcept {
    vector<wchar_t> wide;
    if (const outcome came = widen(path, {}, wide); !came) return came;
    // GENERIC_WRITE, OPEN_EXISTING
    void* const opened = ::CreateFileW(wide.data(), 0x40000000ul, 7, nullptr, 3, 0x80, nullptr);
    if (reinterpret_cast<std::intptr_t>(opened) == -1) return failed();
    const outcome came = sync_file(opened);
    ::CloseHandle(opened);
    return came;
}

/// Gives a file a second name, which must not exist.
[[nodiscard]] inline outcome link_file(const char* from, const char* to) noexcept {
    vector<wchar_t> wide_from, wide_to;
    if (const outcome came = widen(from, {}, wide_from); !came) return came;
    if (const outcome came = widen(to, {}, wide_to); !came) return came;
    return ::CreateHardLinkW(wide_to.data(), wide_from.data(), nullptr) != 0 ? outcome{} : failed();
}

/// BY_HANDLE_FILE_INFORMATION
struct file_facts {
    std::uint32_t attributes, created[2], accessed[2], modified[2], volume, size[2], link_count,
        number[2];
};
[[nodiscard]] inline bool facts_of(handle file, file_facts& facts) noexcept {
    return ::GetFileInformationByHandle(
               file, reinterpret_cast<struct ::_BY_HANDLE_FILE_INFORMATION*>(&facts)) != 0;
}

[[nodiscard]] inline entry_facts facts_from(const file_facts& facts) noexcept {
    return {.device = facts.volume,
            .number = std::uint64_t{facts.number[0]} << 32 | facts.number[1],
            .link_count = facts.link_count,
            .permissions = file_permissions,
            .kind = (facts.attributes & 0x10) != 0 ? path_kind::directory : path_kind::file,
            .is_link = (facts.attributes & 0x400) != 0};  // FILE_ATTRIBUTE_REPARSE_POINT
}
[[nodiscard]] inline outcome entry_of(handle file, entry_facts& entry) noexcept {
    file_facts facts{};
    if (!facts_of(file, facts)) return failed();
    entry = facts_from(facts);
    return {};
}
/// Stores the identity of the file a path leads to. A symbolic link at the end of the path is
/// followed only if `follows`.
[[nodiscard]] inline outcome entry_of(const char* path, bool follows, entry_facts& entry) noexcept {
    vector<wchar_t> wide;
    if (const outcome came = widen(path, {}, wide); !came) return came;
    // FILE_FLAG_BACKUP_SEMANTICS also opens directories; FILE_FLAG_OPEN_REPARSE_POINT does not
    // follow links.
    const unsigned long flags = 0x02000000ul | (follows ? 0ul : 0x00200000ul);
    void* const opened = ::CreateFileW(wide.data(), 0, 7, nullptr, 3, flags, nullptr);
    if (reinterpret_cast<std::intptr_t>(opened) == -1) return failed_at(wide);
    const outcome came = entry_of(opened, entry);
    ::CloseHandle(opened);
    return came;
}

/// Only the file system sets a limit.
[[nodiscard]] inline std::uint64_t largest_file_bytes() noexcept { return unknown; }

/// Does nothing: access rights are inherited from the directory on Windows.
[[nodiscard]] inline outcome set_permissions(const char*, std::uint32_t) noexcept { return {}; }
[[nodiscard]] inline outcome copy_ownership(const char*, const char*) noexcept { return {}; }

/// On Windows a directory cannot be renamed while a file in it is open.
inline constexpr bool can_exchange = false;
[[nodiscard]] inline outcome exchange_directories(const char*, const char*) noexcept {
    return failed(50);
}

/// Whether a rename can replace an open file.
inline constexpr bool replaces_open_files = false;

/// Whether a path leads to the open file.
[[nodiscard]] inline bool is_same_file(handle file, const char* path) noexcept {
    handle other = no_handle;
    std::uint64_t size_bytes = 0;
    if (!open_file(path, other, size_bytes)) return false;
    file_facts one{}, two{};
    const bool told = facts_of(file, one) && facts_of(other, two);
    ::CloseHandle(other);
    return told && one.volume == two.volume && one.number[0] == two.number[0] &&
           one.number[1] == two.number[1];
}

/// The time of the last write to a file, in a system-specific unit; 0 if the system does not say.
[[nodiscard]] inline std::uint64_t modified_time(handle file) noexcept {
    file_facts facts{};
    return facts_of(file, facts) ? std::uint64_t{facts.modified[1]} << 32 | facts.modified[0] : 0;
}

/// The space that this user may still use on the file system of a directory.
[[nodiscard]] inline outcome free_space(const char* directory, std::uint64_t& size_bytes) noexcept {
    vector<wchar_t> wide;
    if (const outcome came = widen(directory, {}, wide); !came) return came;
    return ::GetDiskFreeSpaceExW(wide.data(),
                                 reinterpret_cast<union ::_ULARGE_INTEGER*>(&size_bytes), nullptr,
                                 nullptr) != 0
               ? outcome{}
               : failed();
}

/// Opens a file for reading and writing, creates it if `make`, and locks it until it is closed.
[[nodiscard]] inline outcome lock_file(const char* path, bool make, handle& file) noexcept {
    vector<wchar_t> wide;
    if (const outcome came = widen(path, {}, wide); !came) return came;
    // The file is not shared with readers or writers. FILE_SHARE_DELETE lets remove_locked remove
    // the name before the lock ends. FILE_FLAG_OPEN_REPARSE_POINT: a link is not followed, because
    // another file would be overwritten.
    void* const opened = ::CreateFileW(wide.data(), 0xC0000000ul, 4, nullptr, make ? 4 : 3,
                                       0x80 | 0x00200000ul, nullptr);
    if (reinterpret_cast<std::intptr_t>(opened) != -1) {
        entry_facts entry;
        if (entry_of(opened, entry) && (entry.is_link || entry.kind != path_kind::file)) {
            ::CloseHandle(opened);
            return {false, errc::not_a_file, 0, "the state file is a link"};
        }
        file = opened;
        return {};
    }
    const outcome came = failed_at(wide);
    // While the removal of a file waits for its last handle, the file has a name but no readable
    // attributes. The process that holds it is about to finish.
    const bool vanishes = came.os_error == 5 && ::GetFileAttributesW(wide.data()) == 0xFFFFFFFFul &&
                          ::GetLastError() == 5;
    return came.os_error == 32 || vanishes ? outcome{false, errc::in_use, 0} : came;
}

/// Removes a file that lock_file opened, then closes it. After closing, another process could open
/// the file and so prevent its removal.
inline void remove_locked(handle file, const char* path) noexcept {
    vector<wchar_t> wide;
    if (widen(path, {}, wide)) (void)::DeleteFileW(wide.data());
    ::CloseHandle(file);
}

/// Takes the system's prefix off a path of a drive or a share, so that others can append to the
/// path with slashes.
inline void remove_prefix(vector<char>& path) noexcept {
    const auto begins_with = [&](std::string_view start) noexcept {
        return path.size() >= start.size() && std::string_view{path.data(), start.size()} == start;
    };
    std::size_t gone = 0;
    if (begins_with(R"(\\?\UNC\)"))
        gone = 6;  // the C of UNC becomes the second backslash of a share
    else if (begins_with(R"(\\?\)") && path.size() > 5 && path[5] == ':')
        gone = 4;
    for (std::size_t i = gone; i < path.size(); ++i) path[i - gone] = path[i];
    if (gone == 6) path[0] = '\\';
    for (; gone > 0; --gone) path.pop();
}

/// The one path of a directory that has no links, `.` or `..` in it.
[[nodiscard]] inline outcome real_path(const char* path, vector<char>& real) noexcept {
    vector<wchar_t> wide;
    if (const outcome came = widen(path, {}, wide); !came) return came;
    // FILE_FLAG_BACKUP_SEMANTICS
    void* const opened = ::CreateFileW(wide.data(), 0, 7, nullptr, 3, 0x02000000ul, nullptr);
    if (reinterpret_cast<std::intptr_t>(opened) == -1) return failed();
    const unsigned long count = ::GetFinalPathNameByHandleW(opened, nullptr, 0, 0);
    outcome came = count == 0 ? failed() : outcome{};
    if (came && !wide.resize_unset(count)) came = failed(8);
    if (came && ::GetFinalPathNameByHandleW(opened, wide.data(), count, 0) >= count)
        came = failed(206);
    ::CloseHandle(opened);
    if (!came) return came;
    const int size = ::WideCharToMultiByte(65001, 0, wide.data(), -1, nullptr, 0, nullptr, nullptr);
    if (size <= 0) return failed();
    if (!real.resize_unset(static_cast<std::size_t>(size))) return failed(8);
    if (::WideCharToMultiByte(65001, 0, wide.data(), -1, real.data(), size, nullptr, nullptr) !=
        size)
        return failed();
    real.pop();
    remove_prefix(real);
    return {};
}

[[nodiscard]] inline outcome remove_file(const char* path) noexcept {
    vector<wchar_t> wide;
    if (const outcome came = widen(path, {}, wide); !came) return came;
    return ::DeleteFileW(wide.data()) != 0 ? outcome{} : failed_at(wide);
}

[[nodiscard]] inline outcome make_directory(const char* path,
                                            std::uint32_t = directory_permissions) noexcept {
    vector<wchar_t> wide;
    if (const outcome came = widen(path, {}, wide); !came) return came;
    return ::CreateDirectoryW(wide.data(), nullptr) != 0 ? outcome{} : failed_at(wide);
}

/// Removes an empty directory.
[[nodiscard]] inline outcome remove_directory(const char* path) noexcept {
    vector<wchar_t> wide;
    if (const outcome came = widen(path, {}, wide); !came) return came;
    return ::RemoveDirectoryW(wide.data()) != 0 ? outcome{} : failed_at(wide);
}

/// Calls f(name, is_directory) for every entry except `.` and `..`, in no particular order, until f
/// returns false.
template <class F>
[[nodiscard]] outcome list_directory(const char* path, F& f) noexcept {
    struct find_data {  // WIN32_FIND_DATAW
        unsigned long attributes;
        unsigned long times_and_sizes[10];
        wchar_t name[260];
        wchar_t short_name[14];
        unsigned long unused[4];  // some versions have more members
    } found{};
    auto* const found_here = reinterpret_cast<struct ::_WIN32_FIND_DATAW*>(&found);

    path_kind kind{};
    if (const outcome came = kind_of(path, kind); !came) return came;
    if (kind != path_kind::directory) return failed(267);
    vector<wchar_t> pattern;
    if (const outcome came = widen(path, L"\\*", pattern); !came) return came;
    void* const search = ::FindFirstFileW(pattern.data(), found_here);
    if (reinterpret_cast<std::intptr_t>(search) == -1)
        return ::GetLastError() == 2 ? outcome{} : failed();
    outcome came;
    do {
        char name[260 * 3 + 1];
        const int count = ::WideCharToMultiByte(65001, 0, found.name, -1, name,
                                                static_cast<int>(sizeof name), nullptr, nullptr);
        if (count <= 1) continue;
        const std::string_view spelled{name, static_cast<std::size_t>(count - 1)};
        if (spelled == "." || spelled == "..") continue;
        if (!f(spelled, (found.attributes & 0x10) != 0)) {
            ::FindClose(search);
            return {};
        }
    } while (::FindNextFileW(search, found_here) != 0);
    if (const unsigned long error = ::GetLastError(); error != 18)
        came = failed(error);  // ERROR_NO_MORE_FILES
    ::FindClose(search);
    return came;
}

/// A number that is unlikely to repeat in another process or thread or at another time. The search
/// for a free name starts from it.
[[nodiscard]] inline std::uint64_t unlikely_number() noexcept {
    std::int64_t now = 0;
    (void)::QueryPerformanceCounter(reinterpret_cast<union ::_LARGE_INTEGER*>(&now));
    return static_cast<std::uint64_t>(now) ^
           (static_cast<std::uint64_t>(::GetCurrentProcessId()) << 40) ^
           (std::uint64_t{reinterpret_cast<std::uintptr_t>(&now)} << 20);
}

inline constexpr bool is_separator(char c) noexcept { return c == '/' || c == '\\'; }

}  // namespace os
}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
