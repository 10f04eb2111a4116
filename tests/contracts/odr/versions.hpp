// What two versions of the library exchange in one program: bytes, and none of the library's own
// types.
#ifndef SAFEFUSE_TESTS_ODR_VERSIONS_HPP
#define SAFEFUSE_TESTS_ODR_VERSIONS_HPP

#include <cstddef>
#include <string>
#include <vector>

struct answer {
    std::vector<std::byte> fused;  // layer 0
    std::string refusal;           // for a checkpoint that does not exist
    std::size_t failure_bytes = 0;
};
answer ask_this_version(const char* checkpoint);
answer ask_another_version(const char* checkpoint);

#endif
