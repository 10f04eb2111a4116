#include <safefuse/core/result.hpp>

#include <initializer_list>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <utility>

#include <safefuse/read/checkpoint.hpp>
#include <safefuse/read/tensor_file.hpp>

#include <doctest/doctest.h>

namespace sf = safefuse;

namespace {

// Framework types often behave like this: brace initialisation wraps an object instead of moving
// it.
struct listing {
    listing() = default;
    listing(std::initializer_list<listing>) : is_list{true} {}
    bool is_list = false;
};

template <class T>
concept can_be_followed = requires(T made) { std::forward<T>(made).operator->(); };

struct node {
    int value = 0;
    std::unique_ptr<sf::result<node>> next;
};

struct lender {
    static constexpr bool lends_views = true;
};
struct no_lender {
    static constexpr bool lends_views = false;
};

}  // namespace

TEST_CASE(
    "result: a value whose type has a constructor from a list of itself is moved, not put into "
    "a list") {
    sf::result<listing> made = listing{};
    CHECK_FALSE(made->is_list);
    sf::result<listing> moved = std::move(made);
    CHECK_FALSE(moved->is_list);
}

TEST_CASE(
    "result: operator-> does not compile on a temporary owner, and compiles in every other case") {
    static_assert(!can_be_followed<sf::result<lender>> && can_be_followed<sf::result<lender>&> &&
                  can_be_followed<const sf::result<lender>&>);
    static_assert(can_be_followed<sf::result<no_lender>> && can_be_followed<sf::result<int>>);
    static_assert(!can_be_followed<sf::result<sf::checkpoint>> &&
                  can_be_followed<sf::result<sf::checkpoint>&>);
    static_assert(!can_be_followed<sf::result<sf::tensor_file>> &&
                  can_be_followed<sf::result<sf::tensor_view>>);
    CHECK(sf::result<std::string> { std::string{"here"} } -> size() == 4);
}

TEST_CASE("result: the assigned value may be part of the value that it holds") {
    sf::result<node> list{
        node{1, std::make_unique<sf::result<node>>(
                    node{2, std::make_unique<sf::result<node>>(sf::failure{.file = "a file"})})}};
    list = std::move(*list->next);
    REQUIRE(list);
    CHECK(list->value == 2);
    list = std::move(*list->next);
    REQUIRE_FALSE(list);
    CHECK(list.error().file == "a file");
}

TEST_CASE("result: a move-only value can only be moved in") {
    CHECK(std::is_constructible_v<sf::result<node>, node>);
    CHECK_FALSE(std::is_constructible_v<sf::result<node>, const node&>);
    CHECK(std::is_constructible_v<sf::result<int>, const int&>);
}

TEST_CASE("errc: every code has a sentence and a name of one word, and no two are the same") {
    const auto last = static_cast<int>(sf::errc::ambiguous_form);
    CHECK(sf::name(static_cast<sf::errc>(last + 1)) == "unknown");  // nothing is after it
    std::set<std::string> names, sentences;
    for (int i = 0; i <= last; ++i) {
        const auto code = static_cast<sf::errc>(i);
        const std::string name{sf::name(code)};
        CAPTURE(name);
        CHECK(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string::npos);
        CHECK(names.insert(name).second);
        CHECK(sentences.insert(std::string{sf::sentence(code)}).second);
    }
    CHECK_FALSE(names.contains("unknown"));
    CHECK_FALSE(sentences.contains("unknown failure"));
    static_assert(sf::name(sf::errc::tensor_not_in_shard) == "tensor_not_in_shard");
}

TEST_CASE("failure: the message names the axis") {
    CHECK(sf::failure{.code = sf::errc::slice_cuts_byte, .tensor = "w", .axis = 2}.message() ==
          "tensor \"w\": the slice begins or ends inside a byte, axis 2");
    const sf::failure whole{.code = sf::errc::out_of_range,
                            .file = "a file",
                            .tensor = "w",
                            .detail = "index 4 is out of range of axis 0, which has 4 entries",
                            .axis = 0,
                            .expected = 4,
                            .actual = 4};
    CHECK(whole.message() ==
          "a file: tensor \"w\": index 4 is out of range of axis 0, which has 4 "
          "entries");
}

TEST_CASE("text: a part of itself can be appended, with any capacity") {
    for (std::size_t size = 1; size < 70; ++size)
        for (std::size_t from = 0; from < size; from += 7) {
            std::string wanted(size, 'x');
            for (std::size_t i = 0; i < size; ++i) wanted[i] = static_cast<char>('a' + i % 26);
            sf::text text{wanted};
            for (int times = 0; times < 3; ++times) {
                const std::string part = wanted.substr(from);
                REQUIRE(text.append(text.view().substr(from)));
                wanted += part;
                REQUIRE(text == wanted);
            }
        }
}

TEST_CASE("array: it can be filled with one of its own elements") {
    sf::vector<std::size_t> values;
    REQUIRE(values.push(7));
    for (std::size_t count = 2; count < 5000; count *= 3) {
        REQUIRE(values.resize(count, values[0]));
        for (const std::size_t each : values) REQUIRE(each == 7);
    }
}
