#include <cstddef>
#include <vector>

#include <safefuse/run/fuse.hpp>

namespace sf = safefuse;

#if defined(__GNUC__)
#pragma GCC diagnostic error "-Wunused-result"
#elif defined(_MSC_VER)
#pragma warning(error : 4834)
#endif

bool fuse_all(const sf::copy_plan& plan, std::vector<std::vector<std::byte>>& out) {
#ifdef SAFEFUSE_FAIL
    sf::fuse(plan, out);
    return true;
#else
    return sf::fuse(plan, out).has_value();
#endif
}
