// What each term does, on one page. Two experts (E = 2), I = 2, H = 3. An element spells where it
// comes from: u012 is up, expert 0, row 1, column 2. Compare the grids by eye.
#include <safefuse/layout/layout.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/run/fuse.hpp>

#include "../../support/laws.hpp"

namespace sf = safefuse;
using sf::layouts::down;  // [H, I]
using sf::layouts::gate;  // [I, H]
using sf::layouts::up;    // [I, H]

namespace {

template <class... Tensor>
using layout = sf::layout<sf::suffixes<sf::suffix<sf::weight, "">>, Tensor...>;

/// Adds a matrix of each expert. An F32 is four letters here: part, expert, row, column.
void add(laws::packed_set& set, const std::string& part, char rows, char columns) {
    for (const char expert : {'0', '1'}) {
        std::string elements;
        for (char r = '0'; r < '0' + rows; ++r)
            for (char c = '0'; c < '0' + columns; ++c) elements += {part[0], expert, r, c};
        set.add("m." + std::string{expert} + "." + part, sf::dtype::f32,
                {static_cast<laws::u64>(rows), static_cast<laws::u64>(columns)},
                std::as_bytes(std::span{elements}));
    }
}

/// What a plan from one layout to another makes: each output's name and shape, then its rows.
template <class From, class To>
std::string grid() {
    laws::packed_set set;
    for (const sf::tensor_description& tensor : From::description.tensors) {
        const std::string part{tensor.name.substr(4)};
        part == "down" ? add(set, part, 3, 2) : add(set, part, 2, 3);
    }
    const auto plan = sf::plan<From, To>(set, "m");
    REQUIRE(plan);
    std::string out;
    for (const sf::plan_output& output : plan->outputs()) {
        std::string elements(static_cast<std::size_t>(output.size_bytes), '?');
        REQUIRE(sf::fuse(*plan, output.local_name, std::as_writable_bytes(std::span{elements})));
        out += std::string{output.local_name} + ":";
        for (const laws::u64 extent : output.shape) out += " " + std::to_string(extent);
        const std::size_t row = 4 * static_cast<std::size_t>(output.shape.back());
        for (std::size_t i = 0; i < elements.size(); i += 4)
            out += (i % row == 0 ? "\n" : " ") + elements.substr(i, 4);
        out += "\n";
    }
    return out;
}

using gates = layout<sf::tensor<"{i}.gate", gate>>;
using downs = layout<sf::tensor<"{i}.down", down>>;
using gates_and_ups = layout<sf::tensor<"{i}.gate", gate>, sf::tensor<"{i}.up", up>>;

}  // namespace

TEST_CASE("golden: a part is a matrix of each expert, as it is") {
    using to = layout<sf::tensor<"{i}.copy", gate>>;
    CHECK(grid<gates, to>() ==
          "0.copy: 2 3\n"
          "g000 g001 g002\n"
          "g010 g011 g012\n"
          "1.copy: 2 3\n"
          "g100 g101 g102\n"
          "g110 g111 g112\n");
}

TEST_CASE("golden: stack puts the experts one after the other, along a new first axis") {
    using to = layout<sf::tensor<"w", sf::stack<gate>>>;
    CHECK(grid<gates, to>() ==
          "w: 2 2 3\n"
          "g000 g001 g002\n"
          "g010 g011 g012\n"
          "g100 g101 g102\n"
          "g110 g111 g112\n");
}

TEST_CASE("golden: concat puts gate's rows before up's, for each expert") {
    using to = layout<sf::tensor<"w", sf::stack<sf::concat<0, gate, up>>>>;
    CHECK(grid<gates_and_ups, to>() ==
          "w: 2 4 3\n"
          "g000 g001 g002\n"
          "g010 g011 g012\n"
          "u000 u001 u002\n"
          "u010 u011 u012\n"
          "g100 g101 g102\n"
          "g110 g111 g112\n"
          "u100 u101 u102\n"
          "u110 u111 u112\n");
}

TEST_CASE("golden: concat along the columns puts up to the right of gate") {
    using to = layout<sf::tensor<"w", sf::stack<sf::concat<1, gate, up>>>>;
    CHECK(grid<gates_and_ups, to>() ==
          "w: 2 2 6\n"
          "g000 g001 g002 u000 u001 u002\n"
          "g010 g011 g012 u010 u011 u012\n"
          "g100 g101 g102 u100 u101 u102\n"
          "g110 g111 g112 u110 u111 u112\n");
}

TEST_CASE("golden: interleave takes one row of gate and one row of up by turns") {
    using to = layout<sf::tensor<"w", sf::stack<sf::interleave<0, 1, gate, up>>>>;
    CHECK(grid<gates_and_ups, to>() ==
          "w: 2 4 3\n"
          "g000 g001 g002\n"
          "u000 u001 u002\n"
          "g010 g011 g012\n"
          "u010 u011 u012\n"
          "g100 g101 g102\n"
          "u100 u101 u102\n"
          "g110 g111 g112\n"
          "u110 u111 u112\n");
}

TEST_CASE("golden: transpose makes rows of columns") {
    using to = layout<sf::tensor<"w", sf::stack<sf::transpose<0, 1, down>>>>;
    CHECK(grid<downs, to>() ==
          "w: 2 2 3\n"
          "d000 d010 d020\n"
          "d001 d011 d021\n"
          "d100 d110 d120\n"
          "d101 d111 d121\n");
}

TEST_CASE("golden: flatten makes one axis of two, here the rows of all experts") {
    using to = layout<sf::tensor<"w", sf::flatten<0, sf::stack<gate>>>>;
    CHECK(grid<gates, to>() ==
          "w: 4 3\n"
          "g000 g001 g002\n"
          "g010 g011 g012\n"
          "g100 g101 g102\n"
          "g110 g111 g112\n");
}
