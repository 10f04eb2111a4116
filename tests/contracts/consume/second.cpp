// A second translation unit of the loader: the headers must not define anything twice.
#include <safefuse/safefuse.hpp>

#if defined(__cpp_exceptions)
#include <safefuse/core/throwing.hpp>

std::size_t size_or_throw(const safefuse::checkpoint& checkpoint, const char* name) {
    return safefuse::or_throw(checkpoint.find(name)).size_bytes();
}
#endif
