#include <safefuse/core/vector.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace sf = safefuse;

sf::vector<sf::named_tensor> tensors_of_a_layer();

std::size_t count() {
#ifdef SAFEFUSE_FAIL
    const sf::tensor_list list{tensors_of_a_layer()};
#else
    const auto tensors = tensors_of_a_layer();
    const sf::tensor_list list{tensors};
#endif
    return list.size();
}
