#include <vector>

#include <safefuse/run/fuse.hpp>

#ifdef SAFEFUSE_FAIL
using buffer = const std::vector<std::byte>;
#else
using buffer = std::vector<std::byte>;
#endif

bool can_fuse(const safefuse::copy_plan& plan, buffer& out) {
    return safefuse::fuse(plan, "gate_up_proj", out).has_value();
}
