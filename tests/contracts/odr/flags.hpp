// Translation units of one program that differ in their flags; they exchange the library's objects.
#ifndef SAFEFUSE_TESTS_ODR_FLAGS_HPP
#define SAFEFUSE_TESTS_ODR_FLAGS_HPP

#include <cstddef>
#include <vector>

#include <safefuse/safefuse.hpp>

struct unit {
    const char* flags;
    std::vector<std::size_t> (*sizes)();
    safefuse::result<safefuse::checkpoint> (*open)(const char* path);
    safefuse::failure (*fail)(const safefuse::checkpoint& checkpoint);
    std::vector<std::byte> (*fuse)(const safefuse::checkpoint& checkpoint);
};
unit unit_as_is();
unit unit_without_exceptions();
unit unit_without_asserts();

#endif
