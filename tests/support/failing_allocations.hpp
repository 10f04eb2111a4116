// Makes one allocation of the library fail, or one and all later ones, so that a test can try them
// one after another. The linker redirects the calls of our object files to
// tests/support/failing_allocations.cpp (--wrap), so it also works under sanitizers. Allocations
// inside the standard library, such as those of the test's containers, never fail.
#ifndef SAFEFUSE_TESTS_FAILING_ALLOCATIONS_HPP
#define SAFEFUSE_TESTS_FAILING_ALLOCATIONS_HPP

#include <cstddef>

namespace support {

/// While it exists, it counts malloc, calloc, realloc, operator new(std::nothrow) and mmap of all
/// threads from 1 on, and allocation `number` fails. Only one may exist at a time.
class failing_allocation {
public:
    enum class then { only_this, all_that_follow };

    failing_allocation(std::size_t number, then what) noexcept;
    failing_allocation(const failing_allocation&) = delete;
    failing_allocation& operator=(const failing_allocation&) = delete;
    ~failing_allocation();

    /// The number of allocations requested, including failed ones.
    [[nodiscard]] std::size_t count() const noexcept;
    /// Whether one has failed.
    [[nodiscard]] bool has_failed() const noexcept;
};

}  // namespace support

#endif
