#include <safefuse/family.hpp>
#include <safefuse/layouts/forms.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
struct mine : sf::family<sf::layouts::per_expert, sf::layouts::ungated_fused> {};
#else
struct mine : sf::family<sf::layouts::per_expert, sf::layouts::gate_up_fused> {};
#endif
