#include <safefuse/read/tensor_file.hpp>

namespace sf = safefuse;

std::size_t size_of_first() {
#ifdef SAFEFUSE_FAIL
    const auto first = sf::tensor_file::open("model.safetensors").value().view(0);
#else
    const auto file = sf::tensor_file::open("model.safetensors");
    const auto first = file->view(0);
#endif
    return first->size_bytes();
}
