#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using made = sf::layout<sf::as_modules, sf::tensor<"{expert}.w", gate>, sf::tensor<"{expert}.w", up>>;
#else
using made = sf::layout<sf::as_modules, sf::tensor<"{expert}.w", gate>,
                        sf::tensor<"{expert}.w", sf::part_of<sf::group_of_experts<"V", "E">, "vision_gate", "J", "H">>>;
#endif

static_assert(!made::description.tensors.empty());
