#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using term = sf::transpose<0, 2, gate>;
#else
using term = sf::transpose<0, 1, gate>;
#endif

static_assert(term::axis_count > 0);
