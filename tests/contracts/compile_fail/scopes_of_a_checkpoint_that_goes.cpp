#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/read/checkpoint.hpp>

namespace sf = safefuse;

bool found(sf::result<sf::checkpoint> checkpoint) {
#ifdef SAFEFUSE_FAIL
    return sf::experts_scopes::find(sf::checkpoint::open("model").value(),
                                    sf::description_of<sf::families::qwen2_moe>)
        .has_value();
#else
    return sf::experts_scopes::find(checkpoint.value(), sf::description_of<sf::families::qwen2_moe>)
        .has_value();
#endif
}
