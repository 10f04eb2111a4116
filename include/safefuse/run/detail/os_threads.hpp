// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: starts and joins OS threads. Included by parallel.hpp only. <thread> is not used
// because the constructor of std::thread throws.
#ifndef SAFEFUSE_RUN_DETAIL_OS_THREADS_HPP
#define SAFEFUSE_RUN_DETAIL_OS_THREADS_HPP

#include <atomic>
#include <cstddef>

#include <safefuse/core/config.hpp>

#if defined(_WIN32)
struct _SECURITY_ATTRIBUTES;
extern "C" {
#if defined(_WIN64)
__declspec(dllimport) void* __stdcall CreateThread(struct _SECURITY_ATTRIBUTES*, unsigned long long,
                                                   unsigned long(__stdcall*)(void*), void*,
                                                   unsigned long, unsigned long*);
#else
__declspec(dllimport) void* __stdcall CreateThread(struct _SECURITY_ATTRIBUTES*, unsigned long,
                                                   unsigned long(__stdcall*)(void*), void*,
                                                   unsigned long, unsigned long*);
#endif
__declspec(dllimport) unsigned long __stdcall WaitForSingleObject(void*, unsigned long);
__declspec(dllimport) int __stdcall CloseHandle(void*);
__declspec(dllimport) unsigned long __stdcall GetActiveProcessorCount(unsigned short);
__declspec(dllimport) void __stdcall Sleep(unsigned long);
}
#else
#include <pthread.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#endif
#endif

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {
namespace os {

/// What a thread runs. It must stay at its address until the thread has been joined.
struct thread_call {
    void (*run)(void* argument) noexcept = nullptr;
    void* argument = nullptr;
};

#if defined(_WIN32)

using thread = void*;

/// Lets other threads run for a moment.
inline void pause_thread() noexcept { ::Sleep(1); }

inline unsigned long __stdcall run_thread(void* call) noexcept {
    const auto& what = *static_cast<const thread_call*>(call);
    what.run(what.argument);
    return 0;
}
/// Returns false if the OS cannot start a thread.
[[nodiscard]] inline bool start_thread(thread& started, thread_call& call) noexcept {
    started = ::CreateThread(nullptr, 0, &run_thread, &call, 0, nullptr);
    return started != nullptr;
}
inline void wait_for(thread started) noexcept {
    (void)::WaitForSingleObject(started, 0xFFFF'FFFFul);
    ::CloseHandle(started);
}
/// Number of threads of this process that can run at once; at least 1.
[[nodiscard]] inline std::size_t processor_count() noexcept {
    const unsigned long count = ::GetActiveProcessorCount(0xFFFF);
    return count == 0 ? 1 : count;
}

#else

using thread = pthread_t;

/// Lets other threads run for a moment.
inline void pause_thread() noexcept {
    const timespec moment{.tv_sec = 0, .tv_nsec = 100'000};
    (void)::nanosleep(&moment, nullptr);
}

inline void* run_thread(void* call) noexcept {
    const auto& what = *static_cast<const thread_call*>(call);
    what.run(what.argument);
    return nullptr;
}
/// Returns false if the OS cannot start a thread.
[[nodiscard]] inline bool start_thread(thread& started, thread_call& call) noexcept {
    return ::pthread_create(&started, nullptr, &run_thread, &call) == 0;
}
inline void wait_for(thread started) noexcept { (void)::pthread_join(started, nullptr); }
/// Number of threads of this process that can run at once; at least 1.
[[nodiscard]] inline std::size_t processor_count() noexcept {
#if defined(__linux__) && defined(CPU_COUNT)
    cpu_set_t allowed;
    if (::sched_getaffinity(0, sizeof allowed, &allowed) == 0)
        return static_cast<std::size_t>(CPU_COUNT(&allowed));
#endif
    const long count = ::sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? static_cast<std::size_t>(count) : 1;
}

#endif

}  // namespace os

/// Whether an atomic's own wait() can be trusted. Where libstdc++ knows no call of the system for
/// it (Windows), version 12 looks at the value and begins to wait in two steps: a change in between
/// wakes nobody, and the thread waits forever.
#if defined(__GLIBCXX__) && !defined(_GLIBCXX_HAVE_LINUX_FUTEX)
inline constexpr bool can_wait_for_atomics = false;
#else
inline constexpr bool can_wait_for_atomics = true;
#endif

/// Returns when an atomic does not have this value any more. Whoever changes it notifies.
template <class Atomic, class Value>
void wait_while(const Atomic& atomic, Value old, std::memory_order order) noexcept {
    if constexpr (can_wait_for_atomics) {
        atomic.wait(old, order);
    } else {
        const auto value = [&] {
            if constexpr (requires { atomic.load(order); })
                return atomic.load(order);
            else
                return atomic.test(order);
        };
        for (int turns = 0; value() == old; ++turns)
            if (turns > 1000) os::pause_thread();
    }
}
}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
