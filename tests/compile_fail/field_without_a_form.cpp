#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using made = sf::field_in_forms<"codes", sf::field_role::value>;
#else
using made = sf::field_in_forms<"codes", sf::field_role::value, sf::stored_as<1, 8>>;
#endif

static_assert(!made::description.name.empty());
