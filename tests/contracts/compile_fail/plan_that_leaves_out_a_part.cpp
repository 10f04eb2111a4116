#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>

namespace sf = safefuse;

#ifdef SAFEFUSE_FAIL
using from = sf::layouts::per_expert;
#else
using from = sf::layouts::per_expert_ungated;
#endif

bool can_plan(const sf::tensor_list& set) {
    return sf::plan<from, sf::layouts::ungated_fused>(set, "experts").has_value();
}
