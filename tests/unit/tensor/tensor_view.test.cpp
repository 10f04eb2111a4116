#include <safefuse/tensor/tensor_view.hpp>

#include <bit>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include <doctest/doctest.h>

namespace sf = safefuse;

namespace {

using extents = std::vector<std::uint64_t>;

std::vector<std::byte> counting(std::size_t count) {
    std::vector<std::byte> bytes(count);
    for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 7 + 1);
    return bytes;
}

sf::errc refusal(sf::dtype type, const extents& shape, std::size_t size_bytes) {
    const std::vector<std::byte> bytes(size_bytes);
    const auto view = sf::tensor_view::of(type, shape, bytes);
    REQUIRE_FALSE(view);
    return view.error().code;
}

}  // namespace

TEST_CASE("tensor_view: dtype, shape and bytes must fit each other") {
    const auto bytes = counting(24);
    const extents shape{1, 2, 3};
    const auto view = sf::tensor_view::of(sf::dtype::f32, shape, bytes);
    REQUIRE(view);
    CHECK(view->type() == sf::dtype::f32);
    CHECK(view->rank() == 3);
    CHECK(view->shape().data() == shape.data());
    CHECK(view->bytes().data() == bytes.data());
    CHECK(view->size_bytes() == 24);
    CHECK(view->element_count() == 6);
    const auto wrong = sf::tensor_view::of(sf::dtype::f32, shape, std::span{bytes}.first(20));
    REQUIRE_FALSE(wrong);
    CHECK(wrong.error().code == sf::errc::wrong_buffer_size);
    CHECK(wrong.error().expected == 24);
    CHECK(wrong.error().actual == 20);
}

TEST_CASE("tensor_view: sizes that overflow or end inside a byte are refused") {
    CHECK(refusal(sf::dtype::f32, {std::uint64_t{1} << 62, 4}, 0) ==
          sf::errc::size_overflow);  // the reference accepts this
    CHECK(refusal(sf::dtype::f4, {1, 3}, 2) == sf::errc::partial_byte);
    CHECK(refusal(sf::dtype::f4, {1, 2}, 2) == sf::errc::wrong_buffer_size);
    CHECK(refusal(sf::dtype::f6_e3m2, {2}, 2) == sf::errc::partial_byte);
}

TEST_CASE(
    "tensor_view: scalars, empty tensors and elements of less than a byte have the right sizes") {
    const auto bytes = counting(12);
    CHECK(sf::tensor_view::of(sf::dtype::i32, {}, std::span{bytes}.first(4))->element_count() == 1);
    const extents empty{2, 0}, eight{8}, sixteen{2, 8};
    CHECK(sf::tensor_view::of(sf::dtype::i32, empty, {})->element_count() == 0);
    CHECK(sf::tensor_view::of(sf::dtype::f4, eight, std::span{bytes}.first(4))->element_count() ==
          8);
    CHECK(sf::tensor_view::of(sf::dtype::f6_e2m3, sixteen, bytes)->element_count() == 16);
    const sf::tensor_view none;
    CHECK(none.size_bytes() == 0);
}

TEST_CASE(
    "tensor_view: as gives values without a copy where dtype, alignment and byte order allow it") {
    alignas(8) std::byte storage[25]{};
    const float values[] = {1.5f, -2.0f, 0.0f, 3.25f, 1e30f, -0.0f};
    std::memcpy(storage, values, sizeof values);
    const extents shape{2, 3};
    const auto view =
        sf::tensor_view::of(sf::dtype::f32, shape, std::span<const std::byte>{storage, 24});
    REQUIRE(view);
    if constexpr (std::endian::native == std::endian::little) {
        const auto typed = view->as<float>();
        REQUIRE(typed);
        CHECK(static_cast<const void*>(typed->data()) == storage);
        REQUIRE(typed->size() == 6);
        CHECK((*typed)[3] == 3.25f);
    } else {
        CHECK(view->as<float>().error().code == sf::errc::byte_order);
    }
    const auto wrong = view->as<std::int32_t>();
    REQUIRE_FALSE(wrong);
    CHECK(wrong.error().code == sf::errc::wrong_dtype);
    CHECK(wrong.error().detail == "it is F32, not I32");

    std::memmove(storage + 1, storage, 24);
    const auto moved =
        sf::tensor_view::of(sf::dtype::f32, shape, std::span<const std::byte>{storage + 1, 24});
    REQUIRE(moved);
    const auto refused = moved->as<float>();
    REQUIRE_FALSE(refused);
    if constexpr (std::endian::native == std::endian::little) {
        CHECK(refused.error().code == sf::errc::misaligned);
        CHECK(refused.error().expected == alignof(float));
        float copied[6]{};
        REQUIRE(moved->copy_values(sf::span{copied}));
        for (std::size_t i = 0; i < 6; ++i) CHECK(copied[i] == values[i]);
    }
}

TEST_CASE("tensor_view: every C++ type that has a dtype reads its values") {
    const auto check = [](auto value) {
        using T = decltype(value);
        // Written as in the file: little-endian.
        std::byte bytes[2 * sizeof(T)]{};
        for (std::size_t i = 0; i < 2; ++i) {
            std::memcpy(bytes + i * sizeof(T), &value, sizeof(T));
            if constexpr (std::endian::native != std::endian::little)
                for (std::size_t low = 0; low < sizeof(T) / 2; ++low)
                    std::swap(bytes[i * sizeof(T) + low], bytes[(i + 1) * sizeof(T) - 1 - low]);
        }
        const extents shape{2};
        const auto view = sf::tensor_view::of(sf::dtype_of<T>, shape, bytes);
        REQUIRE(view);
        T copied[2]{};
        REQUIRE(view->template copy_values<T>(copied));
        CHECK(copied[0] == value);
        CHECK(copied[1] == value);
        T one[1]{};
        const auto refused = view->template copy_values<T>(one);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == sf::errc::wrong_buffer_size);
        CHECK(refused.error().expected == 2);
    };
    check(true);
    check(std::uint8_t{200});
    check(std::int8_t{-100});
    check(std::uint16_t{60'000});
    check(std::int16_t{-30'000});
    check(std::uint32_t{4'000'000'000});
    check(std::int32_t{-2'000'000'000});
    check(std::uint64_t{0xFEDCBA9876543210});
    check(std::int64_t{-0x123456789ABCDEF0});
    check(1.25e-30f);
    check(-7.5e200);
}

TEST_CASE("tensor_view: copy_to copies all bytes or none") {
    const auto bytes = counting(6);
    const extents shape{6};
    const auto view = sf::tensor_view::of(sf::dtype::u8, shape, bytes);
    REQUIRE(view);
    std::vector<std::byte> out(6);
    REQUIRE(view->copy_to(out));
    CHECK(out == bytes);
    std::vector<std::byte> small(5);
    CHECK(view->copy_to(small).error().code == sf::errc::wrong_buffer_size);
    CHECK(small == std::vector<std::byte>(5));
    CHECK(sf::tensor_view{}.copy_to({}));
}

TEST_CASE("tensor_view: copy_slice equals a gather byte by byte, for random shapes and ranges") {
    std::mt19937 random{99};
    const auto up_to = [&](std::uint64_t last) {
        return std::uniform_int_distribution<std::uint64_t>{0, last}(random);
    };
    for (int round = 0; round < 3'000; ++round) {
        const sf::dtype types[] = {sf::dtype::u8, sf::dtype::bf16, sf::dtype::f32, sf::dtype::i64};
        const sf::dtype type = types[up_to(3)];
        const std::size_t each = static_cast<std::size_t>(sf::bits(type) / 8);
        extents shape(up_to(4));
        std::size_t size_bytes = each;
        for (std::uint64_t& extent : shape)
            size_bytes *= static_cast<std::size_t>(extent = up_to(5));
        const auto bytes = counting(size_bytes);
        std::vector<sf::axis_range> kept(shape.size());
        extents elements{0};
        for (std::size_t axis = 0; axis < shape.size(); ++axis) {
            const std::uint64_t begin = up_to(shape[axis]),
                                end = begin + up_to(shape[axis] - begin);
            kept[axis] = sf::range(begin, end);
            extents longer;
            for (const std::uint64_t element : elements)
                for (std::uint64_t i = begin; i < end; ++i)
                    longer.push_back(element * shape[axis] + i);
            elements = longer;
        }
        std::vector<std::byte> expected;
        for (const std::uint64_t element : elements)
            for (std::size_t i = 0; i < each; ++i)
                expected.push_back(bytes[static_cast<std::size_t>(element) * each + i]);

        const auto view = sf::tensor_view::of(type, shape, bytes);
        REQUIRE(view);
        const auto runs = sf::slice_runs::of(type, shape, kept);
        REQUIRE(runs);
        std::vector<std::byte> out(expected.size());
        REQUIRE(view->copy_slice(*runs, out));
        CHECK(out == expected);
        out.push_back({});
        CHECK(view->copy_slice(*runs, out).error().code == sf::errc::wrong_buffer_size);
        const auto part = view->slice(*runs);
        CHECK(part.has_value() == runs->is_contiguous());
        if (part)
            CHECK(std::vector<std::byte>(part->bytes().begin(), part->bytes().end()) == expected);
        else
            CHECK(part.error().code == sf::errc::not_resident);
    }
}

TEST_CASE("tensor_view: runs of a larger tensor are refused, not read") {
    const extents large{8}, small{4};
    const auto bytes = counting(4);
    const auto view = sf::tensor_view::of(sf::dtype::u8, small, bytes);
    REQUIRE(view);
    const sf::axis_range kept[] = {sf::range(3, 6)};
    const auto runs = sf::slice_runs::of(sf::dtype::u8, large, kept);
    REQUIRE(runs);
    std::vector<std::byte> out(3);
    CHECK(view->copy_slice(*runs, out).error().code == sf::errc::out_of_range);
    CHECK(view->slice(*runs).error().code == sf::errc::out_of_range);
}

TEST_CASE(
    "tensor_view: runs of a tensor with another dtype give no view whose shape and bytes "
    "disagree") {
    const extents shape{2, 4};
    const auto bytes = counting(32);
    const auto view = sf::tensor_view::of(sf::dtype::f32, shape, bytes);
    REQUIRE(view);
    const sf::axis_range kept[] = {sf::range(0, 1)};
    const auto runs = sf::slice_runs::of(sf::dtype::u8, shape, kept);
    REQUIRE(runs);
    const auto part = view->slice(*runs);
    REQUIRE_FALSE(part);
    CHECK(part.error().code == sf::errc::wrong_buffer_size);
    CHECK(part.error().expected == 16);
    CHECK(part.error().actual == 4);
}

TEST_CASE("tensor_view: expert gives an entry of the first axis, and expert_of its index back") {
    const extents shape{4, 2, 3};
    const auto bytes = counting(48);
    const auto view = sf::tensor_view::of(sf::dtype::bf16, shape, bytes);
    REQUIRE(view);
    for (std::uint64_t e = 0; e < 4; ++e) {
        const auto one = view->expert(e);
        REQUIRE(one);
        CHECK(one->size_bytes() == 12);
        CHECK(extents(one->shape().begin(), one->shape().end()) == extents{2, 3});
        CHECK(one->bytes().data() == bytes.data() + e * 12);
        CHECK(view->expert_of(one->bytes().data()).value() == e);
        CHECK(view->expert_of(one->bytes().data() + 11).value() == e);
    }
    const auto beyond = view->expert(4);
    REQUIRE_FALSE(beyond);
    CHECK(beyond.error().code == sf::errc::out_of_range);
    CHECK(beyond.error().expected == 4);
    CHECK(beyond.error().actual == 4);
    CHECK(view->expert_of(bytes.data() + 48).error().code == sf::errc::out_of_range);
    CHECK(
        sf::tensor_view::of(sf::dtype::u8, {}, std::span{bytes}.first(1))->expert(0).error().code ==
        sf::errc::out_of_range);
    const extents odd{4, 3}, even{4, 2}, empty{4, 0};
    CHECK(sf::tensor_view::of(sf::dtype::f4, odd, std::span{bytes}.first(6))
              ->expert(1)
              .error()
              .code == sf::errc::slice_cuts_byte);
    CHECK(sf::tensor_view::of(sf::dtype::f4, even, std::span{bytes}.first(4))
              ->expert(3)
              ->bytes()
              .data() == bytes.data() + 3);
    CHECK(sf::tensor_view::of(sf::dtype::f32, empty, {})->expert(3)->size_bytes() == 0);
    const extents halves{4};  // an entry is half a byte, so one address belongs to two entries
    const auto of_halves = sf::tensor_view::of(sf::dtype::f4, halves, std::span{bytes}.first(2));
    CHECK(of_halves->expert_of(bytes.data()).error().code == sf::errc::slice_cuts_byte);
    CHECK(sf::tensor_view::of(sf::dtype::f4, odd, std::span{bytes}.first(6))
              ->expert_of(bytes.data())
              .error()
              .code == sf::errc::slice_cuts_byte);
    CHECK(sf::tensor_view::of(sf::dtype::f4, even, std::span{bytes}.first(4))
              ->expert_of(bytes.data() + 3)
              .value() == 3);
}
