#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using made = sf::field<"scale", sf::field_role::scale, 1, 2, 3, 4>;
#else
using made = sf::field<"scale", sf::field_role::scale, 1, 2, 3>;
#endif

static_assert(!made::description.name.empty());
