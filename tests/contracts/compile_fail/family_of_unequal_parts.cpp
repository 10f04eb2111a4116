#include <string_view>

#include <safefuse/layout/family.hpp>
#include <safefuse/models/standard.hpp>

namespace sf = safefuse;

#ifdef SAFEFUSE_FAIL
using fused = sf::layouts::ungated_fused;
#else
using fused = sf::layouts::gate_up_fused;
#endif
struct mine : sf::family<"mine", sf::layouts::per_expert, fused> {};

static_assert(sf::description_of<mine>.name == "mine");
