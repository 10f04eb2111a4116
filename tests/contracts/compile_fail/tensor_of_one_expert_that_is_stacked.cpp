#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using held = sf::tensor<"{i}.gate_proj", sf::stack<gate>>;
#else
using held = sf::tensor<"{i}.gate_proj", gate>;
#endif

static_assert(!held::description.name.empty());
