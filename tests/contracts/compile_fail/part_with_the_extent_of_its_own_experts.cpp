#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using made = sf::part_of<sf::expert_range<"V", "E">, "gate", "V", "H">;
#else
using made = sf::part_of<sf::expert_range<"V", "E">, "gate", "J", "H">;
#endif

static_assert(!made::name.empty());
