#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using term = sf::concat<0, gate, sf::part<"vector", "I">>;
#else
using term = sf::concat<0, gate, up>;
#endif

static_assert(term::axis_count > 0);
