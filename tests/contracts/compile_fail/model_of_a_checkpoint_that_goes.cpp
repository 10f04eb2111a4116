#include <safefuse/detect/find_model.hpp>
#include <safefuse/read/checkpoint.hpp>

namespace sf = safefuse;

bool found([[maybe_unused]] const sf::checkpoint& checkpoint) {
#ifdef SAFEFUSE_FAIL
    return sf::find_model(sf::checkpoint::open("model").value(),
                          sf::description_of<sf::families::qwen2_moe>)
        .has_value();
#else
    return sf::find_model(checkpoint, sf::description_of<sf::families::qwen2_moe>).has_value();
#endif
}
