#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using made = sf::tensor<
    "{i}.w", sf::concat<0, gate, sf::part_of<sf::expert_range<"V", "E">, "vision_gate", "I", "H">>>;
#else
using made = sf::tensor<"{i}.w", sf::concat<0, gate, sf::part<"vision_gate", "I", "H">>>;
#endif

static_assert(!made::description.name.empty());
