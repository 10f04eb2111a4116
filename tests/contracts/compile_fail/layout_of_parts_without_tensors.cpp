#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using made = sf::layout<sf::module_suffixes, gate, up>;
#else
using made = sf::layout<sf::module_suffixes, sf::tensor<"{i}.gate_proj", gate>,
                        sf::tensor<"{i}.up_proj", up>>;
#endif

static_assert(!made::description.tensors.empty());
