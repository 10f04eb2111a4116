#include <safefuse/detect/detail/name_patterns.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <safefuse/detect/detect.hpp>

namespace sf = safefuse;

namespace {

/// Names as a set of empty tensors.
struct names_alone {
    explicit names_alone(std::vector<std::string> all) : names{std::move(all)} {
        for (const std::string& each : names)
            tensors.push_back({each, *sf::tensor_view::of(sf::dtype::u8, shape, {})});
    }
    static constexpr std::uint64_t shape[] = {0};
    std::vector<std::string> names;
    std::vector<sf::named_tensor> tensors;
    sf::tensor_list set() const { return sf::tensor_list{{tensors.data(), tensors.size()}}; }
};

std::vector<std::string> kinds_of(std::vector<std::string> names, std::size_t spelled_digits) {
    const names_alone all{std::move(names)};
    const auto set = all.set();
    const auto kinds = sf::detail::one_of_each_kind(set, spelled_digits);
    REQUIRE(kinds);
    std::vector<std::string> out;
    for (std::size_t i = 0; i < kinds->size(); ++i) {
        out.emplace_back(kinds->spec(i).name);
        CHECK(set.spec(kinds->number(i)).name == out.back());
    }
    return out;
}

}  // namespace

TEST_CASE(
    "name kinds: names that differ only in long plain numbers are one kind, represented by the "
    "first") {
    using list = std::vector<std::string>;
    CHECK(kinds_of({"a.10.b", "a.11.b", "a.9.b", "a.123456789012345678.b"}, 1) ==
          list{"a.10.b", "a.9.b"});
    CHECK(kinds_of({"a.0.b", "a.7.b", "a.10.b"}, 0) == list{"a.0.b"});
    CHECK(kinds_of({"a.10.b", "a.99.b", "a.100.b", "a.101.b"}, 2) ==
          list{"a.10.b", "a.99.b", "a.100.b"});
    CHECK(kinds_of({"a.10.b.20", "a.11.b.21", "a.10.c.20", "10", "11", "a.10"}, 1) ==
          list{"a.10.b.20", "a.10.c.20", "10", "a.10"});
    // segments that are not plain numbers stand for themselves
    CHECK(kinds_of({"a.010", "a.011", "a.1234567890123456789", "a.1234567890123456780", "w10",
                    "w11", "a.1x", "a.2x", "", ".", ".."},
                   1)
              .size() == 11);
    CHECK(kinds_of({"", "a", "a."}, 1) == list{"", "a", "a."});
    CHECK(sf::detail::longest_number("a.10.b2345.7.123") == 3);
    CHECK(sf::detail::longest_number("a.b2345.{i}") == 0);
    CHECK(sf::detail::longest_number("") == 0);
}

TEST_CASE("name kinds: for each family they give the same answer as all names") {
    // the experts of some layers as each family stores them, with the names of its renames and of
    // other modules
    for (const sf::family_description& family : sf::shipped_families::all) {
        CAPTURE(family.name);
        std::vector<std::string> names;
        for (const std::string layer : {"0", "9", "10", "11", "60"})
            for (std::size_t m = 0; m < family.module_count(); ++m)
                for (const sf::layout_description* layout :
                     {family.module_at(m).from, family.module_at(m).to})
                    for (const auto& tensor : layout->tensors)
                        for (const std::uint64_t expert : {0u, 3u, 10u, 127u, 128u}) {
                            std::string path{family.module_at(m).from_path};
                            if (const auto at = path.find("{i}"); at != std::string::npos)
                                path.replace(at, 3, layer);
                            sf::text name{"model.layers." + layer + "." + path + "."};
                            REQUIRE(sf::detail::spell(name, tensor.name, expert,
                                                      layout->fields[0].suffix));
                            if (std::find(names.begin(), names.end(), name.view()) == names.end())
                                names.emplace_back(name.view());
                        }
        for (const sf::rename_description each : family.renames) {
            std::string name{each.from};
            for (std::size_t hole = name.find("{i}"); hole != name.npos; hole = name.find("{i}"))
                name.replace(hole, 3, "12");
            for (const char* before : {"", "model.layers.33."})
                if (std::find(names.begin(), names.end(), before + name + ".weight") == names.end())
                    names.push_back(before + name + ".weight");
        }
        const names_alone all{names};
        const auto set = all.set();
        const auto kinds = sf::detail::one_of_each_kind(set, 1);
        REQUIRE(kinds);
        CHECK(kinds->size() < set.size());
        for (const sf::family_description& asked : sf::shipped_families::all)
            for (const sf::direction way : {sf::direction::forward, sf::direction::inverse}) {
                CAPTURE(asked.name);
                const sf::family_description description = asked.in(way);
                const auto by_kinds = sf::detail::score_family(set, *kinds, description),
                           by_all = sf::detail::score_family(set, set, description);
                REQUIRE(by_kinds);
                REQUIRE(by_all);
                CHECK(*by_kinds == *by_all);
            }
    }
}
