#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>

namespace sf = safefuse;

#ifdef SAFEFUSE_FAIL
struct declared {  // without the other members of a family
    using stored = sf::layouts::per_expert;
    using model = sf::layouts::gate_up_fused;
};
#else
using declared = sf::families::qwen2_moe;
#endif

bool can_plan(const sf::tensor_list& tensors) {
    return sf::plan<declared>(tensors, "experts").has_value();
}
