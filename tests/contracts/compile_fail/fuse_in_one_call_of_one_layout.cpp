#include <cstddef>
#include <vector>

#include <safefuse/models/transformers.hpp>
#include <safefuse/run/fuse_scope.hpp>

namespace sf = safefuse;

#ifdef SAFEFUSE_FAIL
using family = sf::layouts::gate_up_fused;
#else
using family = sf::families::qwen2_moe;
#endif

bool can_fuse(const sf::tensor_list& tensors, std::vector<std::vector<std::byte>>& out) {
    return sf::fuse<family>(tensors, "experts", out).has_value();
}
