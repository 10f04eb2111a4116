#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>

namespace sf = safefuse;

#ifdef SAFEFUSE_FAIL
using from = sf::tensor<"{i}.gate_proj", sf::layouts::gate>;
#else
using from = sf::layouts::per_expert;
#endif

bool can_plan(const sf::tensor_list& tensors) {
    return sf::plan<from, sf::layouts::gate_up_fused>(tensors, "experts").has_value();
}
