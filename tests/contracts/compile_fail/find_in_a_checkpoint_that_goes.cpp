#include <safefuse/read/checkpoint.hpp>

namespace sf = safefuse;

std::size_t size_of_head() {
#ifdef SAFEFUSE_FAIL
    // the mapping ends with this line
    const auto head = sf::checkpoint::open("model")->find("lm_head.weight");
#else
    const auto checkpoint = sf::checkpoint::open("model");
    const auto head = checkpoint->find("lm_head.weight");
#endif
    return head->size_bytes();
}
