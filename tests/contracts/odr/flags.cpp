// Every unit can fuse what another unit opened, and all units can read a failure from one.
#include "flags.hpp"

#include <cstdio>
#include <cstring>
#include <string_view>

int main(int, char** arguments) {
    const unit units[] = {unit_as_is(), unit_without_exceptions(), unit_without_asserts()};
    std::vector<std::byte> first;
    int differ = 0;
    for (const unit& opener : units) {
        const auto checkpoint = opener.open(arguments[1]);
        if (!checkpoint) return std::puts(checkpoint.error().message().c_str()), 1;
        for (const unit& other : units) {
            const auto fused = other.fuse(*checkpoint);
            if (first.empty()) first = fused;
            const auto failure = other.fail(*checkpoint);
            const bool same = !fused.empty() && fused == first &&
                              failure.code == safefuse::errc::tensor_not_found &&
                              failure.tensor == "no such tensor" && opener.sizes() == other.sizes();
            std::printf("%s opened, %s fused %zu bytes: %s\n", opener.flags, other.flags,
                        fused.size(), same ? "the same" : "DIFFERS");
            differ += same ? 0 : 1;
        }
    }
    return differ;
}
