#include <cstddef>
#include <vector>

#include <safefuse/run/fuse.hpp>

namespace sf = safefuse;

bool can_fuse(const sf::result<sf::copy_plan>& plan, std::vector<std::byte>& out) {
#ifdef SAFEFUSE_FAIL
    return sf::fuse(plan, "gate_up_proj", out).has_value();
#else
    return sf::fuse(*plan, "gate_up_proj", out).has_value();
#endif
}
