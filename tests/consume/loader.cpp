// The least that somebody else's loader does with the library.
#include <safefuse/safefuse.hpp>

#include <cstdio>

namespace sf = safefuse;

int main() {
    const auto checkpoint = sf::checkpoint::open("no such checkpoint");
    if (checkpoint) return 1;
    std::puts(checkpoint.error().message().c_str());
    return checkpoint.error().code == sf::errc::file_not_found ? 0 : 1;
}
