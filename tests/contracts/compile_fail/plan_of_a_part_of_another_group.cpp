#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>

namespace sf = safefuse;

#ifdef SAFEFUSE_FAIL
using gate = sf::part_of<sf::expert_range<"T">, "gate", "I", "H">;
#else
using gate = sf::layouts::gate;
#endif
using stacked = sf::layout<sf::parameter_suffixes, sf::tensor<"gate_proj", sf::stack<gate>>,
                           sf::tensor<"up_proj", sf::stack<sf::layouts::up>>,
                           sf::tensor<"down_proj", sf::stack<sf::layouts::down>>>;

auto planned(const sf::tensor_list& set) {
    return sf::plan<sf::layouts::per_expert, stacked>(set, "moe");
}
