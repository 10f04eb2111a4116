#include <safefuse/read/checkpoint.hpp>

namespace sf = safefuse;

#if defined(__clang__)
#pragma clang diagnostic error "-Wreturn-stack-address"
#elif defined(SAFEFUSE_FAIL)
#error other compilers do not see it: address of stack memory
#endif

sf::result<sf::tensor_view> head_of([[maybe_unused]] const sf::checkpoint& kept) {
#ifdef SAFEFUSE_FAIL
    const auto checkpoint = sf::checkpoint::open("model");
    return checkpoint->find("lm_head.weight");
#else
    return kept.find("lm_head.weight");
#endif
}
