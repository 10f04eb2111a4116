#include <eigen.hpp>
#include <named_tensors.hpp>

#include <cstring>
#include <map>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include "experts.hpp"

namespace sf = safefuse;

namespace {

template <class T>
using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T, int Rank>
using tensor = Eigen::Tensor<T, Rank, Eigen::RowMajor>;

// The experts' maps, fused by Eigen itself.
template <class T>
tensor<T, 3> fused_by_eigen(const sf::checkpoint& checkpoint) {
    using namespace experts;
    tensor<T, 3> fused(count, 2 * intermediate, hidden);
    for (int e = 0; e < count; ++e) {
        const auto gate_view = checkpoint.find(name(e, "gate")),
                   up_view = checkpoint.find(name(e, "up"));
        REQUIRE(gate_view);
        REQUIRE(up_view);
        const auto gate = adapt::eigen_tensor<T, 2>(*gate_view),
                   up = adapt::eigen_tensor<T, 2>(*up_view);
        REQUIRE(gate);
        REQUIRE(up);
        fused.template chip<0>(e) = gate->concatenate(*up, 0);
    }
    return fused;
}

template <class A, class B>
bool same_bytes(const A& a, const B& b) {
    return a.size() == b.size() &&
           std::memcmp(a.data(), b.data(),
                       static_cast<std::size_t>(a.size()) * sizeof(*a.data())) == 0;
}

}  // namespace

static_assert(sf::writable_tensor<matrix<float>> &&
              sf::writable_tensor<tensor<Eigen::bfloat16, 3>>);
static_assert(sf::writable_tensor<Eigen::Map<matrix<float>>> &&
              !sf::writable_tensor<Eigen::MatrixXf>);  // the latter's columns are contiguous

TEST_CASE_TEMPLATE("eigen: fusing gives what Eigen concatenates itself", T, float, double,
                   Eigen::bfloat16) {
    const support::temporary_directory directory;
    experts::write(directory, sf::dtype_of<T>);
    const auto checkpoint = sf::checkpoint::open(directory.string());
    REQUIRE(checkpoint);
    const auto plan = sf::plan<sf::families::qwen2_moe>(*checkpoint, experts::scope);
    REQUIRE(plan);
    tensor<T, 3> gate_up(experts::count, 2 * experts::intermediate, experts::hidden);
    REQUIRE(sf::fuse(*plan, "gate_up_proj", gate_up));
    CHECK(same_bytes(gate_up, fused_by_eigen<T>(*checkpoint)));

    tensor<T, 3> other(experts::count, experts::hidden, 2 * experts::intermediate);
    CHECK(sf::fuse(*plan, "gate_up_proj", other).error().code == sf::errc::shape_mismatch);
    tensor<std::uint16_t, 3> of_other_type(experts::count, 2 * experts::intermediate,
                                           experts::hidden);
    CHECK(sf::fuse(*plan, "gate_up_proj", of_other_type).error().code == sf::errc::dtype_mismatch);
}

TEST_CASE("eigen: plans are made from matrices, and one expert's matrix comes back") {
    const support::temporary_directory directory;
    experts::write(directory, sf::dtype::f32);
    const auto checkpoint = sf::checkpoint::open(directory.string());
    REQUIRE(checkpoint);
    std::map<std::string, matrix<float>> matrices;
    for (int e = 0; e < experts::count; ++e)
        for (const char* part : {"gate", "up", "down"}) {
            const auto view = checkpoint->find(experts::name(e, part));
            REQUIRE(view);
            const auto mapped = adapt::eigen_matrix<float>(*view);
            REQUIRE(mapped);
            CHECK(reinterpret_cast<const std::byte*>(mapped->data()) == view->bytes().data());
            matrices.emplace(experts::name(e, part), *mapped);
        }
    const auto named = adapt::named_tensors::of(matrices);
    REQUIRE(named);
    const auto set = named->list();
    const auto plan = sf::plan<sf::families::qwen2_moe>(set, experts::scope);
    REQUIRE(plan);
    tensor<float, 3> gate_up(experts::count, 2 * experts::intermediate, experts::hidden);
    REQUIRE(sf::fuse(*plan, "gate_up_proj", gate_up));
    CHECK(same_bytes(gate_up, fused_by_eigen<float>(*checkpoint)));

    // Unfuses into a map of the caller's memory.
    std::map<std::string, tensor<float, 3>> fused;
    fused.emplace(std::string{experts::scope} + ".gate_up_proj", gate_up);
    tensor<float, 3>& down = fused[std::string{experts::scope} + ".down_proj"];
    down = tensor<float, 3>(experts::count, experts::hidden, experts::intermediate);
    REQUIRE(sf::fuse(*plan, "down_proj", down));
    const auto fused_named = adapt::named_tensors::of(fused);
    REQUIRE(fused_named);
    const auto fused_set = fused_named->list();
    const auto back =
        sf::plan<sf::families::qwen2_moe>(fused_set, experts::scope, sf::direction::inverse);
    REQUIRE(back);
    std::vector<float> memory(experts::intermediate * experts::hidden);
    Eigen::Map<matrix<float>> up{memory.data(), experts::intermediate, experts::hidden};
    REQUIRE(sf::fuse(*back, "2.up_proj.weight", up));
    CHECK(up == matrices.at(experts::name(2, "up")));
}

TEST_CASE("eigen: 14 of the 22 dtypes have a type, by name, and a map of each has the same bytes") {
    std::size_t count = 0;
    const auto check = [&]<class T>(std::string_view name, T) {
        CAPTURE(name);
        sf::dtype type{};
        REQUIRE(sf::parse_dtype(name, type));
        CHECK(sf::dtype_of<T> == type);
        const experts::sample sample{type};
        const auto mapped = adapt::eigen_matrix<T>(sample.view);
        REQUIRE(mapped);
        CHECK(reinterpret_cast<const std::byte*>(mapped->data()) == sample.bytes.data());
        matrix<T> copied = *mapped;
        CHECK(sf::tensor_traits<matrix<T>>::type(copied) == type);
        const auto bytes = sf::tensor_traits<matrix<T>>::bytes(copied);
        CHECK(std::vector<std::byte>(bytes.begin(), bytes.end()) == sample.bytes);
        for (std::size_t other = 0; other < sf::dtype_count; ++other)
            if (static_cast<sf::dtype>(other) != type)
                CHECK_FALSE(
                    adapt::eigen_matrix<T>(experts::sample{static_cast<sf::dtype>(other)}.view));
        ++count;
    };
    check("BOOL", bool{}), check("U8", std::uint8_t{}), check("I8", std::int8_t{}),
        check("I16", std::int16_t{}), check("U16", std::uint16_t{});
    check("F16", Eigen::half{}), check("BF16", Eigen::bfloat16{}), check("I32", std::int32_t{}),
        check("U32", std::uint32_t{}), check("F32", float{});
    check("C64", std::complex<float>{}), check("F64", double{}), check("I64", std::int64_t{}),
        check("U64", std::uint64_t{});
    CHECK(count == 14);  // F4, F6 and F8 have no Eigen type for eigen_matrix<T>
}

TEST_CASE("eigen: fusing into a map with gaps between its rows is refused") {
    std::vector<float> memory(64);
    using strided = Eigen::Map<matrix<float>, 0, Eigen::OuterStride<>>;
    strided gaps{memory.data(), 4, 6, Eigen::OuterStride<>{8}};
    CHECK(sf::tensor_traits<strided>::bytes(gaps).empty());
    strided none{memory.data(), 4, 6, Eigen::OuterStride<>{6}};
    CHECK(sf::tensor_traits<strided>::bytes(none).size() == 96);
}
