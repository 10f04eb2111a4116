#include <safefuse/tensor/slice.hpp>

#include <cstdint>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

namespace sf = safefuse;

namespace {

using extents = std::vector<std::uint64_t>;
using ranges = std::vector<sf::axis_range>;

sf::result<sf::slice_runs> slice(sf::dtype type, const extents& shape, const ranges& kept) {
    return sf::slice_runs::of(type, shape, kept);
}

sf::errc refusal(sf::dtype type, const extents& shape, const ranges& kept) {
    const auto runs = slice(type, shape, kept);
    REQUIRE_FALSE(runs);
    return runs.error().code;
}

extents shape_of(const sf::slice_runs& runs) { return {runs.shape().begin(), runs.shape().end()}; }

extents offsets_of(const sf::slice_runs& runs) {
    extents offsets;
    const auto done = runs.for_each_run([&](std::uint64_t offset) -> sf::result<void> {
        offsets.push_back(offset);
        return {};
    });
    REQUIRE(done);
    return offsets;
}

/// The row-major positions of a slice's elements, one by one.
extents elements_of(const extents& shape, const ranges& kept) {
    extents elements{0};
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        const sf::axis_range& range = axis < kept.size() ? kept[axis] : sf::all;
        const std::uint64_t end = range.drops_axis           ? range.begin + 1
                                  : range.end == sf::unknown ? shape[axis]
                                                             : range.end;
        extents longer;
        for (const std::uint64_t element : elements)
            for (std::uint64_t i = range.begin; i < end; i += range.step)
                longer.push_back(element * shape[axis] + i);
        elements = longer;
    }
    return elements;
}

sf::failure refused(sf::dtype type, const extents& shape, const ranges& kept) {
    const auto runs = slice(type, shape, kept);
    REQUIRE_FALSE(runs);
    return runs.error();
}

}  // namespace

TEST_CASE("slice: without ranges it is the whole tensor, in one run") {
    for (const ranges& kept :
         {ranges{}, ranges{sf::all}, ranges{sf::all, sf::all}, ranges{sf::all, sf::all, sf::all}}) {
        const auto runs = slice(sf::dtype::f32, {1, 2, 3}, kept);
        REQUIRE(runs);
        CHECK(runs->run_count() == 1);
        CHECK(runs->size_bytes() == 24);
        CHECK(runs->is_contiguous());
        CHECK(shape_of(*runs) == extents{1, 2, 3});
    }
}

TEST_CASE("slice: the reference's examples") {
    {
        const auto runs = slice(sf::dtype::f32, {1, 2, 3}, {sf::all, sf::range(0, 1)});
        REQUIRE(runs);
        CHECK(shape_of(*runs) == extents{1, 1, 3});
        CHECK(offsets_of(*runs) == extents{0});
        CHECK(runs->run_bytes() == 12);
    }
    {
        const auto runs = slice(sf::dtype::f32, {1, 2, 3}, {sf::all, sf::all, sf::range(0, 1)});
        REQUIRE(runs);
        CHECK(shape_of(*runs) == extents{1, 2, 1});
        CHECK(offsets_of(*runs) == extents{0, 12});
        CHECK(runs->run_bytes() == 4);
    }
    {
        const auto runs = slice(sf::dtype::f32, {2, 3}, {sf::all, sf::range(1, 3)});
        REQUIRE(runs);
        CHECK(offsets_of(*runs) == extents{4, 16});
        CHECK(runs->run_bytes() == 8);
        CHECK_FALSE(runs->is_contiguous());
    }
    {
        const auto runs = slice(sf::dtype::f32, {3, 2, 2}, {sf::at(1), sf::range(1, sf::unknown)});
        REQUIRE(runs);
        CHECK(shape_of(*runs) == extents{1, 2});
        CHECK(offsets_of(*runs) == extents{24});
    }
    {
        const auto runs = slice(sf::dtype::f32, {2, 3}, {sf::at(1), sf::at(2)});
        REQUIRE(runs);
        CHECK(shape_of(*runs).empty());
        CHECK(offsets_of(*runs) == extents{20});
        CHECK(runs->size_bytes() == 4);
    }
}

TEST_CASE("slice: a range outside of the tensor is refused with the axis's extent") {
    const auto beyond = slice(sf::dtype::f32, {2, 3}, {sf::range(1, 4)});
    REQUIRE_FALSE(beyond);
    CHECK(beyond.error().code == sf::errc::out_of_range);
    CHECK(beyond.error().expected == 2);
    CHECK(beyond.error().actual == 4);
    CHECK(refusal(sf::dtype::f32, {2, 3}, {sf::range(3, 3)}) == sf::errc::out_of_range);
    CHECK(refusal(sf::dtype::f32, {2, 3}, {sf::range(3, sf::unknown)}) == sf::errc::out_of_range);
    CHECK(refusal(sf::dtype::f32, {2, 3}, {sf::at(2)}) == sf::errc::out_of_range);
    CHECK(refusal(sf::dtype::f32, {2, 3}, {sf::at(sf::unknown)}) == sf::errc::out_of_range);
    CHECK(refusal(sf::dtype::f32, {2, 3}, {sf::range(0, sf::unknown - 1)}) ==
          sf::errc::out_of_range);
    CHECK(refusal(sf::dtype::f32, {0}, {sf::at(0)}) == sf::errc::out_of_range);
    const auto many = slice(sf::dtype::f32, {2, 3}, {sf::all, sf::all, sf::all});
    REQUIRE_FALSE(many);
    CHECK(many.error().code == sf::errc::too_many_indices);
    CHECK(many.error().expected == 2);
    CHECK(many.error().actual == 3);
    CHECK(refusal(sf::dtype::f32, {}, {sf::all}) == sf::errc::too_many_indices);
}

TEST_CASE("slice: a range that ends before it begins is refused, where the reference panics") {
    CHECK(refusal(sf::dtype::f32, {4}, {sf::range(2, 1)}) == sf::errc::out_of_range);
    CHECK(refusal(sf::dtype::f32, {0, 4}, {sf::all, sf::range(2, 1)}) == sf::errc::out_of_range);
}

TEST_CASE("slice: a failure names the axis, and says what does not fit") {
    struct row {
        ranges kept;
        std::uint64_t axis, expected, actual;
        std::string_view message;
    };
    const row rows[] = {
        {{sf::at(64)}, 0, 64, 64, "index 64 is out of range of axis 0, which has 64 entries"},
        {{sf::all, sf::at(1)}, 1, 1, 1, "index 1 is out of range of axis 1, which has 1 entry"},
        {{sf::range(3, 1)}, 0, 1, 3, "begin 3 is after end 1 of the range of axis 0"},
        {{sf::all, sf::all, sf::range(2, 4)},
         2,
         3,
         4,
         "end 4 is out of range of axis 2, which has 3 entries"},
        {{sf::all, sf::all, sf::range(4, sf::to_end)},
         2,
         3,
         4,
         "begin 4 is out of range of axis 2, which has 3 entries"},
        {{sf::all, sf::all, sf::range(0, 3, 0)}, 2, sf::unknown, 0, "the step along axis 2 is 0"},
        {{sf::range(5, 2'000'000)},
         0,
         64,
         2'000'000,
         "end 2,000,000 is out of range of axis 0, which has 64 entries"},
    };
    for (const row& each : rows) {
        const sf::failure why = refused(sf::dtype::f32, {64, 1, 3}, each.kept);
        CHECK(why.code == sf::errc::out_of_range);
        CHECK(why.axis == each.axis);
        CHECK(why.expected == each.expected);
        CHECK(why.actual == each.actual);
        CHECK(why.message() == each.message);
    }
    const auto cut = [](const extents& shape, const ranges& kept) {
        const sf::failure why = refused(sf::dtype::f4, shape, kept);
        CHECK(why.code == sf::errc::slice_cuts_byte);
        return why.axis;
    };
    CHECK(cut({4, 3}, {sf::range(1, 3)}) == 0);
    CHECK(cut({4, 3}, {sf::range(0, 3)}) == 0);
    CHECK(cut({2, 4}, {sf::all, sf::range(1, 3)}) == 1);
    CHECK(cut({2, 4}, {sf::all, sf::range(0, 3)}) == 1);
    CHECK(cut({2, 4}, {sf::all, sf::range(0, 4, 2)}) == 1);
    CHECK(cut({4, 3}, {sf::range(0, 4, 3)}) == 0);
    CHECK(refused(sf::dtype::f4, {2, 4}, {sf::all, sf::at(1)}).message() ==
          "the slice begins or ends inside a byte, axis 1");
}

TEST_CASE("slice: a step keeps every step-th index, as Narrow of the reference's 0.8 does") {
    {
        const auto runs = slice(sf::dtype::u8, {8}, {sf::range(1, 8, 3)});
        REQUIRE(runs);
        CHECK(shape_of(*runs) == extents{3});
        CHECK(offsets_of(*runs) == extents{1, 4, 7});
        CHECK_FALSE(runs->is_contiguous());
    }
    {  // the end needs not be met
        const auto runs = slice(sf::dtype::u8, {8}, {sf::range(1, 7, 3)});
        REQUIRE(runs);
        CHECK(offsets_of(*runs) == extents{1, 4});
    }
    {
        const auto runs = slice(sf::dtype::f32, {4, 2, 3}, {sf::range(0, sf::to_end, 2)});
        REQUIRE(runs);
        CHECK(shape_of(*runs) == extents{2, 2, 3});
        CHECK(runs->run_bytes() == 24);
        CHECK(offsets_of(*runs) == extents{0, 48});
    }
    {
        const auto runs =
            slice(sf::dtype::u8, {4, 6}, {sf::range(1, 4, 2), sf::range(0, sf::to_end, 4)});
        REQUIRE(runs);
        CHECK(shape_of(*runs) == extents{2, 2});
        CHECK(offsets_of(*runs) == extents{6, 10, 18, 22});
    }
    {  // a step beyond the range keeps its first index
        const auto runs = slice(sf::dtype::u8, {8}, {sf::range(2, 8, sf::unknown)});
        REQUIRE(runs);
        CHECK(shape_of(*runs) == extents{1});
        CHECK(offsets_of(*runs) == extents{2});
        CHECK(runs->is_contiguous());
    }
    // Of an empty range the reference's 0.8.0 returns the whole tensor.
    const auto none = slice(sf::dtype::u8, {8}, {sf::range(0, 0, 2)});
    REQUIRE(none);
    CHECK(shape_of(*none) == extents{0});
    CHECK(none->size_bytes() == 0);
    CHECK(refusal(sf::dtype::u8, {8}, {sf::range(0, 9, 2)}) == sf::errc::out_of_range);
}

TEST_CASE("slice: for random steps it covers the same elements as a gather one by one") {
    std::mt19937 random{271828};
    const auto up_to = [&](std::uint64_t last) {
        return std::uniform_int_distribution<std::uint64_t>{0, last}(random);
    };
    std::size_t compared = 0, stepped = 0;
    for (int round = 0; round < 5'000; ++round) {
        const sf::dtype types[]{sf::dtype::u8, sf::dtype::bf16, sf::dtype::f4};
        const sf::dtype type = types[up_to(2)];
        extents shape(1 + up_to(3));
        for (std::uint64_t& extent : shape) extent = 1 + up_to(6);
        if (type == sf::dtype::f4) shape.back() *= 2;
        ranges kept(shape.size());
        for (std::size_t axis = 0; axis < kept.size(); ++axis) {
            const std::uint64_t begin = up_to(shape[axis]);
            kept[axis] = sf::range(begin, begin + up_to(shape[axis] - begin), 1 + up_to(3));
            if (up_to(2) == 0) kept[axis] = sf::all;
        }
        const auto runs = slice(type, shape, kept);
        if (!runs) {
            REQUIRE(type == sf::dtype::f4);
            REQUIRE(runs.error().code == sf::errc::slice_cuts_byte);
            CHECK(runs.error().axis < shape.size());
            continue;
        }
        ++compared;
        for (const sf::axis_range& each : kept) stepped += each.step > 1 ? 1u : 0u;
        // half bytes, the smallest units that occur
        extents expected, actual;
        for (const std::uint64_t element : elements_of(shape, kept))
            for (std::uint64_t half = 0; half < sf::bits(type) / 4; ++half)
                expected.push_back(element * (sf::bits(type) / 4) + half);
        for (const std::uint64_t offset : offsets_of(*runs))
            for (std::uint64_t half = 0; half < runs->run_bytes() * 2; ++half)
                actual.push_back(offset * 2 + half);
        REQUIRE(actual == expected);
        std::uint64_t slice_bytes = 0;
        REQUIRE(sf::tensor_size(type, runs->shape(), slice_bytes) == sf::size_verdict::fits);
        REQUIRE(runs->size_bytes() == slice_bytes);

        // Runs in groups: no gap within one exceeds the limit, and those between two do.
        const std::uint64_t most_gap = up_to(12);
        const auto group = runs->grouped(most_gap);
        const extents offsets = offsets_of(*runs);
        REQUIRE((offsets.empty() ? group.run_count == 0 : offsets.size() % group.run_count == 0));
        for (std::size_t i = 0; i < offsets.size(); ++i) {
            const std::uint64_t end = offsets[i] + runs->run_bytes();
            const bool is_last = i % group.run_count + 1 == group.run_count;
            if (is_last)
                REQUIRE(end - offsets[i + 1 - group.run_count] == group.span_bytes);
            else
                REQUIRE(offsets[i + 1] - end <= most_gap);
        }
    }
    CHECK(compared > 3'000);
    CHECK(stepped > 3'000);
}

TEST_CASE("slice: empty ranges and tensors give empty slices, where the reference refuses some") {
    const std::vector<std::pair<extents, ranges>> cases = {{{2}, {sf::range(0, 0)}},
                                                           {{2}, {sf::range(1, 1)}},
                                                           {{2}, {sf::range(2, 2)}},
                                                           {{0}, {}},
                                                           {{0}, {sf::all}},
                                                           {{0}, {sf::range(0, 0)}},
                                                           {{2, 0}, {sf::range(0, 1)}},
                                                           {{2, 0}, {sf::at(1), sf::all}},
                                                           {{0, 3}, {sf::all, sf::range(1, 2)}}};
    for (const auto& [shape, kept] : cases) {
        const auto runs = slice(sf::dtype::f32, shape, kept);
        REQUIRE(runs);
        CHECK(runs->size_bytes() == 0);
        CHECK(runs->run_count() == 0);
        CHECK(runs->is_contiguous());
        CHECK(offsets_of(*runs).empty());
    }
    CHECK(shape_of(*slice(sf::dtype::f32, {2, 0}, {sf::at(1)})) == extents{0});
}

TEST_CASE("slice: a tensor whose size does not fit is refused") {
    CHECK(refusal(sf::dtype::f32, {std::uint64_t{1} << 62, 4}, {sf::at(0)}) ==
          sf::errc::size_overflow);
    CHECK(refusal(sf::dtype::f4, {3}, {}) == sf::errc::partial_byte);
}

TEST_CASE("slice: elements of less than a byte can be cut where bytes begin") {
    CHECK(refusal(sf::dtype::f4, {4, 3}, {sf::range(1, 3)}) == sf::errc::slice_cuts_byte);
    const auto rows = slice(sf::dtype::f4, {4, 3}, {sf::range(2, 4)});
    REQUIRE(rows);
    CHECK(rows->offset_bytes() == 3);
    CHECK(rows->size_bytes() == 3);
    CHECK(refusal(sf::dtype::f4, {2, 4}, {sf::all, sf::range(1, 3)}) == sf::errc::slice_cuts_byte);
    CHECK(refusal(sf::dtype::f4, {2, 4}, {sf::at(0), sf::at(1)}) == sf::errc::slice_cuts_byte);
    CHECK(offsets_of(*slice(sf::dtype::f4, {2, 4}, {sf::all, sf::range(2, 4)})) == extents{1, 3});
    CHECK(slice(sf::dtype::f6_e2m3, {2, 4}, {sf::at(1)})->offset_bytes() == 3);
    CHECK(refusal(sf::dtype::f6_e2m3, {2, 4}, {sf::all, sf::range(0, 2)}) ==
          sf::errc::slice_cuts_byte);
}

TEST_CASE("slice: the first failure of the caller ends the walk") {
    const auto runs = slice(sf::dtype::u8, {4, 4}, {sf::all, sf::at(0)});
    REQUIRE(runs);
    int calls = 0;
    const auto done = runs->for_each_run([&](std::uint64_t) -> sf::result<void> {
        if (++calls == 2) return sf::failure{.code = sf::errc::canceled};
        return {};
    });
    REQUIRE_FALSE(done);
    CHECK(done.error().code == sf::errc::canceled);
    CHECK(calls == 2);
}

TEST_CASE(
    "slice: for random shapes, ranges and dtypes it covers the same elements as a gather one "
    "by one") {
    std::mt19937 random{1618};
    const auto up_to = [&](std::uint64_t last) {
        return std::uniform_int_distribution<std::uint64_t>{0, last}(random);
    };
    std::size_t compared = 0, cut = 0;
    for (int round = 0; round < 20'000; ++round) {
        const auto type = static_cast<sf::dtype>(up_to(sf::dtype_count - 1));
        extents shape(up_to(5));
        for (std::uint64_t& extent : shape)
            extent = up_to(19) == 0 ? 0 : 1 + up_to(3) * (up_to(1) + 1);
        if (sf::bits(type) < 8 && !shape.empty() && up_to(3) != 0) shape.back() *= 2;
        ranges kept(up_to(shape.size()));
        for (std::size_t axis = 0; axis < kept.size(); ++axis) {
            const std::uint64_t begin = up_to(shape[axis]);
            if (up_to(2) == 0) continue;
            if (up_to(2) == 0 && begin < shape[axis])
                kept[axis] = sf::at(begin);
            else if (up_to(2) == 0)
                kept[axis] = sf::range(begin, sf::unknown);
            else
                kept[axis] = sf::range(begin, begin + up_to(shape[axis] - begin));
        }
        const std::uint64_t bits = sf::bits(type);
        std::uint64_t size_bytes = 0;
        const auto runs = slice(type, shape, kept);
        if (sf::tensor_size(type, shape, size_bytes) != sf::size_verdict::fits) {
            REQUIRE_FALSE(runs);
            CHECK(runs.error().code == sf::errc::partial_byte);
            continue;
        }

        // Bit ranges of the longest runs of adjacent elements.
        std::vector<std::pair<std::uint64_t, std::uint64_t>> expected;
        for (const std::uint64_t element : elements_of(shape, kept)) {
            if (!expected.empty() &&
                expected.back().first + expected.back().second == element * bits)
                expected.back().second += bits;
            else
                expected.emplace_back(element * bits, bits);
        }
        bool cuts_byte = false;
        for (const auto& [first, size] : expected)
            cuts_byte = cuts_byte || first % 8 != 0 || size % 8 != 0;
        REQUIRE(runs.has_value() != cuts_byte);
        if (cuts_byte) {
            ++cut;
            CHECK(runs.error().code == sf::errc::slice_cuts_byte);
            continue;
        }
        ++compared;
        const extents offsets = offsets_of(*runs);
        REQUIRE(offsets.size() == expected.size());
        REQUIRE(runs->run_count() == expected.size());
        CHECK(runs->is_contiguous() == (expected.size() <= 1));
        for (std::size_t i = 0; i < offsets.size(); ++i) {
            REQUIRE(offsets[i] == expected[i].first / 8);
            REQUIRE(runs->run_bytes() == expected[i].second / 8);
        }
        if (!offsets.empty()) CHECK(runs->offset_bytes() == offsets[0]);
        std::uint64_t slice_bytes = 0;
        REQUIRE(sf::tensor_size(type, runs->shape(), slice_bytes) == sf::size_verdict::fits);
        CHECK(runs->size_bytes() == slice_bytes);
    }
    CHECK(compared > 10'000);
    CHECK(cut > 100);
}

TEST_CASE("slice: a shape of a thousand axes works like any other") {
    extents shape(1000, 1);
    shape[3] = shape[500] = 2;
    shape[999] = 3;
    ranges kept(1000);
    kept[999] = sf::range(1, 2);
    const auto runs = slice(sf::dtype::u8, shape, kept);
    REQUIRE(runs);
    CHECK(offsets_of(*runs) == extents{1, 4, 7, 10});
}
