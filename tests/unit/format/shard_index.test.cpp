#include <safefuse/format/shard_index.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "../../support/support.hpp"

// tests/conformance/index_cases.cpp lists what is an index and what is not; conformance.test.cpp
// checks it.

namespace sf = safefuse;
using support::bytes_of;

namespace {

sf::failure refused(std::string_view json) {
    auto index = sf::shard_index::parse(bytes_of(json));
    REQUIRE(!index);
    return std::move(index).error();
}

std::string encoded(std::vector<sf::shard_entry> entries, std::uint64_t total_size_bytes) {
    const auto text = sf::encode_index(entries, total_size_bytes);
    REQUIRE_MESSAGE(text, text.error().message().view());
    return support::string_of(text->view());
}

}  // namespace

TEST_CASE("index: names of tensors lead to names of files") {
    const std::string json = R"({"metadata": {"total_size": 96}, "weight_map": {
        "b": "model-00010-of-00010.safetensors", "a": "model-00002-of-00010.safetensors",
        "c": "model-00010-of-00010.safetensors"}})";
    const auto index = sf::shard_index::parse(bytes_of(json));
    REQUIRE(index);
    CHECK(index->size() == 3);
    CHECK(index->tensor(0) == "b");
    CHECK(index->tensor(2) == "c");
    REQUIRE(index->file_count() == 2);
    CHECK(index->file(0) == "model-00002-of-00010.safetensors");
    CHECK(index->file(1) == "model-00010-of-00010.safetensors");
    CHECK(index->file_of(0) == 1);
    CHECK(index->file_of(1) == 0);
    CHECK(index->find("a") == 0);
    CHECK(index->find("c") == 1);
    CHECK(index->find("d") == sf::shard_index::npos);
    CHECK(index->find("") == sf::shard_index::npos);
    CHECK(index->total_size_bytes() == 96);
    CHECK(index->tensor(0).data() == json.data() + json.find("b\": "));
}

TEST_CASE("index: total_size counts only as a plain integer") {
    const auto total = [](std::string_view metadata) {
        const std::string json =
            "{\"metadata\": " + std::string{metadata} + ", \"weight_map\": {}}";
        const auto index = sf::shard_index::parse(bytes_of(json));
        REQUIRE_MESSAGE(index, index.error().message().view());
        return index->total_size_bytes();
    };
    CHECK(total(R"({"total_size": 0})") == 0);
    CHECK(
        total(
            R"({"total_parameters": 3, "total_size": 18446744073709551614, "lm_head": "embed"})") ==
        18446744073709551614u);
    for (const char* metadata :
         {"{}", "null", "[]", "3", R"({"total_size": 9.0})", R"({"total_size": "9"})",
          R"({"total_size": -9})", R"({"total_size": null})",
          R"({"total_size": 18446744073709551616})", R"({"total_size": {"a": 1}})",
          R"({"a": {"total_size": 5}})"})
        CHECK(total(metadata) == sf::unknown);
}

TEST_CASE("index: an empty weight_map is an index, and unknown keys are ignored") {
    const auto index = sf::shard_index::parse(
        bytes_of(R"({"format": [1, {"weight_map": 2}], "weight_map": {}, "x": null})"));
    REQUIRE(index);
    CHECK(index->size() == 0);
    CHECK(index->file_count() == 0);
    CHECK(index->find("a") == sf::shard_index::npos);
}

TEST_CASE("index: escapes in names are decoded") {
    const std::string json =
        R"({"weight_map": {"caf\u00e9": "a.safetensors", "t\ud83d\ude00": "\u0061.safetensors", "plain": "\u0062.safetensors"}})";
    const auto index = sf::shard_index::parse(bytes_of(json));
    REQUIRE(index);
    CHECK(index->find("caf\xC3\xA9") == 0);
    CHECK(index->find("t\xF0\x9F\x98\x80") == 0);
    CHECK(index->find("plain") == 1);
    CHECK(index->file_count() == 2);
}

TEST_CASE("index: a duplicate key names the tensor and both files") {
    const sf::failure why =
        refused(R"({"weight_map": {"w": "a.safetensors", "w": "b.safetensors"}})");
    CHECK(why.tensor == "w");
    CHECK(why.detail.view().find("\"a.safetensors\" and in \"b.safetensors\"") !=
          std::string_view::npos);
    CHECK(why.offset == 39);
}

TEST_CASE(
    "index: a file outside the directory is refused with tensor and file, without control "
    "characters") {
    const sf::failure why = refused(R"({"weight_map": {"w": "../\u001b[2J.safetensors"}})");
    CHECK(why.code == sf::errc::path_leaves_directory);
    CHECK(why.tensor == "w");
    CHECK(why.detail.view().find("\"../\\u001b[2J.safetensors\"") != std::string_view::npos);
}

TEST_CASE(
    "index: the fast path for similar lines gives the same as line by line, with any lines "
    "between") {
    // names that hold what ends a line, lines that differ by a space, an escape, a file, a number:
    // each in turn amid plain lines
    const std::vector<std::string> lines = {"\"a\": \"1.safetensors\"",
                                            "\"b\": \"1.safetensors\"",
                                            "\"c,\\n    d: x\": \"1.safetensors\"",
                                            "\"\": \"1.safetensors\"",
                                            "\"\\u0065\": \"1.safetensors\"",
                                            "\"f\":\"1.safetensors\"",
                                            "\"g\": \"2.safetensors\"",
                                            "\"h\": \"\\u0031.safetensors\"",
                                            "\"a\": \"1.safetensors\"",
                                            "\"i\": 1",
                                            "\"j\": \"../1.safetensors\"",
                                            "\"k\\\"\": \"1.safetensors\"",
                                            "\"" + std::string(40, 'l') + "\": \"1.safetensors\""};
    for (std::size_t first = 0; first < lines.size(); ++first)
        for (std::size_t second = 0; second < lines.size(); ++second)
            for (const std::string between : {",\n    ", ",", " ,\t"}) {
                std::string json = "{\"weight_map\": {\"p\": \"1.safetensors\"" + between +
                                   "\"q\": \"1.safetensors\"" + between +
                                   "\"r\": \"1.safetensors\"";
                // the same with a line end before each comma: no frame matches, so every line is
                // parsed
                std::string slow =
                    "{\"weight_map\": {\"p\": \"1.safetensors\",\"q\"  : \"1.safetensors\"\n"
                    ",\"r\" :\"1.safetensors\"";
                std::string space;
                for (const std::size_t i : {first, second}) {
                    json += between + lines[i] + between + "\"after " + std::to_string(i) +
                            "\": \"1.safetensors\"";
                    for (const std::string& line :
                         {lines[i], "\"after " + std::to_string(i) + "\": \"1.safetensors\""})
                        slow += (space += ' ') + "," + line;
                }
                sf::vector<sf::failure> problems, slow_problems;
                json += "}}";
                slow += "}}";
                const auto index = sf::shard_index::parse(bytes_of(json), problems),
                           slowly = sf::shard_index::parse(bytes_of(slow), slow_problems);
                CAPTURE(json);
                REQUIRE(index.has_value());
                REQUIRE(slowly.has_value());
                REQUIRE(index->size() == slowly->size());
                for (std::size_t i = 0; i < index->size(); ++i) {
                    REQUIRE(index->tensor(i) == slowly->tensor(i));
                    REQUIRE(index->file(index->file_of(i)) == slowly->file(slowly->file_of(i)));
                    REQUIRE(index->find(index->tensor(i)) == index->file_of(i));
                }
                REQUIRE(problems.size() == slow_problems.size());
                for (std::size_t i = 0; i < problems.size(); ++i) {
                    REQUIRE(problems[i].code == slow_problems[i].code);
                    REQUIRE(problems[i].tensor == slow_problems[i].tensor);
                    REQUIRE(json[static_cast<std::size_t>(problems[i].offset) - 1] == '"');
                }
            }
}

TEST_CASE("index: all problems of single tensors can be reported at once") {
    sf::vector<sf::failure> problems;
    const std::string json =
        R"({"weight_map": {"a": "a.safetensors", "b": "../b.safetensors", "a": "c.safetensors", "d": 3,
        "e": "e.bin", "f": "a.safetensors"}})";
    const auto index = sf::shard_index::parse(bytes_of(json), problems);
    REQUIRE(index);
    CHECK(index->size() == 2);
    CHECK(index->find("a") == index->find("f"));
    REQUIRE(problems.size() == 4);
    CHECK(problems[0].code == sf::errc::path_leaves_directory);
    CHECK(problems[1].code == sf::errc::bad_index);
    CHECK(problems[1].tensor == "a");
    CHECK(problems[2].tensor == "d");
    CHECK(problems[3].tensor == "e");
    sf::vector<sf::failure> none;
    CHECK(!sf::shard_index::parse(bytes_of("{\"weight_map\": {\"a\": "), none));
}

TEST_CASE("index: every cut of a valid index is refused and none crashes") {
    const std::string json = support::index_text(
        {{"a.safetensors", {support::u8("caf\xC3\xA9", {2}), support::u8("y", {3})}}});
    REQUIRE(sf::shard_index::parse(bytes_of(json)));
    for (std::size_t size = 0; size + 2 < json.size(); ++size) {
        const std::string cut = json.substr(0, size);
        CHECK(!sf::shard_index::parse(bytes_of(cut)));
    }
}

TEST_CASE("index: every byte changed is refused or read, and none crashes") {
    const std::string json =
        R"({"metadata":{"total_size":5},"weight_map":{"a\n":"a.safetensors","b":"b/c.safetensors"}})";
    for (std::size_t at = 0; at < json.size(); ++at)
        for (const char c : {'\0', '"', '\\', '{', '}', '/', '.', '9', '\xFF', ','}) {
            std::string changed = json;
            changed[at] = c;
            const auto index = sf::shard_index::parse(bytes_of(changed));
            if (!index) continue;
            for (std::size_t i = 0; i < index->size(); ++i)
                CHECK(index->find(index->tensor(i)) == index->file_of(i));
        }
}

TEST_CASE("index: a hundred thousand tensors are all found") {
    std::string json = "{\"weight_map\": {";
    for (int i = 0; i < 100'000; ++i)
        json += (i == 0 ? "\"" : ", \"") + std::string{"model.layers."} + std::to_string(i) +
                ".w\": \"model-" + std::to_string(i % 97) + "-of-97.safetensors\"";
    json += "}}";
    const auto index = sf::shard_index::parse(bytes_of(json));
    REQUIRE(index);
    CHECK(index->size() == 100'000);
    CHECK(index->file_count() == 97);
    for (std::size_t f = 0; f < 97; ++f)
        CHECK(index->file(f) == "model-" + std::to_string(f) + "-of-97.safetensors");
    bool all = true;
    for (std::size_t i = 0; i < 100'000; ++i)
        all = all && index->find("model.layers." + std::to_string(i) + ".w") == i % 97;
    CHECK(all);
}

// For refused names see tests/conformance/index_cases.cpp.
TEST_CASE("containment: names inside the directory are accepted, on every system") {
    for (const char* file :
         {"a.safetensors", ".safetensors", "sub/a.safetensors", "sub\\a.safetensors",
          "./a.safetensors", "a..b.safetensors", "..a.safetensors", "a../b.safetensors",
          "a b.safetensors", "sub//a.safetensors", "model-00001-of-00002.safetensors",
          "\xE4\xB8\xAD.safetensors", "ab:c.safetensors"}) {
        CAPTURE(file);
        CHECK(sf::check_contained(file));
    }
}

TEST_CASE(
    "containment: dots mixed with spaces are refused, because systems treat them differently") {
    for (const char* file :
         {". ./a.safetensors", "a/. .", " .. /a.safetensors", "a\\. . ./b.safetensors"}) {
        CAPTURE(file);
        REQUIRE_FALSE(sf::check_contained(file));
        CHECK(sf::check_contained(file).error().code == sf::errc::path_leaves_directory);
    }
}

TEST_CASE("series: names are parsed with any padding") {
    const auto parts = [](std::string_view file) {
        sf::series_name found;
        REQUIRE(sf::parse_series(file, found));
        return std::tuple{std::string{found.stem}, found.number, found.count};
    };
    CHECK(parts("model-00001-of-00003.safetensors") == std::tuple{"model", 1, 3});
    CHECK(parts("model-0-of-3.safetensors") == std::tuple{"model", 0, 3});
    CHECK(parts("model.fp16-00010-of-00012.safetensors") == std::tuple{"model.fp16", 10, 12});
    CHECK(parts("a-1-of-2-00001-of-00002.safetensors") == std::tuple{"a-1-of-2", 1, 2});
    CHECK(parts("-1-of-2.safetensors") == std::tuple{"", 1, 2});
    for (const char* file :
         {"model.safetensors", "model-00001.safetensors", "model-1-of-.safetensors",
          "model--of-2.safetensors", "model-1-of-2.bin", "model1-of-2.safetensors",
          "1-of-2.safetensors", "", "model-1-of-9999999999999999999.safetensors"}) {
        CAPTURE(file);
        sf::series_name found{"untouched", 7, 8};
        CHECK(!sf::parse_series(file, found));
        CHECK(found.number == 7);
    }
}

TEST_CASE("series: names are spelled as huggingface_hub spells them, and parsed again") {
    CHECK(sf::shard_name("model", 1, 1) == "model.safetensors");
    CHECK(sf::shard_name("model", 1, 3) == "model-00001-of-00003.safetensors");
    CHECK(sf::shard_name("model", 163, 163) == "model-00163-of-00163.safetensors");
    CHECK(sf::shard_name("model", 99'999, 123'456) == "model-99999-of-123456.safetensors");
    for (const std::uint64_t count : {2u, 9u, 10u, 9'999u, 10'000u, 100'000u})
        for (const std::uint64_t number : {std::uint64_t{1}, count / 2, count}) {
            sf::series_name found;
            const sf::text name = sf::shard_name("model", number, count);
            REQUIRE(sf::parse_series(name, found));
            CHECK(found.number == number);
            CHECK(found.count == count);
        }
}

TEST_CASE("natural order: digits compare as numbers, and the order is strict") {
    std::vector<std::string> names = {"a",
                                      "a-1",
                                      "a-2",
                                      "a-02",
                                      "a-10",
                                      "a-010",
                                      "a-9",
                                      "b",
                                      "model-2-of-10",
                                      "model-10-of-10",
                                      "model-00003-of-10",
                                      "",
                                      "1",
                                      "01",
                                      "a-99999999999999999999999",
                                      "a-99999999999999999999998"};
    std::sort(names.begin(), names.end(), sf::natural_less);
    CHECK(names == std::vector<std::string>{"", "01", "1", "a", "a-1", "a-02", "a-2", "a-9",
                                            "a-010", "a-10", "a-99999999999999999999998",
                                            "a-99999999999999999999999", "b", "model-2-of-10",
                                            "model-00003-of-10", "model-10-of-10"});
    for (std::size_t i = 0; i < names.size(); ++i)
        for (std::size_t j = 0; j < names.size(); ++j)
            CHECK(sf::natural_less(names[i], names[j]) == (i < j));
}

TEST_CASE("index: is written as Python's json.dumps(indent=2, sort_keys=True) writes it") {
    CHECK(encoded({{"b.weight", "model-00002-of-00002.safetensors"},
                   {"a.weight", "model-00001-of-00002.safetensors"}},
                  1234567) ==
          "{\n  \"metadata\": {\n    \"total_size\": 1234567\n  },\n  \"weight_map\": {\n"
          "    \"a.weight\": \"model-00001-of-00002.safetensors\",\n"
          "    \"b.weight\": \"model-00002-of-00002.safetensors\"\n  }\n}\n");
    CHECK(encoded({}, 0) ==
          "{\n  \"metadata\": {\n    \"total_size\": 0\n  },\n  \"weight_map\": {}\n}\n");
    CHECK(encoded({{"\"\\\b\f\n\r\t\x01\x1F\x7F/~ caf\xC3\xA9 \xE4\xB8\xAD \xF0\x9F\x98\x80",
                    "a.safetensors"}},
                  0) ==
          "{\n  \"metadata\": {\n    \"total_size\": 0\n  },\n  \"weight_map\": {\n"
          "    \"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\\u007f/~ caf\\u00e9 \\u4e2d "
          "\\ud83d\\ude00\": \"a.safetensors\"\n  }\n}\n");
    // By code point, not by UTF-16 unit: U+FF21 before U+1F600.
    const std::string sorted =
        encoded({{"\xF0\x9F\x98\x80", "a.safetensors"}, {"\xEF\xBC\xA1", "a.safetensors"}}, 0);
    CHECK(sorted.find("\\uff21") < sorted.find("\\ud83d"));
}

TEST_CASE("index: a written index is read back, with any names") {
    std::vector<std::string> names;
    for (int i = 0; i < 300; ++i) {
        std::string name = "t" + std::to_string(i) + '.';
        name += static_cast<char>(1 + i % 127);
        if (i % 3 == 0) name += "\xF4\x8F\xBF\xBF\xC2\x80\xEF\xBF\xBF";
        names.push_back(name);
    }
    std::vector<sf::shard_entry> entries;
    for (std::size_t i = 0; i < names.size(); ++i)
        entries.push_back({names[i], i % 2 == 0 ? "a.safetensors" : "s/b\xC3\xA9.safetensors"});
    const std::string json = encoded(entries, 77);
    CHECK(std::all_of(json.begin(), json.end(),
                      [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); }));
    const auto index = sf::shard_index::parse(bytes_of(json));
    REQUIRE(index);
    CHECK(index->total_size_bytes() == 77);
    CHECK(index->size() == names.size());
    for (const sf::shard_entry& each : entries)
        CHECK(index->file(index->find(each.tensor)) == each.file);
}

TEST_CASE("index: an index that could not be read back is not written") {
    const auto code = [](std::vector<sf::shard_entry> entries) {
        const auto text = sf::encode_index(entries, 0);
        REQUIRE(!text);
        return text.error().code;
    };
    CHECK(code({{"a\xFF", "a.safetensors"}}) == sf::errc::bad_name);
    CHECK(code({{"a", "a.safetensors"}, {"a", "b.safetensors"}}) == sf::errc::duplicate_tensor);
    CHECK(code({{"a", "../a.safetensors"}}) == sf::errc::path_leaves_directory);
    CHECK(code({{"a", "a.bin"}}) == sf::errc::bad_index);
}
