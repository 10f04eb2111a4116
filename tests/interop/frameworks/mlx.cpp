#include <mlx.hpp>
#include <named_tensors.hpp>

#include <cstring>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include <doctest/doctest.h>

#include "experts.hpp"

namespace sf = safefuse;
namespace mx = mlx::core;

namespace {

std::shared_ptr<const sf::checkpoint> open(const support::temporary_directory& directory) {
    auto checkpoint = sf::checkpoint::open(directory.string());
    REQUIRE(checkpoint);
    return std::make_shared<const sf::checkpoint>(std::move(*checkpoint));
}

mx::array array_at(const std::shared_ptr<const sf::checkpoint>& checkpoint,
                   const std::string& name) {
    const auto view = checkpoint->find(name);
    REQUIRE(view);
    auto array = adapt::mlx_array(*view, checkpoint);
    REQUIRE(array);
    return std::move(*array);
}

mx::array empty_array(mx::Shape shape, mx::Dtype type) {
    mx::array made = mx::contiguous(mx::zeros(std::move(shape), type));
    made.eval();
    return made;
}

bool same(const mx::array& a, const mx::array& b) {
    return a.shape() == b.shape() && mx::array_equal(a, b).item<bool>();
}

}  // namespace

TEST_CASE("mlx: fusing gives what MLX concatenates and stacks itself") {
    for (const auto type : {sf::dtype::f32, sf::dtype::bf16}) {
        CAPTURE(sf::name(type));
        const support::temporary_directory directory;
        experts::write(directory, type);
        const auto checkpoint = open(directory);
        mx::Dtype theirs = mx::bool_;
        REQUIRE(adapt::mlx_type_of(type, theirs));

        const auto plan = sf::plan<sf::families::qwen2_moe>(*checkpoint, experts::scope);
        REQUIRE(plan);
        mx::array gate_up =
            empty_array({experts::count, 2 * experts::intermediate, experts::hidden}, theirs);
        REQUIRE(sf::fuse(*plan, "gate_up_proj", gate_up));
        std::vector<mx::array> rows, downs;
        for (int e = 0; e < experts::count; ++e) {
            rows.push_back(mx::concatenate({array_at(checkpoint, experts::name(e, "gate")),
                                            array_at(checkpoint, experts::name(e, "up"))},
                                           0));
            downs.push_back(array_at(checkpoint, experts::name(e, "down")));
        }
        CHECK(same(gate_up, mx::stack(rows)));
        CHECK(mx::sum(mx::astype(gate_up, mx::int32)).item<int>() ==
              3 * (48 * 49 / 2) + 48 * 72 * (0 + 1 + 2));

        const auto switched =
            sf::plan<sf::layouts::per_expert, sf::engines::mlx>(*checkpoint, experts::scope);
        REQUIRE(switched);
        mx::array down =
            empty_array({experts::count, experts::hidden, experts::intermediate}, theirs);
        REQUIRE(sf::fuse(*switched, "switch_mlp.down_proj.weight", down));
        CHECK(same(down, mx::stack(downs)));

        mx::array other =
            empty_array({experts::count, experts::hidden, 2 * experts::intermediate}, theirs);
        CHECK(sf::fuse(*plan, "gate_up_proj", other).error().code == sf::errc::shape_mismatch);
        mx::array of_other_type =
            empty_array({experts::count, 2 * experts::intermediate, experts::hidden}, mx::int32);
        CHECK(sf::fuse(*plan, "gate_up_proj", of_other_type).error().code ==
              sf::errc::dtype_mismatch);
        mx::array lazy = mx::transpose(other, {0, 2, 1});
        CHECK(sf::fuse(*plan, "gate_up_proj", lazy).error().code == sf::errc::wrong_buffer_size);
        lazy.eval();
        CHECK(sf::fuse(*plan, "gate_up_proj", lazy).error().code == sf::errc::wrong_buffer_size);
    }
}

TEST_CASE("mlx: plans are made from a map of arrays, there and back") {
    const support::temporary_directory directory;
    experts::write(directory, sf::dtype::bf16);
    const auto checkpoint = open(directory);
    std::map<std::string, mx::array> fused;
    const auto plan = sf::plan<sf::families::qwen2_moe>(*checkpoint, experts::scope);
    REQUIRE(plan);
    for (const char* name : {"gate_up_proj", "down_proj"}) {
        const auto output = plan->output(name);
        REQUIRE(output);
        const auto shape = output->shape;
        mx::array made = empty_array(
            {static_cast<int>(shape[0]), static_cast<int>(shape[1]), static_cast<int>(shape[2])},
            mx::bfloat16);
        REQUIRE(sf::fuse(*plan, name, made));
        fused.emplace(std::string{experts::scope} + '.' + name, made);
    }
    const auto named = adapt::named_tensors::of(fused);
    REQUIRE(named);
    const auto set = named->list();
    const auto back =
        sf::plan<sf::families::qwen2_moe>(set, experts::scope, sf::direction::inverse);
    REQUIRE(back);
    for (int e = 0; e < experts::count; ++e)
        for (const char* part : {"gate", "up", "down"}) {
            const mx::array original = array_at(checkpoint, experts::name(e, part));
            mx::array again = empty_array(original.shape(), mx::bfloat16);
            REQUIRE(sf::fuse(*back, std::to_string(e) + '.' + part + "_proj.weight", again));
            CHECK(same(again, original));
        }
}

TEST_CASE("mlx: the mapping stays as long as the last array that shares it, and no longer") {
    const support::temporary_directory directory;
    experts::write(directory, sf::dtype::f32);
    std::weak_ptr<const sf::checkpoint> alive;
    {
        std::unique_ptr<mx::array> kept;
        {
            const auto checkpoint = open(directory);
            alive = checkpoint;
            const mx::array whole = array_at(checkpoint, experts::name(1, "up"));
            const bool is_shared = reinterpret_cast<const std::byte*>(whole.data<float>()) ==
                                   checkpoint->find(experts::name(1, "up"))->bytes().data();
            MESSAGE("MLX uses the mapping in place: " << is_shared);
            kept = std::make_unique<mx::array>(mx::slice(whole, {2, 1}, {3, 4}));
            CHECK((!is_shared || alive.use_count() > 1));
        }
        CHECK(kept->size() == 3);
        CHECK(mx::sum(*kept).item<float>() == 3 * (72 + 24 + 12) + 2 + 3 + 4);
    }
    mx::synchronize();
    CHECK(alive.expired());
}

TEST_CASE(
    "mlx: 14 of the 22 dtypes are known, by name, and an array of each has the same bytes; the "
    "others are refused") {
    const std::map<std::string_view, std::string_view> known{
        {"BOOL", "bool"},  {"U8", "uint8"},    {"I8", "int8"},       {"I16", "int16"},
        {"U16", "uint16"}, {"F16", "float16"}, {"BF16", "bfloat16"}, {"I32", "int32"},
        {"U32", "uint32"}, {"F32", "float32"}, {"C64", "complex64"}, {"F64", "float64"},
        {"I64", "int64"},  {"U64", "uint64"},
    };
    std::size_t count = 0;
    for (std::size_t i = 0; i < sf::dtype_count; ++i) {
        const experts::sample sample{static_cast<sf::dtype>(i)};
        const auto name = sf::name(sample.view.type());
        CAPTURE(name);
        auto array = adapt::mlx_array(sample.view, nullptr);
        REQUIRE(array.has_value() == known.contains(name));
        if (!array) {
            CHECK(array.error().code == sf::errc::unknown_dtype);
            continue;
        }
        ++count;
        std::ostringstream spelled;
        spelled << array->dtype();
        CHECK(spelled.str() == known.at(name));
        CHECK(sf::tensor_traits<mx::array>::type(*array) == sample.view.type());
        CHECK(sf::tensor_traits<mx::array>::shape(*array) == sample.extents);
        const auto bytes = sf::tensor_traits<mx::array>::bytes(*array);
        CHECK(std::vector<std::byte>(bytes.begin(), bytes.end()) == sample.bytes);
    }
    CHECK(count == 14);
}
