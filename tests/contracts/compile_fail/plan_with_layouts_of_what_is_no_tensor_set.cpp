#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>

namespace sf = safefuse;

#ifdef SAFEFUSE_FAIL
using set = sf::span<const sf::named_tensor>;  // a tensor_list would be one
#else
using set = sf::tensor_list;
#endif

bool can_plan(const set& tensors) {
    return sf::plan<sf::layouts::per_expert, sf::layouts::gate_up_fused>(tensors, "experts")
        .has_value();
}
