// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: copies contiguous bytes as fast as the machine can. Large copies use streaming stores,
// and sizes at which the C library is slow are avoided. Every function equals memcpy in effect.
#ifndef SAFEFUSE_RUN_DETAIL_COPY_BYTES_HPP
#define SAFEFUSE_RUN_DETAIL_COPY_BYTES_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Size of a cache line. A line that is written as a whole need not be read first.
inline constexpr std::size_t cache_line_bytes = 64;
/// Copies of at least this size use streaming stores: most of the bytes would leave the cache
/// before they are read.
inline constexpr std::uint64_t streamed_bytes = std::uint64_t{16} << 20;
/// Shorter runs use ordinary stores even then, unless they are whole lines: a line written by both
/// kinds of stores costs more than streaming saves.
inline constexpr std::size_t streamed_run_bytes = 512;

/// Size of a page, across which processors do not prefetch.
inline constexpr std::size_t page_bytes = 4096;
/// Pages that copy_pages copies.
inline constexpr std::size_t pages_at_once = 8;

/// Bytes from `to` to the start of the next line.
[[nodiscard]] inline std::size_t bytes_to_line(const std::byte* to) noexcept {
    return (cache_line_bytes - reinterpret_cast<std::uintptr_t>(to) % cache_line_bytes) %
           cache_line_bytes;
}

/// Calls memcpy. If g++ knows the largest size, it inlines `rep movsq`, which is half as fast for a
/// few lines. The empty asm hides the size.
inline void copy_by_library(std::byte* to, const std::byte* from, std::size_t size_bytes) noexcept {
#if defined(__GNUC__) || defined(__clang__)
    asm volatile("" : "+r"(size_bytes));
#endif
    std::memcpy(to, from, size_bytes);
}

/// Prefetches a line of each of some rows for reading.
inline void prefetch_rows([[maybe_unused]] const std::byte* first,
                          [[maybe_unused]] std::size_t stride,
                          [[maybe_unused]] std::size_t rows) noexcept {
#if defined(__GNUC__) || defined(__clang__)
    for (std::size_t r = 0; r < rows; ++r) __builtin_prefetch(first + r * stride);
#endif
}

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)

// Compiler vectors instead of <immintrin.h>, which takes longer to compile than all copy code here.
using narrow_vector = long long __attribute__((vector_size(16), may_alias));
using wide_vector = long long __attribute__((vector_size(32), may_alias));

/// Result of the cpuid instruction.
struct cpuid_registers {
    std::uint32_t a, b, c, d;
};
[[nodiscard]] inline cpuid_registers cpuid(std::uint32_t leaf) noexcept {
    cpuid_registers out;
    asm volatile("cpuid" : "=a"(out.a), "=b"(out.b), "=c"(out.c), "=d"(out.d) : "a"(leaf), "c"(0));
    return out;
}
/// Whether the processor and the OS support AVX2. __builtin_cpu_supports would add 4.5 KB to the
/// program.
[[nodiscard]] inline bool ask_for_wide_vectors() noexcept {
    constexpr std::uint32_t has_avx = 3u << 27, has_avx2 = 1u << 5, saves_vectors = 6;
    if (cpuid(0).a < 7 || (cpuid(1).c & has_avx) != has_avx || (cpuid(7).b & has_avx2) == 0)
        return false;
    std::uint32_t saved;
    asm volatile("xgetbv" : "=a"(saved) : "c"(0) : "edx");
    return (saved & saves_vectors) == saves_vectors;
}
[[nodiscard]] SAFEFUSE_NOINLINE inline bool has_wide_vectors() noexcept {
#if defined(_WIN32) && !defined(__clang__)
    return false;  // g++ does not align the stack for them there (GCC bug 54412)
#else
    // 1 no, 2 yes. All threads find the same value; a guarded static would need the C++ runtime.
    static unsigned char known = 0;
    unsigned char has = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (has == 0) {
        has = ask_for_wide_vectors() ? 2 : 1;
        __atomic_store_n(&known, has, __ATOMIC_RELAXED);
    }
    return has == 2;
#endif
}

/// Prefetches the lines of some bytes for writing.
inline void prefetch_to_write(const std::byte* first, std::size_t size_bytes) noexcept {
    // __builtin_prefetch emits this instruction only for processors known at compile time;
    // processors without it do nothing
    for (std::size_t at = 0; at < size_bytes; at += cache_line_bytes)
        asm volatile("prefetchw %0" : : "m"(first[at]));
}

/// Copies whole lines with streaming stores. `to` must be aligned to a line. Call
/// finish_streaming() afterwards.
SAFEFUSE_NOINLINE inline void stream_lines_narrow(std::byte* to, const std::byte* from,
                                                  std::size_t line_count) noexcept {
    for (std::size_t i = 0; i < line_count; ++i, to += cache_line_bytes, from += cache_line_bytes) {
        narrow_vector line[4];
        std::memcpy(line, from, sizeof line);
        auto* const out = reinterpret_cast<narrow_vector*>(to);
        for (std::size_t each = 0; each < 4; ++each) {
#if defined(__clang__)
            __builtin_nontemporal_store(line[each], out + each);
#else
            __builtin_ia32_movntdq(out + each, line[each]);
#endif
        }
    }
}
[[gnu::target("avx2")]] inline void stream_lines_wide(std::byte* to, const std::byte* from,
                                                      std::size_t line_count) noexcept {
    for (std::size_t i = 0; i < line_count; ++i, to += cache_line_bytes, from += cache_line_bytes) {
        wide_vector low, high;
        std::memcpy(&low, from, sizeof low);
        std::memcpy(&high, from + sizeof low, sizeof high);
        auto* const out = reinterpret_cast<wide_vector*>(to);
#if defined(__clang__)
        __builtin_nontemporal_store(low, out);
        __builtin_nontemporal_store(high, out + 1);
#else
        __builtin_ia32_movntdq256(out, low);
        __builtin_ia32_movntdq256(out + 1, high);
#endif
    }
}
inline void stream_lines(std::byte* to, const std::byte* from, std::size_t line_count) noexcept {
    return has_wide_vectors() ? stream_lines_wide(to, from, line_count)
                              : stream_lines_narrow(to, from, line_count);
}
/// Copies pages_at_once pages, one line of each page in turn. The processor prefetches each page,
/// so that a core has more reads in flight than in a copy from front to back.
[[gnu::target("avx2")]] SAFEFUSE_NOINLINE inline void copy_pages(std::byte* to,
                                                                 const std::byte* from) noexcept {
    for (std::size_t i = 0; i < page_bytes; i += cache_line_bytes)
        for (std::size_t at = i; at < pages_at_once * page_bytes; at += page_bytes) {
            wide_vector low, high;
            std::memcpy(&low, from + at, sizeof low);
            std::memcpy(&high, from + at + sizeof low, sizeof high);
            std::memcpy(to + at, &low, sizeof low);
            std::memcpy(to + at + sizeof low, &high, sizeof high);
        }
}
/// Store fence: orders the streaming stores before later stores.
inline void finish_streaming() noexcept { __builtin_ia32_sfence(); }

/// Copies with plain vectors, without the C library.
inline void copy_lines(std::byte* to, const std::byte* from, std::size_t line_count) noexcept {
    for (std::size_t i = 0; i < line_count; ++i, to += cache_line_bytes, from += cache_line_bytes) {
        narrow_vector line[4];
        std::memcpy(line, from, sizeof line);
        std::memcpy(to, line, sizeof line);
        asm volatile("" ::: "memory");  // keeps compilers from turning the loop into a memcpy call
    }
}
/// Before 2.39, glibc uses `rep movsb` for 2 KiB to 1 MiB. AMD Zen 3 and Zen 4 run it 12 to 15
/// times slower if the destination is 1 to 15 bytes after the source, modulo the page size (glibc
/// bug 30994): for example from a mapped file into a buffer with another alignment.
[[nodiscard]] inline bool library_is_slow(const std::byte* to, const std::byte* from,
                                          std::size_t size_bytes) noexcept {
    const std::uintptr_t apart =
        (reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from)) % 4096;
    return apart - 1 < 15 && size_bytes >= 2048 && size_bytes <= (std::size_t{1} << 20);
}

#else

[[nodiscard]] inline bool has_wide_vectors() noexcept { return false; }
inline void copy_pages(std::byte* to, const std::byte* from) noexcept {
    std::memcpy(to, from, pages_at_once * page_bytes);
}
inline void prefetch_to_write([[maybe_unused]] const std::byte* first,
                              [[maybe_unused]] std::size_t size_bytes) noexcept {
#if defined(__GNUC__) || defined(__clang__)
    for (std::size_t at = 0; at < size_bytes; at += cache_line_bytes)
        __builtin_prefetch(first + at, 1);
#endif
}
inline void stream_lines(std::byte* to, const std::byte* from, std::size_t line_count) noexcept {
    std::memcpy(to, from, line_count * cache_line_bytes);
}
inline void finish_streaming() noexcept {}
inline void copy_lines(std::byte* to, const std::byte* from, std::size_t line_count) noexcept {
    std::memcpy(to, from, line_count * cache_line_bytes);
}
[[nodiscard]] inline bool library_is_slow(const std::byte*, const std::byte*,
                                          std::size_t) noexcept {
    return false;
}

#endif

/// memcpy. `to` and `from` must not overlap.
inline void copy_bytes(std::byte* to, const std::byte* from, std::size_t size_bytes) noexcept {
    if (library_is_slow(to, from, size_bytes)) {
        const std::size_t lines = size_bytes / cache_line_bytes;
        copy_lines(to, from, lines);
        to += lines * cache_line_bytes;
        from += lines * cache_line_bytes;
        size_bytes -= lines * cache_line_bytes;
    }
    copy_by_library(to, from, size_bytes);
}

/// memcpy for many bytes that another thread or a device reads soon: never uses streaming stores,
/// unlike C libraries above some size.
inline void copy_to_read_soon(std::byte* to, const std::byte* from,
                              std::size_t size_bytes) noexcept {
    constexpr std::size_t at_once = pages_at_once * page_bytes;
    // C libraries copy this many bytes through the cache.
    constexpr std::size_t part_bytes = std::size_t{256} << 10;
    std::size_t done = 0;
    if (has_wide_vectors())
        for (; size_bytes - done >= at_once; done += at_once) copy_pages(to + done, from + done);
    for (; done < size_bytes; done += part_bytes)
        copy_bytes(to + done, from + done,
                   size_bytes - done < part_bytes ? size_bytes - done : part_bytes);
}

/// memcpy with streaming stores, except for short runs that share lines with others. Call
/// finish_streaming() afterwards.
inline void stream_bytes(std::byte* to, const std::byte* from, std::size_t size_bytes) noexcept {
    const std::size_t head = bytes_to_line(to) < size_bytes ? bytes_to_line(to) : size_bytes;
    const std::size_t lines = (size_bytes - head) / cache_line_bytes,
                      tail = head + lines * cache_line_bytes;
    if (size_bytes < streamed_run_bytes && (head != 0 || tail != size_bytes)) {
        std::memcpy(to, from, size_bytes);
        return;
    }
    if (head > 0) std::memcpy(to, from, head);
    stream_lines(to + head, from + head, lines);
    if (tail < size_bytes) std::memcpy(to + tail, from + tail, size_bytes - tail);
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
