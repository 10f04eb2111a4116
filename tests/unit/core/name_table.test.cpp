#include <safefuse/core/detail/name_table.hpp>

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

namespace sf = safefuse;
using sf::detail::name_table;

TEST_CASE("name_table: names are found, and duplicates are reported") {
    std::vector<std::string> names = {"",
                                      "a",
                                      "b",
                                      "ab",
                                      "ba",
                                      std::string(7, 'x'),
                                      std::string(8, 'x'),
                                      std::string(15, 'x'),
                                      std::string(16, 'x'),
                                      std::string(17, 'x'),
                                      std::string(32, 'x'),
                                      std::string(33, 'x'),
                                      std::string(5000, 'x')};
    for (int i = 0; i < 5'000; ++i)
        names.push_back("model.layers." + std::to_string(i % 61) + ".experts." + std::to_string(i) +
                        ".weight");
    const auto name_of = [&](std::uint32_t i) -> std::string_view { return names[i]; };
    name_table table;
    CHECK(table.find("a", name_of) == name_table::npos);
    for (std::uint32_t i = 0; i < names.size(); ++i) {
        const auto added = table.insert(names[i], i, name_of);
        REQUIRE(added.what == name_table::outcome::inserted);
        REQUIRE(added.index == i);
    }
    CHECK(table.size() == names.size());
    for (std::uint32_t i = 0; i < names.size(); ++i) {
        REQUIRE(table.find(names[i], name_of) == i);
        const auto again = table.insert(std::string{names[i]}, 0, name_of);
        REQUIRE(again.what == name_table::outcome::already_there);
        REQUIRE(again.index == i);
        REQUIRE(table.find(names[i] + "x", name_of) != i);
    }
    const name_table moved = std::move(table);
    CHECK(moved.find("ab", name_of) == 3);
    CHECK(table.find("ab", name_of) == name_table::npos);
}

TEST_CASE("name_table: names are still found after reserve, and not after clear") {
    const std::vector<std::string> names = {"a", "b", "a"};
    const auto name_of = [&](std::uint32_t i) -> std::string_view { return names[i]; };
    name_table table;
    REQUIRE(table.reserve(2));
    const auto hash = table.hash("b");
    table.prefetch_slot(hash);
    CHECK(table.insert("a", 0, name_of).what == name_table::outcome::inserted);
    CHECK(table.insert_hashed("b", hash, 1, name_of).what == name_table::outcome::inserted);
    REQUIRE(table.reserve(10'000));
    CHECK(table.find("b", name_of) == 1);
    CHECK(table.find("a", name_of) == 0);
    table.clear();
    CHECK(table.size() == 0);
    CHECK(table.find("a", name_of) == name_table::npos);
    CHECK(table.hash("b") == hash);
    CHECK_FALSE(table.reserve((std::size_t{1} << 30) + 1));
}

TEST_CASE("name_table: hashes are evenly distributed, and differ between tables") {
    name_table first, second;
    REQUIRE(first.reserve(1));
    REQUIRE(second.reserve(1));
    std::set<std::uint32_t> hashes;
    int equal = 0;
    for (int i = 0; i < 10'000; ++i) {
        const std::string name = "layers." + std::to_string(i);
        hashes.insert(first.hash(name));
        equal += first.hash(name) == second.hash(name) ? 1 : 0;
    }
    CHECK(hashes.size() > 9'990);
    CHECK(equal < 5);
    std::set<std::uint32_t> lengths;
    for (std::size_t length = 0; length < 100; ++length)
        lengths.insert(first.hash(std::string(length, '\0')));
    CHECK(lengths.size() == 100);
}
