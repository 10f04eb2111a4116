#include <safefuse/run/convert.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <safefuse/run/dequantize.hpp>

#include "../../support/laws.hpp"

namespace sf = safefuse;
using laws::packed_set;
using laws::u64;
using sf::dtype;
using sf::errc;

namespace {

// The meaning of the formats, written out slowly

struct format {
    dtype type;
    int width;     // bits of an element
    int mantissa;  // bits of the mantissa
    int bias;
    bool has_infinity = true;
};
constexpr format f64{dtype::f64, 64, 52, 1023}, f32{dtype::f32, 32, 23, 127},
    f16{dtype::f16, 16, 10, 15}, bf16{dtype::bf16, 16, 7, 127};
constexpr format e4m3{dtype::f8_e4m3, 8, 3, 7, false}, e5m2{dtype::f8_e5m2, 8, 2, 15},
    e4m3fnuz{dtype::f8_e4m3fnuz, 8, 3, 8, false}, e5m2fnuz{dtype::f8_e5m2fnuz, 8, 2, 16, false},
    e2m1{dtype::f4, 4, 1, 1, false};
constexpr format floats[] = {f64, f32, f16, bf16};

struct value {
    bool nan = false;
    bool negative = false;
    double magnitude = 0;
    u64 mantissa = 0;  // of a NaN: as 52 bits
};

value read(const format& of, u64 code) {
    value out;
    const u64 fraction = code & ((u64{1} << of.mantissa) - 1);
    const int exponent_bits = of.width - 1 - of.mantissa;
    const int top = (1 << exponent_bits) - 1;
    const int exponent = static_cast<int>(code >> of.mantissa) & top;
    out.negative = ((code >> (of.width - 1)) & 1) != 0;
    out.nan = of.has_infinity && exponent == top && fraction != 0;
    if (of.type == dtype::f8_e4m3) out.nan = (code & 0x7F) == 0x7F;
    if (of.type == dtype::f8_e4m3fnuz || of.type == dtype::f8_e5m2fnuz) out.nan = code == 0x80;
    if (out.nan) out.mantissa = fraction << (52 - of.mantissa);
    if (exponent == 0)
        out.magnitude = std::ldexp(static_cast<double>(fraction), 1 - of.bias - of.mantissa);
    else if (of.has_infinity && exponent == top)
        out.magnitude = std::numeric_limits<double>::infinity();
    else
        out.magnitude = std::ldexp(static_cast<double>(fraction | (u64{1} << of.mantissa)),
                                   exponent - of.bias - of.mantissa);
    return out;
}

// The nearest element, ties to even. A NaN becomes quiet and keeps its upper bits.
u64 rounded(const format& to, const value& of) {
    const int exponent_bits = to.width - 1 - to.mantissa;
    const u64 infinity = ((u64{1} << exponent_bits) - 1) << to.mantissa;
    const u64 sign = of.negative ? u64{1} << (to.width - 1) : 0;
    if (of.nan)
        return sign | infinity | (u64{1} << (to.mantissa - 1)) |
               (of.mantissa >> (52 - to.mantissa));
    if (std::isinf(of.magnitude)) return sign | infinity;
    if (of.magnitude == 0) return sign;
    int exponent = 0;
    std::frexp(of.magnitude, &exponent);
    exponent = std::max(exponent - 1, 1 - to.bias);
    const double places =
        std::ldexp(of.magnitude, to.mantissa - exponent);  // in units of the last place
    double whole = std::floor(places);
    const double rest = places - whole;
    if (rest > 0.5 || (rest == 0.5 && std::fmod(whole, 2) == 1)) whole += 1;
    // a carry out of the mantissa increments the exponent
    const u64 code =
        static_cast<u64>(whole) + (static_cast<u64>(exponent + to.bias - 1) << to.mantissa);
    return sign | std::min(code, infinity);
}

// PyTorch's result: through an F32, and with special NaNs for BF16.
u64 cast(const format& from, const format& to, u64 code) {
    const value of = read(from, code);
    if (to.type == dtype::bf16 && of.nan) return from.type == dtype::f16 ? 0x7FC0 : 0xFFFF;
    if (from.type == dtype::bf16 && to.type == dtype::f32) return code << 16;
    if (from.type == dtype::f64 && to.type != dtype::f32) return cast(f32, to, rounded(f32, of));
    return rounded(to, of);
}

void put(const format& of, std::byte* to, u64 code) {
    for (int i = 0; i < of.width / 8; ++i) to[i] = static_cast<std::byte>((code >> (8 * i)) & 0xFF);
}
u64 take(const format& of, const std::byte* from) {
    u64 code = 0;
    for (int i = 0; i < of.width / 8; ++i) code |= std::to_integer<u64>(from[i]) << (8 * i);
    return code;
}
std::size_t size_of(const format& of) { return static_cast<std::size_t>(of.width) / 8; }

std::vector<std::byte> bytes_of(const format& of, const std::vector<u64>& elements) {
    std::vector<std::byte> out(elements.size() * size_of(of));
    for (std::size_t i = 0; i < elements.size(); ++i)
        put(of, out.data() + i * size_of(of), elements[i]);
    return out;
}

// Casts and counts the elements that differ from the expected ones. Names the first.
void check_cast(const format& from, const format& to, const std::vector<u64>& elements) {
    const std::vector<std::byte> in = bytes_of(from, elements);
    std::vector<std::byte> out(elements.size() * size_of(to), std::byte{0xEE});
    REQUIRE(sf::convert_elements(from.type, in, to.type, out));
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < elements.size(); ++i) {
        const u64 expected = cast(from, to, elements[i]),
                  made = take(to, out.data() + i * size_of(to));
        if (made == expected || ++wrong > 1) continue;
        INFO(std::string{sf::name(from.type)}, " ", elements[i], " to ",
             std::string{sf::name(to.type)});
        CHECK(made == expected);
    }
    CHECK(wrong == 0);
}

std::vector<u64> all_16() {
    std::vector<u64> out(65'536);
    for (u64 i = 0; i < out.size(); ++i) out[i] = i;
    return out;
}

// Elements of a wide format around every number of a narrow one and halfway to the next, in steps
// of the last place.
std::vector<u64> borders(const format& wide, const format& narrow) {
    std::vector<u64> out;
    const int spare = wide.mantissa - narrow.mantissa;
    for (u64 code = 0; code < 0x8000; ++code) {
        const value lower = read(narrow, code), upper = read(narrow, code + 1);
        if (lower.nan || std::isinf(lower.magnitude)) continue;
        const double next = std::isinf(upper.magnitude) || upper.nan
                                ? 2 * lower.magnitude - read(narrow, code - 1).magnitude
                                : upper.magnitude;
        for (const double middle :
             {lower.magnitude, lower.magnitude + (next - lower.magnitude) / 2}) {
            const u64 at = rounded(wide, {.magnitude = middle});
            for (const u64 near : {at - 1, at, at + 1})
                if (at != 0 || near != at - 1)
                    out.push_back(near | (code % 2 == 0 ? u64{1} << (wide.width - 1) : 0));
            if (spare > 30) out.push_back(at ^ (u64{1} << 20));
        }
    }
    return out;
}

std::vector<u64> specials(const format& of) {
    const int exponent_bits = of.width - 1 - of.mantissa;
    const u64 top = (u64{1} << exponent_bits) - 1, fraction = (u64{1} << of.mantissa) - 1,
              sign = u64{1} << (of.width - 1);
    std::vector<u64> out;
    for (u64 exponent = 0; exponent <= top; ++exponent)
        for (const u64 part : {u64{0}, u64{1}, fraction / 2, fraction / 2 + 1, fraction / 2 + 2,
                               fraction - 1, fraction})
            for (const u64 s : {u64{0}, sign}) out.push_back(s | (exponent << of.mantissa) | part);
    return out;
}

std::vector<u64> random_elements(const format& of, std::size_t count, unsigned seed) {
    std::mt19937_64 random{seed};
    std::vector<u64> out(count);
    for (u64& each : out) each = random() & (of.width == 64 ? ~u64{0} : (u64{1} << of.width) - 1);
    return out;
}

std::vector<std::byte> random_bytes(std::size_t count, unsigned seed) {
    std::mt19937_64 random{seed};
    std::vector<std::byte> out(count);
    for (std::byte& each : out) each = static_cast<std::byte>(random() & 0xFF);
    return out;
}

std::vector<std::byte> converted(dtype from, std::span<const std::byte> in, dtype to) {
    std::vector<std::byte> out(in.size() / (sf::bits(from) / 8) * (sf::bits(to) / 8),
                               std::byte{0xEE});
    REQUIRE(sf::convert_elements(from, in, to, out));
    return out;
}

template <class T>
errc code_of(const sf::result<T>& done) {
    REQUIRE(!done);
    CHECK(!done.error().message().empty());
    return done.error().code;
}

}  // namespace

// ------------------------------------------------------------------------------------------
// casts

TEST_CASE("convert: every F16 and every BF16 comes out right in every direction") {
    for (const format& from : {f16, bf16})
        for (const format& to : floats)
            if (from.type != to.type) check_cast(from, to, all_16());
}

TEST_CASE(
    "convert: around every F16 and BF16 and halfway to the next, F32 and F64 are rounded to even") {
    for (const format& from : {f32, f64})
        for (const format& to : {f16, bf16}) check_cast(from, to, borders(from, to));
}

TEST_CASE("convert: every exponent with special mantissas, and random elements") {
    for (const format& from : floats)
        for (const format& to : floats) {
            if (from.type == to.type) continue;
            check_cast(from, to, specials(from));
            check_cast(from, to, random_elements(from, 100'000, 7));
        }
    // F64s next to the F32 numbers
    std::vector<u64> near;
    for (const u64 each : random_elements(f32, 50'000, 8)) {
        const u64 wide = cast(f32, f64, each);
        for (const u64 other : {wide - 1, wide + 1, wide + (u64{1} << 28),
                                wide + (u64{1} << 28) - 1, wide ^ (u64{1} << 28)})
            near.push_back(other);
    }
    for (const format& to : {f32, f16, bf16}) check_cast(f64, to, near);
}

TEST_CASE("convert: well-known values") {
    const auto one = [](const format& from, const format& to, u64 code) {
        const auto out = converted(from.type, bytes_of(from, {code}), to.type);
        return take(to, out.data());
    };
    CHECK(one(bf16, f32, 0x3F80) == 0x3F800000);
    CHECK(one(f32, bf16, 0x3F808000) == 0x3F80);  // a tie, to even
    CHECK(one(f32, bf16, 0x3F818000) == 0x3F82);
    CHECK(one(f32, bf16, 0x7F7FFFFF) == 0x7F80);  // overflow
    CHECK(one(f32, f16, 0x477FE000) == 0x7BFF);   // 65504
    CHECK(one(f32, f16, 0x477FEFFF) == 0x7BFF);
    CHECK(one(f32, f16, 0x477FF000) == 0x7C00);  // 65520
    CHECK(one(f32, f16, 0x33000000) == 0x0000);  // half the smallest subnormal
    CHECK(one(f32, f16, 0x33000001) == 0x0001);
    CHECK(one(f16, f32, 0x0001) == 0x33800000);
    CHECK(one(f16, bf16, 0x7C01) == 0x7FC0);  // NaNs as in PyTorch
    CHECK(one(f32, bf16, 0x7F800001) == 0xFFFF);
    CHECK(one(f32, f16, 0xFF812345) == 0xFE09);
    CHECK(one(bf16, f32, 0xFF81) == 0xFF810000);
    CHECK(one(bf16, f64, 0xFF81) == 0xFFF8200000000000);
    // rounded twice, as in PyTorch: rounding once would give 3F81
    CHECK(one(f64, bf16, 0x3FF0100000000001) == 0x3F80);
}

TEST_CASE("convert: no alignment is needed, and every count works") {
    const auto in = random_bytes(8 * 200 + 16, 3);
    for (const format& from : floats)
        for (const format& to : floats)
            for (const std::size_t count :
                 {0u, 1u, 2u, 15u, 31u, 32u, 33u, 63u, 64u, 65u, 100u, 161u}) {
                std::vector<std::byte> moved(in.size() + 16), out(size_of(to) * count + 32);
                const auto expected =
                    converted(from.type, std::span{in}.first(count * size_of(from)), to.type);
                for (std::size_t in_at = 0; in_at < 9; ++in_at)
                    for (std::size_t out_at = 0; out_at < 9; ++out_at) {
                        std::copy(in.begin(),
                                  in.begin() + static_cast<std::ptrdiff_t>(count * size_of(from)),
                                  moved.begin() + static_cast<std::ptrdiff_t>(in_at));
                        std::fill(out.begin(), out.end(), std::byte{0xEE});
                        const std::span<std::byte> to_bytes{out.data() + out_at, expected.size()};
                        REQUIRE(sf::convert_elements(
                            from.type, std::span{moved}.subspan(in_at, count * size_of(from)),
                            to.type, to_bytes));
                        REQUIRE(std::equal(to_bytes.begin(), to_bytes.end(), expected.begin()));
                        REQUIRE(std::count(out.begin(), out.end(), std::byte{0xEE}) >=
                                static_cast<std::ptrdiff_t>(out.size() - expected.size()));
                        REQUIRE((out_at == 0 || out[out_at - 1] == std::byte{0xEE}));
                        REQUIRE(out[out_at + expected.size()] == std::byte{0xEE});
                    }
            }
}

TEST_CASE(
    "convert: separate ranges give the same as one call, and outputs larger than the cache the "
    "same as small ones") {
    std::mt19937_64 random{5};
    const std::size_t count = 2'500'003;
    for (const format& from : floats)
        for (const format& to : floats) {
            if (from.type == to.type) continue;
            const auto in = random_bytes(count * size_of(from), 11);
            std::vector<std::byte> whole(count * size_of(to) + 64), parts(count * size_of(to));
            for (std::size_t done = 0; done < count;) {
                const std::size_t next =
                    std::min<std::size_t>(count - done, 1 + random() % 400'000);
                REQUIRE(sf::convert_elements(
                    from.type, std::span{in}.subspan(done * size_of(from), next * size_of(from)),
                    to.type, std::span{parts}.subspan(done * size_of(to), next * size_of(to))));
                done += next;
            }
            for (const std::size_t astray : {0u, 1u, 8u, 24u}) {
                INFO(std::string{sf::name(from.type)}, " to ", std::string{sf::name(to.type)},
                     " at ", astray);
                std::fill(whole.begin(), whole.end(), std::byte{0xEE});
                REQUIRE(sf::convert_elements(from.type, in, to.type,
                                             std::span{whole}.subspan(astray, parts.size())));
                CHECK(std::equal(parts.begin(), parts.end(),
                                 whole.begin() + static_cast<std::ptrdiff_t>(astray)));
                CHECK(
                    std::all_of(whole.begin() + static_cast<std::ptrdiff_t>(astray + parts.size()),
                                whole.end(), [](std::byte b) { return b == std::byte{0xEE}; }));
            }
        }
}

TEST_CASE(
    "convert: wide and narrow vector loops give the same, on all elements and with every "
    "remainder") {
    const auto wide_and_narrow = [](const format& of, const std::vector<u64>& elements) {
        const std::vector<std::byte> in = bytes_of(of, elements);
        for (const std::size_t count : {elements.size(), elements.size() - 7, std::size_t{5}}) {
            std::vector<std::byte> wide(count * 4), narrow(count * 4);
            sf::detail::decode_numbers(of.type, in.data(), wide.data(), count);
            sf::detail::codec_loops::decode(of.type, in.data(), narrow.data(), count);
            CHECK(wide == narrow);
        }
    };
    for (const format& of : {f16, bf16}) wide_and_narrow(of, all_16());
    for (const format& of : {e4m3, e5m2, e4m3fnuz, e5m2fnuz})
        wide_and_narrow(of, [] {
            auto few = all_16();
            return few.resize(256), few;
        }());
    wide_and_narrow(f64, random_elements(f64, 100'000, 2));
    wide_and_narrow(f64, specials(f64));
    std::vector<u64> numbers = random_elements(f32, 100'000, 4);
    for (const format& to : {f16, bf16})
        for (const u64 each : borders(f32, to)) numbers.push_back(each);
    for (const u64 each : specials(f32)) numbers.push_back(each);
    const std::vector<std::byte> in =
        bytes_of(f32, numbers);  // rows of numbers are in native byte order
    if (std::endian::native != std::endian::little) return;
    for (const format& to : floats) {
        std::vector<std::byte> wide(numbers.size() * size_of(to)), narrow(wide.size());
        sf::detail::encode_numbers(in.data(), to.type, wide.data(), numbers.size(), 0xFFFF);
        sf::detail::codec_loops::encode(in.data(), to.type, narrow.data(), numbers.size(), 0xFFFF);
        CHECK(wide == narrow);
    }
}

TEST_CASE("convert: every type can be converted to itself; codes and integers are not cast") {
    const u64 shape[] = {4, 6};
    for (std::size_t i = 0; i < sf::dtype_count; ++i)
        for (std::size_t j = 0; j < sf::dtype_count; ++j) {
            const auto from = static_cast<dtype>(i), to = static_cast<dtype>(j);
            INFO(std::string{sf::name(from)}, " to ", std::string{sf::name(to)});
            const auto in = random_bytes(24 * sf::bits(from) / 8, 1);
            std::vector<std::byte> out(24 * sf::bits(to) / 8, std::byte{0xEE});
            const auto view = sf::tensor_view::of(from, shape, in);
            REQUIRE(view);
            const auto done = sf::convert(*view, to, out);
            if (from == to) {
                REQUIRE(done);
                CHECK(in == out);
            } else if (sf::is_float(from) && sf::is_float(to)) {
                CHECK(done.has_value());
            } else {
                const bool no_codes = from == dtype::boolean || from == dtype::c64 ||
                                      to == dtype::boolean || to == dtype::c64;
                CHECK(code_of(done) == (no_codes ? errc::wrong_dtype : errc::missing_scales));
                CHECK(done.error().detail.view() ==
                      std::string{sf::name(from)} + " to " + std::string{sf::name(to)});
                CHECK(std::all_of(out.begin(), out.end(),
                                  [](std::byte b) { return b == std::byte{0xEE}; }));
            }
        }
}

TEST_CASE("convert: a buffer of the wrong size is refused") {
    const auto in = random_bytes(20, 1);
    std::vector<std::byte> out(41);
    for (const std::size_t size : {0u, 1u, 38u, 39u, 41u}) {
        const auto done =
            sf::convert_elements(dtype::bf16, in, dtype::f32, std::span{out}.first(size));
        CHECK(code_of(done) == errc::wrong_buffer_size);
        CHECK(done.error().expected == 40);
        CHECK(done.error().actual == size);
    }
    CHECK(code_of(sf::convert_elements(dtype::bf16, std::span{in}.first(19), dtype::f32,
                                       std::span{out}.first(36))) == errc::wrong_buffer_size);
    CHECK(code_of(sf::convert_elements(dtype::f16, in, dtype::f16, std::span{out}.first(19))) ==
          errc::wrong_buffer_size);
    CHECK(sf::convert_elements(dtype::bf16, {}, dtype::f32, {}));
}

TEST_CASE("convert: the bytes of a number can be reversed") {
    CHECK(sf::detail::with_bytes_reversed(std::uint8_t{0x12}) == 0x12);
    CHECK(sf::detail::with_bytes_reversed(std::uint16_t{0x1234}) == 0x3412);
    CHECK(sf::detail::with_bytes_reversed(std::uint32_t{0x12345678}) == 0x78563412);
    CHECK(sf::detail::with_bytes_reversed(u64{0x123456789ABCDEF0}) == 0xF0DEBC9A78563412);
}

// ------------------------------------------------------------------------------------------
// codes and scales

namespace {

float as_float(u64 code) { return std::bit_cast<float>(static_cast<std::uint32_t>(code)); }

// A scale as transformers reads it.
float scale_value(dtype type, const std::byte* at) {
    switch (type) {
    case dtype::f32: return as_float(take(f32, at));
    case dtype::bf16: return as_float(cast(bf16, f32, take(bf16, at)));
    case dtype::f16: return as_float(cast(f16, f32, take(f16, at)));
    default: break;
    }
    const int power = std::to_integer<int>(*at) - 127;
    if (power == 128 && type == dtype::f8_e8m0) return std::numeric_limits<float>::quiet_NaN();
    return std::ldexp(1.0f, power);
}

u64 code_at(const format& of, const std::byte* at, u64 i) {
    if (of.width == 4) return std::to_integer<u64>(at[i / 2]) >> (i % 2 * 4) & 15;
    return take(of, at + i);
}

// One element at a time: stack, row, column.
std::vector<std::byte> slow_dequantized(const format& of, const std::byte* in,
                                        const std::vector<u64>& shape, dtype scale_type,
                                        const std::byte* scales, sf::scale_block block,
                                        const format& to) {
    const u64 rows = shape[shape.size() - 2], columns = shape.back();
    u64 stack = 1;
    for (std::size_t a = 0; a + 2 < shape.size(); ++a) stack *= shape[a];
    const u64 scale_rows = (rows + block.rows - 1) / block.rows,
              scale_columns = (columns + block.columns - 1) / block.columns;
    std::vector<std::byte> out(static_cast<std::size_t>(stack * rows * columns) * size_of(to));
    for (u64 s = 0; s < stack; ++s)
        for (u64 r = 0; r < rows; ++r)
            for (u64 c = 0; c < columns; ++c) {
                const u64 i = (s * rows + r) * columns + c;
                const u64 scale =
                    (s * scale_rows + r / block.rows) * scale_columns + c / block.columns;
                const value code = read(of, code_at(of, in, i));
                const float number =
                    static_cast<float>(code.negative ? -code.magnitude : code.magnitude);
                const float factor =
                    scale_value(scale_type, scales + scale * (sf::bits(scale_type) / 8));
                const float product =
                    code.nan ? std::numeric_limits<float>::quiet_NaN() : number * factor;
                put(to, out.data() + i * size_of(to),
                    cast(f32, to, std::bit_cast<std::uint32_t>(product)));
            }
    return out;
}

bool is_nan(const format& of, u64 code) { return read(of, code).nan; }

// The bits of a NaN product depend on the processor, so only its being NaN is compared.
void check_same(const format& of, const std::vector<std::byte>& made,
                const std::vector<std::byte>& expected) {
    REQUIRE(made.size() == expected.size());
    std::size_t wrong = 0;
    for (std::size_t at = 0; at < made.size(); at += size_of(of)) {
        const u64 m = take(of, made.data() + at), e = take(of, expected.data() + at);
        if (m != e && !(is_nan(of, m) && is_nan(of, e))) ++wrong;
    }
    CHECK(wrong == 0);
}

std::vector<u64> scale_shape_of(const std::vector<u64>& shape, sf::scale_block block) {
    std::vector<u64> out = shape;
    out[out.size() - 2] = (out[out.size() - 2] + block.rows - 1) / block.rows;
    out.back() = (out.back() + block.columns - 1) / block.columns;
    return out;
}

u64 product(const std::vector<u64>& shape) {
    u64 count = 1;
    for (const u64 each : shape) count *= each;
    return count;
}

struct scaled_codes {
    format of;
    std::vector<u64> shape, scale_shape;
    dtype scale_type;
    sf::scale_block block;
    std::vector<std::byte> codes, scales;

    sf::tensor_view codes_view() const { return *sf::tensor_view::of(of.type, shape, codes); }
    sf::tensor_view scales_view() const {
        return *sf::tensor_view::of(scale_type, scale_shape, scales);
    }
};

scaled_codes made_codes(const format& of, std::vector<u64> shape, dtype scale_type,
                        sf::scale_block block, unsigned seed) {
    scaled_codes out{of, shape, scale_shape_of(shape, block), scale_type, block, {}, {}};
    out.codes =
        random_bytes(static_cast<std::size_t>(product(shape) * sf::bits(of.type) / 8), seed);
    out.scales = random_bytes(
        static_cast<std::size_t>(product(out.scale_shape) * sf::bits(scale_type) / 8), seed + 1);
    return out;
}

}  // namespace

TEST_CASE("dequantize: every code with every power of two, and with odd factors") {
    for (const format& of : {e4m3, e5m2, e4m3fnuz, e5m2fnuz, e2m1})
        for (const dtype scale_type :
             {dtype::f32, dtype::f16, dtype::bf16, dtype::f8_e8m0, dtype::u8})
            for (const format& to : floats) {
                INFO(std::string{sf::name(of.type)}, " with ", std::string{sf::name(scale_type)},
                     " to ", std::string{sf::name(to.type)});
                scaled_codes x = made_codes(of, {256, 256}, scale_type, {1, 256}, 3);
                for (std::size_t i = 0; i < x.codes.size(); ++i)
                    x.codes[i] = static_cast<std::byte>(i % 256);
                if (sf::bits(scale_type) == 8)
                    for (std::size_t i = 0; i < 256; ++i) x.scales[i] = static_cast<std::byte>(i);
                std::vector<std::byte> out(65'536 * size_of(to));
                REQUIRE(
                    sf::dequantize_blocks(x.codes_view(), x.scales_view(), x.block, to.type, out));
                check_same(to, out,
                           slow_dequantized(of, x.codes.data(), x.shape, scale_type,
                                            x.scales.data(), x.block, to));
            }
}

TEST_CASE("dequantize: blocks of any size, incomplete ones and stacks of matrices") {
    const std::vector<u64> shapes[] = {{128, 128},     {256, 384}, {130, 258},   {1, 1},
                                       {3, 1000},      {1000, 3},  {2, 200, 70}, {3, 5, 7},
                                       {2, 2, 40, 34}, {0, 128},   {128, 0},     {0, 3, 4},
                                       {4, 64},        {7, 96},    {2, 1, 130},  {2, 129, 1026}};
    const sf::scale_block blocks[] = {
        {128, 128},         {},          {1, 32}, {32, 1}, {1, 1}, {7, 5}, {64, 96}, {1, 1000},
        {~u64{0}, ~u64{0}}, {1, ~u64{0}}};
    unsigned seed = 0;
    for (const auto& shape : shapes)
        for (const sf::scale_block& given : blocks)
            for (const format& of : {e4m3, e2m1}) {
                if (of.width == 4 && product(shape) % 2 != 0) continue;
                sf::scale_block block = given;
                if (block.rows == ~u64{0}) block.rows = std::max<u64>(shape[shape.size() - 2], 1);
                if (block.columns == ~u64{0}) block.columns = std::max<u64>(shape.back(), 1);
                scaled_codes x = made_codes(of, shape, dtype::f32, block, ++seed);
                INFO("shape ", shape.size(), ": ", shape[shape.size() - 2], " x ", shape.back(),
                     " blocks ", block.rows, " x ", block.columns);
                std::vector<std::byte> out(static_cast<std::size_t>(product(shape)) * 2,
                                           std::byte{0xEE});
                REQUIRE(sf::dequantize_blocks(x.codes_view(), x.scales_view(), given, dtype::bf16,
                                              out));
                check_same(bf16, out,
                           slow_dequantized(of, x.codes.data(), shape, dtype::f32, x.scales.data(),
                                            block, bf16));
            }
}

TEST_CASE(
    "dequantize: separate ranges give the same as one call, and read only the scales that they "
    "need") {
    std::mt19937_64 random{9};
    const std::pair<std::vector<u64>, sf::scale_block> cases[] = {
        {{2, 300, 260}, {128, 128}}, {{5, 17, 64}, {1, 32}}, {{3, 64, 50}, {8, 7}},
        {{40, 1024}, {1, 16}},       {{6, 2}, {1, 1}},       {{2, 6, 10}, {4, 20}}};
    for (const format& of : {e5m2, e2m1})
        for (const auto& [shape, block] : cases) {
            const scaled_codes x = made_codes(of, shape, dtype::bf16, block, 21);
            const auto made =
                sf::dequantizer::of(of.type, shape, x.scale_type, x.scale_shape, block, dtype::f16);
            REQUIRE(made);
            CHECK(made->element_count() == product(shape));
            CHECK(made->scale_count() == product(x.scale_shape));
            std::vector<std::byte> whole(
                static_cast<std::size_t>(made->size_bytes(product(shape)))),
                parts(whole.size());
            REQUIRE(
                sf::dequantize_blocks(x.codes_view(), x.scales_view(), block, dtype::f16, whole));
            for (u64 done = 0; done < product(shape);) {
                const u64 step = of.width == 4 ? 2 : 1;
                const u64 next = std::min<u64>(product(shape) - done, (1 + random() % 700) * step);
                const auto needed = made->scales_of({done, next});
                REQUIRE(needed.count > 0);
                REQUIRE(needed.first + needed.count <= made->scale_count());
                // a copy of exactly the needed bytes, so that a sanitizer sees a read outside of
                // them
                const auto part = [](const std::vector<std::byte>& bytes, u64 first, u64 count) {
                    const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(first);
                    return std::vector<std::byte>(begin,
                                                  begin + static_cast<std::ptrdiff_t>(count));
                };
                const auto in =
                    part(x.codes, done * sf::bits(of.type) / 8, next * sf::bits(of.type) / 8);
                const auto scales = part(x.scales, needed.first * 2, needed.count * 2);
                REQUIRE(made->run({done, next}, in, scales,
                                  std::span{parts}.subspan(done * 2, next * 2)));
                done += next;
            }
            CHECK(whole == parts);
        }
}

TEST_CASE("dequantize: a matrix without codes needs no scales, with any request") {
    const u64 shapes[][3] = {{2, 0, 4}, {2, 4, 0}, {0, 4, 4}};
    for (const auto& shape : shapes) {
        const u64 grid[] = {shape[0], shape[1] == 0 ? 0u : 1u, shape[2] == 0 ? 0u : 1u};
        const auto made =
            sf::dequantizer::of(dtype::f8_e4m3, shape, dtype::f32, grid, {128, 128}, dtype::bf16);
        REQUIRE(made);
        CHECK(made->element_count() == 0);
        CHECK(made->scales_of({0, 1}).count == 0);
        CHECK(made->run({0, 1}, {}, {}, {}).error().code == errc::out_of_range);
        CHECK(made->run({0, 0}, {}, {}, {}));
    }
}

TEST_CASE("dequantize: arguments that do not fit are refused, and nothing is written") {
    const u64 shape[] = {256, 200}, grid[] = {2, 2}, wrong_grid[] = {2, 3}, stack[] = {1, 2, 2},
              row[] = {200}, odd[] = {3, 3}, huge[] = {1, u64{1} << 62};
    const auto refused = [](dtype codes, sf::shape_view codes_shape, dtype scales,
                            sf::shape_view scales_shape, sf::scale_block block, dtype to) {
        return code_of(sf::dequantizer::of(codes, codes_shape, scales, scales_shape, block, to));
    };
    for (const dtype type : {dtype::bf16, dtype::u8, dtype::i8, dtype::f6_e2m3, dtype::f6_e3m2,
                             dtype::f8_e8m0, dtype::i32})
        CHECK(refused(type, shape, dtype::f32, grid, {}, dtype::bf16) == errc::wrong_dtype);
    for (const dtype type : {dtype::f64, dtype::i8, dtype::f8_e4m3, dtype::i32})
        CHECK(refused(dtype::f8_e4m3, shape, type, grid, {}, dtype::bf16) == errc::wrong_dtype);
    for (const dtype type : {dtype::i32, dtype::f8_e4m3, dtype::boolean, dtype::c64})
        CHECK(refused(dtype::f8_e4m3, shape, dtype::f32, grid, {}, type) == errc::wrong_dtype);
    CHECK(refused(dtype::f8_e4m3, shape, dtype::f32, wrong_grid, {}, dtype::bf16) ==
          errc::shape_mismatch);
    CHECK(refused(dtype::f8_e4m3, shape, dtype::f32, grid, {128, 64}, dtype::bf16) ==
          errc::shape_mismatch);
    CHECK(refused(dtype::f8_e4m3, shape, dtype::f32, stack, {}, dtype::bf16) ==
          errc::shape_mismatch);
    CHECK(refused(dtype::f8_e4m3, row, dtype::f32, row, {}, dtype::bf16) == errc::shape_mismatch);
    CHECK(refused(dtype::f8_e4m3, shape, dtype::f32, grid, {0, 128}, dtype::bf16) ==
          errc::out_of_range);
    CHECK(refused(dtype::f8_e4m3, shape, dtype::f32, grid, {128, 0}, dtype::bf16) ==
          errc::out_of_range);
    CHECK(refused(dtype::f4, odd, dtype::f32, odd, {1, 1}, dtype::bf16) == errc::partial_byte);
    CHECK(refused(dtype::f8_e4m3, huge, dtype::f32, huge, {1, 1}, dtype::bf16) ==
          errc::size_overflow);

    const scaled_codes x = made_codes(e4m3, {256, 200}, dtype::f32, {}, 1);
    std::vector<std::byte> out(256 * 200 * 2, std::byte{0xEE});
    CHECK(code_of(sf::dequantize_blocks(x.codes_view(), x.scales_view(), {}, dtype::bf16,
                                        std::span{out}.subspan(1))) == errc::wrong_buffer_size);
    const auto made = sf::dequantizer::of(dtype::f8_e4m3, shape, dtype::f32, grid, {}, dtype::bf16);
    REQUIRE(made);
    CHECK(code_of(made->run({256 * 200, 1}, std::span{x.codes}.first(1), x.scales,
                            std::span{out}.first(2))) == errc::out_of_range);
    CHECK(code_of(made->run({~u64{0}, 2}, std::span{x.codes}.first(2), x.scales,
                            std::span{out}.first(4))) == errc::out_of_range);
    CHECK(code_of(made->run({0, 2}, std::span{x.codes}.first(3), std::span{x.scales}.first(4),
                            std::span{out}.first(4))) == errc::wrong_buffer_size);
    CHECK(code_of(made->run({0, 2}, std::span{x.codes}.first(2), std::span{x.scales}.first(8),
                            std::span{out}.first(4))) == errc::wrong_buffer_size);
    const auto halves = sf::dequantizer::of(dtype::f4, shape, dtype::f32, grid, {}, dtype::bf16);
    REQUIRE(halves);
    CHECK(code_of(halves->run({1, 2}, std::span{x.codes}.first(1), std::span{x.scales}.first(4),
                              std::span{out}.first(4))) == errc::slice_cuts_byte);
    CHECK(code_of(halves->run({0, 1}, std::span{x.codes}.first(1), std::span{x.scales}.first(4),
                              std::span{out}.first(2))) == errc::slice_cuts_byte);
    CHECK(std::all_of(out.begin(), out.end(), [](std::byte b) { return b == std::byte{0xEE}; }));
}

TEST_CASE("dequantize: MXFP4 blocks, low half first, with every power of two") {
    const u64 shape[] = {2, 256, 3, 16}, grid[] = {2, 256, 3};
    auto blocks = random_bytes(2 * 256 * 3 * 16, 5);
    std::vector<std::byte> scales(2 * 256 * 3);
    for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<std::byte>(i % 256);
    for (const format& to : floats) {
        std::vector<std::byte> out(blocks.size() * 2 * size_of(to));
        REQUIRE(sf::dequantize_mxfp4(*sf::tensor_view::of(dtype::u8, shape, blocks),
                                     *sf::tensor_view::of(dtype::u8, grid, scales), to.type, out));
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < blocks.size() * 2; ++i) {
            const value code = read(e2m1, code_at(e2m1, blocks.data(), i));
            const auto exact =
                static_cast<float>(std::ldexp(code.negative ? -code.magnitude : code.magnitude,
                                              std::to_integer<int>(scales[i / 32]) - 127));
            wrong += take(to, out.data() + i * size_of(to)) !=
                     cast(f32, to, std::bit_cast<std::uint32_t>(exact));
        }
        CHECK(wrong == 0);
    }
    const auto view = *sf::tensor_view::of(dtype::u8, shape, blocks);
    std::vector<std::byte> out(blocks.size() * 4);
    const u64 short_grid[] = {2, 256, 2}, flat[] = {2 * 256 * 3};
    CHECK(code_of(sf::dequantize_mxfp4(
              view, *sf::tensor_view::of(dtype::u8, short_grid, std::span{scales}.first(1024)),
              dtype::bf16, out)) == errc::shape_mismatch);
    CHECK(code_of(sf::dequantize_mxfp4(view, *sf::tensor_view::of(dtype::u8, flat, scales),
                                       dtype::bf16, out)) == errc::shape_mismatch);
    CHECK(code_of(sf::dequantize_mxfp4(view, *sf::tensor_view::of(dtype::i8, grid, scales),
                                       dtype::bf16, out)) == errc::wrong_dtype);
    CHECK(code_of(sf::dequantize_mxfp4(view, *sf::tensor_view::of(dtype::u8, grid, scales),
                                       dtype::u8, out)) == errc::wrong_dtype);
    CHECK(code_of(sf::dequantize_mxfp4(view, *sf::tensor_view::of(dtype::u8, grid, scales),
                                       dtype::bf16, std::span{out}.subspan(2))) ==
          errc::wrong_buffer_size);
    const u64 no_blocks[] = {4, 0}, four[] = {4};
    CHECK(sf::dequantize_mxfp4(*sf::tensor_view::of(dtype::u8, no_blocks, {}),
                               *sf::tensor_view::of(dtype::u8, four, std::span{scales}.first(4)),
                               dtype::bf16, {}));
}

// ------------------------------------------------------------------------------------------
// while fusing

namespace {

std::vector<std::byte> fused(const sf::copy_plan& plan, const sf::plan_output& output) {
    std::vector<std::byte> out(static_cast<std::size_t>(output.size_bytes));
    REQUIRE(sf::fuse(plan, output.local_name, out));
    return out;
}

}  // namespace

TEST_CASE("fuse_as: the same as fusing and then casting, from memory or from a file that is read") {
    const laws::experts shapes[] = {
        {.end_expert = 3, .i_end = 128, .h = 5, .fields = {laws::field::weight, laws::field::bias}},
        {.end_expert = 2, .i_end = 64, .h = 2100},  // pieces end inside rows
        {.end_expert = 1, .i_end = 64, .h = 260, .type = dtype::f32},
        {.end_expert = 2, .i_end = 64, .h = 24, .type = dtype::f16}};
    for (const laws::experts& x : shapes)
        for (const laws::kind from :
             {laws::kind::per_expert, laws::kind::gate_up, laws::kind::rows_1})
            for (const laws::kind to : laws::all_kinds)
                for (const bool resident : {true, false}) {
                    packed_set set = laws::make_set(from, x, "moe");
                    set.resident = resident;
                    const auto plan = laws::plan_kinds(set, "moe", from, to, {});
                    REQUIRE(plan);
                    for (const sf::plan_output& output : plan->outputs())
                        for (const dtype type : {dtype::f64, dtype::f32, dtype::f16, dtype::bf16}) {
                            INFO(std::string{laws::spelled(from)}, " to ",
                                 std::string{laws::spelled(to)}, " as ",
                                 std::string{sf::name(type)}, " resident ", resident, " H ", x.h);
                            const auto expected =
                                converted(output.type, fused(*plan, output), type);
                            std::vector<std::byte> out(expected.size(), std::byte{0xEE});
                            REQUIRE(sf::fuse_as(*plan, output.local_name, type, out));
                            REQUIRE(out == expected);
                        }
                }
}

TEST_CASE("fuse_as: a large output is written past the cache, with the same bytes") {
    const laws::experts x{.end_expert = 2, .i_end = 1100, .h = 1031};
    for (const bool resident : {true, false}) {
        packed_set set = laws::make_set(laws::kind::per_expert, x, "moe");
        set.resident = resident;
        const auto plan =
            laws::plan_kinds(set, "moe", laws::kind::per_expert, laws::kind::gate_up, {});
        REQUIRE(plan);
        const auto gate_up = plan->output("gate_up_proj");
        REQUIRE(gate_up);
        const auto expected = converted(dtype::bf16, fused(*plan, *gate_up), dtype::f32);
        REQUIRE(expected.size() > sf::detail::streamed_bytes);
        std::vector<std::byte> out(expected.size() + 4);
        for (const std::size_t astray : {0u, 4u}) {
            REQUIRE(sf::fuse_as(*plan, "gate_up_proj", dtype::f32,
                                std::span{out}.subspan(astray, expected.size())));
            CHECK(std::equal(expected.begin(), expected.end(),
                             out.begin() + static_cast<std::ptrdiff_t>(astray)));
        }
    }
}

TEST_CASE("fuse_as: wrong dtypes, sizes and ranges are refused") {
    const laws::experts x{.end_expert = 2,
                          .i_end = 128,
                          .h = 128,
                          .type = dtype::f8_e4m3,
                          .fields = {laws::field::weight, laws::field::bias, laws::field::scale}};
    const packed_set set = laws::make_set(laws::kind::per_expert, x, "moe");
    const auto plan = laws::plan_kinds(set, "moe", laws::kind::per_expert, laws::kind::gate_up, {});
    REQUIRE(plan);
    std::vector<std::byte> out(2 * 256 * 128 * 2);
    CHECK(code_of(sf::fuse_as(*plan, "no_such", dtype::bf16, out)) == errc::output_not_found);
    const auto codes_only = sf::fuse_as(*plan, "gate_up_proj", dtype::bf16, out);
    CHECK(code_of(codes_only) == errc::missing_scales);
    CHECK(codes_only.error().tensor.view() == "moe.gate_up_proj");
    CHECK(code_of(sf::fuse_as(*plan, "gate_up_proj_bias", dtype::f32, out)) ==
          errc::wrong_buffer_size);
    CHECK(code_of(sf::fuse_as(*plan, "gate_up_proj_bias", dtype::u8, out)) == errc::missing_scales);
    CHECK(sf::fuse_as(*plan, "gate_up_proj_bias", dtype::bf16, std::span{out}.first(2 * 256 * 2)));

    CHECK(code_of(sf::fuse_dequantized(*plan, "no_such", dtype::bf16, out)) ==
          errc::output_not_found);
    CHECK(code_of(sf::fuse_dequantized(*plan, "gate_up_proj", "no_such", {}, dtype::bf16, out)) ==
          errc::output_not_found);
    CHECK(code_of(sf::fuse_dequantized(*plan, "gate_up_proj_bias", dtype::bf16, out)) ==
          errc::missing_scales);
    CHECK(code_of(sf::fuse_dequantized(*plan, "gate_up_proj", "gate_up_proj_bias", {}, dtype::bf16,
                                       out)) == errc::shape_mismatch);
    CHECK(code_of(sf::fuse_dequantized(*plan, "gate_up_proj", "down_proj_scale_inv", {},
                                       dtype::bf16, out)) == errc::shape_mismatch);
    CHECK(code_of(sf::fuse_dequantized(*plan, "gate_up_proj", dtype::bf16,
                                       std::span{out}.subspan(2))) == errc::wrong_buffer_size);
    CHECK(sf::fuse_dequantized(*plan, "gate_up_proj", dtype::bf16, out));
}

TEST_CASE("fuse_dequantized: the same as fusing codes and scales and then multiplying") {
    const laws::experts shapes[] = {{.end_expert = 3,
                                     .i_end = 256,
                                     .h = 130,
                                     .type = dtype::f8_e4m3,
                                     .fields = {laws::field::weight, laws::field::scale}},
                                    {.end_expert = 2,
                                     .i_end = 384,
                                     .h = 1030,
                                     .type = dtype::f8_e5m2,
                                     .fields = {laws::field::weight, laws::field::scale}}};
    for (const laws::experts& x : shapes)
        for (const laws::kind from : {laws::kind::per_expert, laws::kind::gate_up})
            for (const laws::kind to :
                 {laws::kind::per_expert, laws::kind::gate_up, laws::kind::up_gate,
                  laws::kind::stacks, laws::kind::transposed})
                for (const bool resident : {true, false}) {
                    packed_set set = laws::make_set(from, x, "moe");
                    set.resident = resident;
                    const auto plan = laws::plan_kinds(set, "moe", from, to, {});
                    REQUIRE(plan);
                    std::size_t compared = 0;
                    for (const sf::plan_output& output : plan->outputs()) {
                        if (output.type == dtype::f32) continue;
                        INFO(laws::spelled(from), " to ", laws::spelled(to), ": ",
                             std::string{output.local_name}, " resident ", resident);
                        // .weight has a scale named .weight_scale_inv; a name without an ending has
                        // one with _scale_inv.
                        const sf::plan_output* const scales =
                            sf::scales_of(*plan, output.local_name);
                        REQUIRE(scales != nullptr);
                        CHECK(scales->local_name == std::string{output.local_name} + "_scale_inv");
                        const auto codes_bytes = fused(*plan, output);
                        const auto scales_bytes = fused(*plan, *scales);
                        std::vector<std::byte> expected(codes_bytes.size() * 2),
                            out(expected.size(), std::byte{0xEE});
                        REQUIRE(sf::dequantize_blocks(
                            *sf::tensor_view::of(output.type, output.shape, codes_bytes),
                            *sf::tensor_view::of(scales->type, scales->shape, scales_bytes), {},
                            dtype::bf16, expected));
                        REQUIRE(sf::fuse_dequantized(*plan, output.local_name, dtype::bf16, out));
                        CHECK(out == expected);
                        const std::vector<u64> shape{output.shape.begin(), output.shape.end()};
                        check_same(bf16, out,
                                   slow_dequantized(x.type == dtype::f8_e4m3 ? e4m3 : e5m2,
                                                    codes_bytes.data(), shape, dtype::f32,
                                                    scales_bytes.data(), {}, bf16));
                        ++compared;
                    }
                    CHECK(compared > 0);
                }
}
