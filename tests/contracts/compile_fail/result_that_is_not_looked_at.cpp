#include <safefuse/read/tensor_file.hpp>

namespace sf = safefuse;

#if defined(__clang__)
#pragma clang diagnostic error "-Wunused-result"
#elif defined(__GNUC__)
#pragma GCC diagnostic error "-Wunused-result"
#elif defined(SAFEFUSE_FAIL)
#error of a warning here is made no error: nodiscard
#endif

void copy([[maybe_unused]] const sf::tensor_file& file, [[maybe_unused]] sf::span<std::byte> out) {
#ifdef SAFEFUSE_FAIL
    file.read("lm_head.weight", out);
#else
    if (const auto done = file.read("lm_head.weight", out); !done) return;
#endif
}
