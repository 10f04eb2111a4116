#include <utility>

#include <safefuse/core/vector.hpp>
#include <safefuse/read/checkpoint.hpp>

namespace sf = safefuse;

bool opened(const sf::shard_index& index, sf::vector<sf::any_tensor_file> files) {
#ifdef SAFEFUSE_FAIL
    return sf::any_checkpoint::from(index, files).has_value();
#else
    return sf::any_checkpoint::from(index, std::move(files)).has_value();
#endif
}
