#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/read/checkpoint.hpp>

namespace sf = safefuse;

bool can_plan(const sf::result<sf::checkpoint>& checkpoint) {
#ifdef SAFEFUSE_FAIL
    return sf::plan<sf::families::qwen2_moe>(checkpoint, "experts").has_value();
#else
    return sf::plan<sf::families::qwen2_moe>(*checkpoint, "experts").has_value();
#endif
}
