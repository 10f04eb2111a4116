#include <array>

#include <safefuse/interop/mdspan.hpp>

namespace sf = safefuse;

// A minimal mdspan, for compilers that have none.
struct extents {
    std::array<int, 1> of;
};
template <class T>
struct values {
    using element_type = T;
    using data_handle_type = T*;
    using index_type = int;
    using extents_type = extents;
    using layout_type = void;
    T* first;
    extents_type shape;
    T* data_handle() const { return first; }
    static constexpr std::size_t rank() { return 1; }
    static constexpr std::size_t static_extent(std::size_t) { return static_cast<std::size_t>(-1); }
    int extent(std::size_t) const { return shape.of[0]; }
    int stride(std::size_t) const { return 1; }
};

bool fits(const sf::tensor_view& view) {
#ifdef SAFEFUSE_FAIL
    return sf::mdspan_of<values<float>>(view).has_value();  // a view is read-only
#else
    return sf::mdspan_of<values<const float>>(view).has_value();
#endif
}
