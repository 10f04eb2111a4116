// Makes one allocation of the library fail, or all from one on, so that a test can go through them
// one by one. The linker sends what our object files call to tests/failing_allocations.cpp
// (--wrap), so it works under the sanitizers too; the standard library's own allocations, and so
// the test's containers, never fail.
#ifndef SAFEFUSE_TESTS_FAILING_ALLOCATIONS_HPP
#define SAFEFUSE_TESTS_FAILING_ALLOCATIONS_HPP

#include <cstddef>

namespace support {

/// While it lives, malloc, calloc, realloc, operator new(std::nothrow) and mmap of all threads are
/// counted from 1 on, and allocation `number` fails. One at a time.
class failing_allocation {
public:
    enum class then { only_this, all_that_follow };

    failing_allocation(std::size_t number, then what) noexcept;
    failing_allocation(const failing_allocation&) = delete;
    failing_allocation& operator=(const failing_allocation&) = delete;
    ~failing_allocation();

    /// How many have been asked for, those that failed among them.
    [[nodiscard]] std::size_t count() const noexcept;
    /// Whether one has failed.
    [[nodiscard]] bool has_failed() const noexcept;
};

}  // namespace support

#endif
