#include <safefuse/result.hpp>

#include <initializer_list>
#include <string>
#include <type_traits>
#include <utility>

#include <safefuse/checkpoint.hpp>
#include <safefuse/tensor_file.hpp>

#include <doctest/doctest.h>

namespace sf = safefuse;

namespace {

// Frameworks have such types: of one in braces it makes another.
struct listing {
    listing() = default;
    listing(std::initializer_list<listing>) : is_list{true} {}
    bool is_list = false;
};

template <class T>
concept can_be_followed = requires(T made) { std::forward<T>(made).operator->(); };

struct lender {
    static constexpr bool lends_views = true;
};
struct no_lender {
    static constexpr bool lends_views = false;
};

}  // namespace

TEST_CASE("result: a value whose type can be made of a list of such is moved, not put into a list") {
    sf::result<listing> made = listing{};
    CHECK_FALSE(made->is_list);
    sf::result<listing> moved = std::move(made);
    CHECK_FALSE(moved->is_list);
}

TEST_CASE("result: of an owner that goes at once nothing is asked, of all else it may be") {
    static_assert(!can_be_followed<sf::result<lender>> && can_be_followed<sf::result<lender>&> &&
                  can_be_followed<const sf::result<lender>&>);
    static_assert(can_be_followed<sf::result<no_lender>> && can_be_followed<sf::result<int>>);
    static_assert(!can_be_followed<sf::result<sf::checkpoint>> && can_be_followed<sf::result<sf::checkpoint>&>);
    static_assert(!can_be_followed<sf::result<sf::tensor_file>> && can_be_followed<sf::result<sf::tensor_view>>);
    CHECK(sf::result<std::string>{std::string{"here"}}->size() == 4);
}
