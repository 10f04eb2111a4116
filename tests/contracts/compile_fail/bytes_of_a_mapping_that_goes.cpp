#include <safefuse/io/mapped_file.hpp>

namespace sf = safefuse;

std::size_t bytes_of(sf::result<sf::mapped_file> (*open)(std::string_view)) {
#ifdef SAFEFUSE_FAIL
    const auto bytes = open("model.safetensors").value().bytes();
#else
    const auto file = open("model.safetensors");
    const auto bytes = file->bytes();
#endif
    return bytes.size();
}
