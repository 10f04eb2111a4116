#include <safefuse/core/vector.hpp>
#include <safefuse/format/header.hpp>

namespace sf = safefuse;

sf::vector<std::byte> downloaded(std::string_view url);

std::size_t tensors(std::string_view url) {
#ifdef SAFEFUSE_FAIL
    const auto header = sf::header::parse(downloaded(url), sf::unknown);
#else
    const auto start = downloaded(url);
    const auto header = sf::header::parse(start, sf::unknown);
#endif
    return header ? header->size() : 0;
}
