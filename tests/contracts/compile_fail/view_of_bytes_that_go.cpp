#include <safefuse/core/vector.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace sf = safefuse;

sf::vector<std::byte> downloaded(std::string_view url);

bool is_tensor(sf::shape_view shape) {
#ifdef SAFEFUSE_FAIL
    const auto view = sf::tensor_view::of(sf::dtype::bf16, shape, downloaded("w"));
#else
    const auto bytes = downloaded("w");
    const auto view = sf::tensor_view::of(sf::dtype::bf16, shape, bytes);
#endif
    return view.has_value();
}
