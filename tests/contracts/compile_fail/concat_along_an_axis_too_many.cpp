#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using term = sf::concat<2, gate, up>;
#else
using term = sf::concat<1, gate, up>;
#endif

static_assert(term::axis_count > 0);
