#include <safefuse/core/vector.hpp>
#include <safefuse/tensor/byte_source.hpp>

namespace sf = safefuse;

sf::vector<std::byte> received();

std::uint64_t size_of_received() {
#ifdef SAFEFUSE_FAIL
    const sf::memory_source source{received()};
#else
    const auto bytes = received();
    const sf::memory_source source{bytes};
#endif
    return source.size_bytes();
}
