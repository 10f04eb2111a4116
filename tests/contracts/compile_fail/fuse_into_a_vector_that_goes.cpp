#include <cstddef>
#include <vector>

#include <safefuse/run/fuse.hpp>

namespace sf = safefuse;

bool can_fuse(const sf::copy_plan& plan) {
    std::vector<std::byte> kept;
#ifdef SAFEFUSE_FAIL
    const auto buffer_for = [&](const sf::plan_output& output) {
#else
    const auto buffer_for = [&](const sf::plan_output& output) -> std::vector<std::byte>& {
#endif
        kept.resize(static_cast<std::size_t>(output.size_bytes));
        return kept;
    };
    return sf::fuse(plan, buffer_for).has_value();
}
