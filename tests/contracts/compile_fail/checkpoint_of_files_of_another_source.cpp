#include <utility>

#include <safefuse/core/vector.hpp>
#include <safefuse/read/checkpoint.hpp>

namespace sf = safefuse;

#ifdef SAFEFUSE_FAIL
using file = sf::tensor_file;
#else
using file = sf::any_tensor_file;
#endif

bool opened(const sf::shard_index& index, sf::vector<file> files) {
    return sf::any_checkpoint::from(index, std::move(files)).has_value();
}
