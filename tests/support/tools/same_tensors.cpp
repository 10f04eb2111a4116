// Compares the tensors of two checkpoints: names, dtypes, shapes and bytes. It does not matter in
// which file a tensor is.
//   same_tensors A B
#include <cstdio>
#include <cstring>

#include <safefuse/safefuse.hpp>

namespace sf = safefuse;

int main(int argc, char** argv) {
    if (argc != 3) return std::fputs("usage: same_tensors A B\n", stderr), 2;
    const auto a = sf::checkpoint::open(argv[1]);
    const auto b = sf::checkpoint::open(argv[2]);
    if (!a || !b)
        return std::fprintf(stderr, "error: %s\n", (a ? b.error() : a.error()).message().c_str()),
               1;
    for (std::size_t i = 0; i < a->size(); ++i) {
        const sf::tensor_spec spec = a->spec(i);
        const auto one = a->view(i);
        const auto other = b->find(spec.name);
        const bool same =
            one && other && one->type() == other->type() &&
            one->shape().size() == other->shape().size() &&
            one->size_bytes() == other->size_bytes() &&
            (one->size_bytes() == 0 ||
             std::memcmp(one->bytes().data(), other->bytes().data(), one->bytes().size()) == 0);
        bool same_shape = same;
        for (std::size_t axis = 0; same_shape && axis < spec.shape.size(); ++axis)
            same_shape = one->shape()[axis] == other->shape()[axis];
        if (same_shape) continue;
        std::fprintf(stderr, "error: \"%.*s\" differs\n", static_cast<int>(spec.name.size()),
                     spec.name.data());
        return 1;
    }
    if (a->size() != b->size())
        return std::fprintf(stderr, "error: %zu tensors and %zu\n", a->size(), b->size()), 1;
    return 0;
}
