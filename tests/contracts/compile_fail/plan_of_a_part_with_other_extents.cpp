#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using turned = sf::part<"gate", "H", "I">;
#else
using turned = sf::part<"gate", "I", "H">;
#endif

using to =
    sf::layout<sf::parameter_suffixes, sf::tensor<"gate_proj", sf::stack<turned>>,
               sf::tensor<"up_proj", sf::stack<up>>, sf::tensor<"down_proj", sf::stack<down>>>;
bool can_plan(const sf::tensor_list& set) {
    return sf::plan<sf::layouts::per_expert, to>(set, "experts").has_value();
}
