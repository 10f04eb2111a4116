// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: contiguous bytes from one place in memory to another, as fast as the machine does it:
// past the cache where they would not stay there, and round the copies that the C library does
// slowly. memcpy is the twin that everything here equals.
#ifndef SAFEFUSE_RUN_DETAIL_COPY_BYTES_HPP
#define SAFEFUSE_RUN_DETAIL_COPY_BYTES_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Lines of memory that are written whole need not be read first.
inline constexpr std::size_t cache_line_bytes = 64;
/// Who writes at least this much at once writes it past the cache: most of it would be gone before
/// anybody reads it.
inline constexpr std::uint64_t streamed_bytes = std::uint64_t{16} << 20;
/// Runs shorter than this are copied by way of the cache even so, unless they are whole lines: a
/// line that is written in two ways costs more than it saves.
inline constexpr std::size_t streamed_run_bytes = 512;

/// Bytes from `to` on to the next line's start.
[[nodiscard]] inline std::size_t bytes_to_line(const std::byte* to) noexcept {
    return (cache_line_bytes - reinterpret_cast<std::uintptr_t>(to) % cache_line_bytes) %
           cache_line_bytes;
}

/// memcpy, called: where g++ knows the greatest size it puts a `rep movsq` in place of the call, at
/// half the speed for few lines.
inline void copy_by_library(std::byte* to, const std::byte* from, std::size_t size_bytes) noexcept {
#if defined(__GNUC__) || defined(__clang__)
    asm volatile("" : "+r"(size_bytes));
#endif
    std::memcpy(to, from, size_bytes);
}

/// Asks for a line of each of some rows, which will be read soon.
inline void prefetch_rows([[maybe_unused]] const std::byte* first,
                          [[maybe_unused]] std::size_t stride,
                          [[maybe_unused]] std::size_t rows) noexcept {
#if defined(__GNUC__) || defined(__clang__)
    for (std::size_t r = 0; r < rows; ++r) __builtin_prefetch(first + r * stride);
#endif
}

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)

// Vectors of the compiler's: <immintrin.h> takes longer to compile than the rest of the library's
// copies together.
using narrow_vector = long long __attribute__((vector_size(16), may_alias));
using wide_vector = long long __attribute__((vector_size(32), may_alias));

/// What the processor tells of itself.
struct cpuid_registers {
    std::uint32_t a, b, c, d;
};
[[nodiscard]] inline cpuid_registers cpuid(std::uint32_t leaf) noexcept {
    cpuid_registers out;
    asm volatile("cpuid" : "=a"(out.a), "=b"(out.b), "=c"(out.c), "=d"(out.d) : "a"(leaf), "c"(0));
    return out;
}
/// Whether the processor and the system have AVX2. __builtin_cpu_supports knows, too, and
/// brings 4.5 KB into the program that asks.
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
    static unsigned char known = 0;  // 1 no, 2 yes; every thread finds the same, and a guarded
                                     // static would need the C++ runtime
    unsigned char has = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (has == 0) {
        has = ask_for_wide_vectors() ? 2 : 1;
        __atomic_store_n(&known, has, __ATOMIC_RELAXED);
    }
    return has == 2;
#endif
}

/// Whether `rep movsb` copies whole lines at once. Tools that watch every access see none of its
/// own, so with them it is not used.
[[nodiscard]] inline bool ask_for_fast_strings() noexcept {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false;
#else
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
    return false;
#endif
#endif
    constexpr std::uint32_t has_fast_strings = 1u << 9;
    return cpuid(0).a >= 7 && (cpuid(7).b & has_fast_strings) != 0;
#endif
}
[[nodiscard]] SAFEFUSE_NOINLINE inline bool has_fast_strings() noexcept {
    static unsigned char known = 0;  // as in has_wide_vectors
    unsigned char has = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (has == 0) {
        has = ask_for_fast_strings() ? 2 : 1;
        __atomic_store_n(&known, has, __ATOMIC_RELAXED);
    }
    return has == 2;
}
inline void copy_by_string(std::byte* to, const std::byte* from, std::size_t size_bytes) noexcept {
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size_bytes) : : "memory");
}

/// Asks for some bytes' lines, which will be written soon.
inline void prefetch_to_write(const std::byte* first, std::size_t size_bytes) noexcept {
    // compilers take the instruction for reading unless told of the processor; those without it do
    // nothing
    for (std::size_t at = 0; at < size_bytes; at += cache_line_bytes)
        asm volatile("prefetchw %0" : : "m"(first[at]));
}

/// Copies whole lines to memory without reading them into the cache. `to` is aligned to a line;
/// finish_streaming() follows.
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
/// Whoever is told hereafter that the bytes are there sees what stream_lines wrote.
inline void finish_streaming() noexcept { __builtin_ia32_sfence(); }

/// Copies by plain vectors, whatever the C library would do.
inline void copy_lines(std::byte* to, const std::byte* from, std::size_t line_count) noexcept {
    for (std::size_t i = 0; i < line_count; ++i, to += cache_line_bytes, from += cache_line_bytes) {
        narrow_vector line[4];
        std::memcpy(line, from, sizeof line);
        std::memcpy(to, line, sizeof line);
        asm volatile("" ::: "memory");  // else compilers know a call to memcpy when they see one
    }
}
/// glibc before 2.39 takes `rep movsb` for 2 KiB to 1 MiB, which AMD's Zen 3 and Zen 4 do 12 to 15
/// times slower where the destination lies 1 to 15 bytes behind the source in their pages (glibc
/// bug 30994): from a mapped file into a buffer that is aligned otherwise, say.
[[nodiscard]] inline bool is_slow_for_strings(const std::byte* to, const std::byte* from) noexcept {
    const std::uintptr_t apart =
        (reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from)) % 4096;
    return apart - 1 < 15;
}
[[nodiscard]] inline bool library_is_slow(const std::byte* to, const std::byte* from,
                                          std::size_t size_bytes) noexcept {
    return is_slow_for_strings(to, from) && size_bytes >= 2048 &&
           size_bytes <= (std::size_t{1} << 20);
}

#else

[[nodiscard]] inline bool has_fast_strings() noexcept { return false; }
inline void copy_by_string(std::byte* to, const std::byte* from, std::size_t size_bytes) noexcept {
    std::memcpy(to, from, size_bytes);
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
[[nodiscard]] inline bool is_slow_for_strings(const std::byte*, const std::byte*) noexcept {
    return false;
}
[[nodiscard]] inline bool library_is_slow(const std::byte*, const std::byte*,
                                          std::size_t) noexcept {
    return false;
}

#endif

/// memcpy: `to` and `from` do not overlap.
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

/// memcpy of many bytes that another thread or a device reads soon: by way of the cache, whatever
/// their number. C libraries go past it from some size on.
inline void copy_to_read_soon(std::byte* to, const std::byte* from,
                              std::size_t size_bytes) noexcept {
    constexpr std::size_t part_bytes = std::size_t{256}
                                       << 10;  // the C library takes so many by way of the cache
    if (has_fast_strings() && size_bytes >= 4096 && !is_slow_for_strings(to, from))
        return copy_by_string(to, from, size_bytes);
    for (std::size_t done = 0; done < size_bytes; done += part_bytes)
        copy_bytes(to + done, from + done,
                   size_bytes - done < part_bytes ? size_bytes - done : part_bytes);
}

/// memcpy past the cache, but for short runs that share lines with others; finish_streaming()
/// follows.
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
