#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using made = sf::layout<sf::module_suffixes, sf::tensor<"{i}.w", gate>, sf::tensor<"{i}.w", up>>;
#else
using made = sf::layout<
    sf::module_suffixes, sf::tensor<"{i}.w", gate>,
    sf::tensor<"{i}.w", sf::part_of<sf::expert_range<"V", "E">, "vision_gate", "J", "H">>>;
#endif

static_assert(!made::description.tensors.empty());
