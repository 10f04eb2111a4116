#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using names = sf::suffixes<sf::suffix<sf::weight, "">, sf::suffix<sf::bias, "">>;
#else
using names = sf::suffixes<sf::suffix<sf::weight, "">, sf::suffix<sf::bias, "_bias">>;
#endif

static_assert(sizeof(names::fields) > 0);
