#include <safefuse/layout/family.hpp>
#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
struct mine : sf::family<"", sf::layouts::per_expert, sf::layouts::gate_up_fused> {};
#else
struct mine : sf::family<"mine", sf::layouts::per_expert, sf::layouts::gate_up_fused> {};
#endif

static_assert(sf::description_of<mine>.from != nullptr);
