#if defined(__cpp_exceptions)  // throwing.hpp needs exceptions
#include <safefuse/core/throwing.hpp>

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <safefuse/io/mapped_file.hpp>

namespace sf = safefuse;

static_assert(std::is_nothrow_copy_constructible_v<sf::failure_exception> &&
              std::is_nothrow_move_constructible_v<sf::failure_exception>);
static_assert(std::is_base_of_v<std::exception, sf::failure_exception>);

namespace {

struct movable {
    explicit movable(int n) noexcept : number{n} {}
    movable(movable&& other) noexcept : number{std::exchange(other.number, 0)} {}
    movable& operator=(movable&&) noexcept = default;
    int number;
};

sf::result<movable> seven() { return movable{7}; }
sf::result<movable> none() {
    return sf::failure{.code = sf::errc::tensor_not_found, .file = "a.safetensors", .tensor = "t"};
}

}  // namespace

TEST_CASE("or_throw: gives the value, also a move-only one, or nothing for void") {
    CHECK(sf::or_throw(seven()).number == 7);
    auto kept = seven();
    CHECK(sf::or_throw(std::move(kept)).number == 7);
    CHECK_NOTHROW(sf::or_throw(sf::result<void>{}));
    static_assert(std::is_void_v<decltype(sf::or_throw(sf::result<void>{}))>);
    static_assert(std::is_same_v<decltype(sf::or_throw(seven())), movable>);
}

TEST_CASE("or_throw: throws the failure, with its message") {
    try {
        static_cast<void>(sf::or_throw(none()));
        FAIL("nothing was thrown");
    } catch (const sf::failure_exception& thrown) {
        CHECK(thrown.why().code == sf::errc::tensor_not_found);
        CHECK(thrown.why().tensor == "t");
        CHECK(std::string{thrown.what()} == "a.safetensors: tensor \"t\": no tensor of that name");
    }
    CHECK_THROWS_AS(sf::or_throw(sf::result<void>{sf::failure{.code = sf::errc::canceled}}),
                    std::exception);
    CHECK_THROWS_AS(static_cast<void>(sf::or_throw(sf::mapped_file::open("there/is/no/such.file"))),
                    sf::failure_exception);
}

TEST_CASE("failure_exception: a copy outlives the original") {
    std::exception_ptr held;
    try {
        static_cast<void>(sf::or_throw(none()));
    } catch (const sf::failure_exception& thrown) {
        const sf::failure_exception copy = thrown;
        CHECK(std::string_view{copy.what()} == thrown.what());
        CHECK(copy.what() != thrown.what());  // a copy of the characters
        held = std::current_exception();
    }
    try {
        std::rethrow_exception(held);
    } catch (const std::exception& thrown) {
        CHECK(std::string_view{thrown.what()}.find("no tensor of that name") !=
              std::string_view::npos);
    }
}

#endif
