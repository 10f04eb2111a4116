#include <safefuse/format/header.hpp>
#include <safefuse/format/header_writer.hpp>

#include <algorithm>
#include <cstdint>
#include <random>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "../../support/support.hpp"

namespace sf = safefuse;
using support::bytes_of;
using support::framed;

namespace {

sf::result<sf::header> parse(const std::string& file, const sf::read_options& options = {}) {
    return sf::header::parse(bytes_of(file), file.size(), options);
}

/// The expected verdict for a header, with the default options and with the reference's.
struct row {
    std::string_view json;
    std::size_t data_bytes;
    std::string_view verdict;              ///< "ok" or the name of an errc, see code_of
    std::string_view with_reference = {};  ///< if different
};

std::string_view code_of(const sf::result<sf::header>& parsed) {
    if (parsed) return "ok";
    switch (parsed.error().code) {
    case sf::errc::header_too_short: return "too_short";
    case sf::errc::header_too_large: return "too_large";
    case sf::errc::header_past_end: return "past_end";
    case sf::errc::header_not_utf8: return "not_utf8";
    case sf::errc::header_not_json: return "not_json";
    case sf::errc::header_bad_entry: return "bad_entry";
    case sf::errc::unknown_dtype: return "dtype";
    case sf::errc::duplicate_tensor: return "twice";
    case sf::errc::bad_offsets: return "offsets";
    case sf::errc::size_overflow: return "overflow";
    case sf::errc::partial_byte: return "partial";
    case sf::errc::size_mismatch: return "mismatch";
    case sf::errc::data_truncated: return "truncated";
    case sf::errc::trailing_bytes: return "trailing";
    default: return "?";
    }
}

void check(std::span<const row> rows) {
    for (const row& each : rows) {
        CAPTURE(each.json);
        const std::string file = framed(each.json, std::string(each.data_bytes, 'x'));
        CHECK(code_of(parse(file)) == each.verdict);
        const std::string_view with_reference =
            each.with_reference.empty() ? each.verdict : each.with_reference;
        CHECK(code_of(parse(file, sf::read_options::reference())) == with_reference);
    }
}

/// {"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}} with another dtype, shape, offsets or
/// extra field.
std::string one(std::string_view type, std::string_view shape, std::string_view offsets,
                std::string_view extra = {}) {
    return "{\"t\":{\"dtype\":" + std::string{type} + ",\"shape\":" + std::string{shape} +
           ",\"data_offsets\":" + std::string{offsets} + std::string{extra} + "}}";
}
std::string with_extra(std::string_view value) {
    return one("\"U8\"", "[4]", "[0,4]", ",\"x\":" + std::string{value});
}

std::string nested(int depth) {
    const std::size_t levels = static_cast<std::size_t>(depth);
    return std::string(levels, '[') + std::string(levels, ']');
}

}  // namespace

// What is accepted and refused
// ------------------------------------------------------------------------------------------

TEST_CASE("header: framing") {
    CHECK(code_of(parse("")) == "too_short");
    CHECK(code_of(parse(std::string(7, '\0'))) == "too_short");
    CHECK(code_of(parse(std::string(8, '\0'))) == "not_json");
    CHECK(code_of(parse(std::string("\x3c\0\0\0\0\0\0\0", 8))) == "past_end");
    CHECK(code_of(parse(framed("{}").substr(0, 9))) == "past_end");
    for (const std::uint64_t length : {std::uint64_t{100'000'001}, std::uint64_t{1} << 63,
                                       ~std::uint64_t{7}, ~std::uint64_t{0}}) {
        std::string file(16, '\0');
        for (std::size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(length >> 8 * i & 255);
        // not past_end, although the file is also too short
        CHECK(code_of(parse(file)) == "too_large");
    }
    using namespace std::string_view_literals;
    const row rows[] = {
        {"{}", 0, "ok"},           {"{}\r \t\n", 0, "ok"},
        {"\t\n{}", 0, "ok"},       {"\t\n{}\r ", 0, "ok"},
        {" {}", 0, "ok"},          {"{}\0"sv, 0, "not_json"},
        {"\0{}"sv, 0, "not_json"}, {"{}x", 0, "not_json"},
        {"{}\f", 0, "not_json"},   {"\xEF\xBB\xBF{}", 0, "not_json"},
        {"[]", 0, "bad_entry"},    {"null", 0, "bad_entry"},
        {"\"a\"", 0, "bad_entry"}, {"1", 0, "bad_entry"},
        {"{", 0, "not_json"},      {"{}", 1, "trailing"},
    };
    check(rows);
}

TEST_CASE("header: offsets and shapes") {
    const row rows[] = {
        {R"({"t":{"shape":[4],"data_offsets":[0,4],"dtype":"U8"}})", 4, "ok"},
        {R"({"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
         8, "ok"},
        {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}})",
         9, "offsets"},
        {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})", 8, "offsets"},
        {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
         4, "offsets"},
        {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
         6, "offsets"},
        {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}})", 4, "offsets"},
        {R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}})",
         4, "offsets"},
        {R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 3, "truncated"},
        {R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 5, "trailing"},
        {R"({"t":{"dtype":"U8","shape":[4194304],"data_offsets":[0,4194304]}})", 1, "truncated"},
        {R"({"t":{"dtype":"U8","shape":[16],"data_offsets":[18446744073709551516,18446744073709551532]}})",
         4, "offsets"},
        {R"({"t":{"dtype":"I32","shape":[2,2],"data_offsets":[0,4]}})", 4, "mismatch"},
        {R"({"t":{"dtype":"I32","shape":[2,2],"data_offsets":[0,20]}})", 20, "mismatch"},
        {R"({"t":{"dtype":"I32","shape":[],"data_offsets":[0,4]}})", 4, "ok"},
        {R"({"t":{"dtype":"I32","shape":[],"data_offsets":[0,0]}})", 0, "mismatch"},
        {R"({"t":{"dtype":"I32","shape":[2,0],"data_offsets":[0,0]}})", 0, "ok"},
        {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"t":{"dtype":"I32","shape":[2,0],"data_offsets":[4,4]}})",
         4, "ok"},
        {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"t":{"dtype":"I32","shape":[0],"data_offsets":[4,4]},"u":{"dtype":"U8","shape":[0],"data_offsets":[4,4]},"b":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}})",
         5, "ok"},
        {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"t":{"dtype":"I32","shape":[0],"data_offsets":[2,2]}})",
         4, "offsets"},
        {R"({"t":{"dtype":"I32","shape":[2,0],"data_offsets":[0,4]}})", 4, "mismatch"},
        {R"({"t":{"dtype":"I32","shape":[0,18446744073709551615,18446744073709551615],"data_offsets":[0,0]}})",
         0, "ok"},
        {R"({"t":{"dtype":"I32","shape":[18446744073709551615,18446744073709551615,0],"data_offsets":[0,0]}})",
         0, "overflow"},
        {R"({"t":{"dtype":"I32","shape":[2,18446744073709551614],"data_offsets":[0,16]}})", 16,
         "overflow"},
        {R"({"t":{"dtype":"I32","shape":[2,9223372036854775807],"data_offsets":[0,16]}})", 16,
         "overflow"},
        {R"({"t":{"dtype":"I32","shape":[65536,65536,65536,65536],"data_offsets":[0,0]}})", 0,
         "overflow"},
        {R"({"t":{"dtype":"U8","shape":[2305843009213693952],"data_offsets":[0,2305843009213693952]}})",
         0, "overflow"},
        {R"({"t":{"dtype":"U8","shape":[2305843009213693951],"data_offsets":[0,2305843009213693951]}})",
         0, "truncated"},
    };
    check(rows);
    for (const std::string_view extent : {"18446744073709551616", "-1", "-0", "4.0", "4e0", "\"4\"",
                                          "null", "99999999999999999999"})
        check({{row{one("\"U8\"", "[" + std::string{extent} + "]", "[0,4]"), 4, "bad_entry"}}});
    for (const std::string_view extent : {"04", "+4", "0x4", "4.", "-", "00"}) {
        const std::string as_extent = one("\"U8\"", "[" + std::string{extent} + "]", "[0,4]");
        const std::string as_offset = one("\"U8\"", "[4]", "[0," + std::string{extent} + "]");
        const std::string as_begin = one("\"U8\"", "[4]", "[" + std::string{extent} + ",4]");
        check({{row{as_extent, 4, "not_json"}, row{as_offset, 4, "not_json"},
                row{as_begin, 4, "not_json"}}});
    }
    for (const std::string_view offsets :
         {"[]", "[0]", "[0,1,4]", "{}", "null", "4", "[0.0,4]", "[-0,4]", "[0,\"4\"]"})
        check({{row{one("\"U8\"", "[4]", offsets), 4, "bad_entry"}}});
    for (const std::size_t rank : {8u, 9u, 64u, 1000u, 100'000u}) {
        std::string shape = "[4";
        for (std::size_t i = 1; i < rank; ++i) shape += ",1";
        const std::string file = framed(one("\"U8\"", shape + "]", "[0,4]"), "data");
        const auto parsed = parse(file);
        REQUIRE(parsed);
        CHECK((*parsed)[0].shape.size() == rank);
    }
}

TEST_CASE("header: dtypes") {
    for (std::size_t i = 0; i < sf::dtype_count; ++i) {
        const auto type = static_cast<sf::dtype>(i);
        const std::string spelled = "\"" + std::string{sf::name(type)} + "\"";
        const std::uint64_t size_bytes = sf::bits(type);  // of 8 elements
        const std::string file =
            framed(one(spelled, "[8]", "[0," + std::to_string(size_bytes) + "]"),
                   std::string(size_bytes, '\2'));
        const auto parsed = parse(file);
        REQUIRE(parsed);
        CHECK((*parsed)[0].type == type);
    }
    for (const std::string_view bad : {"u8", "FP8", "BOOL8", "F8_E4M3FN", "I4", "U4", "F128",
                                       "C128", "Q4_0", "NF4", "F32 ", "", "F3", "F322"})
        check({{row{one("\"" + std::string{bad} + "\"", "[4]", "[0,4]"), 4, "dtype"}}});
    const row rows[] = {
        {R"({"t":{"dtype":"\u0055\u0038","shape":[4],"data_offsets":[0,4]}})", 4, "ok"},
        {R"({"t":{"dtype":8,"shape":[4],"data_offsets":[0,4]}})", 4, "bad_entry"},
        {R"({"t":{"dtype":null,"shape":[4],"data_offsets":[0,4]}})", 4, "bad_entry"},
        {R"({"t":{"dtype":{"U8":null},"shape":[4],"data_offsets":[0,4]}})", 4, "bad_entry", "ok"},
        {R"({"t":{"dtype":{"\u0055\u0038" : null},"shape":[4],"data_offsets":[0,4]}})", 4,
         "bad_entry", "ok"},
        {R"({"t":{"dtype":{"U8":{}},"shape":[4],"data_offsets":[0,4]}})", 4, "bad_entry"},
        {R"({"t":{"dtype":{"U8":1},"shape":[4],"data_offsets":[0,4]}})", 4, "bad_entry"},
        {R"({"t":{"dtype":{},"shape":[4],"data_offsets":[0,4]}})", 4, "bad_entry"},
        {R"({"t":{"dtype":{"U8":null,"U8":null},"shape":[4],"data_offsets":[0,4]}})", 4,
         "bad_entry"},
        {R"({"t":{"dtype":{"U9":null},"shape":[4],"data_offsets":[0,4]}})", 4, "bad_entry",
         "dtype"},
    };
    check(rows);
}

TEST_CASE("header: elements of less than a byte must fill their last byte") {
    check({{row{one("\"F4\"", "[8]", "[0,4]"), 4, "ok"},
            row{one("\"F6_E2M3\"", "[4]", "[0,3]"), 3, "ok"},
            row{one("\"F6_E3M2\"", "[2,2]", "[0,3]"), 3, "ok"},
            row{one("\"F4\"", "[0]", "[0,0]"), 0, "ok"},
            row{one("\"F4\"", "[3]", "[0,1]"), 1, "partial"},
            row{one("\"F4\"", "[3]", "[0,2]"), 2, "partial"},
            row{one("\"F4\"", "[]", "[0,1]"), 1, "partial"},
            row{one("\"F6_E2M3\"", "[2]", "[0,2]"), 2, "partial"},
            row{one("\"F4\"", "[1,2]", "[0,2]"), 2, "mismatch"}}});
}

TEST_CASE("header: JSON") {
    using namespace std::string_view_literals;
    const row rows[] = {
        {"{\n  \"t\" : {\r\n\t\"dtype\" : \"U8\" , \"shape\" : [ 4 ] ,\n"
         " \"data_offsets\" : [ 0 , 4 ] }\n}",
         4, "ok"},
        {R"({"t":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, "bad_entry"},
        {R"({"t":{"dtype":"U8","shape":[4],"sh\u0061pe":[4],"data_offsets":[0,4]}})", 4,
         "bad_entry"},
        {R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"data_offsets":[0,4]}})", 4,
         "bad_entry"},
        {R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1,"x":[{"y":null}]}})", 4,
         "ok"},
        {R"({"t":{"dtype":"U8","shape":[4]}})", 4, "bad_entry"},
        {R"({"t":{"dtype":"U8","data_offsets":[0,4]}})", 4, "bad_entry"},
        {R"({"t":{"shape":[4],"data_offsets":[0,4]}})", 4, "bad_entry"},
        {R"({"t":{"dtype":"U8","shape":[0]}})", 0, "bad_entry"},
        {R"({"t":null})", 0, "bad_entry"},
        {R"({"t":"U8"})", 0, "bad_entry"},
        {R"({"t":["U8",[4],[0,4]]})", 4, "bad_entry", "ok"},
        {R"({"t":[{"U8":null},[4],[0,4]]})", 4, "bad_entry", "ok"},
        {R"({"t":["U8",[4]]})", 4, "bad_entry"},
        {R"({"t":["U8",[4],[0,4],1]})", 4, "bad_entry"},
        {R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
         4, "twice", "ok"},
        {R"({"t":{"dtype":"I8","shape":[9],"data_offsets":[7,9]},"\u0074":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
         4, "twice", "ok"},
        {R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"t":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
         8, "twice", "offsets"},
        {R"({"__metadata__":{},"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, "ok"},
        {R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"__metadata__":{"a":"b"}})", 4,
         "ok"},
        {R"({"__metadata__":null})", 0, "ok"},
        {R"({"__met\u0061data__":{"a":"b"}})", 0, "ok"},
        {R"({"__metadata__":{"a":"b","a":"c"}})", 0, "ok"},
        {R"({"__metadata__":{},"__metadata__":{}})", 0, "bad_entry"},
        {R"({"__metadata__":null,"__met\u0061data__":null})", 0, "bad_entry"},
        {R"({"__metadata__":{"a":1}})", 0, "bad_entry"},
        {R"({"__metadata__":{"a":null}})", 0, "bad_entry"},
        {R"({"__metadata__":{"a":{}}})", 0, "bad_entry"},
        {R"({"__metadata__":{"a":[]}})", 0, "bad_entry"},
        {R"({"__metadata__":"a"})", 0, "bad_entry"},
        {R"({"__metadata__":[]})", 0, "bad_entry"},
        {R"({"__metadata__":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, "bad_entry"},
        {R"({"__metadata":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, "ok"},
        {R"({"":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, "ok"},
        {"{\"a\x7f\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "ok"},
        {"{\"\xC3\xA9\xF0\x9F\x98\x80\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
         4, "ok"},
        {R"({"\u0000\ud83d\ude00\"\\\/\b\f\n\r\t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
         4, "ok"},
        {R"({"\ud83d":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, "not_json"},
        {R"({"\ude00\ud83d":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, "not_json"},
        {R"({"\ud83d\n":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, "not_json"},
        {R"({"\x41":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, "not_json"},
        {R"({"\u00g1":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, "not_json"},
        {"{\"a\nb\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "not_json"},
        {"{\"a\0b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}"sv, 4, "not_json"},
        {"{\"a\xFF\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "not_utf8"},
        {"{\"\xED\xA0\x80\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
         "not_utf8"},
        {"{\"\xC0\x80\":1}", 0, "not_utf8"},
        {"{x\xFF", 0, "not_utf8"},
        {R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4],}})", 4, "not_json"},
        {R"({"t":{"dtype":"U8","shape":[4,],"data_offsets":[0,4]}})", 4, "not_json"},
        {R"({"t":{"dtype":"U8","shape":[,4],"data_offsets":[0,4]}})", 4, "not_json"},
        {R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},})", 4, "not_json"},
        {R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}})", 4, "not_json"},
        {R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]} "u":1})", 4, "not_json"},
        {R"({'t':{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, "not_json"},
        {R"({/**/"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, "not_json"},
        {R"({t:{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, "not_json"},
        {R"({"t" {"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, "not_json"},
        {R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4])", 4, "not_json"},
        {R"({"t":{"dtype":"U8)", 4, "not_json"},
        {R"({"t":{"dtype":"U8\)", 4, "not_json"},
        {R"({"t)", 4, "not_json"},
    };
    check(rows);
    for (const std::string_view value :
         {"0", "-0", "1.5e-7", "1e308", "0e999", "1e-999", "true", "false", "null",
          "\"\\ud83d\\ude00\"", "[]", "{}", "[1,[2,{\"a\":[]}]]", "1.7976931348623157e308"})
        check({{row{with_extra(value), 4, "ok"}}});
    for (const std::string_view value : {"1e999",
                                         "-1e999",
                                         "1.7976931348623158e308",
                                         "NaN",
                                         "Infinity",
                                         "-",
                                         "01",
                                         "1.",
                                         ".5",
                                         "1e",
                                         "1e+",
                                         "+1",
                                         "tru",
                                         "nulll",
                                         "True",
                                         "\"\\ud83d\"",
                                         "\"\\x\"",
                                         "[1,]",
                                         "{\"a\"}",
                                         "{\"a\":}",
                                         "[1 2]",
                                         "{\"a\":1,}",
                                         "1e99999999999999999999",
                                         "\"\t\"",
                                         "",
                                         "]",
                                         "{1:2}"})
        check({{row{with_extra(value), 4, "not_json"}}});
    check({{row{with_extra("1" + std::string(308, '0')), 4, "ok"},
            row{with_extra("1" + std::string(309, '0')), 4, "not_json"},
            row{with_extra(std::string(308, '9') + ".5e0"), 4, "ok"},
            row{with_extra("0." + std::string(500, '1')), 4, "ok"}}});
    check({{row{with_extra(nested(125)), 4, "ok"}, row{with_extra(nested(126)), 4, "not_json"},
            row{with_extra(std::string(200'000, '[')), 4, "not_json"}}});
    const std::string long_name(5000, 'n');
    check({{row{"{\"" + long_name + "\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
                4, "ok"}}});
}

// Failures
// ------------------------------------------------------------------------------------------

TEST_CASE("header: a failure says what, where and by how much") {
    const auto failure_of = [](const std::string& file, sf::read_options options = {}) {
        auto parsed = parse(file, options);
        REQUIRE_FALSE(parsed);
        return std::move(parsed.error());
    };
    const auto where = [](std::string_view json, std::string_view part) {
        return 8 + json.find(part);
    };
    {
        const auto error = failure_of("abc");
        CHECK(error.code == sf::errc::header_too_short);
        CHECK(error.expected == 8);
        CHECK(error.actual == 3);
    }
    {
        const auto error = failure_of(framed("{}    "), {.max_header_bytes = 5});
        CHECK(error.code == sf::errc::header_too_large);
        CHECK(error.expected == 5);
        CHECK(error.actual == 6);
        CHECK(error.offset == 0);
    }
    {
        const auto error = failure_of(framed("{}    ").substr(0, 12));
        CHECK(error.code == sf::errc::header_past_end);
        CHECK(error.expected == 14);
        CHECK(error.actual == 12);
    }
    {
        const auto error = failure_of(framed("{\"a\xFF\":1}"));
        CHECK(error.code == sf::errc::header_not_utf8);
        CHECK(error.offset == 8 + 3);
    }
    {
        const std::string json =
            R"({"good":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"t":{"dtype" "U8"}})";
        const auto error = failure_of(framed(json, "x"));
        CHECK(error.code == sf::errc::header_not_json);
        CHECK(error.tensor == "t");
        CHECK(error.offset == where(json, " \"U8\"}") + 1);
        CHECK_FALSE(error.detail.empty());
    }
    {
        const std::string json = one("\"U8\"", "[4.5]", "[0,4]");
        const auto error = failure_of(framed(json, "data"));
        CHECK(error.code == sf::errc::header_bad_entry);
        CHECK(error.tensor == "t");
        CHECK(error.offset == where(json, "4.5"));
        CHECK_FALSE(error.detail.empty());
    }
    {
        const std::string json = one("\"FP8\"", "[4]", "[0,4]");
        const auto error = failure_of(framed(json, "data"));
        CHECK(error.code == sf::errc::unknown_dtype);
        CHECK(error.tensor == "t");
        CHECK(error.detail == "FP8");
        CHECK(error.offset == where(json, "FP8"));
    }
    {
        const std::string json =
            R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
        const auto error = failure_of(framed(json, "xx"));
        CHECK(error.code == sf::errc::duplicate_tensor);
        CHECK(error.tensor == "a");
        CHECK(error.offset == 8 + json.rfind("a\":{"));
        CHECK(error.detail == "first at byte 10");
    }
    {
        const std::string json =
            R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}})";
        const auto error = failure_of(framed(json, "123456789"));
        CHECK(error.code == sf::errc::bad_offsets);
        CHECK(error.tensor == "b");
        CHECK(error.offset == where(json, "b\":"));
        CHECK(error.expected == 4);
        CHECK(error.actual == 5);
    }
    {
        const auto error = failure_of(
            framed(R"({"\u0074":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}})", "12345"));
        CHECK(error.code == sf::errc::bad_offsets);
        CHECK(error.tensor == "t");
        CHECK(error.offset == sf::unknown);  // the decoded name is not in the file
    }
    {
        const auto error = failure_of(framed(one("\"I32\"", "[65536,65536,65536,65536]", "[0,0]")));
        CHECK(error.code == sf::errc::size_overflow);
        CHECK(error.tensor == "t");
        CHECK(error.offset == 10);
    }
    {
        const auto error = failure_of(framed(one("\"F4\"", "[3]", "[0,2]"), "xx"));
        CHECK(error.code == sf::errc::partial_byte);
        CHECK(error.tensor == "t");
    }
    {
        const auto error = failure_of(framed(one("\"I32\"", "[2,2]", "[0,4]"), "data"));
        CHECK(error.code == sf::errc::size_mismatch);
        CHECK(error.tensor == "t");
        CHECK(error.expected == 16);
        CHECK(error.actual == 4);
    }
    {
        const std::string file = framed(one("\"U8\"", "[4]", "[0,4]"), "dat");
        const auto error = failure_of(file);
        CHECK(error.code == sf::errc::data_truncated);
        CHECK(error.expected == file.size() + 1);
        CHECK(error.actual == file.size());
        CHECK(error.message().view().find("1 bytes short") != std::string_view::npos);
    }
    {
        const std::string file = framed(one("\"U8\"", "[4]", "[0,4]"), "data and more");
        const auto error = failure_of(file);
        CHECK(error.code == sf::errc::trailing_bytes);
        CHECK(error.offset == file.size() - 9);
        CHECK(error.expected == file.size() - 9);
        CHECK(error.actual == file.size());
    }
}

TEST_CASE("header: of several faults, the one that the reference finds first is reported") {
    // Tensor by tensor in the order of their bytes: position, overflow, part of a byte, size. The
    // size of the file comes last.
    check(
        {{row{R"({"b":{"dtype":"U8","shape":[9],"data_offsets":[4,5]},"a":{"dtype":"F4","shape":[3],"data_offsets":[0,9]}})",
              0, "partial"},
          row{R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[1],"data_offsets":[9,10]}})",
              0, "mismatch"},
          row{R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"F4","shape":[1],"data_offsets":[9,10]}})",
              0, "offsets"},
          row{R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,4]}})", 9, "mismatch"}}});
}

TEST_CASE("header: a duplicate name is reported as such, also if its offsets break other rules") {
    check({{row{
        R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[9,13]},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
        4, "twice", "offsets"}}});
}

TEST_CASE("header: total sizes beyond 64 bits are refused") {
    std::string json = "{";
    const std::uint64_t each = (std::uint64_t{1} << 61) - 1;
    for (std::uint64_t i = 0; i < 8; ++i)
        json += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":{\"dtype\":\"U8\",\"shape\":[" +
                std::to_string(each) + "],\"data_offsets\":[" + std::to_string(i * each) + "," +
                std::to_string((i + 1) * each) + "]}";
    json += "}";
    const std::string file = framed(json);
    CHECK(code_of(parse(file)) == "truncated");
    CHECK(code_of(sf::header::parse(bytes_of(file), sf::unknown)) == "overflow");
}

// What is read
// ------------------------------------------------------------------------------------------

TEST_CASE("header: tensors come in the order of their bytes and are found by name") {
    const std::string file = framed(
        R"({"b":{"dtype":"F32","shape":[1,2],"data_offsets":[4,12]},"empty":{"dtype":"I64","shape":[0,7],"data_offsets":[4,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
        "123456789abc");
    const auto parsed = parse(file);
    REQUIRE(parsed);
    const sf::header& header = *parsed;
    REQUIRE(header.size() == 3);
    CHECK(header[0].name == "a");
    CHECK(header[1].name == "empty");
    CHECK(header[2].name == "b");
    CHECK(header[2].type == sf::dtype::f32);
    CHECK(std::vector<std::uint64_t>(header[2].shape.begin(), header[2].shape.end()) ==
          std::vector<std::uint64_t>{1, 2});
    CHECK(header[2].begin == 4);
    CHECK(header[2].end == 12);
    for (std::size_t i = 0; i < 3; ++i) CHECK(header.find(header[i].name) == i);
    CHECK(header.find("c") == sf::header::npos);
    CHECK(header.find("") == sf::header::npos);
    CHECK(header.find("__metadata__") == sf::header::npos);
    CHECK(header.header_bytes() == file.size() - 12);
    CHECK(header.data_bytes() == 12);
    CHECK(header.file_bytes() == file.size());
    CHECK_FALSE(header.has_metadata());
}

TEST_CASE("header: an empty header has no tensors, and find works") {
    const std::string file = framed("{}      ");
    const auto parsed = parse(file);
    REQUIRE(parsed);
    CHECK(parsed->empty());
    CHECK(parsed->find("a") == sf::header::npos);
    const sf::header none;
    CHECK(none.find("a") == sf::header::npos);
    std::string_view value;
    CHECK_FALSE(none.find_metadata("a", value));
}

TEST_CASE("header: tensors at the same place keep the order of the file") {
    const std::string file = framed(
        R"({"c":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"z":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"y":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
        "x");
    const auto parsed = parse(file);
    REQUIRE(parsed);
    CHECK((*parsed)[0].name == "z");
    CHECK((*parsed)[1].name == "y");
    CHECK((*parsed)[2].name == "c");
}

TEST_CASE("header: with last_duplicate_wins the last entry of a name counts") {
    const std::string file = framed(
        R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"I8","shape":[2,1],"data_offsets":[4,6]}})",
        "123456");
    const auto parsed = parse(file, {.last_duplicate_wins = true});
    REQUIRE(parsed);
    REQUIRE(parsed->size() == 2);
    CHECK(parsed->find("b") == 0);
    CHECK(parsed->find("a") == 1);
    CHECK((*parsed)[1].type == sf::dtype::i8);
    CHECK((*parsed)[1].shape.size() == 2);
}

TEST_CASE("header: each tolerance is an option of its own") {
    const std::string array = framed(R"({"t":["U8",[4],[0,4]]})", "data");
    const std::string object =
        framed(R"({"t":{"dtype":{"U8":null},"shape":[4],"data_offsets":[0,4]}})", "data");
    CHECK(code_of(parse(array, {.array_entries = true})) == "ok");
    CHECK(code_of(parse(array, {.last_duplicate_wins = true, .object_dtypes = true})) ==
          "bad_entry");
    CHECK(code_of(parse(object, {.object_dtypes = true})) == "ok");
    CHECK(code_of(parse(object, {.last_duplicate_wins = true, .array_entries = true})) ==
          "bad_entry");

    const std::string space = framed("{}\n"),
                      field = framed(one("\"U8\"", "[4]", "[0,4]", ",\"x\":1"), "data"),
                      metadata = framed(R"({"__metadata__":{"a":"b","a":"c"}})"),
                      gap = framed(one("\"U8\"", "[4]", "[1,5]"), ".data"),
                      trailing = framed(one("\"U8\"", "[4]", "[0,4]"), "data.");
    sf::read_options options = sf::read_options::strict();
    CHECK(code_of(parse(space, options)) == "not_json");
    CHECK(code_of(parse(field, options)) == "bad_entry");
    CHECK(code_of(parse(metadata, options)) == "bad_entry");
    CHECK(code_of(parse(gap, options)) == "offsets");
    CHECK(code_of(parse(trailing, options)) == "trailing");
    options = sf::read_options::strict(), options.any_padding = true;
    CHECK(code_of(parse(space, options)) == "ok");
    options = sf::read_options::strict(), options.unknown_fields = true;
    CHECK(code_of(parse(field, options)) == "ok");
    options = sf::read_options::strict(), options.repeated_metadata = true;
    CHECK(code_of(parse(metadata, options)) == "ok");
    options = sf::read_options::strict(), options.gaps = true;
    CHECK(code_of(parse(gap, options)) == "ok");
    CHECK(code_of(parse(trailing, options)) == "trailing");
    options = sf::read_options::strict(), options.trailing_bytes = true;
    CHECK(code_of(parse(trailing, options)) == "ok");
    CHECK(code_of(parse(gap, options)) == "offsets");
}

TEST_CASE("header: a refusal of the strict profile has its offset") {
    const auto offset = [](std::string_view json) {
        const std::string file = framed(json);
        const auto parsed = parse(file, sf::read_options::strict());
        REQUIRE_FALSE(parsed);
        CHECK_FALSE(parsed.error().detail.empty());
        return parsed.error().offset;
    };
    CHECK(offset(" {}") == 8);
    CHECK(offset("{}  \n ") == 8 + 4);
    CHECK(offset("\t{}\n") == 8);
    CHECK(offset(R"({"t":{"dtype":"U8","x":1,"shape":[0],"data_offsets":[0,0]}})") == 8 + 23);
    CHECK(offset(R"({"__metadata__":{"a":"b","a":"c"}})") == 8 + 32);
    CHECK(parse(framed("{ }      "), sf::read_options::strict()));
}

TEST_CASE("header: bytes of no tensor are counted where they are accepted") {
    const std::string file = framed(
        R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[5,7]},"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
        "0123456789");
    const auto parsed = parse(file, sf::read_options::lenient());
    REQUIRE(parsed);
    CHECK((*parsed)[0].name == "a");
    CHECK(parsed->find("b") == 1);
    CHECK(parsed->gap_bytes() == 3);
    CHECK(parsed->trailing_bytes() == 3);
    CHECK(parsed->data_bytes() == 7);
    CHECK(parsed->file_bytes() == file.size());
    const auto unsized =
        sf::header::parse(bytes_of(file), sf::unknown, sf::read_options::lenient());
    REQUIRE(unsized);
    CHECK(unsized->gap_bytes() == 3);
    CHECK(unsized->trailing_bytes() == 0);
    CHECK(unsized->file_bytes() == file.size() - 3);
}

TEST_CASE("header: metadata keep the order of the file, and the last of equal keys counts") {
    const std::string file =
        framed(R"({"__metadata__":{"z":"1","format":"pt","\u007a":"2","a\n":"\ud83d\ude00"}})");
    const auto parsed = parse(file);
    REQUIRE(parsed);
    CHECK(parsed->has_metadata());
    REQUIRE(parsed->metadata_size() == 3);
    CHECK(parsed->metadata(0).key == "z");
    CHECK(parsed->metadata(0).value == "2");
    CHECK(parsed->metadata(1).key == "format");
    CHECK(parsed->metadata(2).key == "a\n");
    std::string_view value;
    CHECK(parsed->find_metadata("format", value));
    CHECK(value == "pt");
    CHECK(parsed->find_metadata("a\n", value));
    CHECK(value == "\xF0\x9F\x98\x80");
    CHECK_FALSE(parsed->find_metadata("b", value));
    CHECK(value == "\xF0\x9F\x98\x80");

    const std::string empty = framed(R"({"__metadata__":{}})"),
                      null = framed(R"({"__metadata__":null})");
    CHECK(parse(empty)->has_metadata());
    CHECK_FALSE(parse(null)->has_metadata());
}

TEST_CASE("header: names without escapes point into the file, and all views survive a move") {
    std::string json = R"({"__metadata__":{"\u006b":"v\u0041"})";
    std::uint64_t at = 0;
    for (int i = 0; i < 200; ++i, ++at)
        json += ",\"" + std::string{i % 2 == 0 ? "plain" : "\\u0065scaped"} + std::to_string(i) +
                "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[" + std::to_string(at) + "," +
                std::to_string(at + 1) + "]}";
    const std::string file = framed(json + "}", std::string(200, 'x'));
    auto parsed = parse(file);
    REQUIRE(parsed);
    std::vector<sf::tensor_entry> before;
    for (std::size_t i = 0; i < parsed->size(); ++i) before.push_back((*parsed)[i]);
    const sf::metadata_entry metadata = parsed->metadata(0);
    sf::header first = std::move(*parsed);
    sf::header second;
    second = std::move(first);
    REQUIRE(second.size() == 200);
    for (std::size_t i = 0; i < before.size(); ++i) {
        CHECK(before[i].name == (i % 2 == 0 ? "plain" : "escaped") + std::to_string(i));
        CHECK(before[i].name.data() == second[i].name.data());
        CHECK(before[i].shape.data() == second[i].shape.data());
        CHECK(second.find(before[i].name) == i);
        if (i % 2 == 0)
            CHECK(static_cast<std::size_t>(before[i].name.data() - file.data()) < file.size());
    }
    CHECK(metadata.key == "k");
    CHECK(metadata.value == "vA");
    CHECK(metadata.key.data() == second.metadata(0).key.data());
}

TEST_CASE("header: bytes_needed gives, from the first 8 bytes, how much to read") {
    const std::string file =
        framed(R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "data");
    const auto needed = sf::header::bytes_needed(bytes_of(file).first(8));
    REQUIRE(needed);
    CHECK(*needed == file.size() - 4);
    CHECK(sf::header::parse(bytes_of(file).first(static_cast<std::size_t>(*needed)), file.size()));
    CHECK(sf::header::parse(bytes_of(file).first(static_cast<std::size_t>(*needed)), sf::unknown));
    const auto cut =
        sf::header::parse(bytes_of(file).first(static_cast<std::size_t>(*needed - 1)), file.size());
    REQUIRE_FALSE(cut);
    CHECK(cut.error().code == sf::errc::header_past_end);
    CHECK(cut.error().actual == *needed - 1);
    CHECK(sf::header::bytes_needed(bytes_of(file).first(7)).error().code ==
          sf::errc::header_too_short);
}

TEST_CASE("header: the limit is inclusive, and comes before the size of the file") {
    const std::string file = framed("{}" + std::string(98, ' '));
    CHECK(code_of(parse(file, {.max_header_bytes = 100})) == "ok");
    CHECK(code_of(parse(file, {.max_header_bytes = 99})) == "too_large");
    CHECK(code_of(parse(file.substr(0, 50), {.max_header_bytes = 99})) == "too_large");
    CHECK(code_of(parse(std::string(8, '\xFF'), {.max_header_bytes = ~std::uint64_t{0}})) ==
          "too_large");

    std::string largest = framed("{}" + std::string(100'000'000 - 2, ' '));
    CHECK(code_of(parse(largest)) == "ok");
}

// The fast way and the plain way
// ------------------------------------------------------------------------------------------

namespace {

/// Random headers near the formatting that the fast path parses: some exact, some with one change.
std::string random_header(std::mt19937& random) {
    const auto up_to = [&](std::uint32_t last) {
        return std::uniform_int_distribution<std::uint32_t>{0, last}(random);
    };
    std::string json = up_to(9) == 0 ? " {" : "{";
    std::uint64_t at = 0;
    const std::uint32_t count = up_to(12);
    for (std::uint32_t i = 0; i < count; ++i) {
        const auto type = static_cast<sf::dtype>(up_to(30) == 0 ? up_to(21) : 16 + up_to(1));
        std::vector<std::uint64_t> shape(up_to(3));
        for (std::uint64_t& extent : shape) extent = up_to(4) * (up_to(3) == 0 ? 100 : 1);
        std::uint64_t size_bytes = 0;
        if (sf::tensor_size(type, shape, size_bytes) != sf::size_verdict::fits)
            size_bytes = up_to(3);
        std::string entry = i == 0 ? "\"" : ",\"";
        entry += "layers." + std::to_string(up_to(60) == 0 ? 0 : i) + ".weight\":{\"dtype\":\"" +
                 std::string{sf::name(type)} + "\",\"shape\":[";
        for (std::size_t axis = 0; axis < shape.size(); ++axis)
            entry += (axis == 0 ? "" : ",") + std::to_string(shape[axis]);
        entry += "],\"data_offsets\":[" + std::to_string(at) + "," +
                 std::to_string(at + size_bytes) + "]}";
        at += size_bytes;
        if (up_to(6) == 0) {  // one character removed, inserted or replaced
            constexpr std::string_view characters = "{}[]\",:\\ 0123456789.eE-u\n\x7f\xC3\xA9_";
            const std::size_t place = up_to(static_cast<std::uint32_t>(entry.size() - 1));
            const char c = characters[up_to(static_cast<std::uint32_t>(characters.size() - 1))];
            switch (up_to(2)) {
            case 0: entry.insert(place, 1, c); break;
            case 1: entry.erase(place, 1); break;
            default: entry[place] = c;
            }
        }
        json += entry;
    }
    return json + (up_to(20) == 0 ? "" : "}") + std::string(up_to(3), ' ');
}

std::string table_of(const sf::result<sf::header>& parsed) {
    if (!parsed) return parsed.error().message().c_str();
    std::string out;
    for (std::size_t i = 0; i < parsed->size(); ++i) {
        const sf::tensor_entry entry = (*parsed)[i];
        out += std::string{entry.name} + ":" + std::string{sf::name(entry.type)};
        for (const std::uint64_t extent : entry.shape) out += "," + std::to_string(extent);
        out += ";" + std::to_string(entry.begin) + "-" + std::to_string(entry.end) + "\n";
        if (parsed->find(entry.name) != i) out += "LOST";
    }
    return out;
}

}  // namespace

TEST_CASE("header: the fast reader gives the same result as the plain reader") {
    std::mt19937 random{20240607};
    std::size_t accepted = 0;
    for (int i = 0; i < 20'000; ++i) {
        const std::string json = random_header(random);
        // exact size, so that a sanitizer detects a read past the end
        const std::vector<char> exact(json.begin(), json.end());
        const std::string_view text{exact.data(), exact.size()};
        for (const sf::read_options& options :
             {sf::read_options{}, sf::read_options::reference(), sf::read_options::strict(),
              sf::read_options::lenient()}) {
            const auto fast = sf::detail::read_header(text, sf::unknown, options);
            const auto plain = sf::detail::read_header(text, sf::unknown, options, false);
            REQUIRE(table_of(fast) == table_of(plain));
            accepted += fast ? 1u : 0u;
        }
    }
    CHECK(accepted > 10'000);
    CHECK(accepted < 70'000);
}

TEST_CASE("header: 20,000 tensors in random order are all found") {
    std::vector<std::size_t> order(20'000);
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), std::mt19937{7});
    std::string json = "{";
    for (const std::size_t i : order)
        json += (json.size() == 1 ? "\"t" : ",\"t") + std::to_string(i) +
                "\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[" + std::to_string(2 * i) +
                "," + std::to_string(2 * i + 2) + "]}";
    const std::string file = framed(json + "}");
    const auto parsed = sf::header::parse(bytes_of(file), sf::unknown);
    REQUIRE(parsed);
    for (std::size_t i = 0; i < order.size(); ++i) {
        if (parsed->find("t" + std::to_string(i)) != i) FAIL("lost " << i);
        if ((*parsed)[i].begin != 2 * i) FAIL("misplaced " << i);
    }
}

// The way back
// ------------------------------------------------------------------------------------------

namespace {

std::string json_of(const sf::encoded_header& encoded) {
    return support::string_of(encoded.bytes.view()).substr(8);
}

}  // namespace

TEST_CASE("header: the bytes are the reference writer's") {
    const std::uint64_t shape[] = {1, 2, 3};
    const sf::tensor_spec attention{"attn.0", sf::dtype::f32, shape};
    const auto encoded = sf::encode_header({&attention, 1});
    REQUIRE(encoded);
    CHECK(support::string_of(encoded->bytes.view()) ==
          std::string("\x40\0\0\0\0\0\0\0", 8) +
              R"({"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}})");
    CHECK(encoded->offsets[0] == 72);
    CHECK(encoded->file_bytes == 96);

    CHECK(support::string_of(sf::encode_header({})->bytes.view()) ==
          std::string("\x08\0\0\0\0\0\0\0", 8) + "{}      ");
    const sf::metadata_entry metadata[] = {{"framework", "pytorch"}};
    CHECK(json_of(*sf::encode_header({}, metadata)) ==
          R"({"__metadata__":{"framework":"pytorch"}})");

    const std::uint64_t pair[] = {1, 2};
    const sf::tensor_spec small{"attn.0", sf::dtype::f4, pair};
    CHECK(json_of(*sf::encode_header({&small, 1})) ==
          R"({"attn.0":{"dtype":"F4","shape":[1,2],"data_offsets":[0,1]}}    )");
}

TEST_CASE("header: tensors are written by dtype, larger first, then by name as bytes") {
    const std::uint64_t shape[] = {2};
    std::vector<sf::tensor_spec> tensors;
    for (std::size_t i = 0; i < sf::dtype_count; ++i) {
        if (sf::bits(static_cast<sf::dtype>(i)) < 8) continue;
        tensors.push_back({sf::name(static_cast<sf::dtype>(i)), static_cast<sf::dtype>(i), shape});
    }
    for (const std::string_view name : {"b", "a", "a.10", "a.2", "B", "\xC3\xA9", ""})
        tensors.push_back({name, sf::dtype::f32, shape});
    const auto encoded = sf::encode_header(tensors);
    REQUIRE(encoded);
    const auto parsed = sf::header::parse(encoded->bytes.view(), encoded->file_bytes);
    REQUIRE(parsed);
    std::string names;
    for (std::size_t i = 0; i < parsed->size(); ++i) names += std::string{(*parsed)[i].name} + " ";
    CHECK(names ==
          "U64 I64 F64 C64  B F32 a a.10 a.2 b \xC3\xA9 U32 I32 BF16 F16 U16 I16 F8_E5M2FNUZ "
          "F8_E4M3FNUZ F8_E8M0 F8_E4M3 F8_E5M2 I8 U8 BOOL ");
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        const std::size_t at = parsed->find(tensors[i].name);
        CHECK(encoded->offsets[i] == parsed->header_bytes() + (*parsed)[at].begin);
    }
}

TEST_CASE("header: metadata are written sorted, and escaped no more than needed") {
    const sf::metadata_entry metadata[] = {{"z", "/ \x7f \xC3\xA9 \xF0\x9F\x98\x80"},
                                           {"a", std::string_view{"\0\x01\x1f\x0b", 4}},
                                           {"m", "\"\\\b\f\n\r\t"}};
    const auto encoded = sf::encode_header({}, metadata);
    REQUIRE(encoded);
    const std::string expected =
        R"({"__metadata__":{"a":"\u0000\u0001\u001f\u000b","m":"\"\\\b\f\n\r\t","z":"/ )"
        "\x7f \xC3\xA9 \xF0\x9F\x98\x80\"}}";
    const std::string json = json_of(*encoded);
    CHECK(json.substr(0, expected.size()) == expected);
    CHECK(json.size() % 8 == 0);
    CHECK(json.find_first_not_of(' ', expected.size()) == std::string::npos);
    const auto parsed = sf::header::parse(encoded->bytes.view(), encoded->file_bytes);
    REQUIRE(parsed);
    for (const sf::metadata_entry& entry : metadata) {
        std::string_view value;
        CHECK(parsed->find_metadata(entry.key, value));
        CHECK(value == entry.value);
    }
}

TEST_CASE("header: a header that no reader would accept is not written") {
    const std::uint64_t two[] = {2}, three[] = {3}, huge[] = {std::uint64_t{1} << 62, 8},
                        half[] = {std::uint64_t{1} << 60};
    const auto refusal = [](std::vector<sf::tensor_spec> tensors,
                            std::vector<sf::metadata_entry> metadata = {}) {
        auto encoded = sf::encode_header(tensors, metadata);
        REQUIRE_FALSE(encoded);
        return std::move(encoded.error());
    };
    CHECK(refusal({{"__metadata__", sf::dtype::u8, two}}).code == sf::errc::bad_name);
    CHECK(refusal({{"__metadata__", sf::dtype::u8, two}}).tensor == "__metadata__");
    CHECK(refusal({{"a\xFF", sf::dtype::u8, two}}).code == sf::errc::bad_name);
    CHECK(refusal({}, {{"a\xFF", ""}}).code == sf::errc::bad_name);
    CHECK(refusal({}, {{"a", "\xED\xA0\x80"}}).code == sf::errc::bad_name);
    CHECK(refusal({}, {{"a", "1"}, {"b", ""}, {"a", "2"}}).code == sf::errc::bad_name);
    CHECK(refusal({{"a", sf::dtype::u8, two}, {"b", sf::dtype::u8, two}, {"a", sf::dtype::i8, two}})
              .code == sf::errc::duplicate_tensor);
    CHECK(refusal({{"a", sf::dtype::f4, three}}).code == sf::errc::partial_byte);
    CHECK(refusal({{"a", sf::dtype::u8, huge}}).code == sf::errc::size_overflow);
    std::vector<std::string> names;
    for (int i = 0; i < 17; ++i) names.push_back(std::to_string(i));
    std::vector<sf::tensor_spec> many;
    for (const std::string& name : names) many.push_back({name, sf::dtype::u8, half});
    CHECK(refusal(many).code == sf::errc::size_overflow);
}

TEST_CASE("header: a header above 100,000,000 bytes is not written") {
    const std::string long_text(100'000'000 - 31, 'x');  // {"__metadata__":{"a":"..."}} and padding
    const sf::metadata_entry fits[] = {
        {"a", std::string_view{long_text}.substr(0, long_text.size() + 31 - 32)}};
    const auto largest = sf::encode_header({}, fits);
    REQUIRE(largest);
    CHECK(largest->bytes.size() <= 100'000'008);
    const std::string longer_text = long_text + "12345678";
    const sf::metadata_entry too_long[] = {{"a", longer_text}};
    const auto refused = sf::encode_header({}, too_long);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == sf::errc::header_too_large);
    CHECK(refused.error().expected == 100'000'000);
    CHECK(refused.error().actual > 100'000'000);
}

TEST_CASE("header: written headers are read back, for many random sets of tensors") {
    std::mt19937 random{42};
    const auto up_to = [&](std::uint32_t last) {
        return std::uniform_int_distribution<std::uint32_t>{0, last}(random);
    };
    const std::vector<std::string> pieces = {"a",    "model", ".",        "layers",
                                             "0",    "17",    "\"",       "\\",
                                             "/",    "\n",    "\t",       std::string(1, '\0'),
                                             "\x1b", "\x7f",  "\xC3\xA9", "\xF0\x9F\x98\x80",
                                             " ",    "{",     "weight"};
    const auto random_text = [&] {
        std::string text;
        for (std::uint32_t i = up_to(8); i > 0; --i)
            text += pieces[up_to(static_cast<std::uint32_t>(pieces.size() - 1))];
        return text;
    };
    for (int round = 0; round < 1'000; ++round) {
        std::set<std::string> names, keys;
        for (std::uint32_t i = up_to(20); i > 0; --i) names.insert(random_text());
        for (std::uint32_t i = up_to(3); i > 0; --i) keys.insert(random_text());
        std::vector<std::vector<std::uint64_t>> shapes;
        std::vector<sf::tensor_spec> tensors;
        shapes.reserve(names.size());
        for (const std::string& name : names) {
            const auto type = static_cast<sf::dtype>(up_to(21));
            std::vector<std::uint64_t> shape(up_to(4));
            for (std::uint64_t& extent : shape) extent = up_to(5);
            if (sf::bits(type) < 8) shape.push_back(8);
            shapes.push_back(std::move(shape));
            tensors.push_back({name, type, shapes.back()});
        }
        std::shuffle(tensors.begin(), tensors.end(), random);
        std::vector<std::string> values;
        for (std::size_t i = 0; i < keys.size(); ++i) values.push_back(random_text());
        std::vector<sf::metadata_entry> metadata;
        for (const std::string& key : keys) metadata.push_back({key, values[metadata.size()]});
        std::shuffle(metadata.begin(), metadata.end(), random);

        const auto encoded = sf::encode_header(tensors, metadata);
        REQUIRE(encoded);
        REQUIRE(encoded->bytes.size() % 8 == 0);
        const auto parsed = sf::header::parse(encoded->bytes.view(), encoded->file_bytes);
        REQUIRE(parsed);
        REQUIRE(parsed->size() == tensors.size());
        REQUIRE(parsed->header_bytes() == encoded->bytes.size());
        for (std::size_t i = 0; i < tensors.size(); ++i) {
            const std::size_t at = parsed->find(tensors[i].name);
            REQUIRE(at != sf::header::npos);
            const sf::tensor_entry entry = (*parsed)[at];
            CHECK(entry.name == tensors[i].name);
            CHECK(entry.type == tensors[i].type);
            CHECK(std::equal(entry.shape.begin(), entry.shape.end(), tensors[i].shape.begin(),
                             tensors[i].shape.end()));
            CHECK(encoded->offsets[i] == parsed->header_bytes() + entry.begin);
            if (sf::bits(entry.type) >= 8)
                CHECK(encoded->offsets[i] % (sf::bits(entry.type) / 8) == 0);
        }
        CHECK(parsed->metadata_size() == metadata.size());
        for (const sf::metadata_entry& entry : metadata) {
            std::string_view value;
            CHECK(parsed->find_metadata(entry.key, value));
            CHECK(value == entry.value);
        }
        // Encoding the parsed table again gives the same bytes.
        std::vector<sf::tensor_spec> again;
        for (std::size_t i = 0; i < parsed->size(); ++i) again.push_back((*parsed)[i]);
        std::vector<sf::metadata_entry> metadata_again;
        for (std::size_t i = 0; i < parsed->metadata_size(); ++i)
            metadata_again.push_back(parsed->metadata(i));
        const auto twice = sf::encode_header(again, metadata_again);
        REQUIRE(twice);
        CHECK(support::string_of(twice->bytes.view()) == support::string_of(encoded->bytes.view()));
    }
}
