#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using made = sf::layout<sf::as_modules, gate, up>;
#else
using made = sf::layout<sf::as_modules, sf::tensor<"{expert}.gate_proj", gate>, sf::tensor<"{expert}.up_proj", up>>;
#endif

static_assert(!made::description.tensors.empty());
