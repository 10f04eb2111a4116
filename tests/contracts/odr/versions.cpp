// Two versions of the library in one program: each has its own classes and its own sentences.
#include "versions.hpp"

#include <cstdio>

int main(int, char** arguments) {
    const answer here = ask_this_version(arguments[1]);
    const answer there = ask_another_version(arguments[1]);
    for (const answer& each : {here, there})
        std::printf("%zu bytes, a failure has %zu, %s\n", each.fused.size(), each.failure_bytes,
                    each.refusal.c_str());
    const bool speaks = here.refusal.find("another version") == std::string::npos &&
                        there.refusal.find("another version") != std::string::npos;
    return !here.fused.empty() && here.fused == there.fused && speaks &&
                   there.failure_bytes > here.failure_bytes
               ? 0
               : 1;
}
