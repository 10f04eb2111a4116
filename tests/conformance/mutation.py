"""Whether the conformance suite would notice a broken validator. Breaks the validator in many ways,
one at a time, and runs tests/conformance/conformance.test.cpp against each: the suite must fail. A
mutant that survives is a case that the suite lacks, to be added to conformance/header_cases.cpp or
conformance/index_cases.cpp. Some minutes on two cores; of ctest, only that every mutant still fits
the sources:

    python3 tests/conformance/mutation.py [part of a name ...]
    python3 tests/conformance/mutation.py --fits

    CXX                   the compiler (default c++)
    SAFEFUSE_DOCTEST_DIR  the directory of doctest/doctest.h, if the compiler does not find it
    SAFEFUSE_JOBS         how many mutants are built at once (default 2)

A mutant that the plain program does not notice is run again with address and undefined-behaviour
sanitizers: a bound that is gone shows there. Left out are changes that no file can show: a check
that a later one repeats with the same verdict, and the fast way of reading being left for the plain
one. Ends with 1 if a mutant survives, does not compile, or no longer fits the sources."""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

tests = pathlib.Path(__file__).resolve().parent.parent
headers = tests.parent / "include"

HEADER = "format/header.hpp"
READER = "format/detail/header_reader.hpp"
SCAN = "format/detail/header_scan.hpp"
JSON = "format/detail/json_cursor.hpp"
STOPS = "format/detail/json_scan.hpp"
UTF8 = "core/detail/utf8.hpp"
CHECKED = "core/detail/checked.hpp"
DTYPE = "tensor/dtype.hpp"
INDEX = "format/shard_index.hpp"

# What is broken, where, the text that stands there exactly once, and what takes its place.
mutants = [
    # Framing.
    ("length of less than 8 bytes is read", HEADER,
     "if (first_bytes.size() < detail::length_bytes)", "if (first_bytes.empty())"),
    ("length of 7 bytes is read", HEADER, "if (first_bytes.size() < detail::length_bytes)",
     "if (first_bytes.size() + 1 < detail::length_bytes)"),
    ("no limit for the header", HEADER, "if (json_bytes > limit)", "if (false)"),
    ("limit off by one, too small", HEADER, "if (json_bytes > limit)", "if (json_bytes >= limit)"),
    ("limit off by one, too large", HEADER, "if (json_bytes > limit)",
     "if (json_bytes > limit + 1)"),
    ("length cut to 32 bits", HEADER,
     "json_bytes = detail::load_word(reinterpret_cast<const char*>(first_bytes.data()));",
     "json_bytes = detail::load_word(reinterpret_cast<const char*>(first_bytes.data())) & "
     "0xFFFFFFFF;"),
    ("length counts itself", HEADER, "return detail::length_bytes + json_bytes;",
     "return json_bytes < 8 ? 8 : json_bytes;"),
    ("header may end behind the file", HEADER, "if (file_start.size() < *needed)\n", "if (false)\n",
     "if (file_bytes < *needed) return", "if (false) return"),
    ("white space before the JSON in the strict profile", READER, "if (json_.front() != '{')",
     "if (false)"),
    ("tabs for padding in the strict profile", READER, "find_first_not_of(' ', behind)",
     "find_first_not_of(\" \\t\\n\\r\", behind)"),
    ("padding is not looked at", READER, "(options_.any_padding || check_padding(behind))", "true"),
    ("text behind the JSON", READER, "return cursor_.finish() && (",
     "return !cursor_.failed() && ("),
    ("text behind the JSON, in the cursor", JSON,
     "return at_ == end_ ? !failed() : fail(\"unexpected characters after the JSON\");",
     "return !failed();"),

    # UTF-8.
    ("UTF-8 is not checked", READER, "good != json_.size())", "good > json_.size())"),
    ("overlong sequences of two", UTF8, "first < 0xC2 ? 0", "first < 0xC0 ? 0"),
    ("overlong sequences of two, the second kind", UTF8, "first < 0xC2 ? 0", "first < 0xC1 ? 0"),
    ("lead bytes F5 to F7", UTF8, "first < 0xF5 ? 4", "first < 0xF8 ? 4"),
    ("characters cut off at the end", UTF8, "length == 0 || length > size - i", "length == 0"),
    ("any high byte continues", UTF8, "(byte(at) & 0xC0) != 0x80", "byte(at) < 0x80"),
    ("only the second byte is looked at", UTF8, "for (std::size_t at = 1; at < length; ++at)",
     "for (std::size_t at = 1; at < 2; ++at)"),
    ("overlong sequences of three", UTF8, "(first == 0xE0 && second < 0xA0) || ", ""),
    ("surrogates in UTF-8", UTF8, "(first == 0xED && second > 0x9F) || ", ""),
    ("overlong sequences of four", UTF8, "(first == 0xF0 && second < 0x90) ||", ""),
    ("above U+10FFFF", UTF8, "(first == 0xF4 && second > 0x8F)", "false"),
    ("U+10FFFF is refused", UTF8, "second > 0x8F", "second > 0x8E"),
    ("a word of a block is skipped", UTF8, "words[0] | words[1] | words[2] | words[3]",
     "words[0] | words[1] | words[3]"),
    ("the last word of a block is skipped", UTF8, "words[0] | words[1] | words[2] | words[3]",
     "words[0] | words[1] | words[2]"),

    # JSON.
    ("control characters in strings", JSON,
     "if (*at_ != '\\\\') return fail(\"control character in a string\");",
     "if (*at_ != '\\\\') { ++at_; continue; }"),
    ("control character 1F in a block of sixteen", STOPS, "(bytes < 0x20)", "(bytes < 0x1F)"),
    ("control character 1F in a block", STOPS, "(word - every_byte * 0x20)",
     "(word - every_byte * 0x1F)"),
    ("control character 1F near the end", STOPS, "static_cast<unsigned char>(*at) >= 0x20) ++at;",
     "static_cast<unsigned char>(*at) >= 0x1F) ++at;"),
    ("escapes are not seen in a block of sixteen", STOPS, " | (bytes == '\\\\')", ""),
    ("escapes are not seen in a block", STOPS, " | ((backslash - every_byte) & ~backslash)", ""),
    ("any letter is an escape", JSON, "std::strchr(\"\\\"\\\\/bfnrt\", *at_) == nullptr", "false"),
    ("a zero is an escape", JSON, "*at_ == '\\0' || std::strchr", "std::strchr"),
    ("\\v is an escape", JSON, "std::strchr(\"\\\"\\\\/bfnrt\"", "std::strchr(\"\\\"\\\\/bfnrtv\""),
    ("\\/ is none", JSON, "std::strchr(\"\\\"\\\\/bfnrt\"", "std::strchr(\"\\\"\\\\bfnrt\""),
    ("digits of escapes are not checked", JSON, "if (digit < 0) return fail(\"invalid escape\");",
     ""),
    ("g is a hexadecimal digit", JSON, "c <= 'f'", "c <= 'g'"),
    ("G is a hexadecimal digit", JSON, "c <= 'F'", "c <= 'G'"),
    ("escapes are read past the end", JSON, "end_ - at_ < 6 || ", ""),
    ("lone surrogates", JSON, "if (unit < 0xD800 || unit > 0xDFFF) return true;", "return true;"),
    ("the first surrogate is none", JSON, "if (unit < 0xD800 ||", "if (unit <= 0xD800 ||"),
    ("the last surrogate is none", JSON, "unit > 0xDFFF) return true;",
     "unit >= 0xDFFF) return true;"),
    ("lone second halves of pairs", JSON, "unit > 0xDFFF) return true;",
     "unit > 0xDBFF) return true;"),
    ("pairs of two second halves", JSON, "is_paired = unit <= 0xDBFF && ", "is_paired = "),
    ("pairs end in any high character", JSON, "unit >= 0xDC00 && unit <= 0xDFFF)",
     "unit >= 0xDC00)"),
    ("pairs end in any low character", JSON, "unit >= 0xDC00 && unit <= 0xDFFF)",
     "unit <= 0xDFFF)"),
    ("pairs end in a first half", JSON, "unit >= 0xDC00 && unit <= 0xDFFF)",
     "unit >= 0xDBFF && unit <= 0xDFFF)"),
    ("decoded to too many bytes", JSON, "point < 0x800 ?", "point < 0x7FF ?"),
    ("decoded to too few bytes", JSON, "point < 0x800 ?", "point <= 0x800 ?"),
    ("\\b is decoded as b", JSON, "letters = \"bfnrt\", meanings = \"\\b\\f\\n\\r\\t\"",
     "letters = \"fnrt\", meanings = \"\\f\\n\\r\\t\""),
    ("escaped names stay escaped", READER, "if (!string.escaped) return true;", "return true;"),
    ("an escaped prefix is the whole word", JSON, "return other.empty();", "return true;"),
    ("colons are optional", JSON,
     "if (at_ == end_ || *at_ != ':') return fail(\"expected : after a key\");\n        ++at_;",
     "if (at_ != end_ && *at_ == ':') ++at_;"),
    ("commas are optional", JSON, "if (*at_ != ',') return fail(why);\n            ++at_;",
     "if (*at_ == ',') ++at_;"),
    ("commas are optional, in the fast way", SCAN,
     "if (!is_first && !scan_text(at, cursor.end(), \",\")) break;",
     "if (!is_first) static_cast<void>(scan_text(at, cursor.end(), \",\"));"),
    ("trailing commas", JSON, "if (at_ != end_ && *at_ == close) return fail(\"trailing comma\");",
     "if (at_ != end_ && *at_ == close) { ++at_; --depth_; return false; }"),
    ("form feeds are white space", JSON, "*at_ == '\\r' || *at_ == '\\t')) ++at_;",
     "*at_ == '\\r' || *at_ == '\\t' || *at_ == '\\f')) ++at_;"),
    ("zeros are white space", JSON, "*at_ == '\\r' || *at_ == '\\t')) ++at_;",
     "*at_ == '\\r' || *at_ == '\\t' || *at_ == '\\0')) ++at_;"),
    ("carriage returns are no white space", JSON, "*at_ == '\\r' || ", ""),
    ("words are read by their first letter", JSON,
     " || std::memcmp(at_, word.data(), word.size()) != 0)", ")"),
    ("words are read past the end", JSON, "static_cast<std::size_t>(end_ - at_) < word.size() || ",
     ""),
    ("text is compared past the end", SCAN, "end - at < static_cast<std::ptrdiff_t>(Size - 1) || ",
     ""),
    ("dtypes are compared past the end", SCAN,
     "static_cast<std::size_t>(end - at) <= spelled.size() || ", ""),
    ("nesting without limit", JSON, "if (depth_ == deepest)", "if (false)"),
    ("one level less", JSON, "deepest = 127;", "deepest = 126;"),
    ("one level more", JSON, "deepest = 127;", "deepest = 128;"),
    ("levels are counted and not uncounted", JSON, "--depth_;", ""),
    ("what is ignored need not be whole", JSON, "case json_kind::number: return skip_number();",
     "case json_kind::number: return skip_digits();"),

    # Numbers.
    ("leading zeros", JSON, "if (leading_zero || !fits", "if (!fits"),
    ("leading zeros, in the fast way", SCAN, " && (*first != '0' || at - first == 1)", ""),
    ("leading zeros in what is ignored", JSON,
     "if (*number.digits == '0' && at_ - number.digits > 1)", "if (false)"),
    ("numbers wrap", JSON, "fits = fits && value <= (~std::uint64_t{0} - digit) / 10;", ""),
    ("2^64 wraps", JSON, "fits && value <= (~std::uint64_t{0} - digit) / 10;",
     "fits && value <= ~std::uint64_t{0} / 10;"),
    ("2^64-1 does not fit", JSON, "fits && value <= (~std::uint64_t{0} - digit) / 10;",
     "fits && value < (~std::uint64_t{0} - digit) / 10;"),
    ("20 digits without a check", JSON, "at - first < 19 &&", "at - first < 20 &&"),
    ("20 digits without a check, in the fast way", SCAN, "at - first <= 19", "at - first <= 20"),
    ("numbers without digits", SCAN, "return at != first && ", "return "),
    ("signs are digits", JSON, "bool fits = at != first;", "bool fits = true;"),
    ("fractions are cut off", JSON, "if (leading_zero || !fits || goes_on) {",
     "if (goes_on) { skip_number(); out = value; return true; }\n        if (leading_zero || "
     "!fits) {"),
    ("a point without digits", JSON,
     "++at_;\n        if (!skip_digits()) return fail(\"invalid number\");\n    }",
     "++at_;\n        skip_digits();\n    }"),
    ("an exponent without digits", JSON,
     "exponent_digits = at_;\n        if (!skip_digits()) return fail(\"invalid number\");",
     "exponent_digits = at_;\n        skip_digits();"),
    ("a minus without digits", JSON,
     ".end = nullptr};\n    if (!skip_digits()) return fail(\"invalid number\");",
     ".end = nullptr};\n    skip_digits();"),
    ("numbers beyond doubles", JSON, "    at_ = first;\n    return fail(\"number out of range\");",
     "    return true;"),
    ("long numbers are not checked", JSON, "exponent) < 300) return true;",
     "exponent) < 400) return true;"),
    ("exponents are not looked at", JSON,
     "at_ - first + (negative_exponent ? 0 : number.exponent) < 300", "at_ - first < 300"),
    ("the largest double is refused", JSON, "1.7976931348623157e308;", "1.7976931348623156e308;"),
    ("infinity is a double", JSON, "1.7976931348623157e308;", "1.7976931348623159e308 * 2;"),
    ("exponents overflow", JSON, "digit != at_ && number.exponent < 1'000'000'000'000;",
     "digit != at_;"),
    ("negative exponents are positive", JSON, "number.exponent = -number.exponent;", "{}"),
    ("zero has a size", JSON, "if (significand == 0 || scale <= 0)", "if (scale <= 0)"),

    # Entries.
    ("a dtype twice", READER, "once(has_dtype, \"dtype is repeated\")", "(has_dtype = true)"),
    ("a shape twice", READER, "once(has_shape, \"shape is repeated\")", "(has_shape = true)"),
    ("data_offsets twice", READER, "once(has_offsets, \"data_offsets are repeated\")",
     "(has_offsets = true)"),
    ("no dtype", READER, "if (!has_dtype)", "if (false)"),
    ("no shape", READER, "if (!has_shape)", "if (false)"),
    ("no data_offsets", READER,
     "return has_offsets || cursor_.refuse(\"data_offsets are missing\");", "return true;"),
    ("unknown fields in the strict profile", READER, "options_.unknown_fields\n", "true\n"),
    ("more than two data_offsets", READER,
     "return cursor_.next_element() ? cursor_.refuse(why) : !cursor_.failed();",
     "while (cursor_.next_element()) cursor_.skip_value();\n        return !cursor_.failed();"),
    ("arrays for tensors", READER, "if (options_.array_entries && ", "if ("),
    ("objects for dtypes", READER, "is_object = options_.object_dtypes && ", "is_object = "),
    ("objects with two dtypes", READER,
     "if (cursor_.next_member(second)) return cursor_.refuse(why);",
     "while (cursor_.next_member(second)) cursor_.skip_value();"),
    ("objects with a value for dtypes", READER, "if (!cursor_.read_null()) return false;",
     "if (!cursor_.skip_value()) return false;"),
    ("dtypes by their beginning", READER, "if (spelled == name(entry.type)) return true;",
     "if (spelled.raw.substr(0, name(entry.type).size()) == name(entry.type)) return true;"),
    ("dtypes by their beginning, in the fast way", DTYPE,
     "if (detail::dtype_rows[i].name() != spelled) continue;",
     "if (!spelled.starts_with(detail::dtype_rows[i].name())) continue;"),
    ("unknown dtypes are bytes", READER,
     "return refuse_dtype(spelled.raw);",
     "entry.type = dtype::u8;\n        return true;"),
    ("a dtype spelled otherwise", DTYPE, "\"F8_E4M3FNUZ\"", "\"F8_E4M3FNUX\""),
    ("a dtype left out", DTYPE, "{\"C64\", 3, 64}", "{\"C128\", 4, 64}"),
    ("a dtype of another size", DTYPE, "{\"F8_E8M0\", 7, 8}", "{\"F8_E8M0\", 7, 16}"),
    ("elements of 6 bits counted as 8", DTYPE, "{\"F6_E3M2\", 7, 6}", "{\"F6_E3M2\", 7, 8}"),
    ("at most eight axes", READER, "if (!extents.push(extent)) return out_of_memory();",
     "if (extents.size() - entry.shape_begin == 8) return cursor_.refuse(\"rank\");\n            "
     "if (!extents.push(extent)) return out_of_memory();"),
    ("a tensor called __metadata__", SCAN, " || entry.name() == metadata_key", ""),
    ("__metadata__ twice", READER, "if (has_metadata_key)", "if (false)"),
    ("null metadata are refused", READER,
     "if (cursor_.peek() == json_kind::null) return cursor_.read_null();", ""),
    ("metadata of any kind", READER, "metadata_entry entry;\n",
     "metadata_entry entry;\n            if (cursor_.peek() != json_kind::string && cursor_.peek() "
     "!= json_kind::none) { cursor_.skip_value(); continue; }\n"),
    ("metadata keys twice in the strict profile", READER, "if (!options_.repeated_metadata)",
     "if (false)"),
    ("the first of equal metadata keys counts", READER, "entries[added.index].value = entry.value;",
     ";"),
    ("a tensor twice", READER, "if (!is_new && !options_.last_duplicate_wins)", "if (false)"),
    ("the first of equal tensors counts", READER, "entries[to] = entries[i];",
     "if (is_new) entries[to] = entries[i];"),
    ("what a duplicate left is not checked", READER, "            rows().is_valid = false;\n", ""),

    # Offsets and sizes.
    ("overlaps", READER, "if (entry.begin < running || (", "if ((" ),
    ("gaps", READER, "(entry.begin > running && !options_.gaps)", "false"),
    ("gaps are refused where they are asked for", READER,
     "(entry.begin > running && !options_.gaps)", "entry.begin > running"),
    ("gaps and overlaps, in the fast way", SCAN, "entry.begin == data_bytes && entry.begin",
     "entry.begin"),
    ("gaps, in the fast way", SCAN, "entry.begin == data_bytes && entry.begin",
     "entry.begin >= data_bytes && entry.begin"),
    ("an end before the begin, in the fast way", SCAN, "&& entry.begin <= entry.end &&", "&&"),
    ("an end before the begin", READER, "if (entry.end < entry.begin)", "if (false)"),
    ("tensors by their begin alone", READER,
     "a.begin != b.begin ? a.begin < b.begin : a.end < b.end", "a.begin < b.begin"),
    ("fewer bytes than the shape needs", READER, "if (entry.end - entry.begin != size_bytes)",
     "if (entry.end - entry.begin > size_bytes)"),
    ("more bytes than the shape needs", READER, "if (entry.end - entry.begin != size_bytes)",
     "if (entry.end - entry.begin < size_bytes)"),
    ("fewer bytes, in the fast way", SCAN, "entry.end - entry.begin == size_bytes;",
     "entry.end - entry.begin <= size_bytes;"),
    ("more bytes, in the fast way", SCAN, "entry.end - entry.begin == size_bytes;",
     "entry.end - entry.begin >= size_bytes;"),
    ("overflows are not refused", READER,
     "case size_verdict::overflows: return refuse(entry, errc::size_overflow);",
     "case size_verdict::overflows: break;"),
    ("overflows, in the fast way", SCAN, "size_bytes) == size_verdict::fits",
     "size_bytes) != size_verdict::partial_byte"),
    ("products wrap", DTYPE,
     "if (!detail::checked_mul(elements, extent, elements)) return size_verdict::overflows;",
     "elements *= extent;"),
    ("bits wrap", DTYPE,
     "if (!detail::checked_mul(elements, bits(type), size_bits)) return size_verdict::overflows;",
     "size_bits = elements * bits(type);"),
    ("bytes are counted instead of bits", DTYPE,
     "if (!detail::checked_mul(elements, bits(type), size_bits)) return size_verdict::overflows;",
     "if (bits(type) % 8 == 0) return detail::checked_mul(elements, bits(type) / 8, size_bytes) ? "
     "size_verdict::fits : size_verdict::overflows;\n    if (!detail::checked_mul(elements, "
     "bits(type), size_bits)) return size_verdict::overflows;"),
    ("multiplication never overflows", CHECKED, "return a == 0 || product / a == b;",
     "return true;"),
    ("addition never overflows", CHECKED, "return sum >= a;", "return true;"),
    ("a zero makes everything fit", DTYPE, "std::uint64_t elements = 1;",
     "std::uint64_t elements = 1;\n    for (const std::uint64_t extent : shape)\n        if "
     "(extent == 0) { size_bytes = 0; return size_verdict::fits; }"),
    ("parts of bytes are dropped", DTYPE,
     "if (size_bits % 8 != 0) return size_verdict::partial_byte;", ""),
    ("parts of bytes are filled up", DTYPE,
     "if (size_bits % 8 != 0) return size_verdict::partial_byte;",
     "size_bits = (size_bits + 7) / 8 * 8;"),
    ("parts of bytes are not refused", READER,
     "case size_verdict::partial_byte: return refuse(entry, errc::partial_byte);",
     "case size_verdict::partial_byte: break;"),
    ("parts of bytes, in the fast way", SCAN, "size_bytes) == size_verdict::fits",
     "size_bytes) != size_verdict::overflows"),
    ("a scalar has no element", DTYPE, "std::uint64_t elements = 1;",
     "std::uint64_t elements = shape.empty() ? 0 : 1;"),
    ("a file that is too short", READER, "if (expected == file_bytes) return true;",
     "if (expected >= file_bytes) return true;"),
    ("a file that is one byte short", READER, "if (expected == file_bytes) return true;",
     "if (expected == file_bytes || expected == file_bytes + 1) return true;"),
    ("bytes behind the last tensor", READER, "if (expected == file_bytes) return true;",
     "if (expected <= file_bytes) return true;"),
    ("bytes behind the last tensor, asked for or not", READER,
     "if (expected < file_bytes && options_.trailing_bytes)", "if (expected < file_bytes)"),
    ("bytes behind the last tensor are refused where they are asked for", READER,
     "if (expected < file_bytes && options_.trailing_bytes)", "if (false)"),
    ("the end of the data wraps", READER, "if (!fits) return fail(", "if (false) return fail("),

    # Shard indexes.
    ("index: UTF-8 is not checked", INDEX, "valid != characters.size())",
     "valid > characters.size())"),
    ("index: two weight_maps", INDEX, "if (has_weight_map)", "if (false)"),
    ("index: text behind the JSON", INDEX, "if (!cursor.failed()) cursor.finish();", ""),
    ("index: broken JSON", INDEX, "if (cursor.failed())\n", "if (false)\n"),
    ("index: files of any kind", INDEX,
     "if (cursor.peek() != detail::json_kind::string && cursor.peek() != detail::json_kind::none) "
     "{",
     "if (cursor.peek() != detail::json_kind::string && cursor.peek() != detail::json_kind::none) "
     "{\n        static_cast<void>(cursor.skip_value());\n        return false;"),
    ("index: metadata must be an object", INDEX, " && cursor.peek() == detail::json_kind::object",
     ""),
    ("index: total_size must be a number", INDEX,
     "if (!probe.read_unsigned(index.total_size_bytes_)) index.total_size_bytes_ = unknown;",
     "if (!cursor.read_unsigned(index.total_size_bytes_)) break;\n                    continue;"),
    ("index: names stay escaped", INDEX, "if (!string.escaped) {", "if (true) {"),
    ("index: a tensor twice", INDEX, "    entries_.pop();\n    return tolerate(",
     "    return {};\n    return tolerate("),
    ("index: a tensor twice, the first counts", INDEX,
     "return tolerate(detail::listed_twice(",
     "return {};\n    return tolerate(detail::listed_twice("),
    ("index: files by their length", INDEX, "files_[entries_.back().file] == file)",
     "files_[entries_.back().file].size() == file.size())"),
    ("index: only the first file is checked", INDEX,
     "if (auto inside = check_contained(file); !inside) return inside;\n    of.file",
     "if (auto inside = check_contained(file); !inside && files_.empty()) return inside;\n    "
     "of.file"),
    ("index: files of any name", INDEX,
     "inline result<void> check_contained(std::string_view file) noexcept {\n",
     "inline result<void> check_contained(std::string_view file) noexcept {\n    if "
     "(!file.empty()) return {};\n"),
    ("index: absolute paths", INDEX, "if (is_separator(file[0]))", "if (false)"),
    ("index: backslashes do not separate", INDEX, "return c == '/' || c == '\\\\';",
     "return c == '/';"),
    ("index: drive letters", INDEX, "letter >= 'a' && letter <= 'z')", "false)"),
    ("index: drive A", INDEX, "letter >= 'a' &&", "letter > 'a' &&"),
    ("index: drive Z", INDEX, "letter <= 'z')", "letter < 'z')"),
    ("index: drive letters in capitals", INDEX, "static_cast<char>(file[0] | 0x20)", "file[0]"),
    ("index: control characters", INDEX, "static_cast<unsigned char>(file[i]) < 0x20 || ", ""),
    ("index: the last control character", INDEX, "static_cast<unsigned char>(file[i]) < 0x20 || ",
     "static_cast<unsigned char>(file[i]) < 0x1F || "),
    ("index: DEL", INDEX, "|| file[i] == 0x7F))", "|| false))"),
    ("index: the directory above", INDEX, "if (only_dots && dots >= 2)", "if (false)"),
    ("index: exactly two dots", INDEX, "only_dots && dots >= 2", "only_dots && dots == 2"),
    ("index: the last component is not judged", INDEX,
     "if (i == file.size() || is_separator(file[i])) {",
     "if (i == file.size()) break;\n        if (is_separator(file[i])) {"),
    ("index: only the first component is judged", INDEX,
     "            only_dots = true;\n        } else", "        } else"),
    ("index: dots of all components are one sum", INDEX,
     "            dots = 0;\n            only_dots = true;", "            only_dots = true;"),
    ("index: spaces behind dots", INDEX, "} else if (file[i] != ' ') {", "} else {"),
    ("index: dots are not counted in names", INDEX, "} else if (file[i] != ' ') {",
     "} else if (false) {"),
    ("index: any ending", INDEX, "if (!file.ends_with(tensor_file_ending)) return refuse",
     "if (false) return refuse"),
    ("index: the ending somewhere", INDEX, "if (!file.ends_with(tensor_file_ending)) return refuse",
     "if (file.find(tensor_file_ending) == file.npos) return refuse"),
]

compiler = os.environ.get("CXX", "c++")
doctest = os.environ.get("SAFEFUSE_DOCTEST_DIR")
plain = ["-O0"]
sanitized = ["-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def compiled(source, target, include, flags):
    command = [compiler, "-std=c++20", "-w", *flags, f"-I{include}",
        f"-DSAFEFUSE_TEST_DATA=\"{(tests / 'data').as_posix()}\"",
               f"-DSAFEFUSE_SOURCE_DIR=\"{tests.parent.as_posix()}\"",
               *([f"-I{doctest}"] if doctest else []), "-c", str(source), "-o", str(target)]
    return subprocess.run(command, capture_output=True, text=True)


def verdict(include, folder, runner, flags):
    """"passes", "fails", "crashes", "hangs", or what the compiler says."""
    made = compiled(tests / "conformance/conformance.test.cpp", folder / "test.o", include, flags)
    if made.returncode != 0:
        return "does not compile: " + made.stderr[:2000]
    program = folder / "test"
    subprocess.run([compiler, *flags, str(folder / "test.o"), *map(str, runner), "-o",
        str(program)], check=True)
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    try:
        ran = subprocess.run([str(program), "--no-intro", "--abort-after=1"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300,
                             env={**os.environ, "TMPDIR": str(temporary),
                                 "ASAN_OPTIONS": "allocator_may_return_null=1"})
    except subprocess.TimeoutExpired:
        return "hangs"
    return "passes" if ran.returncode == 0 else "crashes" if ran.returncode < 0 else "fails"


class Misfit(Exception):
    """A mutant's text does not stand in its header exactly once."""


def places(text, wanted):
    """Where `wanted` is in `text`, as pairs of begin and end. White space does not count, so that
    a mutant still fits after the sources were formatted anew."""
    kept = [i for i, character in enumerate(text) if not character.isspace()]
    bare = "".join(text[i] for i in kept)
    wanted = "".join(wanted.split())
    found, at = [], bare.find(wanted)
    while at >= 0:
        found.append((kept[at], kept[at + len(wanted) - 1] + 1))
        at = bare.find(wanted, at + 1)
    return found


def broken(mutant, include):
    """What the mutant's header says when it is broken."""
    name, file, *changes = mutant
    text = (include / "safefuse" / file).read_text(encoding="utf-8")
    for old, new in zip(changes[::2], changes[1::2]):
        found = places(text, old)
        if len(found) != 1:
            raise Misfit(f"no longer fits: {len(found)} times {old!r} in {file}")
        begin, end = found[0]
        text = text[:begin] + new + text[end:]
    return text


def check_fits():
    misfits = 0
    for mutant in mutants:
        try:
            broken(mutant, headers)
        except Misfit as reason:
            print(f"{mutant[0]}: {reason}")
            misfits += 1
    print(f"{len(mutants)} mutants, {misfits} no longer fit the sources")
    return 1 if misfits else 0


def try_mutant(mutant, work, runners):
    """The verdict and the seconds that it took."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=work) as made:
        folder = pathlib.Path(made)
        shutil.copytree(work / "include", folder / "include")
        try:
            text = broken(mutant, folder / "include")
        except Misfit as reason:
            return str(reason), 0
        (folder / "include" / "safefuse" / mutant[1]).write_text(text, encoding="utf-8")
        came = verdict(folder / "include", folder, runners[0], plain)
        if came == "passes":
            came = verdict(folder / "include", folder, runners[1], sanitized)
            came = came if came.startswith(("passes", "does not")) else "sanitizer"
        return came, time.monotonic() - begin


def main():
    if sys.argv[1:] == ["--fits"]:
        return check_fits()
    chosen = [each for each in mutants if not sys.argv[1:]
        or any(part in each[0] for part in sys.argv[1:])]
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as made, concurrent.futures.ThreadPoolExecutor(
        int(os.environ.get("SAFEFUSE_JOBS", "2"))) as pool:
        work = pathlib.Path(made)
        shutil.copytree(headers, work / "include")
        runners = []
        for flags in (plain, sanitized):
            runner = []
            for source in ("support/main.cpp", "conformance/header_cases.cpp",
                "conformance/index_cases.cpp"):
                runner.append(work / f"{len(runners)}_{len(runner)}.o")
                if (done := compiled(tests / source, runner[-1], headers, flags)).returncode != 0:
                    sys.exit(done.stderr)
            runners.append(runner)
            whole = work / f"whole_{len(runners)}"
            whole.mkdir()
            if (came := verdict(work / "include", whole, runner, flags)) != "passes":
                sys.exit(f"the suite without any mutant: {came}")
        bad = 0
        for mutant, (came, seconds) in zip(chosen,
            pool.map(lambda each: try_mutant(each, work, runners), chosen)):
            is_caught = came in ("fails", "crashes", "hangs", "sanitizer")
            bad += not is_caught
            outcome = "caught" if is_caught else "MISSED"
            words = came.splitlines()[0] if is_caught else came
            print(f"{outcome:8}{words:12}{seconds:6.1f} s  {mutant[1]:24}{mutant[0]}", flush=True)
    print(f"{len(chosen)} mutants, {len(chosen) - bad} caught, {bad} not, "
          f"{time.monotonic() - begin:.0f} s")
    return 1 if bad or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
