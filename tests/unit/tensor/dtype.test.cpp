#include <safefuse/tensor/dtype.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

namespace sf = safefuse;

namespace {

struct known {
    std::string_view name;
    std::uint64_t bits;
};

// In the order of the reference's enum; its writer sorts by it.
constexpr known dtypes[] = {{"BOOL", 8},    {"F4", 4},          {"F6_E2M3", 6},     {"F6_E3M2", 6},
                            {"U8", 8},      {"I8", 8},          {"F8_E5M2", 8},     {"F8_E4M3", 8},
                            {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
                            {"U16", 16},    {"F16", 16},        {"BF16", 16},       {"I32", 32},
                            {"U32", 32},    {"F32", 32},        {"C64", 64},        {"F64", 64},
                            {"I64", 64},    {"U64", 64}};

using extents = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("dtype: there are 22, with the reference's names, order and sizes") {
    REQUIRE(std::size(dtypes) == sf::dtype_count);
    for (std::size_t i = 0; i < sf::dtype_count; ++i) {
        const auto type = static_cast<sf::dtype>(i);
        CHECK(sf::name(type) == dtypes[i].name);
        CHECK(sf::bits(type) == dtypes[i].bits);
        sf::dtype parsed{};
        CHECK(sf::parse_dtype(dtypes[i].name, parsed));
        CHECK(parsed == type);
    }
    static_assert(sf::name(sf::dtype::u64) == "U64" && sf::bits(sf::dtype::f6_e3m2) == 6);
}

TEST_CASE("dtype: a name must match exactly, and a wrong one does not change the result") {
    for (const std::string_view bad :
         {"", "u8", "U8 ", " U8", "F8", "F8_E4M3FN", "BOOLEAN", "I4", "F128", "U"}) {
        sf::dtype type = sf::dtype::c64;
        CHECK_FALSE(sf::parse_dtype(bad, type));
        CHECK(type == sf::dtype::c64);
    }
}

TEST_CASE("dtype: F4, F6 and F8 are codes, and nothing else is") {
    for (std::size_t i = 0; i < sf::dtype_count; ++i) {
        const std::string_view name = dtypes[i].name;
        const bool expected = name.substr(0, 2) == "F4" || name.substr(0, 2) == "F6"
                                  ? name != "F64"
                                  : name.substr(0, 2) == "F8";
        CHECK(sf::is_code(static_cast<sf::dtype>(i)) == expected);
    }
}

TEST_CASE("dtype: C++ types have the dtype of their size and kind") {
    static_assert(sf::has_dtype<float> && sf::dtype_of<float> == sf::dtype::f32);
    static_assert(sf::has_dtype<bool> && sf::dtype_of<bool> == sf::dtype::boolean);
    static_assert(!sf::has_dtype<char> && !sf::has_dtype<long double> && !sf::has_dtype<void*>);
    CHECK(sf::bits(sf::dtype_of<std::int64_t>) == 8 * sizeof(std::int64_t));
    CHECK(sf::bits(sf::dtype_of<double>) == 8 * sizeof(double));
    CHECK(sf::bits(sf::dtype_of<std::uint16_t>) == 8 * sizeof(std::uint16_t));
}

TEST_CASE("dtype: a tensor's size is checked for overflow as the reference checks it") {
    constexpr std::uint64_t most = ~std::uint64_t{0};
    struct sized {
        sf::dtype type;
        extents shape;
        sf::size_verdict verdict;
        std::uint64_t size_bytes;
    };
    using enum sf::size_verdict;
    const sized cases[] = {
        {sf::dtype::i32, {}, fits, 4},
        {sf::dtype::i32, {2, 3}, fits, 24},
        {sf::dtype::i32, {2, 0}, fits, 0},
        {sf::dtype::i32, {0, most, most}, fits, 0},
        {sf::dtype::i32, {most, most, 0}, overflows, 0},
        {sf::dtype::i32, {2, most - 1}, overflows, 0},
        {sf::dtype::i32, {2, most / 2}, overflows, 0},
        {sf::dtype::i32, {65536, 65536, 65536, 65536}, overflows, 0},
        {sf::dtype::u8, {std::uint64_t{1} << 61}, overflows, 0},
        {sf::dtype::u8, {(std::uint64_t{1} << 61) - 1}, fits, (std::uint64_t{1} << 61) - 1},
        {sf::dtype::f4, {8}, fits, 4},
        {sf::dtype::f4, {0}, fits, 0},
        {sf::dtype::f4, {}, partial_byte, 0},
        {sf::dtype::f4, {3}, partial_byte, 0},
        {sf::dtype::f4, {std::uint64_t{1} << 61}, fits, std::uint64_t{1} << 60},
        {sf::dtype::f6_e2m3, {4}, fits, 3},
        {sf::dtype::f6_e3m2, {2}, partial_byte, 0},
    };
    for (const sized& each : cases) {
        std::uint64_t size_bytes = 77;
        CHECK(sf::tensor_size(each.type, each.shape, size_bytes) == each.verdict);
        CHECK(size_bytes == (each.verdict == fits ? each.size_bytes : 77));
    }
}
