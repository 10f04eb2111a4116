#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using term = sf::flatten<1, gate>;
#else
using term = sf::flatten<0, gate>;
#endif

static_assert(term::axis_count > 0);
