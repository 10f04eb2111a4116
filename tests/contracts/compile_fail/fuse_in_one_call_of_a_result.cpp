#include <cstddef>
#include <vector>

#include <safefuse/models/transformers.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/run/fuse_scope.hpp>

namespace sf = safefuse;

bool can_fuse(const sf::result<sf::checkpoint>& checkpoint,
              std::vector<std::vector<std::byte>>& out) {
#ifdef SAFEFUSE_FAIL
    return sf::fuse<sf::families::qwen2_moe>(checkpoint, "experts", out).has_value();
#else
    return sf::fuse<sf::families::qwen2_moe>(*checkpoint, "experts", out).has_value();
#endif
}
