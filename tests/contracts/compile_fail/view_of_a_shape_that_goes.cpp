#include <safefuse/core/vector.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace sf = safefuse;

sf::vector<std::uint64_t> shape_of(std::string_view tensor);

bool is_tensor(sf::span<const std::byte> bytes) {
#ifdef SAFEFUSE_FAIL
    const auto view = sf::tensor_view::of(sf::dtype::bf16, shape_of("w"), bytes);
#else
    const auto shape = shape_of("w");
    const auto view = sf::tensor_view::of(sf::dtype::bf16, shape, bytes);
#endif
    return view.has_value();
}
