#include <cstddef>
#include <vector>

#include <safefuse/models/transformers.hpp>
#include <safefuse/run/fuse_scope.hpp>

namespace sf = safefuse;

bool can_fuse(const sf::tensor_list& tensors) {
    std::vector<std::byte> kept;
#ifdef SAFEFUSE_FAIL
    const auto buffer_for = [&](const sf::plan_output& output) {
#else
    const auto buffer_for = [&](const sf::plan_output& output) -> std::vector<std::byte>& {
#endif
        kept.resize(static_cast<std::size_t>(output.size_bytes));
        return kept;
    };
    return sf::fuse<sf::families::qwen2_moe>(tensors, "experts", buffer_for).has_value();
}
