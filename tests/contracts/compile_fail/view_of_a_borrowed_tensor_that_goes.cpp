#include <safefuse/interop/dlpack.hpp>

namespace sf = safefuse;

std::size_t rank_of(const sf::dlpack::managed_tensor_versioned& managed) {
#ifdef SAFEFUSE_FAIL
    // its shape is destroyed at the end of this line
    const auto view = sf::dlpack::borrow(managed).value().view();
#else
    const auto borrowed = sf::dlpack::borrow(managed);
    const auto view = borrowed->view();
#endif
    return view.rank();
}
