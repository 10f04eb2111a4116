// Files with the verdicts of the reference implementation (safetensors at commit 24b0b28) on them: tests/data/conformance.
#include <safefuse/header.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "support.hpp"

namespace sf = safefuse;

namespace {

struct verdict {
    std::string name;
    bool accepts = false;
    std::string reference;  ///< the table of an accepted file, or the error
    std::string bytes;
};

std::vector<verdict> verdicts() {
    const std::filesystem::path directory = std::filesystem::path{SAFEFUSE_TEST_DATA} / "conformance";
    std::ifstream table{directory / "verdicts.tsv", std::ios::binary};
    std::vector<verdict> all;
    std::string line;
    std::getline(table, line);
    while (std::getline(table, line)) {
        const std::size_t first = line.find('\t'), second = line.find('\t', first + 1);
        verdict row{line.substr(0, first), line.substr(first + 1, second - first - 1) == "accept", line.substr(second + 1), {}};
        row.bytes = support::read_file(directory / "cases" / (row.name + ".safetensors"));
        all.push_back(std::move(row));
    }
    return all;
}

/// A string as Rust's Debug prints it.
std::string debug(std::string_view string) {
    std::string out = "\"";
    for (const char c : string) {
        if (c == '\n') out += "\\n";
        else if (c == '\0') out += "\\0";
        else if (c == '"' || c == '\\') (out += '\\') += c;
        else if (c == '\x7f') out += "\\u{7f}";
        else out += c;
    }
    return out + '"';
}

/// A header as verdicts.tsv writes it: tensors by name, then metadata (whose order there is arbitrary: sorted by key here).
std::string table_of(const sf::header& header) {
    std::map<std::string, std::string> tensors;
    for (std::size_t i = 0; i < header.size(); ++i) {
        const sf::tensor_entry entry = header[i];
        std::string shape;
        for (const std::uint64_t extent : entry.shape) shape += (shape.empty() ? "" : ", ") + std::to_string(extent);
        tensors[std::string{entry.name}] =
            debug(entry.name) + ":" + std::string{sf::name(entry.type)} + "[" + shape + "][" + std::to_string(entry.size_bytes()) + "]";
        CHECK(header.find(entry.name) == i);
    }
    std::string out;
    for (const auto& [name, text] : tensors) out += (out.empty() ? "" : " ") + text;
    if (!header.has_metadata()) return out + " meta=None";
    std::map<std::string, std::string> metadata;
    for (std::size_t i = 0; i < header.metadata_size(); ++i)
        metadata[debug(header.metadata(i).key)] = debug(header.metadata(i).value);
    std::string pairs;
    for (const auto& [key, value] : metadata) pairs += (pairs.empty() ? "" : ", ") + key + ": " + value;
    return out + " meta=Some({" + pairs + "})";
}

std::string with_sorted_metadata(const std::string& reference) {
    const std::size_t open = reference.rfind(" meta=Some({");
    if (open == std::string::npos) return reference;
    const std::size_t first = open + 12;
    const std::string pairs = reference.substr(first, reference.size() - 2 - first);
    std::vector<std::string> each;
    for (std::size_t at = 0; at < pairs.size();) {
        const std::size_t comma = std::min(pairs.find(", ", at), pairs.size());
        each.push_back(pairs.substr(at, comma - at));
        at = comma + 2;
    }
    std::sort(each.begin(), each.end());
    std::string out = reference.substr(0, first);
    for (std::size_t i = 0; i < each.size(); ++i) out += (i == 0 ? "" : ", ") + each[i];
    return out + "})";
}

/// Whether a failure is the one that the reference reports.
void check_error(const sf::failure& error, const std::string& reference) {
    const auto is = [&](std::string_view start) { return reference.compare(0, start.size(), start) == 0; };
    const auto holds = [&](std::string_view part) { return reference.find(part) != std::string::npos; };
    if (is("HeaderTooSmall")) CHECK(error.code == sf::errc::header_too_short);
    else if (is("HeaderTooLarge")) CHECK(error.code == sf::errc::header_too_large);
    else if (is("InvalidHeaderLength")) CHECK(error.code == sf::errc::header_past_end);
    else if (is("InvalidHeaderDeserialization")) {
        const bool is_json_error = error.code == sf::errc::header_not_json || error.code == sf::errc::header_bad_entry;
        CHECK((holds("unknown variant") ? error.code == sf::errc::unknown_dtype : is_json_error));
        if (holds("duplicate field") || holds("missing field") || holds("invalid type"))
            CHECK(error.code == sf::errc::header_bad_entry);
        if (holds("EOF") || holds("trailing") || holds("escape") || holds("control character") || holds("key must"))
            CHECK(error.code == sf::errc::header_not_json);
    } else if (is("InvalidHeader(")) {
        CHECK(error.code == sf::errc::header_not_utf8);
        const std::size_t at = reference.find("valid_up_to: ") + 13;
        CHECK(error.offset == 8 + std::stoull(reference.substr(at)));
    } else if (is("InvalidOffset")) {
        CHECK(error.code == sf::errc::bad_offsets);
        CHECK("InvalidOffset(" + debug(error.tensor.view()) + ")" == reference);
    } else if (is("ValidationOverflow")) CHECK(error.code == sf::errc::size_overflow);
    else if (is("MisalignedSlice")) CHECK(error.code == sf::errc::partial_byte);
    else if (is("TensorInvalidInfo")) CHECK(error.code == sf::errc::size_mismatch);
    else if (is("MetadataIncompleteBuffer"))
        CHECK((error.code == sf::errc::data_truncated || error.code == sf::errc::trailing_bytes));
    else FAIL("a verdict of a new kind: " << reference);
}

}  // namespace

TEST_CASE("conformance: there are files to judge") { CHECK(verdicts().size() >= 123); }

TEST_CASE("conformance: with read_options::reference() every verdict, table and error is the reference's") {
    for (const verdict& row : verdicts()) {
        CAPTURE(row.name);
        CAPTURE(row.reference);
        const auto parsed = sf::header::parse(support::bytes_of(row.bytes), row.bytes.size(), sf::read_options::reference());
        REQUIRE(parsed.has_value() == row.accepts);
        if (parsed)
            CHECK(table_of(*parsed) == with_sorted_metadata(row.reference));
        else
            check_error(parsed.error(), row.reference);
    }
}

TEST_CASE("conformance: by default only duplicate names and the serde artefacts are judged otherwise") {
    const std::map<std::string, sf::errc> differences = {
        {"dup_tensor_last_covers", sf::errc::duplicate_tensor},
        {"dup_tensor_same", sf::errc::duplicate_tensor},
        {"tensor_as_array", sf::errc::header_bad_entry},
    };
    std::size_t seen = 0;
    for (const verdict& row : verdicts()) {
        CAPTURE(row.name);
        CAPTURE(row.reference);
        const auto parsed = sf::header::parse(support::bytes_of(row.bytes), row.bytes.size());
        if (const auto difference = differences.find(row.name); difference != differences.end()) {
            ++seen;
            REQUIRE(row.accepts);
            REQUIRE_FALSE(parsed);
            CHECK(parsed.error().code == difference->second);
            continue;
        }
        REQUIRE(parsed.has_value() == row.accepts);
        if (parsed)
            CHECK(table_of(*parsed) == with_sorted_metadata(row.reference));
        else
            check_error(parsed.error(), row.reference);
    }
    CHECK(seen == differences.size());
}

TEST_CASE("conformance: the verdict needs nothing of a file but its header and its size") {
    for (const verdict& row : verdicts()) {
        CAPTURE(row.name);
        const auto whole = sf::header::parse(support::bytes_of(row.bytes), row.bytes.size());
        const auto needed = sf::header::bytes_needed(support::bytes_of(row.bytes));
        if (!needed) {
            REQUIRE_FALSE(whole);
            CHECK(needed.error().code == whole.error().code);
            continue;
        }
        if (*needed > row.bytes.size()) continue;
        // A copy of exactly these bytes, so that a sanitizer sees a read behind them.
        const std::vector<char> start(row.bytes.begin(), row.bytes.begin() + static_cast<std::ptrdiff_t>(*needed));
        const auto bytes = std::as_bytes(std::span{start});
        const auto alone = sf::header::parse(bytes, row.bytes.size());
        REQUIRE(alone.has_value() == whole.has_value());
        if (alone)
            CHECK(table_of(*alone) == table_of(*whole));
        else
            CHECK(alone.error().message() == whole.error().message());

        const auto unsized = sf::header::parse(bytes, sf::no_number);
        const bool is_about_size =
            !whole && (whole.error().code == sf::errc::data_truncated || whole.error().code == sf::errc::trailing_bytes);
        CHECK(unsized.has_value() == (whole.has_value() || is_about_size));
    }
}
