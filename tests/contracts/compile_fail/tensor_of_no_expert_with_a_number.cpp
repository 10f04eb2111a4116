#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using made = sf::tensor<"{i}.router", sf::matrix<"router", "C", "H">>;
#else
using made = sf::tensor<"router", sf::matrix<"router", "C", "H">>;
#endif

static_assert(!made::description.name.empty());
