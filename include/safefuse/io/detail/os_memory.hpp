// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: memory pages from the system, huge ones if available. Only huge_page_buffer.hpp
// includes this file.
#ifndef SAFEFUSE_IO_DETAIL_OS_MEMORY_HPP
#define SAFEFUSE_IO_DETAIL_OS_MEMORY_HPP

#include <cstddef>
#include <cstdint>

#include <safefuse/io/detail/os.hpp>

#if defined(_WIN32)
extern "C" {
#if defined(_WIN64)
__declspec(dllimport) void* __stdcall VirtualAlloc(void*, unsigned long long, unsigned long,
                                                   unsigned long);
__declspec(dllimport) int __stdcall VirtualFree(void*, unsigned long long, unsigned long);
#else
__declspec(dllimport) void* __stdcall VirtualAlloc(void*, unsigned long, unsigned long,
                                                   unsigned long);
__declspec(dllimport) int __stdcall VirtualFree(void*, unsigned long, unsigned long);
#endif
__declspec(dllimport) unsigned long __stdcall GetLastError(void);
}
#else
#include <errno.h>
#include <sys/mman.h>
#endif

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {
namespace os {

/// Pages that are zero when they are first touched.
struct pages {
    std::byte* data = nullptr;
    std::size_t size_bytes = 0;  ///< at least the requested size
    /// the system accepted the request for huge pages; it may still have none free
    bool are_huge = false;
};

#if defined(_WIN32)

/// `size_bytes` is not 0.
[[nodiscard]] inline outcome allocate_pages(std::size_t size_bytes, pages& made) noexcept {
    // Large pages need a privilege that hardly any user has, so this uses ordinary ones.
    // MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE
    void* const data = ::VirtualAlloc(nullptr, size_bytes, 0x3000, 0x04);
    if (data == nullptr) return {false, errc::out_of_memory, static_cast<int>(::GetLastError())};
    made = {static_cast<std::byte*>(data), size_bytes, false};
    return {};
}
inline void free_pages(const pages& held) noexcept {
    ::VirtualFree(held.data, 0, 0x8000);
}  // MEM_RELEASE

#else

inline constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;

/// `size_bytes` is not 0.
[[nodiscard]] inline outcome allocate_pages(std::size_t size_bytes, pages& made) noexcept {
#if defined(MADV_HUGEPAGE)
    // Huge pages start at multiples of their size, which mmap does not guarantee. The excess at
    // both ends is unmapped. Less than half a huge page is better served by small pages.
    if (size_bytes >= huge_page_bytes / 2 && size_bytes <= SIZE_MAX - 2 * huge_page_bytes) {
        const std::size_t whole =
            (size_bytes + huge_page_bytes - 1) / huge_page_bytes * huge_page_bytes;
        const std::size_t mapped = whole + huge_page_bytes;
        void* const data =
            ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (data != MAP_FAILED) {  // otherwise the smaller mapping below may still fit
            std::byte* const begin = static_cast<std::byte*>(data);
            const std::size_t astray = reinterpret_cast<std::uintptr_t>(begin) % huge_page_bytes;
            const std::size_t before = astray == 0 ? 0 : huge_page_bytes - astray,
                              behind = huge_page_bytes - before;
            if (before > 0) (void)::munmap(begin, before);
            if (behind > 0) (void)::munmap(begin + before + whole, behind);
            made = {begin + before, whole, ::madvise(begin + before, whole, MADV_HUGEPAGE) == 0};
            return {};
        }
    }
#endif
    void* const data =
        ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (data == MAP_FAILED) return {false, errc::out_of_memory, errno};
    made = {static_cast<std::byte*>(data), size_bytes, false};
    return {};
}
inline void free_pages(const pages& held) noexcept { (void)::munmap(held.data, held.size_bytes); }

#endif

}  // namespace os
}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
