#include <safefuse/layout/family.hpp>
#include <safefuse/models/standard.hpp>

namespace sf = safefuse;

using q = sf::matrix<"q", "C", "H">;
using k = sf::matrix<"k", "C", "H">;
using one = sf::layout<sf::module_suffixes, sf::tensor<"q", q>, sf::tensor<"k", k>>;
#ifdef SAFEFUSE_FAIL
using other = sf::layout<sf::module_suffixes, sf::tensor<"qk", q>>;
#else
using other = sf::layout<sf::module_suffixes, sf::tensor<"qk", sf::concat<0, q, k>>>;
#endif

static_assert(sf::extra_module<sf::at_path<"self_attn">, one, other>::description.from_path ==
              "self_attn");
