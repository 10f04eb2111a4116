#include <cstddef>
#include <vector>

#include <safefuse/run/fuse.hpp>

namespace sf = safefuse;

bool can_fuse(const sf::copy_plan& plan, std::vector<std::byte>& out) {
    std::uint64_t done = 0;
#ifdef SAFEFUSE_FAIL
    const auto watch = [&](const sf::run_progress& at) { done = at.done_bytes; };
#else
    const auto watch = [&](const sf::run_progress& at) { return (done = at.done_bytes) != 0; };
#endif
    const sf::progress_ref told = watch;
    return sf::fuse(plan, "gate_up_proj", out, told).has_value();
}
