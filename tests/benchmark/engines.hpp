// Further layouts for the benchmarks, beside a family's own. Each has another kind of copies.
#ifndef SAFEFUSE_TESTS_BENCHMARK_ENGINES_HPP
#define SAFEFUSE_TESTS_BENCHMARK_ENGINES_HPP

#include <string_view>

#include <safefuse/layout/family.hpp>
#include <safefuse/models/standard.hpp>

namespace engines {

namespace sf = safefuse;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

template <class GateUp, class Down>
struct engine : sf::family<"engine", sf::layouts::per_expert,
                           sf::layout<sf::parameter_suffixes, sf::tensor<"gate_up_proj", GateUp>,
                                      sf::tensor<"down_proj", Down>>> {};
struct rows_in_turn : engine<sf::stack<sf::interleave<0, 1, gate, up>>, sf::stack<down>> {};
struct groups_in_turn : engine<sf::stack<sf::interleave<0, 64, up, gate>>, sf::stack<down>> {};
struct transposed : engine<sf::stack<sf::transpose<0, 1, sf::concat<0, gate, up>>>,
                           sf::stack<sf::transpose<0, 1, down>>> {};

}  // namespace engines

#endif
