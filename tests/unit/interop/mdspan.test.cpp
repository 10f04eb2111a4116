#include <safefuse/interop/mdspan.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/run/fuse.hpp>

#include "../../support/support.hpp"

// The tested implementations: std::mdspan; the Kokkos reference implementation, which comes with
// Debian's libbasix-dev (as std::experimental::mdspan) and with the Python package fenics-basix (in
// a configurable namespace).
#if __has_include(<version>)
#include <version>
#endif
#ifdef __cpp_lib_mdspan
#include <mdspan>
#endif
#if __has_include(<basix/mdspan.hpp>)
#include <basix/mdspan.hpp>
#define HAS_KOKKOS
#ifdef MDSPAN_IMPL_STANDARD_NAMESPACE
namespace kokkos = MDSPAN_IMPL_STANDARD_NAMESPACE;
#else
namespace kokkos = std::experimental;
#endif
#endif

#include <doctest/doctest.h>

namespace sf = safefuse;

namespace {

using extents = std::vector<std::uint64_t>;
constexpr bool is_big_endian = std::endian::native != std::endian::little;

// A minimal mdspan, for compilers that have none.
struct stand_in {
    static constexpr const char* name = "a stand-in of this test";
    struct row_major {
        static constexpr bool reversed = false;
    };
    struct column_major {
        static constexpr bool reversed = true;
    };
    template <class Index, std::size_t... Extents>
    struct shape {
        explicit shape(const std::array<Index, sizeof...(Extents)>& of) : values{of} {}
        std::array<Index, sizeof...(Extents)> values;
    };
    template <class T, class Layout, class Index, std::size_t... Extents>
    class mdspan {
    public:
        using element_type = T;
        using data_handle_type = T*;
        using index_type = Index;
        using extents_type = shape<Index, Extents...>;
        using layout_type = Layout;
        mdspan(T* first, extents_type of) : first_{first}, extents_{of} {}
        T* data_handle() const { return first_; }
        static constexpr std::size_t rank() { return sizeof...(Extents); }
        static constexpr std::size_t static_extent(std::size_t axis) {
            return std::array<std::size_t, sizeof...(Extents) + 1>{Extents..., 0}[axis];
        }
        Index extent(std::size_t axis) const { return extents_.values[axis]; }
        Index stride(std::size_t axis) const {
            Index stride = 1;
            for (std::size_t other = 0; other < rank(); ++other)
                if (Layout::reversed ? other < axis : other > axis)
                    stride = static_cast<Index>(stride * extent(other));
            return stride;
        }

    private:
        T* first_;
        extents_type extents_;
    };
    template <class T, class Index, std::size_t... Extents>
    using rows = mdspan<T, row_major, Index, Extents...>;
    template <class T, class Index, std::size_t... Extents>
    using columns = mdspan<T, column_major, Index, Extents...>;
    static constexpr std::size_t dynamic = static_cast<std::size_t>(-1);
};

#ifdef __cpp_lib_mdspan
struct standard {
    static constexpr const char* name = "the standard library's";
    template <class T, class Index, std::size_t... Extents>
    using rows = std::mdspan<T, std::extents<Index, Extents...>>;
    template <class T, class Index, std::size_t... Extents>
    using columns = std::mdspan<T, std::extents<Index, Extents...>, std::layout_left>;
    static constexpr std::size_t dynamic = std::dynamic_extent;
};
#else
using standard = stand_in;
#endif

#ifdef HAS_KOKKOS
struct reference {
    static constexpr const char* name = "Kokkos' reference";
    template <class T, class Index, std::size_t... Extents>
    using rows = kokkos::mdspan<T, kokkos::extents<Index, Extents...>>;
    template <class T, class Index, std::size_t... Extents>
    using columns = kokkos::mdspan<T, kokkos::extents<Index, Extents...>, kokkos::layout_left>;
    static constexpr std::size_t dynamic = kokkos::dynamic_extent;
};
#else
using reference = stand_in;
#endif

sf::tensor_view view_of(const std::vector<float>& values, const extents& shape) {
    auto view = sf::tensor_view::of(sf::dtype::f32, shape, std::as_bytes(std::span{values}));
    REQUIRE(view);
    return *view;
}

std::vector<float> counting(std::size_t count) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i) + 0.5f;
    return values;
}

}  // namespace

TEST_CASE_TEMPLATE("mdspan: each element is at its indices" * doctest::skip(is_big_endian), Kind,
                   stand_in, standard, reference) {
    MESSAGE(std::string{Kind::name});
    const auto values = counting(24);
    const extents shape{2, 3, 4};
    const auto made =
        sf::mdspan_of<typename Kind::template rows<const float, std::size_t, Kind::dynamic,
                                                   Kind::dynamic, Kind::dynamic>>(
            view_of(values, shape));
    REQUIRE(made);
    CHECK(made->data_handle() == values.data());
    for (std::size_t axis = 0; axis < 3; ++axis) CHECK(made->extent(axis) == shape[axis]);
    for (std::size_t i = 0; i < 2; ++i)
        for (std::size_t j = 0; j < 3; ++j)
            for (std::size_t k = 0; k < 4; ++k)
                CHECK(made->data_handle()[i * made->stride(0) + j * made->stride(1) +
                                          k * made->stride(2)] == values[(i * 3 + j) * 4 + k]);
}

TEST_CASE_TEMPLATE(
    "mdspan: static extents are checked, and so are rank, dtype, layout and index type" *
        doctest::skip(is_big_endian),
    Kind, stand_in, standard, reference) {
    constexpr std::size_t any = Kind::dynamic;
    const auto values = counting(24);
    const extents shape{2, 3, 4}, long_shape{1, 1, 24}, one_column{24, 1, 1};
    const auto refusal = [&]<class Mdspan>(std::type_identity<Mdspan>, const extents& of) {
        const auto made = sf::mdspan_of<Mdspan>(view_of(values, of));
        REQUIRE_FALSE(made);
        return made.error().code;
    };
    CHECK(sf::mdspan_of<typename Kind::template rows<const float, int, 2, any, 4>>(
        view_of(values, shape)));
    CHECK(refusal(std::type_identity<typename Kind::template rows<const float, int, 2, any, 5>>{},
                  shape) == sf::errc::shape_mismatch);
    CHECK(refusal(std::type_identity<typename Kind::template rows<const float, int, any, any>>{},
                  shape) == sf::errc::shape_mismatch);
    CHECK(refusal(
              std::type_identity<typename Kind::template rows<const double, int, any, any, any>>{},
              shape) == sf::errc::wrong_dtype);
    CHECK(
        refusal(
            std::type_identity<typename Kind::template columns<const float, int, any, any, any>>{},
            shape) == sf::errc::shape_mismatch);
    CHECK(sf::mdspan_of<typename Kind::template columns<const float, int, any, any, any>>(
        view_of(values, long_shape)));
    CHECK(sf::mdspan_of<typename Kind::template columns<const float, int, any, any, any>>(
        view_of(values, one_column)));

    const std::vector<std::byte> many(300);
    const extents beyond{300};
    const auto view = sf::tensor_view::of(sf::dtype::u8, beyond, many);
    const auto made =
        sf::mdspan_of<typename Kind::template rows<const std::uint8_t, std::int8_t, any>>(*view);
    REQUIRE_FALSE(made);
    CHECK(made.error().code == sf::errc::size_overflow);
    CHECK(made.error().actual == 300);

    // Each extent fits the index type, but the number of elements does not: strides would overflow.
    const extents square{20, 15};
    const auto flat = sf::tensor_view::of(sf::dtype::u8, square, many);
    const auto wrapped =
        sf::mdspan_of<typename Kind::template rows<const std::uint8_t, std::int8_t, any, any>>(
            *flat);
    REQUIRE_FALSE(wrapped);
    CHECK(wrapped.error().code == sf::errc::size_overflow);
    CHECK(wrapped.error().actual == 300);
    CHECK(sf::mdspan_of<typename Kind::template rows<const std::uint8_t, std::int16_t, any, any>>(
        *flat));
}

TEST_CASE_TEMPLATE("mdspan: tensors without elements and of one axis work" *
                       doctest::skip(is_big_endian),
                   Kind, stand_in, standard, reference) {
    const std::vector<float> none;
    const extents shape{3, 0};
    const auto made = sf::mdspan_of<
        typename Kind::template rows<const float, std::size_t, Kind::dynamic, Kind::dynamic>>(
        view_of(none, shape));
    REQUIRE(made);
    CHECK(made->extent(0) == 3);
    CHECK(made->extent(1) == 0);
    // The product of the other extents exceeds 64 bits: no stride may be computed from it.
    const extents huge{0, std::uint64_t{1} << 40, std::uint64_t{1} << 40};
    const auto of_huge =
        sf::mdspan_of<typename Kind::template rows<const float, std::int64_t, Kind::dynamic,
                                                   Kind::dynamic, Kind::dynamic>>(
            view_of(none, huge));
    REQUIRE(of_huge);
    CHECK(of_huge->extent(0) == 0);
    CHECK(of_huge->extent(2) == std::int64_t{1} << 40);
    const auto never_made =
        sf::mdspan_of<typename Kind::template rows<const bool, int>>(sf::tensor_view{});
    REQUIRE_FALSE(never_made);
    CHECK(never_made.error().code == sf::errc::wrong_buffer_size);
}

TEST_CASE_TEMPLATE("mdspan: experts are fused into an mdspan, and from several" *
                       doctest::skip(is_big_endian),
                   Kind, stand_in, standard, reference) {
    constexpr std::size_t any = Kind::dynamic;
    using matrix = typename Kind::template rows<float, int, any, any>;
    using cube = typename Kind::template rows<float, int, any, any, any>;
    static_assert(sf::writable_tensor<matrix>);
    static_assert(!sf::writable_tensor<typename Kind::template rows<const float, int, any, any>>);

    std::vector<std::vector<float>> storage;
    std::vector<std::string> names;
    std::vector<float> expected;
    for (int expert = 0; expert < 2; ++expert)
        for (const std::string part : {"gate_proj", "up_proj", "down_proj"}) {
            names.push_back("mlp.experts." + std::to_string(expert) + "." + part + ".weight");
            storage.push_back(counting(6));
            for (float& value : storage.back()) value += static_cast<float>(100 * names.size());
            if (part != "down_proj")
                expected.insert(expected.end(), storage.back().begin(), storage.back().end());
        }
    const std::uint64_t wide[]{3, 2}, tall[]{2, 3};
    std::vector<sf::named_tensor> named;
    for (std::size_t i = 0; i < names.size(); ++i) {
        const bool is_down = i % 3 == 2;
        matrix values{storage[i].data(),
                      typename matrix::extents_type{std::array{is_down ? 2 : 3, is_down ? 3 : 2}}};
        const auto view = sf::view_of(values, is_down ? tall : wide);
        REQUIRE(view);
        named.push_back({names[i], *view});
    }
    const sf::tensor_list set{named};
    const auto plan = sf::plan<sf::families::qwen2_moe>(set, "mlp.experts");
    REQUIRE(plan);
    std::vector<float> fused(24);
    cube into{fused.data(), typename cube::extents_type{std::array{2, 6, 2}}};
    REQUIRE(sf::fuse(*plan, "gate_up_proj", into));
    CHECK(fused == expected);

    cube other{fused.data(), typename cube::extents_type{std::array{2, 2, 6}}};
    CHECK(sf::fuse(*plan, "gate_up_proj", other).error().code == sf::errc::shape_mismatch);
    using columns = typename Kind::template columns<float, int, any, any, any>;
    columns reversed{fused.data(), typename columns::extents_type{std::array{2, 6, 2}}};
    CHECK(sf::fuse(*plan, "gate_up_proj", reversed).error().code == sf::errc::wrong_buffer_size);
}

TEST_CASE("mdspan: every dtype that has a C++ type gives an mdspan, the others do not compile" *
          doctest::skip(is_big_endian)) {
    std::size_t count = 0;
    const auto check = [&]<class T>(T) {
        const extents shape{2, 2};
        const std::vector<std::byte> bytes(4 * sizeof(T));
        std::vector<T> values(4);
        const auto view =
            sf::tensor_view::of(sf::dtype_of<T>, shape,
                                {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()});
        CHECK(sf::mdspan_of<stand_in::rows<const T, int, 2, 2>>(*view));
        ++count;
    };
    check(std::uint8_t{}), check(std::int8_t{}), check(std::int16_t{}), check(std::uint16_t{}),
        check(std::int32_t{}), check(std::uint32_t{});
    check(float{}), check(double{}), check(std::int64_t{}), check(std::uint64_t{});
    CHECK(count == 10);
    struct bf16 {};
    static_assert(!sf::mdspan_type<stand_in::rows<const bf16, int, 2, 2>>);
    static_assert(sf::mdspan_type<stand_in::rows<const bool, int, 2, 2>>);
}

TEST_CASE("mdspan: bytes work on every machine, wider elements only on little-endian machines") {
    const std::vector<std::byte> bytes(24);
    const extents shape{2, 12}, wide{2, 3};
    CHECK(sf::mdspan_of<stand_in::rows<const std::uint8_t, int, 2, 12>>(
        *sf::tensor_view::of(sf::dtype::u8, shape, bytes)));
    const auto values = sf::mdspan_of<stand_in::rows<const float, int, 2, 3>>(
        *sf::tensor_view::of(sf::dtype::f32, wide, bytes));
    REQUIRE(values.has_value() == !is_big_endian);
    if (is_big_endian) CHECK(values.error().code == sf::errc::byte_order);
}
