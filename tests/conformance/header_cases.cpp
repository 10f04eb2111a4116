// The conformance suite for single tensor files. Other projects rely on the names of cases: add
// names, do not change them.
#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pieces.hpp"
#include "suite.hpp"

namespace conformance {
namespace detail {
namespace {

void framing(header_suite& add) {
    add.topic("framing");
    for (const std::size_t size : {0u, 1u, 4u})
        add.file(errc::header_too_short, "len_" + text(size) + "bytes",
                 "the length of the header takes 8 bytes", std::string(size, '\0'));
    add.file(errc::header_too_short, "len_7bytes", "one byte less than the length of the header",
             std::string(7, '\0'));
    add.file(errc::header_too_short, "length_of_4_bytes", "a length of 32 bits instead of 64",
             "\x02\0\0\0{}"s);
    add.file(errc::header_not_json, "len_8bytes_n0", "an empty header is not JSON",
             header_suite::length(0));
    add.file(errc::header_not_json, "zeros_1024", "a file of zeros has an empty header",
             std::string(1024, '\0'));
    add.file(errc::header_past_end, "n_60_nothing", "a header of 60 bytes, none of which is there",
             header_suite::length(60));
    add.file(errc::header_past_end, "n_one_past_end",
             "the header ends one byte past the end of the file", header_suite::length(3) + "{}");
    add.file(errc::header_past_end, "n_includes_length", "the length counts its own 8 bytes",
             header_suite::length(10) + "{}");
    add.file(errc::header_not_json, "n_one_too_small", "the length leaves out the closing brace",
             header_suite::length(1) + "{}");
    add.file(errc::header_past_end, "n_100000000",
             "the limit is inclusive, so it is the file that is too short",
             header_suite::length(100'000'000) + "{}");
    for (const auto& [label, length] : std::vector<std::pair<std::string, std::uint64_t>>{
             {"n_100000001", 100'000'001},
             {"n_2pow32_plus_2", (std::uint64_t{1} << 32) + 2},
             {"n_2pow31", std::uint64_t{1} << 31},
             {"n_i64max", ~std::uint64_t{0} >> 1},
             {"n_i64min", std::uint64_t{1} << 63},
             {"n_u64max", ~std::uint64_t{0}},
             {"n_u64max_minus7", ~std::uint64_t{7}}})
        add.file(errc::header_too_large, label,
                 "the limit of 100,000,000 is checked before the size of the file",
                 header_suite::length(length) + "{}");
    add.file(errc::header_too_large, "n_big_endian", "the length is little-endian",
             "\0\0\0\0\0\0\0\x02{}"s);
    add.file(errc::header_too_large, "is_zip", "a PyTorch file",
             "PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0"s);
    add.file(errc::header_too_large, "is_gguf", "a GGUF file",
             "GGUF\x03\0\0\0\x23\x01\0\0\0\0\0\0"s);
    add.file(errc::header_too_large, "is_lfs_pointer", "what git stores instead of a large file",
             "version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 4\n");
    add.file(errc::header_too_large, "is_html",
             "an error page that was saved under the file's name", "<!DOCTYPE html><html></html>");
    add.file(errc::header_too_large, "is_bare_json", "the header alone, without its length",
             named("t"));

    header_case& largest =
        add.file({}, "header_of_100000000", "the largest header that there can be",
                 header_suite::length(100'000'000) + "{}");
    largest.spaces = 100'000'000 - 2;
    header_case& too_large = add.file(errc::header_too_large, "header_of_100000001",
                                      "one byte above the limit, all of it there",
                                      header_suite::length(100'000'001) + "{}");
    too_large.spaces = 100'000'001 - 2;

    add.topic("padding");
    add.accept("empty_object", "a file without tensors", "{}");
    add.accept("pad_space", "spaces after the JSON, as the reference writer pads", "{}      ");
    add.accept("pad_4096", "spaces up to a page",
               named("t") + std::string(4096 - 8 - named("t").size(), ' '), 4);
    add.accept("unaligned_header",
               "the length of the header need not be a multiple of 8, nor the data be aligned",
               one("\"F32\"", "[1]", "[0,4]") + " ", 4);
    add.accept("unaligned_f64", "8-byte elements at an odd place",
               object({bytes("a", 0, 1), entry("b", "\"F64\"", "[1]", "[1,9]")}), 9);
    const auto padded = [&](std::string name, std::string reason, std::string json,
                            std::size_t data_bytes = 0) {
        add.accept(std::move(name), std::move(reason), json, data_bytes)
            .strict(errc::header_not_json);
    };
    padded("empty_obj_trailing_ws", "all four kinds of JSON white space after the object",
           "{}\r \t\n");
    padded("trail_tab", "padding with a tab", "{}\t");
    padded("trail_lf", "a line end after the object", "{}\n");
    padded("trail_cr", "a carriage return after the object", "{}\r");
    padded("trail_spaces_lf", "spaces and then a line end", "{}     \n");
    padded("meta_first_err_key_space", "a space before the object", " " + named("t"), 4);
    padded("lead_tab_lf", "white space before the object", "\t\n{}");
    padded("lead_cr", "a carriage return before the object", "\r{}");
    padded("lead_and_trail", "white space on both sides", "\t\n{}\r ");
    padded("lead_4096", "white space before the object, up to a page",
           std::string(4096, ' ') + named("t"), 4);
    add.refuse(errc::header_not_json, "only_spaces", "white space without an object", "        ");
    add.refuse(errc::header_not_json, "trail_nul", "zeros are not padding", "{}\0"s);
    add.refuse(errc::header_not_json, "trail_nuls", "padded with zeros to a multiple of 8",
               "{}\0\0\0\0\0\0"s);
    add.refuse(errc::header_not_json, "lead_nul", "a zero before the object", "\0{}"s);
    add.refuse(errc::header_not_json, "trail_junk", "a character after the object", "{}x");
    add.refuse(errc::header_not_json, "trail_comma", "a comma after the object", "{},");
    add.refuse(errc::header_not_json, "trail_brace", "one closing brace too many", "{}}");
    add.refuse(errc::header_not_json, "trail_object", "a second object", "{}{}");
    add.refuse(errc::header_not_json, "trail_comment", "a comment after the object", "{}//");
    add.refuse(errc::header_not_json, "trail_formfeed", "a form feed is not JSON white space",
               "{}\f");
    add.refuse(errc::header_not_json, "trail_vtab", "a vertical tab is not JSON white space",
               "{}\v");
    add.refuse(errc::header_not_json, "trail_nbsp", "a no-break space is not JSON white space",
               "{}\xC2\xA0");
    add.refuse(errc::header_not_json, "trail_ls", "U+2028 is not JSON white space",
               "{}\xE2\x80\xA8");
    add.refuse(errc::header_not_json, "lead_nbsp", "a no-break space before the object",
               "\xC2\xA0{}");
    add.refuse(errc::header_not_json, "lead_bom", "a byte order mark", "\xEF\xBB\xBF{}");
    add.refuse(errc::header_not_json, "trail_bom", "a byte order mark after the object",
               "{}\xEF\xBB\xBF");
    add.refuse(errc::header_not_utf8, "utf16_le", "UTF-16 with a byte order mark",
               "\xFF\xFE{\0}\0"s);
    add.refuse(errc::header_not_json, "utf16_le_no_bom", "UTF-16 without a byte order mark",
               "{\0}\0"s);

    add.topic("root");
    add.refuse(errc::header_bad_entry, "root_null", "the root must be an object", "null");
    add.refuse(errc::header_bad_entry, "root_true", "the root must be an object", "true");
    add.refuse(errc::header_bad_entry, "root_number", "the root must be an object", "1");
    add.refuse(errc::header_bad_entry, "root_string", "the root must be an object", "\"a\"");
    add.refuse(errc::header_bad_entry, "root_array", "the root must be an object", "[]");
    add.refuse(errc::header_bad_entry, "root_array_of_object", "the root must be an object",
               "[" + named("t") + "]", 4);
    add.refuse(errc::header_bad_entry, "root_array_as_struct",
               "an array does not replace the object", "[null,{}]");

    add.topic("size");
    const auto trailing = [&](std::string name, std::string reason, std::string json,
                              std::size_t data_bytes) {
        add.refuse(errc::trailing_bytes, std::move(name), std::move(reason), json, data_bytes)
            .lenient_accepts();
    };
    trailing("empty_with_data", "no tensors, and one byte of data", "{}", 1);
    trailing("extra_1", "one byte after the last tensor", named("t"), 5);
    trailing("extra_4", "four bytes after the last tensor, as in Stable Diffusion 1.5", named("t"),
             8);
    trailing("extra_4096", "a page after the last tensor", named("t"), 4100);
    trailing("extra_with_metadata", "no tensors, metadata, and data",
             with_metadata("{\"a\":\"b\"}"), 4);
    trailing("extra_behind_empty", "an empty tensor does not cover a byte",
             "{" + empty("t", 0) + "}", 1);
    add.refuse(errc::data_truncated, "missing_byte", "one byte short",
               one("\"I32\"", "[2,2]", "[0,16]"), 15);
    add.refuse(errc::data_truncated, "missing_all", "no data at all", named("t"), 0);
    add.refuse(errc::data_truncated, "missing_last_tensor",
               "the second tensor is past the end of the file",
               object({bytes("a", 0, 4), bytes("b", 4, 8)}), 4);
    add.refuse(errc::data_truncated, "missing_4194303", "4 MiB promised, one byte there",
               one("\"U8\"", "[4194304]", "[0,4194304]"), 1);
    add.refuse(errc::data_truncated, "ndim_8_oob", "rank 8 and far past the end",
               one("\"U8\"", "[1,1,1,1,1,1,1,4000]", "[0,4000]"), 4);
    add.refuse(errc::data_truncated, "missing_2pow61_minus_1",
               "the largest tensor whose bits fit 64 bits",
               one("\"U8\"", "[2305843009213693951]", "[0,2305843009213693951]"));
    {
        std::vector<std::string> entries;
        constexpr std::uint64_t each = (std::uint64_t{1} << 61) - 1;
        for (std::uint64_t i = 0; i < 8; ++i)
            entries.push_back(bytes(text(i), i * each, (i + 1) * each));
        add.refuse(errc::data_truncated, "missing_2pow64_minus_8",
                   "data whose end and header together pass 2^64", object(entries));
    }
    constexpr std::uint64_t five_gib = std::uint64_t{5} << 30;
    header_case& huge = add.accept("data_of_5_gib", "offsets beyond 32 bits",
                                   object({bytes("a", 0, 4), bytes("b", 4, five_gib)}));
    huge.zeros = five_gib;
    header_case& huge_short =
        add.refuse(errc::data_truncated, "data_of_5_gib_less_1", "5 GiB but for one byte",
                   "{" + bytes("a", 0, five_gib) + "}");
    huge_short.zeros = five_gib - 1;
    add.refuse(errc::data_truncated, "data_of_4_gib_missing",
               "a size that is right in its lower 32 bits",
               "{" + bytes("a", 0, (std::uint64_t{1} << 32) + 4) + "}", 4);
}

void utf8(header_suite& add) {
    add.topic("utf8");
    add.refuse(errc::header_not_utf8, "non_utf8", "a header of one byte, 0xFF", "\xFF");
    add.refuse(errc::header_not_utf8, "non_utf8_in_name", "0xFF in a name",
               "{" + entry("a\xFF", "\"U8\"", "[0]", "[0,0]") + "}");
    add.refuse(errc::header_not_utf8, "utf8_surrogate_cesu", "half a surrogate pair as three bytes",
               "{" + entry("a\xED\xA0\x80", "\"U8\"", "[0]", "[0,0]") + "}");
    const std::vector<std::pair<std::string, std::string>> invalid = {
        {"continuation_80", "\x80"},
        {"continuation_bf", "\xBF"},
        {"overlong_2_c080", "\xC0\x80"},
        {"overlong_2_c1bf", "\xC1\xBF"},
        {"overlong_3_nul", "\xE0\x80\x80"},
        {"overlong_3_slash", "\xE0\x80\xAF"},
        {"overlong_3_e09fbf", "\xE0\x9F\xBF"},
        {"overlong_4_nul", "\xF0\x80\x80\x80"},
        {"overlong_4_f08fbfbf", "\xF0\x8F\xBF\xBF"},
        {"surrogate_high_last", "\xED\xAF\xBF"},
        {"surrogate_low_first", "\xED\xB0\x80"},
        {"surrogate_low_last", "\xED\xBF\xBF"},
        {"surrogate_pair_cesu", "\xED\xA0\xBD\xED\xB8\x80"},
        {"above_10ffff", "\xF4\x90\x80\x80"},
        {"lead_f5", "\xF5\x80\x80\x80"},
        {"lead_f8_of_5", "\xF8\x88\x80\x80\x80"},
        {"lead_fc_of_6", "\xFC\x84\x80\x80\x80\x80"},
        {"byte_fe", "\xFE"},
        {"truncated_2", "\xC3"},
        {"truncated_3_after_1", "\xE2"},
        {"truncated_3_after_2", "\xE2\x82"},
        {"truncated_4_after_1", "\xF0"},
        {"truncated_4_after_2", "\xF0\x9F"},
        {"truncated_4_after_3", "\xF0\x9F\x98"},
        {"latin_1", "caf\xE9"},
        {"lead_then_lead", "\xC3\xC3\xA9"},
        {"lead_for_continuation", "\xC3\xC3"},
        {"lead_for_continuation_2_of_3", "\xE2\xC3\x82"},
        {"lead_for_continuation_3_of_3", "\xE2\x82\xC3"},
        {"lead_for_continuation_4_of_4", "\xF0\x9F\x98\xC0"},
        {"letter_for_continuation_3_of_3",
         "\xE2\x82"
         "a"},
        {"one_continuation_too_many", "\xC3\xA9\xA9"},
    };
    for (const auto& [label, characters] : invalid)
        add.refuse(errc::header_not_utf8, "utf8_" + label, "a name that is not UTF-8",
                   named(characters), 4);
    for (const auto& [label, characters] : std::vector<std::pair<std::string, std::string>>{
             {"u0080", "\xC2\x80"},
             {"u07ff", "\xDF\xBF"},
             {"u0800", "\xE0\xA0\x80"},
             {"ud7ff", "\xED\x9F\xBF"},
             {"ue000", "\xEE\x80\x80"},
             {"ufdd0_noncharacter", "\xEF\xB7\x90"},
             {"ufffd", "\xEF\xBF\xBD"},
             {"ufffe_noncharacter", "\xEF\xBF\xBE"},
             {"uffff_noncharacter", "\xEF\xBF\xBF"},
             {"u10000", "\xF0\x90\x80\x80"},
             {"u1ffff_noncharacter", "\xF0\x9F\xBF\xBF"},
             {"u10ffff", "\xF4\x8F\xBF\xBF"},
             {"bom_inside", "a\xEF\xBB\xBF"},
             {"zero_width", "a\xE2\x80\x8B"},
             {"right_to_left",
              "\xE2\x80\xAE"
              "abc"},
             {"line_separator", "\xE2\x80\xA8"},
             {"cjk", "\xE5\xB1\x82.0.\xE6\x9D\x83\xE9\x87\x8D"},
         })
        add.accept("utf8_ok_" + label, "any character that UTF-8 can spell", named(characters), 4)
            .holds({characters});
    // A parser that works in blocks must handle characters that cross a block boundary.
    for (const std::size_t place : {15u, 16u, 31u, 32u, 63u, 64u}) {
        const std::string before(place - 2, 'n');  // the name begins at byte 2 of the header
        add.refuse(errc::header_not_utf8, "utf8_bad_at_" + text(place),
                   "a stray byte at a block's border",
                   named(before + "\x80" + std::string(40, 'n')), 4);
        const std::string name = before.substr(1) + "\xF0\x9F\x98\x80" + std::string(40, 'n');
        add.accept("utf8_ok_across_" + text(place), "a character across a block's border",
                   named(name), 4)
            .holds({name});
    }
    add.refuse(errc::header_not_utf8, "utf8_bad_in_dtype", "not UTF-8 in a dtype",
               one("\"U8\xFF\"", "[4]", "[0,4]"), 4);
    add.refuse(errc::header_not_utf8, "utf8_bad_in_key", "not UTF-8 in an ignored key",
               one("\"U8\"", "[4]", "[0,4]", ",\"\xFF\":1"), 4);
    add.refuse(errc::header_not_utf8, "utf8_bad_in_ignored", "not UTF-8 in an ignored value",
               with_extra("\"\xC0\xAF\""), 4);
    add.refuse(errc::header_not_utf8, "utf8_bad_in_metadata", "not UTF-8 in a metadata value",
               with_metadata("{\"a\":\"\xFF\"}"));
    add.refuse(errc::header_not_utf8, "utf8_bad_outside_string", "not UTF-8 between values",
               "{\xFF}");
    add.refuse(errc::header_not_utf8, "utf8_bad_behind", "not UTF-8 after the object", "{}\xFF");
    add.refuse(errc::header_not_utf8, "utf8_bad_behind_bad_json", "UTF-8 is checked before JSON",
               "{x\xFF");
    for (const auto& [label, characters] : std::vector<std::pair<std::string, std::string>>{
             {"2", "\xC3"}, {"3", "\xE2\x82"}, {"4", "\xF0\x9F\x98"}})
        add.refuse(errc::header_not_utf8, "utf8_cut_at_end_" + label,
                   "the header ends inside a character", "{}" + characters);
    add.file(errc::header_not_utf8, "utf8_completed_by_data",
             "a character that the first data byte would complete",
             header_suite::framed("{}\xC3", 0) + "\xA9");
}

void names(header_suite& add) {
    add.topic("names");
    const auto holds = [&](std::string name, std::string reason, std::string spelled,
                           std::string decoded) {
        add.accept(std::move(name), std::move(reason), named(spelled), 4)
            .holds({std::move(decoded)});
    };
    holds("name_empty", "a name may be empty", "", "");
    holds("name_space", "a name may be a space", " ", " ");
    holds("name_slash", "a name may look like a path", "../../a/b", "../../a/b");
    holds("name_utf8", "a name may hold any UTF-8", "\xC3\xA9\xF0\x9F\x98\x80",
          "\xC3\xA9\xF0\x9F\x98\x80");
    holds("name_long", "a name of 5000 characters", std::string(5000, 'n'), std::string(5000, 'n'));
    holds("name_70000", "a name whose length needs more than 16 bits", std::string(70'000, 'n'),
          std::string(70'000, 'n'));
    holds("name_raw_del", "DEL is not a control character in JSON",
          "a\x7F"
          "b",
          "a\x7F"
          "b");
    holds("name_prefix_meta", "close to __metadata__", "__metadata", "__metadata");
    holds("name_suffix_meta", "close to __metadata__", "__metadata__ ", "__metadata__ ");
    holds("name_upper_meta", "names are case-sensitive", "__METADATA__", "__METADATA__");
    holds("name_dtype", "a tensor may be called dtype", "dtype", "dtype");
    holds("name_braces", "JSON inside a name", "{}[],:", "{}[],:");
    holds("name_u0000", "a zero, escaped", "a\\u0000b", "a\0b"s);
    holds("name_escape", "every short escape, and a surrogate pair",
          R"(a\n\"\\\/\u00e9\ud83d\ude00)", "a\n\"\\/\xC3\xA9\xF0\x9F\x98\x80");
    holds("name_escape_bfrt", "the other short escapes", R"(\b\f\r\t)", "\b\f\r\t");
    holds("name_escape_upper_hex", "hexadecimal digits in capitals", R"(\u00E9\uD83D\uDE00)",
          "\xC3\xA9\xF0\x9F\x98\x80");
    holds("name_escape_plain", "a letter written as an escape", R"(\u0074)", "t");
    holds("name_escape_quote", "a quote written as an escape does not end the name", R"(a\u0022b)",
          "a\"b");
    holds("name_escape_backslash", "a backslash written as an escape begins no escape",
          R"(a\u005cn)", "a\\n");
    holds("name_escaped_backslash_end", "the name ends in a backslash", R"(a\\)", "a\\");
    holds("name_escape_u007f", "DEL, escaped", R"(\u007f)", "\x7F");
    holds("name_escape_u07ff", "the last character of two bytes", R"(\u07ff)", "\xDF\xBF");
    holds("name_escape_u0800", "the first character of three bytes", R"(\u0800)", "\xE0\xA0\x80");
    holds("name_escape_ud7ff", "the last character before the surrogates", R"(\ud7ff)",
          "\xED\x9F\xBF");
    holds("name_escape_ue000", "the first character after the surrogates", R"(\ue000)",
          "\xEE\x80\x80");
    holds("name_escape_uffff", "a noncharacter, escaped", R"(\uffff)", "\xEF\xBF\xBF");
    holds("name_escape_u10000", "the first surrogate pair", R"(\ud800\udc00)", "\xF0\x90\x80\x80");
    holds("name_escape_u10ffff", "the last surrogate pair", R"(\udbff\udfff)", "\xF4\x8F\xBF\xBF");
    holds("name_escape_control", "control characters, escaped", R"(\u0001\u001f)", "\x01\x1F");
    holds("name_escape_only_pairs", "many surrogate pairs", repeated(R"(\ud83d\ude00)", 200),
          repeated("\xF0\x9F\x98\x80", 200));
    add.accept("names_differ_in_case", "names are case-sensitive",
               object({bytes("w", 0, 1), bytes("W", 1, 2)}), 2)
        .holds({"w", "W"});
    add.accept("names_differ_in_composition",
               "one character and two that look the same are two names",
               object({bytes("\xC3\xA9", 0, 1), bytes("e\xCC\x81", 1, 2)}), 2)
        .holds({"\xC3\xA9", "e\xCC\x81"});
    add.accept("names_are_prefixes", "a name may begin with another",
               object({bytes("a", 0, 1), bytes("ab", 1, 2), bytes("", 2, 3)}), 3)
        .holds({"a", "ab", ""});
    add.accept("names_differ_behind_nul", "a zero does not end a name",
               object({bytes("a\\u0000b", 0, 1), bytes("a\\u0000c", 1, 2)}), 2)
        .holds({"a\0b"s, "a\0c"s});

    const auto bad = [&](std::string name, std::string reason, std::string spelled) {
        add.refuse(errc::header_not_json, std::move(name), std::move(reason), named(spelled), 4);
    };
    bad("name_bad_escape", "\\x is not an escape", R"(a\x41)");
    bad("name_bad_escape_u_upper", "\\U is not an escape", R"(\U00000041)");
    bad("name_bad_escape_0", "\\0 is not an escape", R"(\0)");
    bad("name_bad_escape_quote", "\\' is not an escape", R"(\')");
    bad("name_bad_escape_a", "\\a is not an escape", R"(\a)");
    bad("name_bad_escape_v", "\\v is not an escape", R"(\v)");
    bad("name_bad_escape_space", "a backslash before a space", R"(\ )");
    bad("name_bad_escape_newline", "a backslash before a line end", "\\\n");
    bad("name_bad_escape_nul", "a backslash before a zero", "\\\0"s);
    bad("name_bad_escape_utf8", "a backslash before a character of two bytes", "\\\xC3\xA9");
    bad("name_escape_3_digits", "an escape has four digits", R"(\u123)");
    bad("name_escape_no_digits", "an escape has four digits", R"(\u)");
    bad("name_escape_bad_digit", "g is not a digit", R"(\u00g1)");
    bad("name_escape_bad_digit_upper", "G is not a digit", R"(\u00G1)");
    bad("name_escape_bad_digit_last", "g is not a digit", R"(\u004g)");
    bad("name_escape_braces", "\\u{...} is not an escape", R"(\u{41})");
    bad("name_escape_sign", "an escape has no sign", R"(\u+041)");
    bad("name_escape_space_digit", "an escape has no spaces", R"(\u 041)");
    bad("name_lone_surrogate", "half a surrogate pair", R"(\ud800)");
    bad("name_lone_low_surrogate", "the second half of a surrogate pair", R"(\udc00)");
    bad("name_high_then_letter", "half a surrogate pair, then a letter", R"(\ud83dx)");
    bad("name_high_then_short_escape", "half a surrogate pair, then another escape", R"(\ud83d\n)");
    bad("name_high_then_bmp", "half a surrogate pair, then a whole character", R"(\ud83d\u0041)");
    bad("name_high_then_high", "the first half of a surrogate pair twice", R"(\ud83d\ud83d)");
    bad("name_lone_udbff", "the last first half of a surrogate pair", R"(\udbff)");
    bad("name_lone_udfff", "the last second half of a surrogate pair", R"(\udfff)");
    bad("name_high_then_udbff", "two first halves of a surrogate pair, the last of them",
        R"(\ud83d\udbff)");
    bad("name_high_then_ue000",
        "half a surrogate pair, then the first character after the surrogates", R"(\ud83d\ue000)");
    bad("name_high_then_uffff", "half a surrogate pair, then a noncharacter", R"(\ud83d\uffff)");
    bad("name_low_then_low", "the second half of a surrogate pair twice", R"(\ude00\ude00)");
    bad("name_low_then_high", "a surrogate pair the wrong way round", R"(\ude00\ud83d)");
    bad("name_high_at_end_of_pair", "a whole pair, then half of one", R"(\ud83d\ude00\ud83d)");
    bad("name_raw_ctrl", "a line end in a name", "a\nb");
    bad("name_raw_nul", "a zero in a name", "a\0b"s);
    bad("name_raw_01", "a control character in a name",
        "a\x01"
        "b");
    bad("name_raw_tab", "a tab in a name", "a\tb");
    bad("name_raw_cr", "a carriage return in a name", "a\rb");
    bad("name_raw_1f", "the last control character in a name",
        "a\x1F"
        "b");
    bad("name_raw_tab_at_16", "a control character far into a name",
        std::string(14, 'n') + "\t" + std::string(20, 'n'));
    bad("name_quote", "a quote ends the name", "a\"b");
}

void json(header_suite& add) {
    add.topic("json");
    add.accept("pretty", "white space between all tokens",
               "{\n  \"t\" : {\r\n\t\"dtype\" : \"U8\" , \"shape\" : [ 4 ] ,\n"
               " \"data_offsets\" : [ 0 , 4 ] }\n}",
               4);
    add.accept("space_in_empty_object", "white space in an empty object", "{ \t\r\n }");
    add.accept("space_in_empty_shape", "white space in an empty shape",
               one("\"U8\"", "[ \n ]", "[0,1]"), 1);
    add.accept("space_before_comma", "white space around commas and colons",
               object({bytes("a", 0, 1) + " ", "\n" + bytes("b", 1, 2)}) + "  ", 2);
    const auto bad = [&](std::string name, std::string reason, std::string text,
                         std::size_t data_bytes = 4) {
        add.refuse(errc::header_not_json, std::move(name), std::move(reason), text, data_bytes);
    };
    const std::string good = named("t");
    bad("not_json", "an opening brace alone", "{", 0);
    bad("comment", "JSON has no comments", "{/*c*/" + good.substr(1));
    bad("comment_line", "JSON has no comments", "{//c\n" + good.substr(1));
    bad("comment_hash", "JSON has no comments", "{#c\n" + good.substr(1));
    bad("single_quotes", "strings need double quotes",
        "{'t':{'dtype':'U8','shape':[4],'data_offsets':[0,4]}}");
    bad("unquoted_key", "keys are strings",
        "{t:{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}");
    bad("number_key", "keys are strings",
        "{1:{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}");
    bad("null_key", "keys are strings",
        "{null:{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}");
    bad("trailing_comma", "a comma after the last tensor", "{" + bytes("t", 0, 4) + ",}");
    bad("trailing_comma_entry", "a comma after the last field", one("\"U8\"", "[4]", "[0,4]", ","));
    bad("trailing_comma_shape", "a comma after the last extent", one("\"U8\"", "[4,]", "[0,4]"));
    bad("trailing_comma_offsets", "a comma after the last offset", one("\"U8\"", "[4]", "[0,4,]"));
    bad("trailing_comma_metadata", "a comma after the last metadata",
        with_metadata("{\"a\":\"b\",}"), 0);
    bad("leading_comma", "a comma before the first tensor", "{," + bytes("t", 0, 4) + "}");
    bad("leading_comma_shape", "a comma before the first extent", one("\"U8\"", "[,4]", "[0,4]"));
    bad("only_comma", "a comma alone", "{,}", 0);
    bad("double_comma", "two commas", "{" + bytes("a", 0, 2) + ",," + bytes("b", 2, 4) + "}");
    bad("missing_comma", "no comma between tensors",
        "{" + bytes("a", 0, 2) + bytes("b", 2, 4) + "}");
    bad("missing_comma_fields", "no comma between fields",
        "{\"t\":{\"dtype\":\"U8\" \"shape\":[4],\"data_offsets\":[0,4]}}");
    bad("missing_comma_offsets", "no comma between offsets", one("\"U8\"", "[4]", "[0 4]"));
    bad("semicolon", "a semicolon is not a comma",
        "{" + bytes("a", 0, 2) + ";" + bytes("b", 2, 4) + "}");
    bad("missing_colon", "no colon after a name", "{\"t\"" + good.substr(5));
    bad("equals_sign", "an equals sign is not a colon", "{\"t\"=" + good.substr(5));
    bad("double_colon", "two colons", "{\"t\"::" + good.substr(5));
    bad("missing_value", "a name without a tensor", "{\"t\"}", 0);
    bad("missing_value_colon", "a name and a colon without a tensor", "{\"t\":}", 0);
    bad("missing_quote", "a name that does not end", "{\"t:{}}", 0);
    bad("closed_twice", "one brace too many", good + "}");
    bad("closed_by_bracket", "a bracket closes a brace", good.substr(0, good.size() - 1) + "]");
    bad("shape_closed_by_brace", "a brace closes a bracket",
        "{\"t\":{\"dtype\":\"U8\",\"shape\":[4},\"data_offsets\":[0,4]}}");
    bad("nul_between", "a zero between tokens", "{\0"s + good.substr(1));
    bad("formfeed_between", "a form feed between tokens", "{\f" + good.substr(1));
    bad("nbsp_between", "a no-break space between tokens", "{\xC2\xA0" + good.substr(1));
    bad("byte_string", "a prefix before a string", "{b\"t\"" + good.substr(4));
    for (const std::size_t cut :
         {2u, 4u, 5u, 6u, 13u, 15u, 18u, 28u, 29u, 30u, 45u, 47u, 48u, 50u, 51u, 52u})
        bad("cut_after_" + text(cut), "the header ends early: " + good.substr(0, cut),
            good.substr(0, cut));

    add.topic("nesting");
    const auto deep = [&](std::string name, bool is_accepted, std::string value) {
        header_case& made =
            is_accepted
                ? add.accept(std::move(name),
                             "the reference allows 127 levels, two of which are the tensor's",
                             with_extra(value), 4)
                : add.refuse(errc::header_not_json, std::move(name),
                             "nested deeper than 127 levels", with_extra(value), 4);
        made.strict(errc::header_bad_entry);
    };
    deep("deep_nest_extra_100", true, nested(100));
    deep("nest_126_levels", true, nested(124));
    deep("nest_127_levels", true, nested(125));
    deep("deep_nest_extra_126", false, nested(126));
    deep("nest_129_levels", false, nested(127));
    deep("deep_nest_extra_200", false, nested(200));
    deep("nest_127_levels_objects", true, repeated("{\"x\":", 125) + "1" + std::string(125, '}'));
    deep("nest_128_levels_objects", false, repeated("{\"x\":", 126) + "1" + std::string(126, '}'));
    deep("nest_126_levels_mixed", true, repeated("[{\"x\":", 62) + "1" + repeated("}]", 62));
    deep("nest_128_levels_mixed", false, repeated("[{\"x\":", 63) + "1" + repeated("}]", 63));
    deep("nest_127_levels_twice", true, "[" + nested(124) + "," + nested(124) + "]");
    deep("nest_unclosed_100000", false, std::string(100'000, '['));
    deep("nest_objects_unclosed_100000", false, repeated("{\"\":", 100'000));
    add.refuse(errc::header_bad_entry, "deep_nest_200k", "an array of arrays is not a tensor",
               "{\"t\":" + std::string(200'000, '[') + "}");
    add.refuse(errc::header_bad_entry, "nest_tensor_closed", "an array of arrays is not a tensor",
               "{\"t\":" + nested(100'000) + "}");
    add.refuse(errc::header_bad_entry, "nest_in_metadata",
               "nesting is irrelevant if the value must be a string",
               with_metadata("{\"a\":" + nested(200) + "}"));
    add.refuse(errc::header_bad_entry, "nest_in_shape",
               "nesting is irrelevant if the value must be a number",
               one("\"U8\"", nested(200), "[0,4]"), 4);
}

void ignored(header_suite& add) {
    add.topic("ignored");
    const auto good = [&](std::string name, std::string value) {
        add.accept("ignored_" + std::move(name),
                   "a field that the format does not know is ignored, whatever its value",
                   with_extra(value), 4)
            .strict(errc::header_bad_entry);
    };
    const auto bad = [&](std::string name, std::string value) {
        add.refuse(errc::header_not_json, "ignored_bad_" + std::move(name),
                   "a field that is ignored must be JSON all the same", with_extra(value), 4)
            .strict(errc::header_bad_entry);
    };
    good("zero", "0");
    good("minus_zero", "-0");
    good("negative", "-17");
    good("fraction", "1.5e-7");
    good("1e308", "1e308");
    good("largest_double", "1.7976931348623157e308");
    good("0e999", "0e999");
    good("1e_minus_999", "1e-999");
    good("exponent_plus", "1E+5");
    good("2pow64", "18446744073709551616");
    good("309_digits", "1" + std::string(308, '0'));
    good("400_digits_e_minus_200", "1" + std::string(399, '0') + "e-200");
    good("500_decimals", "0." + std::string(500, '1'));
    good("true", "true");
    good("false", "false");
    good("null", "null");
    good("string", "\"\\ud83d\\ude00 \\\" }\"");
    good("empty_array", "[]");
    good("empty_object", "{}");
    good("nested", "[1,[2,{\"a\":[null,{}]}]]");
    good("duplicates_inside", "{\"a\":1,\"a\":2}");
    good("tensor_inside", named("t"));
    bad("1e999", "1e999");
    bad("minus_1e999", "-1e999");
    bad("above_largest_double", "1.7976931348623158e308");
    bad("310_digits", "1" + std::string(309, '0'));
    bad("400_digits_e_minus_50", "1" + std::string(399, '0') + "e-50");
    bad("infinity", "Infinity");
    bad("minus_infinity", "-Infinity");
    bad("huge_exponent", "1e99999999999999999999");
    bad("minus", "-");
    bad("leading_zero", "01");
    bad("minus_leading_zero", "-01");
    bad("point_end", "1.");
    bad("point_start", ".5");
    bad("exponent_empty", "1e");
    bad("exponent_sign", "1e+");
    bad("plus", "+1");
    bad("hex", "0x10");
    bad("underscore", "1_000");
    bad("tru", "tru");
    bad("nulll", "nulll");
    bad("true_misspelled", "trUe");
    bad("false_misspelled", "falsy");
    bad("null_misspelled", "nope");
    bad("capital_true", "True");
    bad("none", "None");
    bad("undefined", "undefined");
    bad("surrogate", "\"\\ud83d\"");
    bad("escape", "\"\\x\"");
    bad("tab_in_string", "\"\t\"");
    bad("trailing_comma", "[1,]");
    bad("object_comma", "{\"a\":1,}");
    bad("object_no_value", "{\"a\"}");
    bad("object_no_value_colon", "{\"a\":}");
    bad("object_number_key", "{1:2}");
    bad("missing_comma", "[1 2]");
    bad("nothing", "");
    bad("bracket", "]");
    add.refuse(errc::header_not_json, "nan_extra", "NaN is not JSON", with_extra("NaN"), 4)
        .strict(errc::header_bad_entry);

    const auto entry_with = [&](std::string name, std::string reason, std::string fields) {
        add.accept(std::move(name), std::move(reason), "{\"t\":{" + fields + "}}", 4)
            .strict(errc::header_bad_entry);
    };
    entry_with("dup_field_extra", "an ignored field may be repeated",
               "\"dtype\":\"U8\",\"x\":1,\"x\":2,\"shape\":[4],\"data_offsets\":[0,4]");
    entry_with("ignored_first", "an ignored field before the others",
               "\"x\":{\"dtype\":\"F32\"},\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]");
    entry_with("ignored_empty_key", "an ignored field without a name",
               "\"dtype\":\"U8\",\"\":0,\"shape\":[4],\"data_offsets\":[0,4]");
    entry_with("ignored_escaped_prefix",
               "the beginnings of fields are not fields, also if written with escapes",
               "\"\\u0064type\":\"U8\",\"\\u0064\":0,\"\\u0073hap\":0,\"data\\u005f\":0,"
               "\"shape\":[4],\"data_offsets\":[0,4]");
    entry_with("ignored_escaped_longer", "nor is what begins with them",
               "\"dtype\\u0000\":0,\"sh\\u0061pes\":0,"
               "\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]");
    entry_with("ignored_case", "fields are case-sensitive",
               "\"Dtype\":\"F32\",\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]");
    entry_with("ignored_metadata", "__metadata__ means nothing inside a tensor",
               "\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"__metadata__\":1");
    entry_with(
        "ignored_1000", "a thousand ignored fields",
        "\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]" + repeated(",\"x\":[]", 1000));
}

void entries(header_suite& add) {
    add.topic("entries");
    const auto bad = [&](std::string name, std::string reason, std::string entry,
                         std::size_t data_bytes = 4) -> header_case& {
        return add.refuse(errc::header_bad_entry, std::move(name), std::move(reason),
                          "{\"t\":" + entry + "}", data_bytes);
    };
    const std::vector<std::string> fields = {"\"dtype\":\"U8\"", "\"shape\":[4]",
                                             "\"data_offsets\":[0,4]"};
    add.accept("key_order", "fields in any order",
               "{\"t\":{" + fields[2] + "," + fields[1] + "," + fields[0] + "}}", 4);
    for (const auto& [a, b, c] :
         std::vector<std::array<std::size_t, 3>>{{0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}})
        add.accept("key_order_" + text(a) + text(b) + text(c), "fields in any order",
                   "{\"t\":{" + fields[a] + "," + fields[b] + "," + fields[c] + "}}", 4);
    add.accept("fields_escaped", "names of fields written with escapes",
               R"({"t":{"\u0064type":"U8","sh\u0061pe":[4],"data\u005foffsets":[0,4]}})", 4);
    bad("miss_dtype", "no dtype", "{" + fields[1] + "," + fields[2] + "}");
    bad("miss_shape", "no shape", "{" + fields[0] + "," + fields[2] + "}");
    bad("miss_offsets", "no data_offsets", "{" + fields[0] + "," + fields[1] + "}");
    bad("miss_offsets_empty_tensor", "an empty tensor needs data_offsets too",
        "{\"dtype\":\"U8\",\"shape\":[0]}", 0);
    bad("miss_all", "an empty object is not a tensor", "{}", 0);
    bad("case_dtype", "fields are case-sensitive",
        "{\"DTYPE\":\"U8\"," + fields[1] + "," + fields[2] + "}");
    bad("field_dtype_space", "no field is called \"dtype \"",
        "{\"dtype \":\"U8\"," + fields[1] + "," + fields[2] + "}");
    const auto twice = [&](std::string name, std::string more) {
        bad(std::move(name), "a field of the format must not be repeated",
            "{" + fields[0] + "," + fields[1] + "," + fields[2] + "," + more + "}");
    };
    twice("dup_dtype", fields[0]);
    twice("dup_dtype_other", "\"dtype\":\"I8\"");
    twice("dup_shape", fields[1]);
    twice("dup_shape_escaped", "\"sh\\u0061pe\":[4]");
    twice("dup_offsets", fields[2]);
    bad("entry_null", "null is not a tensor", "null", 0);
    bad("entry_true", "a boolean is not a tensor", "true", 0);
    bad("entry_string", "a string is not a tensor", "\"U8\"", 0);
    bad("entry_number", "a number is not a tensor", "4", 0);
    bad("entry_empty_array", "an empty array is not a tensor", "[]", 0);
    bad("entry_in_array", "a tensor in an array is not a tensor",
        "[{" + fields[0] + "," + fields[1] + "," + fields[2] + "}]");
    bad("entry_in_object", "a tensor in an object is not a tensor",
        "{\"u\":{" + fields[0] + "," + fields[1] + "," + fields[2] + "}}")
        .strict(errc::header_bad_entry);
    // The reference accepts these only because of how its JSON library reads structures.
    bad("tensor_as_array", "an array of dtype, shape and offsets: an artefact of the reference",
        "[\"U8\",[4],[0,4]]")
        .reference_accepts();
    bad("tensor_as_array_dtype_object", "both artefacts of the reference",
        "[{\"U8\":null},[4],[0,4]]")
        .reference_accepts();
    bad("tensor_as_array_2", "an array that lacks the offsets", "[\"U8\",[4]]");
    bad("tensor_as_array_4", "an array with one element too many", "[\"U8\",[4],[0,4],1]");
    bad("tensor_as_array_order", "an array in the wrong order", "[[4],\"U8\",[0,4]]");
    bad("tensor_as_array_bad_offsets", "an array whose offsets leave a hole", "[\"U8\",[4],[1,5]]",
        5)
        .reference(errc::bad_offsets);

    add.topic("dtypes");
    for (const auto& [spelled, size_bytes] : std::vector<std::pair<std::string, std::size_t>>{
             // the size of eight elements
             {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
             {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
             {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
             {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
             {"I64", 64},        {"U64", 64}}) {
        add.accept("dtype_ok_" + spelled, "a dtype of the format",
                   one("\"" + spelled + "\"", "[8]", "[0," + text(size_bytes) + "]"), size_bytes);
    }
    add.file({}, "bool_value_2", "the data are not looked at",
             header_suite::framed(one("\"BOOL\"", "[1]", "[0,1]"), 0) + "\x02");
    add.file({}, "f32_signaling_nan", "the data are not looked at",
             header_suite::framed(one("\"F32\"", "[1]", "[0,4]"), 0) + "\x01\0\x80\x7F"s);
    add.accept("dtype_escape", "a dtype written with escapes",
               one(R"("\u0055\u0038")", "[4]", "[0,4]"), 4);
    for (const auto& [label, spelled] :
         std::vector<std::pair<std::string, std::string>>{{"BOOL8", "BOOL8"},
                                                          {"C128", "C128"},
                                                          {"F128", "F128"},
                                                          {"F32_sp", "F32 "},
                                                          {"F8_E4M3FN", "F8_E4M3FN"},
                                                          {"FP8", "FP8"},
                                                          {"I4", "I4"},
                                                          {"Q4_0", "Q4_0"},
                                                          {"u8", "u8"}})
        add.refuse(errc::unknown_dtype, "dtype_bad_" + label, "no dtype of the format",
                   one("\"" + spelled + "\"", "[8]", "[0,32]"), 32);
    for (const auto& [label, spelled] :
         std::vector<std::pair<std::string, std::string>>{{"empty", ""},
                                                          {"sp_F32", " F32"},
                                                          {"F3", "F3"},
                                                          {"F322", "F322"},
                                                          {"bf16_lower", "bf16"},
                                                          {"float32", "float32"},
                                                          {"F", "F"},
                                                          {"F6", "F6"},
                                                          {"F8", "F8"},
                                                          {"F8_E4M3_lower", "F8_e4m3"},
                                                          {"F8_E3M4", "F8_E3M4"},
                                                          {"F4_E2M1", "F4_E2M1"},
                                                          {"U4", "U4"},
                                                          {"NF4", "NF4"},
                                                          {"escaped_prefix", "\\u0046"},
                                                          {"escaped_longer",
                                                           "\\u0055"
                                                           "88"},
                                                          {"I128", "I128"},
                                                          {"C32", "C32"},
                                                          {"BOOLEAN", "BOOLEAN"},
                                                          {"nul_behind", "U8\\u0000"},
                                                          {"object_text", "{\\\"U8\\\":null}"},
                                                          {"fullwidth", "\xEF\xBC\xB5\xEF\xBC\x98"},
                                                          {"long", std::string(5000, 'F')}})
        add.refuse(errc::unknown_dtype, "dtype_bad_" + label, "no dtype of the format",
                   one("\"" + spelled + "\"", "[4]", "[0,4]"), 4);
    const auto bad_dtype = [&](std::string name, std::string reason,
                               std::string value) -> header_case& {
        return add.refuse(errc::header_bad_entry, std::move(name), std::move(reason),
                          one(value, "[4]", "[0,4]"), 4);
    };
    bad_dtype("dtype_int", "a dtype is a string", "8");
    bad_dtype("dtype_null", "a dtype is a string", "null");
    bad_dtype("dtype_true", "a dtype is a string", "true");
    bad_dtype("dtype_array", "a dtype is a string", "[\"U8\"]");
    bad_dtype("dtype_object", "a dtype as an object: an artefact of the reference", "{\"U8\":null}")
        .reference_accepts();
    bad_dtype("dtype_object_escaped", "the same, written with escapes and white space",
              "{ \"\\u0055\\u0038\" : null }")
        .reference_accepts();
    bad_dtype("dtype_object_unknown", "an object whose key is not a dtype", "{\"U9\":null}")
        .reference(errc::unknown_dtype);
    bad_dtype("dtype_object_empty", "an empty object", "{}");
    bad_dtype("dtype_object_two", "an object with two keys", "{\"U8\":null,\"I8\":null}");
    bad_dtype("dtype_object_value", "an object whose value is not null", "{\"U8\":1}");
    bad_dtype("dtype_object_object", "an object whose value is not null", "{\"U8\":{}}");

    add.topic("duplicates");
    const auto twice_in = [&](std::string name, std::string reason, std::vector<std::string> each,
                              std::size_t data_bytes) -> header_case& {
        return add.refuse(errc::duplicate_tensor, std::move(name), std::move(reason), object(each),
                          data_bytes);
    };
    twice_in("dup_tensor_same", "the same tensor twice: the reference takes the last",
             {bytes("t", 0, 4), bytes("t", 0, 4)}, 4)
        .reference_accepts()
        .holds({"t"});
    twice_in("dup_tensor_last_covers", "one name, two tensors: the reference takes the last",
             {bytes("t", 0, 2), bytes("t", 0, 4)}, 4)
        .reference_accepts()
        .holds({"t"});
    twice_in("dup_tensor_first_covers", "the last of two does not cover the data",
             {bytes("t", 0, 4), bytes("t", 0, 2)}, 4)
        .reference(errc::trailing_bytes);
    twice_in("dup_tensor_both_needed", "the two together cover the data",
             {bytes("t", 0, 4), bytes("t", 4, 8)}, 8)
        .reference(errc::bad_offsets);
    twice_in("dup_tensor_escaped", "the same name, once written with an escape",
             {bytes("t", 7, 9), bytes("\\u0074", 0, 4)}, 4)
        .reference_accepts()
        .holds({"t"});
    twice_in("dup_tensor_dtype", "one name, two dtypes",
             {bytes("t", 0, 4), entry("t", "\"F32\"", "[1]", "[0,4]")}, 4)
        .reference_accepts();
    twice_in("dup_tensor_three", "one name three times",
             {bytes("t", 0, 4), bytes("t", 4, 8), bytes("t", 0, 4)}, 4)
        .reference_accepts();
    twice_in("dup_tensor_apart", "with another tensor between",
             {bytes("t", 0, 2), bytes("u", 0, 2), bytes("t", 2, 4)}, 4)
        .reference_accepts()
        .holds({"u", "t"});
    twice_in("dup_tensor_empty_name", "the empty name twice", {bytes("", 0, 4), bytes("", 0, 4)}, 4)
        .reference_accepts();
    twice_in("dup_tensor_zero_size", "an empty tensor twice", {empty("t", 0), empty("t", 0)}, 0)
        .reference_accepts();
    twice_in("dup_tensor_and_hole", "the duplicate is reported before the hole",
             {bytes("a", 0, 4), bytes("b", 9, 13), bytes("a", 0, 4)}, 4)
        .reference(errc::bad_offsets);
    twice_in("dup_tensor_first_too_large", "what the last replaces is not checked",
             {entry("t", "\"U8\"", "[9]", "[0,4]"), bytes("t", 0, 4)}, 4)
        .reference_accepts();
    add.refuse(errc::unknown_dtype, "dup_tensor_first_bad_dtype",
               "what the last replaces must be a tensor all the same",
               object({entry("t", "\"X\"", "[4]", "[0,4]"), bytes("t", 0, 4)}), 4);
    {
        std::vector<std::string> many;
        for (std::uint64_t i = 0; i < 300; ++i) many.push_back(bytes("t" + text(i), i, i + 1));
        add.accept("tensors_300", "many tensors", object(many), 300);
        many.push_back(bytes("t17", 300, 301));
        twice_in("dup_tensor_of_300", "one name twice among many", many, 301)
            .reference(errc::bad_offsets);
        many.back() = bytes("t17", 17, 18);
        twice_in("dup_tensor_of_300_same", "one tensor twice among many", many, 300)
            .reference_accepts();
    }
}

void metadata(header_suite& add) {
    add.topic("metadata");
    const auto bad = [&](std::string name, std::string reason, std::string value,
                         std::size_t data_bytes = 0) {
        add.refuse(errc::header_bad_entry, std::move(name), std::move(reason), with_metadata(value),
                   data_bytes);
    };
    const auto holds = [&](std::string name, std::string reason, std::string json,
                           std::vector<std::pair<std::string, std::string>> pairs,
                           std::size_t data_bytes = 0) -> header_case& {
        return add.accept(std::move(name), std::move(reason), json, data_bytes)
            .holds_metadata(std::move(pairs));
    };
    add.accept("meta_empty", "metadata may be empty", with_metadata("{}"));
    add.accept("meta_null", "null metadata are none", with_metadata("null"));
    holds("meta_format_pt", "what PyTorch writes",
          "{\"__metadata__\":{\"format\":\"pt\"}," + bytes("t", 0, 4) + "}", {{"format", "pt"}}, 4);
    holds("meta_last", "metadata after the tensors",
          "{" + bytes("t", 0, 4) + ",\"__metadata__\":{\"a\":\"b\"}}", {{"a", "b"}}, 4);
    holds("meta_middle", "metadata between tensors",
          object({bytes("t", 0, 2), "\"__metadata__\":{\"a\":\"b\"}", bytes("u", 2, 4)}),
          {{"a", "b"}}, 4);
    holds("meta_escaped_key", "__metadata__ written with an escape",
          R"({"__met\u0061data__":{"a":"b"}})", {{"a", "b"}});
    holds("meta_empty_texts", "an empty key and an empty value", with_metadata("{\"\":\"\"}"),
          {{"", ""}});
    holds("meta_escapes", "keys and values written with escapes",
          with_metadata(R"({"\u006b\n":"\ud83d\ude00\u0000"})"), {{"k\n", "\xF0\x9F\x98\x80\0"s}});
    holds("meta_json_inside", "JSON in a value, as training tools write it",
          with_metadata(R"({"ss_tag":"{\"a\": [1, 2]}"})"), {{"ss_tag", "{\"a\": [1, 2]}"}});
    holds("meta_key_metadata", "a key called __metadata__",
          with_metadata(R"({"__metadata__":"x"})"), {{"__metadata__", "x"}});
    holds("meta_key_of_tensor", "a key may be a tensor's name",
          "{\"__metadata__\":{\"t\":\"x\"}," + bytes("t", 0, 4) + "}", {{"t", "x"}}, 4);
    holds("meta_long_value", "a value of 100,000 characters",
          with_metadata("{\"a\":\"" + std::string(100'000, 'v') + "\"}"),
          {{"a", std::string(100'000, 'v')}});
    holds("meta_dup_key_inside", "a repeated key: the last one counts",
          with_metadata(R"({"a":"b","a":"c"})"), {{"a", "c"}})
        .strict(errc::header_bad_entry);
    holds("meta_dup_key_escaped", "the same, once written with an escape",
          with_metadata(R"({"a":"b","x":"y","\u0061":"c"})"), {{"a", "c"}, {"x", "y"}})
        .strict(errc::header_bad_entry);
    {
        std::string pairs;
        for (std::uint64_t i = 0; i < 200; ++i)
            pairs += (i == 0 ? "\"k" : ",\"k") + text(i) + "\":\"v\"";
        add.accept("meta_200_entries", "many metadata", with_metadata("{" + pairs + "}"));
    }
    bad("meta_array", "metadata are an object", "[]");
    bad("meta_array_pairs", "metadata are an object", "[[\"a\",\"b\"]]");
    bad("meta_string", "metadata are an object", "\"x\"");
    bad("meta_number", "metadata are an object", "1");
    bad("meta_true", "metadata are an object", "true");
    bad("meta_int", "values are strings", "{\"a\":1}");
    bad("meta_value_null", "values are strings", "{\"a\":null}");
    bad("meta_value_true", "values are strings", "{\"a\":true}");
    bad("meta_value_array", "values are strings", "{\"a\":[]}");
    bad("meta_value_object", "values are strings", "{\"a\":{}}");
    bad("meta_as_tensor", "a tensor cannot be called __metadata__",
        "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}", 4);
    add.refuse(errc::header_bad_entry, "meta_twice", "__metadata__ twice",
               R"({"__metadata__":{"a":"b"},"__metadata__":{"a":"c"}})");
    add.refuse(errc::header_bad_entry, "meta_twice_empty", "__metadata__ twice",
               R"({"__metadata__":{},"__metadata__":{}})");
    add.refuse(errc::header_bad_entry, "meta_twice_null", "__metadata__ twice",
               R"({"__metadata__":null,"__metadata__":null})");
    add.refuse(errc::header_bad_entry, "meta_twice_escaped",
               "__metadata__ twice, once written with an escape",
               R"({"__metadata__":null,"__met\u0061data__":{}})");
    add.refuse(errc::header_bad_entry, "meta_twice_apart", "__metadata__ before and after a tensor",
               object({"\"__metadata__\":{}", bytes("t", 0, 4), "\"__metadata__\":{}"}), 4);
    add.refuse(errc::header_not_json, "meta_value_surrogate", "half a surrogate pair in a value",
               with_metadata(R"({"a":"\ud800"})"));
    add.refuse(errc::header_not_json, "meta_value_control", "a line end in a value",
               with_metadata("{\"a\":\"b\nc\"}"));
    add.refuse(errc::header_not_json, "meta_value_1f_at_end",
               "the last control character, a few bytes before the end of the header",
               with_metadata("{\"a\":\"\x1F\"}"));
    add.refuse(errc::header_not_json, "meta_value_1f_in_last_eight",
               "the last control character, eight bytes before its string's end",
               with_metadata("{\"a\":\"\x1Fnnnnnnn\"}"));
    add.refuse(errc::header_not_json, "meta_number_key", "keys are strings",
               with_metadata("{1:\"a\"}"));
    add.refuse(errc::header_not_json, "meta_unclosed", "metadata that do not end",
               "{\"__metadata__\":{\"a\":\"b\"");
}

void numbers(header_suite& add) {
    add.topic("numbers");
    add.refuse(errc::header_bad_entry, "float_offset", "offsets are plain integers",
               one("\"U8\"", "[4]", "[0.0,4.0]"), 4);
    add.refuse(errc::header_bad_entry, "float_shape", "extents are plain integers",
               one("\"U8\"", "[4.0]", "[0,4]"), 4);
    add.refuse(errc::header_not_json, "hex_num", "JSON has no hexadecimal numbers",
               one("\"U8\"", "[0x4]", "[0,4]"), 4);
    add.refuse(errc::header_not_json, "lead_zero", "JSON has no leading zeros",
               one("\"U8\"", "[04]", "[0,4]"), 4);
    add.refuse(errc::header_not_json, "plus_num", "JSON has no plus signs",
               one("\"U8\"", "[+4]", "[0,4]"), 4);
    add.refuse(errc::header_bad_entry, "neg_offset", "offsets are not negative",
               one("\"U8\"", "[1]", "[-1,0]"), 1);
    add.refuse(errc::header_bad_entry, "neg_shape", "extents are not negative",
               one("\"U8\"", "[-1]", "[0,1]"), 1);
    add.refuse(errc::header_bad_entry, "neg_zero", "-0 is not a plain integer",
               one("\"U8\"", "[4]", "[-0,4]"), 4);
    add.refuse(errc::header_bad_entry, "string_num", "extents are numbers",
               one("\"U8\"", "[\"4\"]", "[0,4]"), 4);
    add.refuse(errc::header_bad_entry, "shape_null", "a shape is an array",
               one("\"U8\"", "null", "[0,4]"), 4);
    add.refuse(errc::header_bad_entry, "shape_2pow64", "extents are below 2^64",
               one("\"U8\"", "[18446744073709551616]", "[0,0]"));

    // Every way to write a number, in every place of a number. Each means 4 (or 0) to a parser that
    // is too tolerant.
    struct spelling {
        std::string label, number;
        errc code;
    };
    const auto spellings = [](const std::string& digit) {
        const std::string zeros = digit == "0" ? "0" : "";
        return std::vector<spelling>{
            {"fraction", digit + ".0", errc::header_bad_entry},
            {"exponent", digit + "e0", errc::header_bad_entry},
            {"exponent_upper", digit + "E0", errc::header_bad_entry},
            {"exponent_minus", digit + zeros + "0e-1", errc::header_bad_entry},
            {"negative", "-" + digit, errc::header_bad_entry},
            {"text", "\"" + digit + "\"", errc::header_bad_entry},
            {"null", "null", errc::header_bad_entry},
            {"true", "true", errc::header_bad_entry},
            {"array", "[" + digit + "]", errc::header_bad_entry},
            {"object", "{}", errc::header_bad_entry},
            {"2pow64", "18446744073709551616", errc::header_bad_entry},
            {"2pow64_more", digit == "0" ? "18446744073709551616000" : "18446744073709551620",
             errc::header_bad_entry},
            {"2pow128", "340282366920938463463374607431768211456", errc::header_bad_entry},
            {"point_end", digit + ".", errc::header_not_json},
            {"point_start", "." + digit, errc::header_not_json},
            {"zero_before", "0" + digit, errc::header_not_json},
            {"zeros_before", "0000" + digit, errc::header_not_json},
            {"plus", "+" + digit, errc::header_not_json},
            {"hex", "0x" + digit, errc::header_not_json},
            {"suffix", digit + "u", errc::header_not_json},
            {"underscore", digit + "_0", errc::header_not_json},
            {"minus", "-", errc::header_not_json},
            {"nan", "NaN", errc::header_not_json},
            {"infinity", "Infinity", errc::header_not_json},
            {"nothing", "", errc::header_not_json},
            {"space_inside", digit + " 0", errc::header_not_json},
            {"1e999", "1e999", errc::header_not_json},
            {"arabic_digit", "\xD9\xA4", errc::header_not_json},
        };
    };
    for (const spelling& each : spellings("4"))
        if (each.label != "fraction" && each.label != "zero_before" && each.label != "plus" &&
            each.label != "hex" && each.label != "text" && each.label != "nothing")
            add.refuse(each.code, "extent_" + each.label, "an extent is a plain integer below 2^64",
                       one("\"U8\"", "[" + each.number + "]", "[0,4]"), 4);
    for (const spelling& each : spellings("0"))
        if (each.label != "negative" && each.label != "exponent_minus")
            add.refuse(each.code, "begin_" + each.label, "an offset is a plain integer below 2^64",
                       one("\"U8\"", "[4]", "[" + each.number + ",4]"), 4);
    for (const spelling& each : spellings("4"))
        add.refuse(each.label == "nothing" ? errc::header_not_json : each.code, "end_" + each.label,
                   "an offset is a plain integer below 2^64",
                   one("\"U8\"", "[4]", "[0," + each.number + "]"), 4);
    add.accept("number_spaces", "white space around numbers",
               one("\"U8\"", "[ 4\t]", "[\n0 , 4\r]"), 4);
    add.refuse(errc::size_mismatch, "extent_2pow53_plus_1",
               "9007199254740993 is not 9007199254740992",
               one("\"U8\"", "[9007199254740993]", "[0,9007199254740992]"));
    add.refuse(errc::bad_offsets, "begin_2pow53_plus_1", "9007199254740993 is not 9007199254740992",
               object({bytes("a", 0, 9'007'199'254'740'992),
                       bytes("b", 9'007'199'254'740'993, 9'007'199'254'740'994)}))
        .lenient(errc::data_truncated);
    add.refuse(errc::size_mismatch, "extent_2pow32_plus_4", "4294967300 is not 4",
               one("\"U8\"", "[4294967300]", "[0,4]"), 4);
    add.refuse(errc::size_mismatch, "end_2pow32_plus_4", "4294967300 is not 4",
               one("\"U8\"", "[4]", "[0,4294967300]"), 4);
    add.refuse(errc::size_overflow, "extent_u64max", "2^64-1 is an integer, but too many bits",
               one("\"U8\"", "[18446744073709551615]", "[0,4]"), 4);
    add.refuse(errc::size_mismatch, "end_u64max",
               "2^64-1 is an integer, but not where this tensor ends",
               one("\"U8\"", "[4]", "[0,18446744073709551615]"), 4);

    const auto shape = [&](std::string name, std::string value) {
        add.refuse(errc::header_bad_entry, "shape_" + std::move(name),
                   "a shape is an array of integers", one("\"U8\"", value, "[0,4]"), 4);
    };
    shape("number", "4");
    shape("text", "\"4\"");
    shape("object", "{\"0\":4}");
    shape("true", "true");
    shape("nested", "[[2,2]]");
    shape("null_inside", "[4,null]");
    const auto offsets = [&](std::string name, std::string value) {
        add.refuse(errc::header_bad_entry, "offsets_" + std::move(name),
                   "offsets are an array of two integers", one("\"U8\"", "[4]", value), 4);
    };
    offsets("0", "[]");
    offsets("1", "[0]");
    offsets("3", "[0,4,4]");
    offsets("obj", "{\"0\":0,\"1\":4}");
    offsets("null", "null");
    offsets("number", "4");
    offsets("text", "\"0,4\"");
    offsets("nested", "[[0,4]]");
    offsets("nested_pair", "[[0],[4]]");
}

void shapes(header_suite& add) {
    add.topic("rank");
    add.accept("scalar", "a scalar has one element", one("\"I32\"", "[]", "[0,4]"), 4);
    add.refuse(errc::size_mismatch, "scalar_without_bytes", "a scalar has one element",
               one("\"I32\"", "[]", "[0,0]"));
    for (const std::size_t rank : {2u, 4u, 7u, 8u, 9u, 16u, 32u, 33u, 64u, 65u})
        add.accept("ndim_" + text(rank), "there is no limit on the rank",
                   one("\"U8\"", "[" + repeated("1,", rank - 1) + "4]", "[0,4]"), 4);
    add.accept("ndim_1000", "there is no limit on the rank",
               one("\"U8\"", "[" + repeated("1,", 999) + "4]", "[0,4]"), 4);
    add.accept("ndim_20000", "there is no limit on the rank",
               one("\"U8\"", "[" + repeated("1,", 19'999) + "4]", "[0,4]"), 4);
    add.refuse(errc::size_mismatch, "ndim_9_mismatch", "the ninth extent counts",
               one("\"U8\"", "[1,1,1,1,1,1,1,1,4]", "[0,1]"), 1);

    add.topic("zero size");
    add.accept("zero_dim", "an extent of zero", one("\"I32\"", "[2,0]", "[0,0]"));
    add.accept("zero_dims", "two extents of zero", one("\"I32\"", "[0,0]", "[0,0]"));
    add.accept("zero_dim_huge", "a zero first, so the product never overflows",
               one("\"I32\"", "[0,18446744073709551615,18446744073709551615]", "[0,0]"));
    add.accept("zero_dim_second", "a zero before the product overflows",
               one("\"I32\"", "[18446744073709551615,0,18446744073709551615]", "[0,0]"));
    add.refuse(errc::size_overflow, "zero_dim_last", "a zero after the product overflowed",
               one("\"I32\"", "[18446744073709551615,18446744073709551615,0]", "[0,0]"));
    add.refuse(errc::size_overflow, "zero_dim_last_small", "a zero after the product overflowed",
               one("\"U8\"", "[4294967296,4294967296,0]", "[0,0]"));
    add.refuse(errc::size_mismatch, "zero_dim_bytes", "an empty tensor with bytes",
               one("\"I32\"", "[2,0]", "[0,4]"), 4);
    add.accept("zero_dim_nonzero_off", "an empty tensor after the last byte",
               object({bytes("a", 0, 4), entry("t", "\"I32\"", "[2,0]", "[4,4]")}), 4);
    add.accept("zero_dim_off_mid", "an empty tensor where one tensor ends and the next begins",
               object({bytes("a", 0, 4), bytes("b", 4, 8), empty("t", 4)}), 8)
        .holds({"a", "t", "b"});
    add.accept("zero_dim_first", "an empty tensor where the first begins",
               object({bytes("a", 0, 4), empty("t", 0)}), 4)
        .holds({"t", "a"});
    add.accept(
        "many_zero_same_off", "several empty tensors at one place",
        object({entry("a", "\"F32\"", "[0]", "[0,0]"), entry("b", "\"F32\"", "[0]", "[0,0]")}));
    add.accept("zero_dims_everywhere", "empty tensors at every border",
               object({empty("x", 4), bytes("b", 4, 8), empty("y", 0), bytes("a", 0, 4),
                       empty("z", 8)}),
               8)
        .holds({"y", "a", "x", "b", "z"});
    add.refuse(errc::bad_offsets, "zero_dim_inside", "an empty tensor inside another",
               object({bytes("a", 0, 4), empty("t", 2)}), 4);
    add.refuse(errc::bad_offsets, "zero_dim_behind", "an empty tensor past the end of the file",
               object({bytes("a", 0, 4), empty("t", 8)}), 4)
        .lenient(errc::data_truncated);
    add.refuse(errc::bad_offsets, "zero_dim_behind_gap", "an empty tensor after bytes of no tensor",
               object({bytes("a", 0, 4), empty("t", 8)}), 8)
        .lenient_accepts();
    add.refuse(errc::bad_offsets, "zero_dim_at_u64max", "an empty tensor at the largest offset",
               "{" + empty("t", ~std::uint64_t{0}) + "}")
        .lenient(errc::data_truncated);
    add.refuse(errc::bad_offsets, "zero_dim_reversed",
               "an empty tensor whose end is before its begin",
               object({bytes("a", 0, 4), entry("t", "\"I32\"", "[0]", "[4,3]")}), 4);

    add.topic("overflow");
    const auto overflow = [&](std::string name, std::string reason, std::string type,
                              std::string shape, std::string offsets, std::size_t data_bytes = 0) {
        add.refuse(errc::size_overflow, std::move(name), std::move(reason),
                   one("\"" + type + "\"", shape, offsets), data_bytes);
    };
    overflow("bits_overflow", "the number of bits passes 2^64", "I32", "[2,9223372036854775807]",
             "[0,16]", 16);
    overflow("nbits_overflow_but_nbytes_fit",
             "bits are counted in 64 bits, so 2^61 bytes are too many", "U8",
             "[2305843009213693952]", "[0,2305843009213693952]");
    overflow("overflow_to_16", "a product that is 16 in 64 bits", "U8",
             "[4294967297,4294967296,16]", "[0,0]");
    overflow("overflow_to_4", "a product that is 4 in 64 bits", "U8", "[2,9223372036854775810]",
             "[0,4]", 4);
    overflow("overflow_to_0", "65536^4 is 0 in 64 bits", "U8", "[65536,65536,65536,65536]",
             "[0,0]");
    overflow("overflow_bits_to_0", "2^61 bytes are 0 bits in 64 bits", "U8",
             "[2305843009213693952]", "[0,0]");
    overflow("overflow_bits_to_32", "a tensor that has 32 bits in 64 bits", "U8",
             "[2305843009213693956]", "[0,4]", 4);
    overflow("overflow_i64", "a product above 2^63", "I32", "[2,18446744073709551614]", "[0,16]",
             16);
    overflow("overflow_u64max_elements", "2^64-1 elements fit, their bits do not", "U8",
             "[4294967295,4294967297]", "[0,4]", 4);
    overflow("overflow_f64", "2^58 elements of 64 bits", "F64", "[288230376151711744]", "[0,0]");
    overflow("overflow_c64", "2^58 elements of 64 bits", "C64", "[288230376151711744]", "[0,0]");
    overflow("overflow_bf16", "2^60 elements of 16 bits", "BF16", "[1152921504606846976]", "[0,0]");
    overflow("overflow_f4", "2^62 elements of 4 bits", "F4", "[4611686018427387904]", "[0,0]");
    overflow("overflow_f6", "more elements of 6 bits than fit", "F6_E2M3", "[3074457345618258604]",
             "[0,0]");
    overflow("overflow_before_partial_byte", "the overflow is found before the part of a byte",
             "F6_E3M2", "[6148914691236517205]", "[0,1]", 1);
    add.refuse(errc::data_truncated, "largest_f64", "the largest F64 tensor whose bits fit",
               one("\"F64\"", "[288230376151711743]", "[0,2305843009213693944]"));
    add.refuse(errc::data_truncated, "largest_f4", "the largest F4 tensor whose bits fit",
               one("\"F4\"", "[4611686018427387902]", "[0,2305843009213693951]"));

    add.topic("sub-byte");
    struct codes {
        std::string name, type, shape;
        std::size_t size_bytes;
        std::optional<errc> refusal;
    };
    for (const codes& each :
         std::vector<codes>{{"f4_zero", "F4", "[0]", 0, {}},
                            {"f4_2", "F4", "[2]", 1, {}},
                            {"f4_6", "F4", "[2,3]", 3, {}},
                            {"f4_row_of_3", "F4", "[4,3]", 6, {}},
                            {"f4_1", "F4", "[1]", 1, errc::partial_byte},
                            {"f4_misaligned_1", "F4", "[3]", 1, errc::partial_byte},
                            {"f4_misaligned_2", "F4", "[3]", 2, errc::partial_byte},
                            {"f4_misaligned_1_3", "F4", "[1,3]", 2, errc::partial_byte},
                            {"f4_scalar", "F4", "[]", 1, errc::partial_byte},
                            {"f4_too_large", "F4", "[1,2]", 2, errc::size_mismatch},
                            {"f4_as_bytes", "F4", "[4]", 4, errc::size_mismatch},
                            {"f4_without_bytes", "F4", "[2]", 0, errc::size_mismatch},
                            {"f4_1_without_bytes", "F4", "[1]", 0, errc::partial_byte},
                            {"f6_zero", "F6_E2M3", "[0]", 0, {}},
                            {"f6_4elems", "F6_E2M3", "[4]", 3, {}},
                            {"f6_12elems", "F6_E3M2", "[12]", 9, {}},
                            {"f6_2x2", "F6_E3M2", "[2,2]", 3, {}},
                            {"f6_1elem", "F6_E2M3", "[1]", 1, errc::partial_byte},
                            {"f6_2elems", "F6_E2M3", "[2]", 2, errc::partial_byte},
                            {"f6_3elems", "F6_E2M3", "[3]", 3, errc::partial_byte},
                            {"f6_5elems", "F6_E3M2", "[5]", 4, errc::partial_byte},
                            {"f6_6elems", "F6_E3M2", "[6]", 5, errc::partial_byte},
                            {"f6_scalar", "F6_E3M2", "[]", 1, errc::partial_byte},
                            {"f6_as_bytes", "F6_E2M3", "[4]", 4, errc::size_mismatch},
                            {"f6_as_f4", "F6_E3M2", "[8]", 4, errc::size_mismatch}})
        add.file(each.refusal, each.name,
                 "elements of 4 and 6 bits are packed without gaps, and must fill their last byte",
                 header_suite::framed(
                     one("\"" + each.type + "\"", each.shape, "[0," + text(each.size_bytes) + "]"),
                     each.size_bytes));
    add.accept("f4_before_f64", "whatever follows begins at the next byte",
               object({entry("a", "\"F4\"", "[2]", "[0,1]"), entry("b", "\"F64\"", "[1]", "[1,9]"),
                       entry("c", "\"F6_E2M3\"", "[4]", "[9,12]")}),
               12);
    add.refuse(errc::partial_byte, "f4_halves_of_a_byte", "two tensors cannot share a byte",
               object({entry("a", "\"F4\"", "[1]", "[0,1]"), entry("b", "\"F4\"", "[1]", "[0,1]")}),
               1);
}

/// Tensors without gaps whose offsets are written modulo 2^64. A validator that does not check
/// `begin <= end` accepts the file.
class wrapping_entries {
public:
    /// Adds a tensor after the previous one; `size_bytes` is at most most_bytes.
    void add(std::string name, std::uint64_t size_bytes, std::string_view type = "U8",
             std::uint64_t elements_a_byte = 1) {
        const std::uint64_t end = at_ + size_bytes;
        entries_.push_back(entry(name, "\"" + std::string{type} + "\"",
                                 "[" + text(size_bytes * elements_a_byte) + "]",
                                 "[" + text(at_) + "," + text(end) + "]"));
        at_ = end;
    }
    /// Adds as many tensors as needed for the next one to begin at `wanted`.
    void go_on_to(std::uint64_t wanted) {
        while (wanted - at_ > most_bytes) add("pad" + text(entries_.size()), most_bytes);
        add("z", wanted - at_);
    }
    std::vector<std::string>& entries() { return entries_; }

    /// the largest size whose number of bits is below 2^64
    static constexpr std::uint64_t most_bytes = (std::uint64_t{1} << 61) - 1;

private:
    std::vector<std::string> entries_;
    std::uint64_t at_ = 0;
};

void wrapping_offsets(header_suite& add) {
    add.topic("offsets that wrap");
    constexpr std::uint64_t most = wrapping_entries::most_bytes;
    const auto wrap = [&](std::string name, std::string reason,
                          const std::vector<std::string>& each, std::size_t data_bytes) {
        add.refuse(errc::bad_offsets, std::move(name), std::move(reason), object(each), data_bytes);
    };
    // The tensor `leak` begins `first_bytes` after the start of the data section, and the sum of
    // all sizes is 2^64 + data_bytes.
    const auto leaking = [&](std::uint64_t first_bytes, std::uint64_t leak_bytes,
                             std::uint64_t data_bytes) {
        wrapping_entries made;
        made.add("first", first_bytes);
        made.add("leak", leak_bytes);
        made.go_on_to(data_bytes);
        return made.entries();
    };
    wrap("wrap_sum", "the sizes add up to 2^64 + 4, and the file has 4 bytes of data",
         leaking(most, most, 4), 4);
    wrap("wrap_sum_no_data", "the sizes add up to 2^64, and the file has no data",
         leaking(most, most, 0), 0);
    wrap("wrap_leak_next_page", "a tensor a page past the end of the file", leaking(4096, 64, 4),
         4);
    wrap("wrap_leak_behind_end", "a tensor that begins at the end of the file", leaking(4, 64, 4),
         4);
    wrap("wrap_leak_across_end", "a tensor that begins in the file and ends past its end",
         leaking(2, 64, 4), 4);
    wrap("wrap_leak_1mib", "a tensor 1 MiB past the end of the file", leaking(1 << 20, 1 << 12, 4),
         4);
    {
        wrapping_entries made;
        made.add("header", 0);
        made.go_on_to(std::uint64_t{0} - 64);
        made.add("before", 64);
        made.add("data", 4);
        wrap("wrap_leak_before_data", "a tensor in the header, before the data section",
             made.entries(), 4);
        std::vector<std::string> reversed{made.entries().rbegin(), made.entries().rend()};
        wrap("wrap_in_reverse", "the same, from the last tensor to the first", reversed, 4);
        std::swap(reversed.front(), reversed.back());
        wrap("wrap_out_of_order", "the same, two tensors exchanged", reversed, 4);
    }
    {
        wrapping_entries made;
        made.add("first", most);
        made.go_on_to(0);
        made.add("whole", 4);
        wrap("wrap_before_sound", "sizes that add up to 2^64, and a sound tensor after them",
             made.entries(), 4);
    }
    {
        wrapping_entries made;
        for (int round = 0; round < 3; ++round)
            for (int i = 0; i < 9; ++i)
                made.add("r" + text(static_cast<std::uint64_t>(9 * round + i)), most);
        made.go_on_to(8);
        wrap("wrap_three_times", "the sizes pass 2^64 more than once", made.entries(), 8);
    }
    {
        wrapping_entries made;
        for (std::uint64_t i = 0; i < 8; ++i) {
            made.add("e" + text(i), 0);
            made.add("b" + text(i), most);
        }
        made.go_on_to(4);
        wrap("wrap_with_empty", "empty tensors among those whose sizes pass 2^64", made.entries(),
             4);
    }
    {
        wrapping_entries made;
        for (std::uint64_t i = 0; i < 8; ++i) made.add("h" + text(i), most, "F4", 2);
        made.go_on_to(4);
        wrap("wrap_f4", "tensors of halves of a byte whose sizes pass 2^64", made.entries(), 4);
    }
    {
        std::vector<std::string> spelled = leaking(4096, 64, 4);
        for (std::string& each : spelled) each.insert(1, "\\u0078");
        wrap("wrap_escaped_names", "the same with escapes in the names", spelled, 4);
        spelled = leaking(4096, 64, 4);
        for (std::string& each : spelled) each.insert(each.find("\"dtype\""), " ");
        wrap("wrap_spaced", "the same with white space", spelled, 4);
        spelled = leaking(4096, 64, 4);
        spelled.insert(spelled.begin(), "\"__metadata__\":{\"format\":\"pt\"}");
        wrap("wrap_behind_metadata", "the same after metadata", spelled, 4);
        spelled.insert(spelled.begin() + 4, spelled[0]);
        spelled.erase(spelled.begin());
        wrap("wrap_around_metadata", "the same with metadata in the middle", spelled, 4);
    }
    // Offsets whose difference modulo 2^64 equals the size of the shape, in one tensor or two.
    wrap("wrap_two", "two tensors that are each other's complement",
         {entry("a", "\"U8\"", "[4]", "[0,4]"),
          entry("b", "\"U8\"", "[2305843009213693951]", "[4,2305843009213693955]"),
          entry("c", "\"U8\"", "[2305843009213693951]", "[2305843009213693955,4]")},
         4);
    wrap("wrap_from_i64", "an end before the begin whose difference is 4 in 63 bits",
         {entry("a", "\"U8\"", "[0]", "[0,0]"),
          entry("t", "\"U8\"", "[4]", "[9223372036854775804,0]")},
         4);
    add.refuse(errc::data_truncated, "sum_to_u64max",
               "sizes that add up to 2^64 - 1, without passing it",
               object(leaking(most, most, ~std::uint64_t{0})), 4);
    {
        wrapping_entries made;
        made.go_on_to(~std::uint64_t{0} - 7);
        add.refuse(errc::data_truncated, "sum_and_header_wrap",
                   "sizes that pass 2^64 only together with the header", object(made.entries()), 0);
    }
}

void offsets(header_suite& add) {
    add.topic("offsets");
    add.accept("out_of_order", "tensors in any order of the header",
               object({bytes("b", 4, 8), bytes("a", 0, 4)}), 8)
        .holds({"a", "b"});
    add.accept("reversed_4", "tensors in reverse",
               object({bytes("d", 6, 8), bytes("c", 4, 6), bytes("b", 2, 4), bytes("a", 0, 2)}), 8)
        .holds({"a", "b", "c", "d"});
    add.accept("shuffled_4", "tensors in no order",
               object({bytes("c", 4, 6), bytes("a", 0, 2), bytes("d", 6, 8), bytes("b", 2, 4)}), 8)
        .holds({"a", "b", "c", "d"});
    add.accept("as_written", "larger dtypes first, as the reference writes",
               object({entry("b", "\"F64\"", "[1]", "[0,8]"),
                       entry("a", "\"F32\"", "[1]", "[8,12]"), bytes("c", 12, 13)}) +
                   "     ",
               13)
        .holds({"b", "a", "c"});
    const auto gap = [&](std::string name, std::string reason, std::vector<std::string> each,
                         std::size_t data_bytes) -> header_case& {
        return add
            .refuse(errc::bad_offsets, std::move(name), std::move(reason), object(each), data_bytes)
            .lenient_accepts();
    };
    gap("hole", "bytes of no tensor between two", {bytes("a", 0, 4), bytes("b", 8, 12)}, 12)
        .holds({"a", "b"});
    gap("hole_zero_gap_8", "a gap that aligns the next tensor",
        {bytes("a", 0, 4), entry("b", "\"F64\"", "[1]", "[8,16]")}, 16);
    gap("hole_1", "a gap of one byte", {bytes("a", 0, 4), bytes("b", 5, 9)}, 9);
    gap("hole_at_start", "bytes of no tensor before the first", {bytes("a", 4, 8)}, 8);
    gap("hole_at_start_and_between", "two gaps", {bytes("b", 9, 12), bytes("a", 2, 4)}, 12)
        .holds({"a", "b"});
    gap("hole_page", "tensors at pages", {bytes("a", 0, 4), bytes("b", 4096, 4100)}, 4100);
    gap("hole_around_empty", "an empty tensor in a gap",
        {bytes("a", 0, 4), empty("t", 6), bytes("b", 8, 12)}, 12)
        .holds({"a", "t", "b"});
    gap("hole_and_trailing", "a gap, and bytes after the last tensor", {bytes("a", 2, 4)}, 8);
    gap("hole_counted_from_file", "offsets counted from the start of the file",
        {bytes("a", 70, 74)}, 74);
    const auto overlap = [&](std::string name, std::string reason, std::vector<std::string> each,
                             std::size_t data_bytes) -> header_case& {
        return add.refuse(errc::bad_offsets, std::move(name), std::move(reason), object(each),
                          data_bytes);
    };
    overlap("hole_behind_end", "a gap that reaches past the end of the file",
            {bytes("a", 0, 4), bytes("b", 8, 12)}, 8)
        .lenient(errc::data_truncated);
    overlap("partial_overlap", "two tensors share two bytes", {bytes("a", 0, 4), bytes("b", 2, 6)},
            6);
    overlap("overlap_1", "two tensors share a byte", {bytes("a", 0, 4), bytes("b", 3, 7)}, 7);
    overlap("overlap_same", "two tensors share all their bytes",
            {bytes("a", 0, 4), bytes("b", 0, 4)}, 4);
    overlap("overlap_inside", "one tensor inside another", {bytes("a", 0, 8), bytes("b", 2, 4)}, 8);
    overlap("overlap_start", "one tensor at another's begin", {bytes("a", 0, 8), bytes("b", 0, 4)},
            8);
    overlap("overlap_end", "one tensor at another's end", {bytes("a", 0, 8), bytes("b", 4, 8)}, 8);
    overlap("overlap_far", "a tensor overlaps one that is not its neighbour",
            {bytes("a", 0, 8), bytes("b", 8, 12), bytes("c", 6, 8)}, 12);
    overlap("overlap_and_hole", "sizes add up, but two overlap and there is a gap",
            {bytes("a", 0, 4), bytes("b", 2, 6), bytes("c", 8, 10)}, 10);
    overlap("hole_and_overlap", "first a gap, then an overlap",
            {bytes("a", 2, 6), bytes("b", 4, 8)}, 8);
    {
        std::vector<std::string> many;
        for (std::uint64_t i = 0; i < 10; ++i) many.push_back(bytes("t" + text(i), 0, 4));
        overlap("overlap_10", "ten tensors on the same bytes", many, 4);
    }
    overlap("end_lt_begin", "an end before the begin", {entry("t", "\"U8\"", "[4]", "[4,0]")}, 4);
    overlap("end_lt_begin_tail", "an end before the begin of the last tensor",
            {bytes("a", 0, 4), entry("b", "\"U8\"", "[4]", "[4,0]")}, 4);
    overlap("end_lt_begin_empty", "an empty tensor first, then an end before the begin",
            {entry("a", "\"U8\"", "[0]", "[0,0]"), entry("b", "\"U8\"", "[4]", "[4,0]")}, 4);
    overlap("end_lt_begin_wraps",
            "an end so far before the begin that the difference is 4 in 64 bits",
            {entry("t", "\"U8\"", "[4]", "[18446744073709551612,0]")}, 4)
        .lenient(errc::bad_offsets);
    overlap("off_wrap", "offsets that wrap to the header when they are added to it",
            {entry("t", "\"U8\"", "[16]", "[18446744073709551516,18446744073709551532]")}, 4)
        .lenient(errc::data_truncated);
    overlap("off_wrap_behind", "the same after a good tensor",
            {bytes("a", 0, 4),
             entry("t", "\"U8\"", "[16]", "[18446744073709551516,18446744073709551532]")},
            4)
        .lenient(errc::data_truncated);
    overlap("off_to_u64max", "a tensor that ends at the largest offset",
            {entry("t", "\"U8\"", "[4]", "[18446744073709551611,18446744073709551615]")}, 4)
        .lenient(errc::data_truncated);

    wrapping_offsets(add);
    add.topic("offsets");

    const auto mismatch = [&](std::string name, std::string reason, std::string type,
                              std::string shape, std::string offsets, std::size_t data_bytes) {
        add.refuse(errc::size_mismatch, std::move(name), std::move(reason),
                   one("\"" + type + "\"", shape, offsets), data_bytes);
    };
    mismatch("size_mismatch_small", "fewer bytes than the shape needs", "I32", "[2,2]", "[0,4]", 4);
    mismatch("size_mismatch_large", "more bytes than the shape needs", "I32", "[2,2]", "[0,20]",
             20);
    mismatch("size_mismatch_1_less", "one byte less", "U8", "[4]", "[0,3]", 3);
    mismatch("size_mismatch_1_more", "one byte more", "U8", "[4]", "[0,5]", 5);
    mismatch("size_mismatch_elements", "the offsets count elements", "F32", "[4]", "[0,4]", 4);
    mismatch("size_mismatch_length", "the second offset is a length", "U8", "[4]", "[0,0]", 4);

    // The order in which several faults are checked: tensor by tensor position, overflow, part of a
    // byte, size; then the file's size.
    add.topic("order of checks");
    const auto order = [&](std::string name, errc code, std::vector<std::string> each,
                           std::size_t data_bytes) -> header_case& {
        return add.refuse(code, std::move(name),
                          "the first fault in the order of the bytes is reported", object(each),
                          data_bytes);
    };
    order("order_partial_before_later_size", errc::partial_byte,
          {entry("b", "\"U8\"", "[9]", "[4,5]"), entry("a", "\"F4\"", "[3]", "[0,9]")}, 0);
    order("order_size_before_later_gap", errc::size_mismatch,
          {entry("a", "\"U8\"", "[3]", "[0,4]"), bytes("b", 9, 10)}, 0);
    order("order_gap_before_partial", errc::bad_offsets,
          {bytes("a", 0, 4), entry("b", "\"F4\"", "[1]", "[9,10]")}, 0)
        .lenient(errc::partial_byte);
    order("order_overflow_before_size", errc::size_overflow,
          {entry("a", "\"U8\"", "[65536,65536,65536,65536]", "[0,7]")}, 3);
    order("order_size_before_file", errc::size_mismatch, {entry("a", "\"U8\"", "[3]", "[0,4]")}, 9);
    order("order_overlap_before_file", errc::bad_offsets, {bytes("a", 0, 4), bytes("b", 3, 7)}, 99);
}

void realistic(header_suite& add) {
    add.topic("realistic");
    {
        std::vector<std::string> each{"\"__metadata__\":{\"format\":\"pt\"}"};
        std::uint64_t at = 0;
        for (std::uint64_t layer = 0; layer < 2; ++layer)
            for (std::uint64_t expert = 0; expert < 4; ++expert)
                for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
                    each.push_back(entry("model.layers." + text(layer) + ".mlp.experts." +
                                             text(expert) + "." + part + ".weight",
                                         "\"BF16\"", "[4,8]",
                                         "[" + text(at) + "," + text(at + 64) + "]"));
                    at += 64;
                }
        std::string json = object(each);
        json += std::string((8 - json.size() % 8) % 8, ' ');
        add.accept("moe_as_written", "a small mixture of experts as the reference writes it", json,
                   at);
        std::swap(each[3], each[17]);
        std::swap(each[5], each[22]);
        add.accept("moe_unpadded_unordered", "the same as other writers order it, without padding",
                   object(each), at);
        each.erase(each.begin() + 9);
        add.refuse(errc::bad_offsets, "moe_expert_removed",
                   "an expert was taken out of the header alone", object(each), at)
            .lenient_accepts();
    }
    add.accept(
           "lora_metadata",
           "metadata as training tools write them, a quantised tensor, a scalar and an empty one",
           R"({"__metadata__":{"ss_network_dim":"16","ss_tag_frequency":"{\"10_\u00fc\": {\"a\": 1}}","modelspec.title":"x\ny"},)" +
               entry("lora_te.alpha", "\"F32\"", "[]", "[0,4]") + "," +
               entry("lora_te.up", "\"F8_E4M3\"", "[2,2]", "[4,8]") + "," +
               entry("scaled_fp8", "\"F8_E4M3\"", "[0]", "[8,8]") + "}",
           8)
        .holds({"lora_te.alpha", "lora_te.up", "scaled_fp8"});
}

}  // namespace
}  // namespace detail

std::vector<header_case> header_cases() {
    header_suite add;
    detail::framing(add);
    detail::utf8(add);
    detail::names(add);
    detail::json(add);
    detail::ignored(add);
    detail::entries(add);
    detail::metadata(add);
    detail::numbers(add);
    detail::shapes(add);
    detail::offsets(add);
    detail::realistic(add);
    return add.take();
}

}  // namespace conformance
