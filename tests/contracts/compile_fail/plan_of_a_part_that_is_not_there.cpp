#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using from = sf::layouts::per_expert_ungated;
#else
using from = sf::layouts::per_expert;
#endif

bool can_plan(const sf::tensor_list& set) {
    return sf::plan<from, sf::layouts::gate_up_fused>(set, "experts").has_value();
}
