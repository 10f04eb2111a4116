#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using names = sf::spelling<sf::spelled<sf::weight, "">, sf::spelled<sf::weight, ".weight">>;
#else
using names = sf::spelling<sf::spelled<sf::weight, "">, sf::spelled<sf::bias, "_bias">>;
#endif

static_assert(sizeof(names::fields) > 0);
