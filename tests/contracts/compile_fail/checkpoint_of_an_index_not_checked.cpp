#include <utility>

#include <safefuse/core/vector.hpp>
#include <safefuse/read/checkpoint.hpp>

namespace sf = safefuse;

bool opened(const sf::result<sf::shard_index>& index, sf::vector<sf::tensor_file> files) {
#ifdef SAFEFUSE_FAIL
    return sf::checkpoint::from(index, std::move(files)).has_value();
#else
    return index && sf::checkpoint::from(*index, std::move(files)).has_value();
#endif
}
