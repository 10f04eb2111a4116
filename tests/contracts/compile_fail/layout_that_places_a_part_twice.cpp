#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using made = sf::layout<sf::parameter_suffixes, sf::tensor<"a", sf::stack<gate>>,
                        sf::tensor<"b", sf::stack<gate>>>;
#else
using made = sf::layout<sf::parameter_suffixes, sf::tensor<"a", sf::stack<gate>>,
                        sf::tensor<"b", sf::stack<up>>>;
#endif

static_assert(!made::description.tensors.empty());
