#include <memory>
#include <vector>

#include <safefuse/interop/dlpack.hpp>

namespace sf = safefuse;

auto lend(const sf::tensor_view& view, std::shared_ptr<std::vector<std::byte>> buffer) {
#ifdef SAFEFUSE_FAIL
    return sf::dlpack::lend(view, buffer.get());
#else
    return sf::dlpack::lend(view, std::shared_ptr{buffer});
#endif
}
