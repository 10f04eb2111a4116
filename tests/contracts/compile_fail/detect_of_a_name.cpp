#include <safefuse/detect/detect.hpp>

namespace sf = safefuse;

bool is_known(const sf::tensor_list& tensors) {
#ifdef SAFEFUSE_FAIL
    return sf::detect_family(tensors, "mixtral").has_value();
#else
    return sf::detect_family(tensors).has_value();
#endif
}
