#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>

namespace sf = safefuse;

#ifdef SAFEFUSE_FAIL
struct to {};
#else
using to = sf::layouts::gate_up_fused;
#endif

bool can_plan(const sf::tensor_list& tensors) {
    return sf::plan<sf::layouts::per_expert, to>(tensors, "experts").has_value();
}
