#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using made = sf::stack<sf::matrix<"router", "C", "H">>;
#else
using made = sf::stack<sf::part<"router", "C", "H">>;
#endif

static_assert(made::is_stacked);
