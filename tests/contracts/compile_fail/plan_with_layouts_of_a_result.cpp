#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/read/checkpoint.hpp>

namespace sf = safefuse;

bool can_plan(const sf::result<sf::checkpoint>& checkpoint) {
    using sf::layouts::gate_up_fused, sf::layouts::per_expert;
#ifdef SAFEFUSE_FAIL
    return sf::plan<per_expert, gate_up_fused>(checkpoint, "experts").has_value();
#else
    return sf::plan<per_expert, gate_up_fused>(*checkpoint, "experts").has_value();
#endif
}
