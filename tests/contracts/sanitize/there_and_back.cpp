// For memory sanitizer, which needs all running code to be instrumented: the library, but no
// compiled code of the standard library. Fuses a checkpoint, compares, unfuses, and compares again.
//   there_and_back mmap|pread FAMILY CHECKPOINT OUT BACK
#include <cstdio>

#include <safefuse/detect/detect.hpp>
#include <safefuse/safefuse.hpp>

namespace sf = safefuse;

namespace {

int stop(const sf::failure& why) {
    std::fprintf(stderr, "error: %s\n", why.message().c_str());
    return 1;
}

template <class Checkpoint>
int run(const char* name, const char* from, const char* to, const char* back) {
    const auto set = Checkpoint::open(from);
    if (!set) return stop(set.error());
    const sf::family_description* const family = sf::find_family(name);
    if (family == nullptr) return std::fprintf(stderr, "error: an unknown family\n"), 1;
    const auto plan = sf::rewrite_plan::make(*set, *family);
    if (!plan) return stop(plan.error());
    if (const auto done = sf::rewrite(*plan, to); !done) return stop(done.error());
    const auto fused = Checkpoint::open(to);
    if (!fused) return stop(fused.error());
    if (const auto same = sf::verify_rewritten(*plan, *fused); !same) return stop(same.error());
    const auto inverse = sf::rewrite_plan::make(*fused, *family, sf::direction::inverse);
    if (!inverse) return stop(inverse.error());
    if (const auto done = sf::rewrite(*inverse, back); !done) return stop(done.error());
    const auto unfused = Checkpoint::open(back);
    if (!unfused) return stop(unfused.error());
    if (const auto same = sf::verify_rewritten(*inverse, *unfused); !same)
        return stop(same.error());
    return 0;
}

}  // namespace

int main(int count, char** words) {
    if (count != 6) return 2;
    return words[1][0] == 'm'
               ? run<sf::checkpoint>(words[2], words[3], words[4], words[5])
               : run<sf::positional_checkpoint>(words[2], words[3], words[4], words[5]);
}
