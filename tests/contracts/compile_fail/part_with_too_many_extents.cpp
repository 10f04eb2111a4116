#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using term = sf::part<"gate", "A", "B", "C", "D">;
#else
using term = sf::part<"gate", "A", "B", "C">;
#endif

static_assert(term::axis_count > 0);
