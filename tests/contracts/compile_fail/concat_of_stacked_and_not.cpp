#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using term = sf::concat<1, sf::stack<gate>, sf::part<"cube", "I", "J", "H">>;
#else
using term = sf::concat<1, sf::stack<gate>, sf::stack<up>>;
#endif

static_assert(term::axis_count > 0);
