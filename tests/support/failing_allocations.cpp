#include "failing_allocations.hpp"

#include <sys/mman.h>
#include <sys/types.h>

#include <atomic>
#include <cerrno>
#include <new>

namespace {

std::atomic<bool> is_armed{false}, all_follow{false}, any_failed{false};
std::atomic<std::size_t> failing{0}, asked{0};

/// Counts an allocation, and returns true if it must fail.
bool fails() noexcept {
    if (!is_armed.load(std::memory_order_relaxed)) return false;
    const std::size_t number = asked.fetch_add(1) + 1;
    if (number != failing && !(all_follow && number > failing)) return false;
    any_failed = true;
    errno = ENOMEM;
    return true;
}

}  // namespace

namespace support {

failing_allocation::failing_allocation(std::size_t number, then what) noexcept {
    failing = number;
    asked = 0;
    any_failed = false;
    all_follow = what == then::all_that_follow;
    is_armed = true;
}
failing_allocation::~failing_allocation() { is_armed = false; }
std::size_t failing_allocation::count() const noexcept { return asked; }
bool failing_allocation::has_failed() const noexcept { return any_failed; }

}  // namespace support

// NOLINTBEGIN: the linker requires these names
extern "C" {

void* __real_malloc(std::size_t size);
void* __real_calloc(std::size_t count, std::size_t size);
void* __real_realloc(void* block, std::size_t size);
void* __real_mmap(void* at, std::size_t size, int protection, int flags, int file, off_t offset);

void* __wrap_malloc(std::size_t size) { return fails() ? nullptr : __real_malloc(size); }
void* __wrap_calloc(std::size_t count, std::size_t size) {
    return fails() ? nullptr : __real_calloc(count, size);
}
void* __wrap_realloc(void* block, std::size_t size) {
    return fails() ? nullptr : __real_realloc(block, size);
}
void* __wrap_mmap(void* at, std::size_t size, int protection, int flags, int file, off_t offset) {
    return fails() ? MAP_FAILED : __real_mmap(at, size, protection, flags, file, offset);
}

#if __SIZEOF_SIZE_T__ == 8
void* __real__ZnwmRKSt9nothrow_t(std::size_t size, const std::nothrow_t& none);
void* __wrap__ZnwmRKSt9nothrow_t(std::size_t size, const std::nothrow_t& none) {
    return fails() ? nullptr : __real__ZnwmRKSt9nothrow_t(size, none);
}
#else
void* __real__ZnwjRKSt9nothrow_t(std::size_t size, const std::nothrow_t& none);
void* __wrap__ZnwjRKSt9nothrow_t(std::size_t size, const std::nothrow_t& none) {
    return fails() ? nullptr : __real__ZnwjRKSt9nothrow_t(size, none);
}
#endif

}  // extern "C"
// NOLINTEND
