#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/read/checkpoint.hpp>

namespace sf = safefuse;

bool planned(const sf::result<sf::checkpoint>& checkpoint) {
#ifdef SAFEFUSE_FAIL
    return sf::plan<sf::families::qwen2_moe>(checkpoint, "model.layers.0.mlp.experts").has_value();
#else
    return sf::plan<sf::families::qwen2_moe>(*checkpoint, "model.layers.0.mlp.experts").has_value();
#endif
}
