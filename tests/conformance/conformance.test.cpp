// Runs the conformance suite with this library. It also compares with the verdicts of the reference
// implementation on 144 cases, in tests/data/conformance/verdicts.tsv. The reference is safetensors
// at commit 24b0b28; for offsets that overflow it is version 0.8.0.
#include <safefuse/read/checkpoint.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "../support/mutants.hpp"
#include "../support/oracle.hpp"
#include "../support/support.hpp"
#include "suite.hpp"

namespace sf = safefuse;
using conformance::header_case;
using conformance::index_case;
using conformance::profile;

namespace {

const std::vector<header_case>& header_cases() {
    static const std::vector<header_case> all = conformance::header_cases();
    return all;
}
const std::vector<index_case>& index_cases() {
    static const std::vector<index_case> all = conformance::index_cases();
    return all;
}

struct verdict {
    std::string name;
    bool accepts = false;
    std::string reference;  ///< the table of an accepted file, or the error
};

std::vector<verdict> verdicts() {
    std::ifstream table{std::filesystem::path{SAFEFUSE_TEST_DATA} / "conformance" / "verdicts.tsv",
                        std::ios::binary};
    std::vector<verdict> all;
    std::string line;
    std::getline(table, line);
    while (std::getline(table, line)) {
        const std::size_t first = line.find('\t'), second = line.find('\t', first + 1);
        all.push_back({line.substr(0, first),
                       line.substr(first + 1, second - first - 1) == "accept",
                       line.substr(second + 1)});
    }
    return all;
}

/// The part of a case that a parser needs: the file up to the end of the header, or all of it if it
/// is shorter. The copy has the exact size, so that a sanitizer detects a read past the end.
std::vector<char> start_of(const header_case& each) {
    std::vector<char> bytes(each.head.begin(), each.head.end());
    bytes.resize(bytes.size() + static_cast<std::size_t>(each.spaces), ' ');
    const auto needed = sf::header::bytes_needed(std::as_bytes(std::span{bytes}));
    if (needed && *needed < bytes.size()) bytes.resize(static_cast<std::size_t>(*needed));
    bytes.shrink_to_fit();
    return bytes;
}
std::span<const std::byte> bytes_of(const std::vector<char>& bytes) {
    return std::as_bytes(std::span{bytes});
}

sf::result<sf::header> judged(const std::vector<char>& start, const header_case& each,
                              profile which) {
    return sf::header::parse(bytes_of(start), each.file_bytes(), conformance::options(which));
}

std::string_view verdict_of(const sf::result<sf::header>& parsed) {
    return parsed ? std::string_view{"accept"} : conformance::name(parsed.error().code);
}

/// A string as Rust's Debug prints it.
std::string debug(std::string_view string) {
    std::string out = "\"";
    for (const char c : string) {
        if (c == '\n')
            out += "\\n";
        else if (c == '\0')
            out += "\\0";
        else if (c == '"' || c == '\\')
            (out += '\\') += c;
        else if (c == '\x7f')
            out += "\\u{7f}";
        else
            out += c;
    }
    return out + '"';
}

/// A header in the form of verdicts.tsv: tensors by name, then metadata. The order of metadata is
/// arbitrary there, so it is sorted by key here.
std::string table_of(const sf::header& header) {
    std::map<std::string, std::string> tensors;
    for (std::size_t i = 0; i < header.size(); ++i) {
        const sf::tensor_entry entry = header[i];
        std::string shape;
        for (const std::uint64_t extent : entry.shape)
            shape += (shape.empty() ? "" : ", ") + std::to_string(extent);
        tensors[std::string{entry.name}] = debug(entry.name) + ":" +
                                           std::string{sf::name(entry.type)} + "[" + shape + "][" +
                                           std::to_string(entry.size_bytes()) + "]";
        CHECK(header.find(entry.name) == i);
    }
    std::string out;
    for (const auto& [name, text] : tensors) out += (out.empty() ? "" : " ") + text;
    if (!header.has_metadata()) return out + " meta=None";
    std::map<std::string, std::string> metadata;
    for (std::size_t i = 0; i < header.metadata_size(); ++i)
        metadata[debug(header.metadata(i).key)] = debug(header.metadata(i).value);
    std::string pairs;
    for (const auto& [key, value] : metadata)
        pairs += (pairs.empty() ? "" : ", ") + key + ": " + value;
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

/// Checks that a failure is the one that the reference reports.
void check_error(const sf::failure& error, const std::string& reference) {
    const auto is = [&](std::string_view start) {
        return reference.compare(0, start.size(), start) == 0;
    };
    const auto holds = [&](std::string_view part) {
        return reference.find(part) != std::string::npos;
    };
    if (is("HeaderTooSmall"))
        CHECK(error.code == sf::errc::header_too_short);
    else if (is("HeaderTooLarge"))
        CHECK(error.code == sf::errc::header_too_large);
    else if (is("InvalidHeaderLength"))
        CHECK(error.code == sf::errc::header_past_end);
    else if (is("InvalidHeaderDeserialization")) {
        const bool is_json_error =
            error.code == sf::errc::header_not_json || error.code == sf::errc::header_bad_entry;
        CHECK((holds("unknown variant") ? error.code == sf::errc::unknown_dtype : is_json_error));
        if (holds("duplicate field") || holds("missing field") || holds("invalid type"))
            CHECK(error.code == sf::errc::header_bad_entry);
        if (holds("EOF") || holds("trailing") || holds("escape") || holds("control character") ||
            holds("key must"))
            CHECK(error.code == sf::errc::header_not_json);
    } else if (is("InvalidHeader(")) {
        CHECK(error.code == sf::errc::header_not_utf8);
        const std::size_t at = reference.find("valid_up_to: ") + 13;
        CHECK(error.offset == 8 + std::stoull(reference.substr(at)));
    } else if (is("InvalidOffset")) {
        CHECK(error.code == sf::errc::bad_offsets);
        CHECK("InvalidOffset(" + debug(error.tensor.view()) + ")" == reference);
    } else if (is("ValidationOverflow"))
        CHECK(error.code == sf::errc::size_overflow);
    else if (is("MisalignedSlice"))
        CHECK(error.code == sf::errc::partial_byte);
    else if (is("TensorInvalidInfo"))
        CHECK(error.code == sf::errc::size_mismatch);
    else if (is("MetadataIncompleteBuffer"))
        CHECK((error.code == sf::errc::data_truncated || error.code == sf::errc::trailing_bytes));
    else
        FAIL("a verdict of a new kind: " << reference);
}

}  // namespace

TEST_CASE(
    "conformance: the suite has its cases, each with a name, a topic, a reason and bytes of its "
    "own") {
    std::set<std::string> names, files;
    const auto check_name = [&](std::string name, const std::string& reason) {
        CAPTURE(name);
        CHECK(name.find_first_not_of(
                  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") ==
              std::string::npos);
        std::transform(name.begin(), name.end(), name.begin(), [](char c) {
            return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
        });
        CHECK(names.insert(name).second);  // unique also on file systems that ignore case
        CHECK_FALSE(reason.empty());
        CHECK(reason.find_first_of("\t\n") == std::string::npos);
    };
    for (const header_case& each : header_cases()) {
        check_name(each.name, each.reason);
        CHECK_FALSE(each.topic.empty());
        CHECK_MESSAGE(files
                          .insert(each.head + "|" + std::to_string(each.spaces) + "|" +
                                  std::to_string(each.zeros))
                          .second,
                      each.name);
    }
    for (const index_case& each : index_cases()) {
        check_name(each.name, each.reason);
        CHECK_FALSE(each.files.empty());
    }
}

TEST_CASE("conformance: every case is judged as the suite says, in every profile") {
    for (const header_case& each : header_cases()) {
        CAPTURE(each.name);
        const std::vector<char> start = start_of(each);
        for (const profile which : conformance::profiles) {
            CAPTURE(conformance::name(which));
            const auto parsed = judged(start, each, which);
            CHECK(verdict_of(parsed) == conformance::name(each.refusal(which)));
            if (!parsed) continue;
            if (!each.tensors.empty()) {
                CHECK(parsed->size() == each.tensors.size());
                for (std::size_t i = 0; i < std::min(parsed->size(), each.tensors.size()); ++i)
                    CHECK((*parsed)[i].name == each.tensors[i]);
            }
            if (!each.metadata.empty()) {
                CHECK(parsed->metadata_size() == each.metadata.size());
                for (std::size_t i = 0; i < std::min(parsed->metadata_size(), each.metadata.size());
                     ++i) {
                    CHECK(parsed->metadata(i).key == each.metadata[i].first);
                    CHECK(parsed->metadata(i).value == each.metadata[i].second);
                }
            }
        }
    }
}

TEST_CASE(
    "conformance: what any profile accepts fulfils the oracle, with 128-bit sums, and its "
    "views are in the file") {
    for (const header_case& each : header_cases()) {
        CAPTURE(each.name);
        const std::vector<char> start = start_of(each);
        for (const profile which : conformance::profiles) {
            const sf::read_options options = conformance::options(which);
            if (const auto parsed = judged(start, each, which))
                CHECK(oracle::fault_of(*parsed, each.file_bytes(), options) == "");
            if (const auto unsized = sf::header::parse(bytes_of(start), sf::unknown, options))
                CHECK(oracle::fault_of(*unsized, sf::unknown, options) == "");
            if (!each.is_large() && !each.refusal(which))
                CHECK(oracle::fault_of_views(each.head, options) == "");
        }
    }
}

TEST_CASE(
    "conformance: of 10,000 files whose numbers were changed, no profile accepts one whose "
    "tensors are not all in it") {
    std::size_t accepted = 0;
    for (std::uint64_t seed = 0; seed < 10'000; ++seed) {
        CAPTURE(seed);
        const std::string file = mutants::file_of(mutants::make(seed));
        for (const profile which : conformance::profiles) {
            const sf::read_options options = conformance::options(which);
            const auto parsed = sf::header::parse(support::bytes_of(file), file.size(), options);
            if (!parsed) continue;
            ++accepted;
            REQUIRE(oracle::fault_of(*parsed, file.size(), options) == "");
            REQUIRE(oracle::fault_of_views(file, options) == "");
        }
    }
    CHECK(accepted > 10'000);
    CHECK(accepted < 30'000);
}

TEST_CASE("oracle: products and sums are computed in 128 bits") {
    const std::uint64_t most = ~std::uint64_t{0};
    CHECK(oracle::product(most, most) == oracle::wide{most - 1, 1});
    CHECK(oracle::product(std::uint64_t{1} << 32, std::uint64_t{1} << 32) == oracle::wide{1, 0});
    CHECK(oracle::product(12345678901234567u, 1000) == oracle::wide{12345678901234567000u});
    CHECK(oracle::wide{most} + oracle::wide{1} == oracle::wide{1, 0});
    CHECK_FALSE((oracle::wide{most} + oracle::wide{1}).fits_64_bits());
    for (std::uint64_t k = 1; k < 64; ++k) {
        CHECK(oracle::product(std::uint64_t{1} << k, std::uint64_t{1} << (64 - k)) ==
              oracle::wide{1, 0});
        CHECK(oracle::product(most, std::uint64_t{1} << k) ==
              oracle::wide{(std::uint64_t{1} << k) - 1, most << k});
    }
}

TEST_CASE(
    "conformance: the plain header reader gives the same verdicts and messages as the fast one") {
    for (const header_case& each : header_cases()) {
        CAPTURE(each.name);
        const std::vector<char> start = start_of(each);
        const auto needed = sf::header::bytes_needed(bytes_of(start));
        if (!needed || *needed > start.size()) continue;
        const std::string_view json{start.data() + 8, start.size() - 8};
        for (const profile which : conformance::profiles) {
            CAPTURE(conformance::name(which));
            const sf::read_options options = conformance::options(which);
            const auto fast = sf::detail::read_header(json, each.file_bytes(), options, true);
            const auto plain = sf::detail::read_header(json, each.file_bytes(), options, false);
            REQUIRE(fast.has_value() == plain.has_value());
            if (fast)
                CHECK(table_of(*fast) == table_of(*plain));
            else
                CHECK(fast.error().message() == plain.error().message());
        }
    }
}

TEST_CASE("conformance: what a profile accepts, a more generous one accepts with the same table") {
    for (const header_case& each : header_cases()) {
        CAPTURE(each.name);
        const std::vector<char> start = start_of(each);
        const auto strict = judged(start, each, profile::strict),
                   standard = judged(start, each, profile::standard),
                   reference = judged(start, each, profile::reference),
                   lenient = judged(start, each, profile::lenient);
        if (strict) REQUIRE(standard);
        if (strict) CHECK(table_of(*strict) == table_of(*standard));
        if (!standard) continue;
        REQUIRE(reference);
        REQUIRE(lenient);
        CHECK(table_of(*standard) == table_of(*reference));
        CHECK(table_of(*standard) == table_of(*lenient));
        CHECK(standard->gap_bytes() == 0);
        CHECK(standard->trailing_bytes() == 0);
        CHECK(lenient->gap_bytes() == 0);
        CHECK(lenient->trailing_bytes() == 0);
    }
}

TEST_CASE("conformance: the lenient profile counts the bytes that belong to no tensor") {
    std::size_t seen = 0;
    for (const header_case& each : header_cases()) {
        CAPTURE(each.name);
        const std::vector<char> start = start_of(each);
        const auto lenient = judged(start, each, profile::lenient);
        if (!lenient) continue;
        std::uint64_t tensor_bytes = 0;
        for (std::size_t i = 0; i < lenient->size(); ++i)
            tensor_bytes += (*lenient)[i].size_bytes();
        CHECK(lenient->file_bytes() == each.file_bytes());
        CHECK(lenient->header_bytes() + tensor_bytes + lenient->gap_bytes() +
                  lenient->trailing_bytes() ==
              each.file_bytes());
        CHECK(lenient->data_bytes() == tensor_bytes + lenient->gap_bytes());
        const bool is_tolerated = each.refusal(profile::standard).has_value();
        CHECK(is_tolerated == (lenient->gap_bytes() + lenient->trailing_bytes() != 0));
        seen += is_tolerated ? 1u : 0u;
    }
    CHECK(seen >= 15);
}

TEST_CASE(
    "conformance: of 144 cases the verdict, table and error are those that the reference gave") {
    const std::vector<verdict> rows = verdicts();
    CHECK(rows.size() >= 144);
    std::map<std::string, const header_case*> by_name;
    for (const header_case& each : header_cases()) by_name[each.name] = &each;
    for (const verdict& row : rows) {
        CAPTURE(row.name);
        CAPTURE(row.reference);
        REQUIRE(by_name.contains(row.name));
        const header_case& each = *by_name[row.name];
        const auto parsed = judged(start_of(each), each, profile::reference);
        REQUIRE(parsed.has_value() == row.accepts);
        if (!parsed) check_error(parsed.error(), row.reference);
    }
    // Checks that these are the files that the reference was given, byte for byte.
    std::uint64_t checksum = 14695981039346656037u;
    for (const verdict& row : rows)
        for (const char c : by_name[row.name]->head)
            checksum = (checksum ^ static_cast<unsigned char>(c)) * 1099511628211u;
    CHECK(checksum == 10988968184167696860u);
    // a second pass for the tables, whose names point into the bytes
    for (const verdict& row : rows) {
        if (!row.accepts) continue;
        CAPTURE(row.name);
        const std::vector<char> start = start_of(*by_name[row.name]);
        CHECK(table_of(*judged(start, *by_name[row.name], profile::reference)) ==
              with_sorted_metadata(row.reference));
    }
}

TEST_CASE(
    "conformance: by default only duplicate names and serde artefacts get another verdict than "
    "the reference's") {
    std::size_t duplicates = 0, artefacts = 0;
    for (const header_case& each : header_cases()) {
        CAPTURE(each.name);
        if (each.refusal(profile::standard).has_value() ==
            each.refusal(profile::reference).has_value())
            continue;
        REQUIRE_FALSE(each.refusal(profile::reference));
        const std::vector<char> start = start_of(each);
        if (each.refusal(profile::standard) == sf::errc::duplicate_tensor) {
            ++duplicates;
            CHECK(sf::header::parse(bytes_of(start), each.file_bytes(),
                                    {.last_duplicate_wins = true}));
        } else {
            ++artefacts;
            CHECK(sf::header::parse(bytes_of(start), each.file_bytes(),
                                    {.array_entries = true, .object_dtypes = true}));
        }
    }
    CHECK(duplicates >= 5);
    CHECK(artefacts >= 4);
}

TEST_CASE("conformance: the verdict needs nothing of a file but its header and its size") {
    for (const header_case& each : header_cases()) {
        if (each.is_large()) continue;
        CAPTURE(each.name);
        const std::vector<char> start = start_of(each);
        for (const profile which : conformance::profiles) {
            const auto whole = sf::header::parse(support::bytes_of(each.head), each.head.size(),
                                                 conformance::options(which));
            const auto alone = judged(start, each, which);
            REQUIRE(alone.has_value() == whole.has_value());
            if (alone)
                CHECK(table_of(*alone) == table_of(*whole));
            else
                CHECK(alone.error().message() == whole.error().message());

            const auto unsized =
                sf::header::parse(bytes_of(start), sf::unknown, conformance::options(which));
            const bool is_about_size = !whole && (whole.error().code == sf::errc::data_truncated ||
                                                  whole.error().code == sf::errc::trailing_bytes);
            const bool passes_2pow64 =
                is_about_size && !unsized && unsized.error().code == sf::errc::size_overflow;
            CHECK((unsized.has_value() || passes_2pow64) == (whole.has_value() || is_about_size));
        }
    }
}

TEST_CASE("conformance: every cut of a header is refused, and none crashes") {
    for (const header_case& each : header_cases()) {
        if (each.refusal(profile::reference) || each.head.size() > 1'000 || each.is_large())
            continue;
        const std::vector<char> start = start_of(each);
        const std::size_t object_end = std::string_view{start.data(), start.size()}.rfind('}');
        for (std::size_t size = 8; size <= object_end; ++size) {
            const std::vector<char> cut(start.begin() + 8,
                                        start.begin() + static_cast<std::ptrdiff_t>(size));
            for (const bool scans : {true, false}) {
                const sf::read_options options = sf::read_options::reference();
                CHECK_MESSAGE(
                    !sf::detail::read_header({cut.data(), cut.size()}, sf::unknown, options, scans),
                    each.name);
            }
        }
    }
}

TEST_CASE("conformance: every case gets the same verdict from a file, mapped or read") {
    const support::temporary_directory directory;
    const std::string path = directory / "case.safetensors";
    for (const header_case& each : header_cases()) {
        if (each.is_large()) continue;
        CAPTURE(each.name);
        support::write_file(path, each.head);
        for (const profile which : conformance::profiles) {
            const auto mapped = sf::tensor_file::open(path, conformance::options(which));
            const auto positional =
                sf::positional_tensor_file::open(path, conformance::options(which));
            // a whole file shows its real format; a header alone is only too large
            const bool is_other = each.name == "is_zip" || each.name == "is_gguf" ||
                                  each.name == "is_lfs_pointer" || each.name == "is_html";
            const std::string_view expected =
                is_other ? "another_format" : conformance::name(each.refusal(which));
            CHECK((mapped ? "accept" : conformance::name(mapped.error().code)) == expected);
            CHECK((positional ? "accept" : conformance::name(positional.error().code)) == expected);
            if (!mapped || !positional) continue;
            CHECK(mapped->header().gap_bytes() == positional->header().gap_bytes());
            CHECK(mapped->header().trailing_bytes() == positional->header().trailing_bytes());
            for (std::size_t i = 0; i < mapped->size(); ++i) {
                const auto view = mapped->view(i);
                REQUIRE(view);
                std::string bytes(static_cast<std::size_t>((*mapped)[i].size_bytes()), 'x');
                REQUIRE(positional->read(i, std::as_writable_bytes(std::span{bytes})));
                CHECK(support::string_of(view->bytes()) == bytes);
                CHECK(each.head.substr(static_cast<std::size_t>(mapped->offset_bytes(i)),
                                       bytes.size()) == bytes);
            }
        }
    }
}

TEST_CASE(
    "conformance: every checkpoint is judged as the suite says, and a refused one is not sound") {
    for (const index_case& each : index_cases()) {
        CAPTURE(each.name);
        const support::temporary_directory directory;
        for (const auto& [file, contents] : each.files) {
            std::filesystem::create_directories((directory.path() / file).parent_path());
            support::write_file(directory.path() / file, contents);
        }
        const std::string path = directory / "checkpoint";
        const sf::checkpoint_options listed_only{.show_unlisted = false};
        const auto opened = sf::checkpoint::open(path, listed_only);
        const auto positional = sf::positional_checkpoint::open(path, listed_only);
        CHECK((opened ? "accept" : conformance::name(opened.error().code)) ==
              conformance::name(each.refusal));
        CHECK((positional ? "accept" : conformance::name(positional.error().code)) ==
              conformance::name(each.refusal));
        const auto report = sf::checkpoint::verify(path);
        REQUIRE(report);
        CHECK(report->is_sound() == !each.refusal);
        if (opened) {
            std::map<std::string, std::string> tensors;
            for (std::size_t i = 0; i < opened->size(); ++i)
                tensors[std::string{opened->spec(i).name}] = std::string{
                    opened->source_name(opened->place(i).source).substr(path.size() + 1)};
            CHECK(tensors == each.tensors);
        }
        const auto index = each.files.find(std::string{conformance::index_path});
        if (index == each.files.end()) continue;
        const bool is_about_text = each.refusal == sf::errc::bad_json ||
                                   each.refusal == sf::errc::bad_index ||
                                   each.refusal == sf::errc::path_leaves_directory;
        const auto parsed = sf::shard_index::parse(support::bytes_of(index->second));
        if (each.refusal == sf::errc::several_indexes) continue;
        if (parsed && parsed->size() == 0) continue;  // sound text, but no checkpoint
        REQUIRE(parsed.has_value() == !is_about_text);
        if (parsed) continue;
        CHECK(conformance::name(parsed.error().code) == conformance::name(each.refusal));
        CHECK_FALSE(parsed.error().detail.empty());
    }
}

TEST_CASE(
    "checkpoint: bytes of no tensor are refused by default; on request they are accepted and "
    "counted") {
    const std::string gap = support::framed(
        R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"b":{"dtype":"U8","shape":[1],"data_offsets":[5,6]}})",
        ".AA..B");
    const std::string trailing =
        support::framed(R"({"c":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "CC1234");
    const support::temporary_directory directory;
    support::write_file(directory.path() / "model-1-of-2.safetensors", gap);
    support::write_file(directory.path() / "model-2-of-2.safetensors", trailing);
    const sf::checkpoint_options lenient{.read = sf::read_options::lenient()};
    for (const bool is_indexed : {false, true}) {
        CAPTURE(is_indexed);
        if (is_indexed)
            support::write_file(
                directory.path() / "model.safetensors.index.json",
                R"({"metadata": {"total_size": 5}, "weight_map": {"a": "model-1-of-2.safetensors", "b": "model-1-of-2.safetensors", "c": "model-2-of-2.safetensors"}})");
        CHECK(sf::checkpoint::open(directory.string()).error().code == sf::errc::bad_offsets);
        CHECK(sf::positional_checkpoint::open(directory.string(), {.read = {.gaps = true}})
                  .error()
                  .code == sf::errc::trailing_bytes);
        CHECK(sf::checkpoint::verify(directory.string())->failures().size() == 2);
        const auto mapped = sf::checkpoint::open(directory.string(), lenient);
        const auto positional = sf::positional_checkpoint::open(directory.string(), lenient);
        REQUIRE(mapped);
        REQUIRE(positional);
        CHECK(support::string_of(mapped->find("a")->bytes()) == "AA");
        CHECK(support::string_of(mapped->find("b")->bytes()) == "B");
        CHECK(support::string_of(mapped->find("c")->bytes()) == "CC");
        std::string two(2, 'x');
        CHECK(positional->read("a", std::as_writable_bytes(std::span{two})));
        CHECK(two == "AA");
        CHECK(mapped->file(0).header().gap_bytes() == 3);
        CHECK(mapped->file(1).header().trailing_bytes() == 4);

        const auto report = sf::checkpoint::verify(directory.string(), lenient);
        REQUIRE(report);
        CHECK(report->is_sound());
        CHECK(report->tensor_bytes() == 5);
        REQUIRE(report->notes().size() == 2);  // and none about total_size
        CHECK(report->notes()[0].what == sf::checkpoint_note::kind::gap_bytes);
        CHECK(report->notes()[0].count == 3);
        CHECK(report->notes()[1].what == sf::checkpoint_note::kind::trailing_bytes);
        CHECK(report->notes()[1].count == 4);
        CHECK(report->notes()[1].message().view().ends_with(
            "model-2-of-2.safetensors: 4 bytes after the last tensor"));
    }
}
