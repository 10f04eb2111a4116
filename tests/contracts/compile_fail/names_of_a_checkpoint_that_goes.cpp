#include <cstddef>

#include <safefuse/read/checkpoint.hpp>

namespace sf = safefuse;

std::size_t count([[maybe_unused]] const sf::checkpoint& checkpoint) {
#ifdef SAFEFUSE_FAIL
    return sf::checkpoint::open("model").value().names().size();
#else
    return checkpoint.names().size();
#endif
}
