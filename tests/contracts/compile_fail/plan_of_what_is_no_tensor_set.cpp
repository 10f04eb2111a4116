#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>

namespace sf = safefuse;

#ifdef SAFEFUSE_FAIL
struct set {
    int size() const noexcept { return 0; }
};
#else
using set = sf::tensor_list;
#endif

bool can_plan(const set& tensors) {
    return sf::plan<sf::families::qwen2_moe>(tensors, "experts").has_value();
}
