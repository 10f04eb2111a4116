#include <safefuse/models/standard.hpp>

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

#ifdef SAFEFUSE_FAIL
using made = sf::quantized_field<"codes", sf::field_role::value,
                                 sf::transposed_form<sf::block_of<1, 8, 1, 1>>>;
#else
using made =
    sf::quantized_field<"codes", sf::field_role::value, sf::transposed_form<sf::block_of<1, 8, 1>>>;
#endif

static_assert(!made::description.name.empty());
