// What two versions of the library in one program say to each other: bytes, and nothing of the
// library's own types.
#ifndef SAFEFUSE_TESTS_ODR_VERSIONS_HPP
#define SAFEFUSE_TESTS_ODR_VERSIONS_HPP

#include <cstddef>
#include <string>
#include <vector>

struct answer {
    std::vector<std::byte> fused;  // of layer 0
    std::string refusal;           // of a checkpoint that is not there
    std::size_t failure_bytes = 0;
};
answer ask_this_version(const char* checkpoint);
answer ask_another_version(const char* checkpoint);

#endif
