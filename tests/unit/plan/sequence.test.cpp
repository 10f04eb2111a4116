#include <safefuse/core/span.hpp>

#include <array>
#include <cstddef>
#include <numeric>
#include <ranges>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

namespace sf = safefuse;

namespace {

struct base {
    int x;
};
struct derived : base {
    int y;
};

struct without_type {
    void* data() const;
    std::size_t size() const;
};

struct counts_with_signs {
    int* data() { return values; }
    long size() const { return 3; }
    int values[3]{};
};

template <class Sequence>
concept takes_zero_and_three = requires(void (*take)(Sequence)) { take({0, 3}); };

template <class From, class To>
constexpr bool converts = std::is_convertible_v<From, To>;

}  // namespace

TEST_CASE("sequence: contiguous ranges convert to it, and it converts to a span") {
    CHECK(converts<std::vector<int>&, sf::span<int>>);
    CHECK(converts<std::vector<int>&, sf::span<const int>>);
    CHECK(converts<const std::vector<int>&, sf::span<const int>>);
    CHECK(converts<std::array<int, 3>&, sf::span<int>>);
    CHECK(converts<int(&)[3], sf::span<const int>>);
    CHECK(converts<std::string&, sf::span<const char>>);
    CHECK(converts<std::span<int>, sf::span<const int>>);
    CHECK(converts<std::span<int, 3>, sf::span<int>>);
    CHECK(converts<std::vector<int*>&, sf::span<int* const>>);
    CHECK(converts<sf::span<int>, sf::span<const int>>);
    CHECK(converts<sf::span<int>, std::span<int>>);
    CHECK(converts<sf::span<int>, std::span<const int>>);
    CHECK(converts<sf::span<const int>, std::span<const int>>);
}

TEST_CASE("sequence: conversions keep const, the type and the size of elements") {
    CHECK_FALSE(converts<const std::vector<int>&, sf::span<int>>);
    CHECK_FALSE(converts<sf::span<const int>, sf::span<int>>);
    CHECK_FALSE(converts<sf::span<const int>, std::span<int>>);
    CHECK_FALSE(converts<std::vector<int>&, sf::span<unsigned>>);
    CHECK_FALSE(converts<std::vector<derived>&, sf::span<base>>);
    CHECK_FALSE(converts<std::vector<derived*>&, sf::span<base*>>);
    CHECK_FALSE(converts<without_type, sf::span<int>>);
}

TEST_CASE("sequence: a temporary converts to a read-only sequence, not to a writable one") {
    CHECK(converts<std::vector<int>, sf::span<const int>>);
    CHECK_FALSE(converts<std::vector<int>, sf::span<int>>);
    CHECK(converts<std::span<int>, sf::span<int>>);
    CHECK(converts<std::vector<int>&, sf::span<int>>);
}

TEST_CASE("sequence: {0, 3} does not convert as a null pointer and a count") {
    CHECK_FALSE(takes_zero_and_three<sf::span<const std::size_t>>);
    int values[2]{};
    CHECK(sf::span<int>{values + 0, 2}.size() == 2);
    CHECK(sf::span<int>{nullptr, 0}.empty());
}

TEST_CASE("sequence: ranges with a signed size convert, and views hold a copy") {
    counts_with_signs signs;
    CHECK(sf::span<int>{signs}.size() == 3);
    CHECK(std::ranges::view<sf::span<int>>);
    CHECK(std::ranges::borrowed_range<sf::span<int>>);
}

TEST_CASE("sequence: its parts keep their addresses") {
    std::vector<int> values(17);
    std::iota(values.begin(), values.end(), 0);
    const sf::span all{values};
    CHECK(std::is_same_v<decltype(all), const sf::span<int>>);
    CHECK(all.size_bytes() == 17 * sizeof(int));
    for (std::size_t from = 0; from <= all.size(); ++from)
        for (std::size_t count = 0; from + count <= all.size(); ++count) {
            const sf::span<int> part = all.subspan(from, count);
            CHECK(part.data() == values.data() + from);
            CHECK(part.size() == count);
            CHECK(part.empty() == (count == 0));
            CHECK(all.first(from + count).last(count).data() == part.data());
            CHECK(all.subspan(from).size() == all.size() - from);
            CHECK(all.subspan(from, std::dynamic_extent).size() == all.size() - from);
            int sum = 0;
            for (const int each : part) sum += each;
            CHECK(sum == std::accumulate(values.begin() + static_cast<int>(from),
                                         values.begin() + static_cast<int>(from + count), 0));
            if (!part.empty())
                CHECK((part.front() == static_cast<int>(from) &&
                       part.back() == static_cast<int>(from + count - 1)));
        }
    const std::span<int> span = all;
    CHECK(span.data() == all.data());
    CHECK(span.size() == all.size());
}
