#include <safefuse/read/tensor_file.hpp>

namespace sf = safefuse;

struct my_source {
#ifndef SAFEFUSE_FAIL
    std::uint64_t size_bytes() const noexcept { return 0; }
#endif
    sf::span<const std::byte> bytes() const noexcept { return {}; }
    sf::result<void> read(std::uint64_t, sf::span<std::byte>) const noexcept { return {}; }
    void advise(std::uint64_t, std::uint64_t, sf::advice) const noexcept {}
};

bool opened() { return sf::basic_tensor_file<my_source>::from(my_source{}, "mine").has_value(); }
