#include <safefuse/format/detail/json_cursor.hpp>

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

namespace sf = safefuse;
using sf::detail::json_cursor;
using sf::detail::json_kind;
using sf::detail::json_string;

namespace {

/// Parses a text with one value. The copy has the exact size, so that a sanitizer detects a read
/// past the end.
bool is_json(std::string_view text) {
    const std::vector<char> exact(text.begin(), text.end());
    json_cursor cursor{std::string_view{exact.data(), exact.size()}};
    const bool good = cursor.skip_value() && cursor.finish();
    CHECK(cursor.failed() != good);
    CHECK((cursor.error() == nullptr) == good);
    CHECK(cursor.offset() <= text.size());
    return good;
}

std::string decoded(std::string_view quoted) {
    json_cursor cursor{quoted};
    json_string string;
    REQUIRE(cursor.read_string(string));
    REQUIRE(cursor.finish());
    sf::vector<char> out;
    REQUIRE(string.decode(out));
    const std::string made{out.begin(), out.end()};
    CHECK(string == std::string_view{made});
    CHECK_FALSE(string == std::string_view{made + "x"});
    if (!made.empty()) CHECK_FALSE(string == std::string_view{made}.substr(1));
    return made;
}

}  // namespace

TEST_CASE("json_cursor: values of every kind are read one after the other") {
    json_cursor cursor{std::string_view{
        R"( {"a" : [1, 2 ,3], "b":{}, "c":null,"d":true,"e":false, "f":"\n","g":[ ] } )"}};
    json_string key, text;
    std::uint64_t number = 0;
    bool flag = false;
    REQUIRE(cursor.peek() == json_kind::object);
    REQUIRE(cursor.enter_object());
    REQUIRE(cursor.next_member(key));
    CHECK(key == "a");
    CHECK(cursor.peek() == json_kind::array);
    REQUIRE(cursor.enter_array());
    for (std::uint64_t i = 1; i <= 3; ++i) {
        REQUIRE(cursor.next_element());
        CHECK(cursor.peek() == json_kind::number);
        REQUIRE(cursor.read_unsigned(number));
        CHECK(number == i);
    }
    CHECK_FALSE(cursor.next_element());
    CHECK_FALSE(cursor.failed());
    REQUIRE(cursor.next_member(key));
    REQUIRE(cursor.enter_object());
    CHECK_FALSE(cursor.next_member(key));
    REQUIRE(cursor.next_member(key));
    CHECK(cursor.peek() == json_kind::null);
    REQUIRE(cursor.read_null());
    REQUIRE(cursor.next_member(key));
    CHECK(cursor.peek() == json_kind::boolean);
    REQUIRE(cursor.read_boolean(flag));
    CHECK(flag);
    REQUIRE(cursor.next_member(key));
    REQUIRE(cursor.read_boolean(flag));
    CHECK_FALSE(flag);
    REQUIRE(cursor.next_member(key));
    REQUIRE(cursor.read_string(text));
    CHECK(text == "\n");
    CHECK(text.raw == "\\n");
    REQUIRE(cursor.next_member(key));
    CHECK(key == "g");
    REQUIRE(cursor.enter_array());
    CHECK_FALSE(cursor.next_element());
    CHECK_FALSE(cursor.next_member(key));
    CHECK_FALSE(cursor.failed());
    CHECK(cursor.finish());
}

TEST_CASE(
    "json_cursor: a value of another kind is a type error at its place, and ends the reading") {
    json_cursor cursor{std::string_view{"[1, \"a\"]"}};
    std::uint64_t number = 0;
    REQUIRE(cursor.enter_array());
    REQUIRE(cursor.next_element());
    REQUIRE(cursor.read_unsigned(number));
    REQUIRE(cursor.next_element());
    CHECK_FALSE(cursor.read_unsigned(number));
    CHECK(cursor.failed());
    CHECK(cursor.is_type_error());
    CHECK(cursor.offset() == 4);
    CHECK(number == 1);
    json_string text;
    CHECK_FALSE(cursor.read_string(text));
    CHECK_FALSE(cursor.next_element());
    CHECK_FALSE(cursor.skip_value());
    CHECK_FALSE(cursor.finish());
    CHECK(cursor.peek() == json_kind::none);
    CHECK(cursor.offset() == 4);
}

TEST_CASE("json_cursor: valid and invalid JSON") {
    for (const std::string_view good : {"0",
                                        "-0",
                                        "1",
                                        "-1",
                                        "1.5",
                                        "1E+5",
                                        "1e-5",
                                        "0.0e0",
                                        "true",
                                        "false",
                                        "null",
                                        "\"\"",
                                        "[]",
                                        "{}",
                                        " [ ] ",
                                        "[[],[]]",
                                        "{\"a\":{\"a\":[{}]}}",
                                        "{\"a\":1,\"a\":2}",
                                        "\"\\u0000\\uD83D\\uDE00\\/\"",
                                        "1e308",
                                        "0e99999999999"})
        CHECK_MESSAGE(is_json(good), good);
    for (const std::string_view bad : {"",
                                       " ",
                                       "01",
                                       "-",
                                       "+1",
                                       "1.",
                                       ".1",
                                       "1e",
                                       "1e+",
                                       "1.e5",
                                       "0x1",
                                       "tru",
                                       "truE",
                                       "nul",
                                       "falsey",
                                       "NaN",
                                       "\"",
                                       "\"\\",
                                       "\"\\u",
                                       "\"\\u12\"",
                                       "\"\\u123g\"",
                                       "\"\\x\"",
                                       "\"\\ud800\"",
                                       "\"\\udc00\"",
                                       "\"\\ud800\\u0041\"",
                                       "\"\n\"",
                                       "[",
                                       "[1",
                                       "[1,",
                                       "[1,]",
                                       "[,]",
                                       "[1 2]",
                                       "{",
                                       "{\"a\"",
                                       "{\"a\":",
                                       "{\"a\":1",
                                       "{\"a\":1,",
                                       "{\"a\":1,}",
                                       "{,}",
                                       "{1:2}",
                                       "{\"a\" 1}",
                                       "{\"a\":1 \"b\":2}",
                                       "]",
                                       "}",
                                       "[}",
                                       "{]",
                                       "1 2",
                                       "[]]",
                                       "1e309",
                                       "-1e309",
                                       "'a'",
                                       "[1]x",
                                       "\x01",
                                       "\xEF\xBB\xBF[]"})
        CHECK_MESSAGE(!is_json(bad), bad);
}

TEST_CASE("json_cursor: 127 values may be nested in each other") {
    for (const auto& [open, close] : {std::pair{std::string{"["}, std::string{"]"}},
                                      std::pair{std::string{"{\"a\":"}, std::string{"}"}}}) {
        for (const int depth : {126, 127, 128, 100'000}) {
            std::string text;
            for (int i = 0; i < depth; ++i) text += open;
            text += open == "[" ? "" : "1";
            for (int i = 0; i < depth; ++i) text += close;
            CHECK(is_json(text) == (depth <= 127));
        }
    }
}

TEST_CASE("json_cursor: unsigned numbers are exact up to the last one") {
    const auto read = [](std::string_view text, std::uint64_t& out) {
        const std::vector<char> exact(text.begin(), text.end());
        json_cursor cursor{std::string_view{exact.data(), exact.size()}};
        return cursor.read_unsigned(out) && cursor.finish();
    };
    std::uint64_t number = 0;
    CHECK(read("18446744073709551615", number));
    CHECK(number == ~std::uint64_t{0});
    CHECK(read("10000000000000000000", number));
    CHECK(number == 10'000'000'000'000'000'000u);
    CHECK(read("0", number));
    CHECK(number == 0);
    for (const std::string_view bad :
         {"18446744073709551616", "18446744073709551620", "99999999999999999999",
          "100000000000000000000", "-1", "-0", "1.0", "1e3", "01", "00", "", "-", "\"1\"", "null"})
        CHECK_FALSE_MESSAGE(read(bad, number), bad);
    CHECK(number == 0);
}

TEST_CASE("json_cursor: strings are decoded") {
    CHECK(decoded("\"\"").empty());
    CHECK(decoded("\"plain \xC3\xA9 \x7f\"") == "plain \xC3\xA9 \x7f");
    CHECK(decoded(R"("\"\\\/\b\f\n\r\t")") == "\"\\/\b\f\n\r\t");
    CHECK(decoded(R"("\u0041\u00e9\u20AC\ud83d\ude00\u0000x")") ==
          std::string("A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\0x", 12));
    CHECK(decoded(R"("\ud800\udc00\udbff\udfff\uffff\ud7ff\ue000")") ==
          "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\xEF\xBF\xBF\xED\x9F\xBF\xEE\x80\x80");
}

TEST_CASE("json_cursor: the end of a string is found at any place, with any bytes around it") {
    std::mt19937 random{5};
    const auto up_to = [&](std::size_t last) {
        return std::uniform_int_distribution<std::size_t>{0, last}(random);
    };
    for (int round = 0; round < 20'000; ++round) {
        std::vector<char> text(up_to(40));
        for (char& c : text)
            c = static_cast<char>(up_to(3) == 0    ? 0x1E + up_to(8)
                                  : up_to(30) == 0 ? '\\'
                                                   : 0x20 + up_to(223));
        const char* const end = text.data() + text.size();
        const char* expected = text.data();
        while (expected != end && *expected != '"' && *expected != '\\' &&
               static_cast<unsigned char>(*expected) >= 0x20)
            ++expected;
        REQUIRE(sf::detail::find_string_stop(text.data(), end) == expected);
        REQUIRE(sf::detail::find_string_stop_in_words(text.data(), end) == expected);
    }
}

TEST_CASE("json_cursor: UTF-8 is checked as Rust checks it") {
    const auto prefix = [](std::string_view text) {
        const std::vector<char> exact(text.begin(), text.end());
        return sf::detail::utf8_prefix({exact.data(), exact.size()});
    };
    for (const std::string_view good :
         {"", "a", "\x7f", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
          "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"})
        for (std::size_t before = 0; before < 70; ++before)
            CHECK(prefix(std::string(before, 'x') + std::string{good} + "yz") ==
                  before + good.size() + 2);
    for (const std::string_view bad :
         {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2y", "\xE0\x9F\xBF", "\xE0\xA0",
          "\xE1\x80y", "\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF", "\xF0\x90\x80",
          "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xFE"})
        for (std::size_t before = 0; before < 70; ++before) {
            CHECK(prefix(std::string(before, 'x') + std::string{bad}) == before);
            CHECK(prefix(std::string(before, 'x') + std::string{bad} + std::string(40, 'y')) ==
                  before);
        }
}
