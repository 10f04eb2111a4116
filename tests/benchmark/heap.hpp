// How much memory a call requests at most, counted in malloc itself. Only with glibc and without
// sanitizers; otherwise unknown. Include it in one translation unit of a program.
#ifndef SAFEFUSE_TESTS_BENCHMARK_HEAP_HPP
#define SAFEFUSE_TESTS_BENCHMARK_HEAP_HPP

#include <atomic>
#include <cstddef>
#include <cstdlib>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || \
    __has_feature(thread_sanitizer)
#define SAFEFUSE_BENCHMARK_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SAFEFUSE_BENCHMARK_SANITIZED
#endif

namespace heap {

struct counters {
    std::atomic<std::size_t> bytes = 0, peak_bytes = 0, calls = 0;
};
inline counters now;

/// Memory that a call requests: the peak above what was in use before, and the number of calls.
struct demand {
    std::size_t peak_bytes = 0, calls = 0;
};
template <class Work>
demand of(Work&& work) {
    const std::size_t bytes = now.bytes, calls = now.calls;
    now.peak_bytes = bytes;
    work();
    return {now.peak_bytes - bytes, now.calls - calls};
}

}  // namespace heap

#if defined(__GLIBC__) && !defined(SAFEFUSE_BENCHMARK_SANITIZED)
#include <malloc.h>

namespace heap {
inline constexpr bool is_watched = true;

inline void* took(void* block) noexcept {
    if (block == nullptr) return block;
    ++now.calls;
    const std::size_t bytes = now.bytes += ::malloc_usable_size(block);
    for (std::size_t peak = now.peak_bytes;
         peak < bytes && !now.peak_bytes.compare_exchange_weak(peak, bytes);) {
    }
    return block;
}
inline void gives(void* block) noexcept {
    if (block != nullptr) now.bytes -= ::malloc_usable_size(block);
}
}  // namespace heap

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t size) noexcept { return heap::took(__libc_malloc(size)); }
void* calloc(std::size_t count, std::size_t size) noexcept {
    return heap::took(__libc_calloc(count, size));
}
void* realloc(void* block, std::size_t size) noexcept {
    heap::gives(block);
    return heap::took(__libc_realloc(block, size));
}
void free(void* block) noexcept {
    heap::gives(block);
    __libc_free(block);
}
}
#else
namespace heap {
inline constexpr bool is_watched = false;
}
#endif

#endif
