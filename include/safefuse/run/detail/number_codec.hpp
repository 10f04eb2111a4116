// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: converts numbers of the stored formats to the bits of an F32 and back. Everything that
// changes values uses these loops. They consist of integer arithmetic without machine-specific
// instructions, so every compiler can vectorise them and every build gives the same bits.
#ifndef SAFEFUSE_RUN_DETAIL_NUMBER_CODEC_HPP
#define SAFEFUSE_RUN_DETAIL_NUMBER_CODEC_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <safefuse/core/config.hpp>
#include <safefuse/run/detail/copy_bytes.hpp>
#include <safefuse/tensor/dtype.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

static_assert(sizeof(float) == 4 && sizeof(double) == 8,
              "safefuse: float and double must be IEEE 754 types");

template <class Bits>
[[nodiscard]] constexpr Bits with_bytes_reversed(Bits bits) noexcept {
    Bits out = 0;
    for (std::size_t i = 0; i < sizeof(Bits); ++i) {
        out = static_cast<Bits>(static_cast<Bits>(out << 8) | (bits & 0xFF));
        bits = static_cast<Bits>(bits >> 8);
    }
    return out;
}

/// Loads an element of a file, at any alignment and in any native byte order.
template <class Bits>
[[nodiscard]] Bits load_little(const std::byte* from) noexcept {
    Bits bits;
    std::memcpy(&bits, from, sizeof bits);
    if constexpr (sizeof(Bits) > 1 && std::endian::native != std::endian::little)
        bits = with_bytes_reversed(bits);
    return bits;
}
template <class Bits>
void store_little(std::byte* to, Bits bits) noexcept {
    if constexpr (sizeof(Bits) > 1 && std::endian::native != std::endian::little)
        bits = with_bytes_reversed(bits);
    std::memcpy(to, &bits, sizeof bits);
}

// One element at a time

/// `yes` or `no`, without a branch: g++ does not vectorise a choice between results of
/// floating-point arithmetic.
[[nodiscard]] constexpr std::uint32_t choose(bool condition, std::uint32_t yes,
                                             std::uint32_t no) noexcept {
    return no ^ ((yes ^ no) & (0u - static_cast<std::uint32_t>(condition)));
}

inline constexpr std::uint32_t no_such_code = ~std::uint32_t{0};

/// A format with sign, exponent and mantissa in at most 16 bits. The magnitude of a code is its
/// exponent and mantissa, shifted to their place in an F32.
struct small_format {
    std::uint32_t sign = 0x80;  ///< sign bit
    /// Distance of exponent and mantissa to their place in an F32.
    std::uint32_t shift = 0;
    std::uint32_t bias = 0;  ///< 127 minus the format's exponent bias
    /// Magnitudes from here are infinity and NaNs.
    std::uint32_t special_from = no_such_code;
    /// Offset from these magnitudes to those of an F32.
    std::uint32_t special_offset = 0;
    /// Code of the only NaN, if it is the code that would be -0.
    std::uint32_t negative_zero_nan = no_such_code;

    /// Exact, except that a signalling NaN becomes quiet, as on a processor.
    [[nodiscard]] constexpr std::uint32_t decode(std::uint32_t code) const noexcept {
        const std::uint32_t magnitude = (code & (sign - 1)) << shift, least = (bias + 1) << 23;
        // subnormals: a number with the smallest exponent, minus its implicit leading one
        const float difference =
            std::bit_cast<float>(magnitude + least) - std::bit_cast<float>(least);
        const auto subnormal = std::bit_cast<std::uint32_t>(difference);
        std::uint32_t out = choose(magnitude < 0x0080'0000u, subnormal, magnitude + (bias << 23));
        out = choose(magnitude >= special_from, magnitude + special_offset, out);
        out = choose(magnitude > special_from, out | 0x0040'0000u, out);
        out |= (code & sign) != 0 ? 0x8000'0000u : 0u;
        // a signalling NaN as in PyTorch; multiplying it by a scale makes it quiet
        return choose(code == negative_zero_nan, 0x7F80'0001u, out);
    }
};

inline constexpr small_format f16_format{.sign = 0x8000,
                                         .shift = 13,
                                         .bias = 112,
                                         .special_from = 0x0F80'0000,
                                         .special_offset = 0x7000'0000};
inline constexpr small_format f8_e5m2_format{
    .shift = 21, .bias = 112, .special_from = 0x0F80'0000, .special_offset = 0x7000'0000};
inline constexpr small_format f8_e4m3_format{
    .shift = 20, .bias = 120, .special_from = 0x07F0'0000, .special_offset = 0x7800'0000};
inline constexpr small_format f8_e4m3fnuz_format{
    .shift = 20, .bias = 119, .negative_zero_nan = 0x80};
inline constexpr small_format f8_e5m2fnuz_format{
    .shift = 21, .bias = 111, .negative_zero_nan = 0x80};

[[nodiscard]] constexpr small_format format_of(dtype type) noexcept {
    switch (type) {
    case dtype::f8_e4m3: return f8_e4m3_format;
    case dtype::f8_e5m2: return f8_e5m2_format;
    case dtype::f8_e4m3fnuz: return f8_e4m3fnuz_format;
    case dtype::f8_e5m2fnuz: return f8_e5m2fnuz_format;
    default: return f16_format;
    }
}

[[nodiscard]] constexpr std::uint32_t decode_bf16(std::uint32_t code) noexcept {
    return code << 16;
}
[[nodiscard]] inline std::uint32_t decode_f64(std::uint64_t code) noexcept {
    return std::bit_cast<std::uint32_t>(static_cast<float>(std::bit_cast<double>(code)));
}

/// Values of the F4 (E2M1) codes: 0, 0.5, 1, 1.5, 2, 3, 4, 6, then the negative ones.
inline constexpr std::uint32_t f4_numbers[16] = {
    0x0000'0000, 0x3F00'0000, 0x3F80'0000, 0x3FC0'0000, 0x4000'0000, 0x4040'0000,
    0x4080'0000, 0x40C0'0000, 0x8000'0000, 0xBF00'0000, 0xBF80'0000, 0xBFC0'0000,
    0xC000'0000, 0xC040'0000, 0xC080'0000, 0xC0C0'0000};

/// Nearest BF16, ties to even. Every NaN becomes `nan`.
[[nodiscard]] constexpr std::uint32_t encode_bf16(std::uint32_t bits, std::uint32_t nan) noexcept {
    const std::uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1)) >> 16;
    return choose((bits & 0x7FFF'FFFFu) > 0x7F80'0000u, nan, rounded);
}
/// Nearest F16, ties to even. A NaN keeps its sign and upper bits.
[[nodiscard]] constexpr std::uint32_t encode_f16(std::uint32_t bits) noexcept {
    const std::uint32_t magnitude = bits & 0x7FFF'FFFFu, sign = (bits >> 16) & 0x8000u;
    std::uint32_t out = (magnitude + 0xFFFu + ((magnitude >> 13) & 1) - (112u << 23)) >> 13;
    // adding 1/2 makes the processor round at the last bit of a subnormal F16
    const std::uint32_t subnormal =
        std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3F00'0000u;
    out = choose(magnitude < 0x3880'0000u, subnormal, out);
    out = choose(magnitude >= 0x477F'F000u, 0x7C00u, out);
    out = choose(magnitude > 0x7F80'0000u, 0x7E00u | (magnitude >> 13 & 0x3FFu), out);
    return out | sign;
}
[[nodiscard]] inline std::uint64_t encode_f64(std::uint32_t bits) noexcept {
    return std::bit_cast<std::uint64_t>(static_cast<double>(std::bit_cast<float>(bits)));
}

// Rows of numbers
//
// A row is an array of F32 bytes in native byte order, so that bytes of a file or of a caller's
// buffer can be used without a copy.

#if defined(__GNUC__)
#define SAFEFUSE_ALWAYS_INLINE [[gnu::always_inline]] inline
#else
#define SAFEFUSE_ALWAYS_INLINE inline
#endif
// The loop's input and output do not overlap; g++ 12 drops __restrict when it inlines.
#if defined(__GNUC__) && !defined(__clang__)
#define SAFEFUSE_APART _Pragma("GCC ivdep")
#else
#define SAFEFUSE_APART
#endif

/// Fixed trip count of the inner loops, so that compilers vectorise them at -O2.
inline constexpr std::size_t codec_step = 32;

[[nodiscard]] inline std::uint32_t number_at(const std::byte* numbers, std::size_t i) noexcept {
    std::uint32_t bits;
    std::memcpy(&bits, numbers + i * sizeof bits, sizeof bits);
    return bits;
}
inline void set_number(std::byte* numbers, std::size_t i, std::uint32_t bits) noexcept {
    std::memcpy(numbers + i * sizeof bits, &bits, sizeof bits);
}

template <class Bits, class Decode>
SAFEFUSE_ALWAYS_INLINE void decode_with(const std::byte* __restrict from,
                                        std::byte* __restrict numbers, std::size_t count,
                                        Decode decode) noexcept {
    for (; count >= codec_step; count -= codec_step, from += codec_step * sizeof(Bits),
                                numbers += codec_step * sizeof(float)) {
        // g++ 12 vectorises a change of width only in a loop of its own.
        decltype(Bits{} + 0u) codes[codec_step];
        SAFEFUSE_APART
        for (std::size_t i = 0; i < codec_step; ++i)
            codes[i] = load_little<Bits>(from + i * sizeof(Bits));
        SAFEFUSE_APART
        for (std::size_t i = 0; i < codec_step; ++i) set_number(numbers, i, decode(codes[i]));
    }
    for (std::size_t i = 0; i < count; ++i)
        set_number(numbers, i, decode(load_little<Bits>(from + i * sizeof(Bits))));
}

template <class Bits, class Encode>
SAFEFUSE_ALWAYS_INLINE void encode_with(const std::byte* __restrict numbers,
                                        std::byte* __restrict to, std::size_t count,
                                        Encode encode) noexcept {
    for (; count >= codec_step; count -= codec_step, numbers += codec_step * sizeof(float),
                                to += codec_step * sizeof(Bits)) {
        decltype(encode(0u)) codes[codec_step];
        SAFEFUSE_APART
        for (std::size_t i = 0; i < codec_step; ++i) codes[i] = encode(number_at(numbers, i));
        SAFEFUSE_APART
        for (std::size_t i = 0; i < codec_step; ++i)
            store_little<Bits>(to + i * sizeof(Bits), static_cast<Bits>(codes[i]));
    }
    for (std::size_t i = 0; i < count; ++i)
        store_little<Bits>(to + i * sizeof(Bits), static_cast<Bits>(encode(number_at(numbers, i))));
}

/// The loops, compiled once for each vector width.
struct codec_loops {
    /// Decodes `count` elements of a float type or an F8 type. Does nothing for other types.
    SAFEFUSE_ALWAYS_INLINE static void decode(dtype type, const std::byte* from, std::byte* numbers,
                                              std::size_t count) noexcept {
        const small_format format = format_of(type);
        const auto decode_small = [format](std::uint32_t code) noexcept {
            return format.decode(code);
        };
        switch (type) {
        case dtype::f64:
            decode_with<std::uint64_t>(
                from, numbers, count, [](std::uint64_t code) noexcept { return decode_f64(code); });
            break;
        case dtype::f32:
            decode_with<std::uint32_t>(from, numbers, count,
                                       [](std::uint32_t code) noexcept { return code; });
            break;
        case dtype::bf16:
            decode_with<std::uint16_t>(from, numbers, count, [](std::uint32_t code) noexcept {
                return decode_bf16(code);
            });
            break;
        case dtype::f16: decode_with<std::uint16_t>(from, numbers, count, decode_small); break;
        case dtype::f8_e4m3:
        case dtype::f8_e5m2:
        case dtype::f8_e4m3fnuz:
        case dtype::f8_e5m2fnuz:
            decode_with<std::uint8_t>(from, numbers, count, decode_small);
            break;
        default: break;
        }
    }
    /// Encodes numbers as elements of a float type. `bf16_nan` is the BF16 of every NaN.
    SAFEFUSE_ALWAYS_INLINE static void encode(const std::byte* numbers, dtype type, std::byte* to,
                                              std::size_t count, std::uint32_t bf16_nan) noexcept {
        switch (type) {
        case dtype::f64:
            encode_with<std::uint64_t>(
                numbers, to, count, [](std::uint32_t each) noexcept { return encode_f64(each); });
            break;
        case dtype::f16:
            encode_with<std::uint16_t>(
                numbers, to, count, [](std::uint32_t each) noexcept { return encode_f16(each); });
            break;
        case dtype::bf16:
            encode_with<std::uint16_t>(numbers, to, count, [bf16_nan](std::uint32_t each) noexcept {
                return encode_bf16(each, bf16_nan);
            });
            break;
        default:
            encode_with<std::uint32_t>(numbers, to, count,
                                       [](std::uint32_t each) noexcept { return each; });
            break;
        }
    }
};

#if defined(__GNUC__) && defined(__x86_64__)
// The same loops compiled for vectors of twice the width, with the same results.
[[gnu::target("avx2")]] inline void decode_wide(dtype type, const std::byte* from,
                                                std::byte* numbers, std::size_t count) noexcept {
    codec_loops::decode(type, from, numbers, count);
}
[[gnu::target("avx2")]] inline void encode_wide(const std::byte* numbers, dtype type, std::byte* to,
                                                std::size_t count,
                                                std::uint32_t bf16_nan) noexcept {
    codec_loops::encode(numbers, type, to, count, bf16_nan);
}
inline void decode_numbers(dtype type, const std::byte* from, std::byte* numbers,
                           std::size_t count) noexcept {
    return has_wide_vectors() ? decode_wide(type, from, numbers, count)
                              : codec_loops::decode(type, from, numbers, count);
}
inline void encode_numbers(const std::byte* numbers, dtype type, std::byte* to, std::size_t count,
                           std::uint32_t bf16_nan) noexcept {
    return has_wide_vectors() ? encode_wide(numbers, type, to, count, bf16_nan)
                              : codec_loops::encode(numbers, type, to, count, bf16_nan);
}
#else
inline void decode_numbers(dtype type, const std::byte* from, std::byte* numbers,
                           std::size_t count) noexcept {
    codec_loops::decode(type, from, numbers, count);
}
inline void encode_numbers(const std::byte* numbers, dtype type, std::byte* to, std::size_t count,
                           std::uint32_t bf16_nan) noexcept {
    codec_loops::encode(numbers, type, to, count, bf16_nan);
}
#endif

/// Decodes F4 codes starting at code `first`. A byte has two codes, low half first.
inline void decode_f4(const std::byte* from, std::uint64_t first, std::byte* numbers,
                      std::size_t count) noexcept {
    const auto low = [](std::byte pair) noexcept {
        return f4_numbers[std::to_integer<std::size_t>(pair & std::byte{15})];
    };
    const auto high = [](std::byte pair) noexcept {
        return f4_numbers[std::to_integer<std::size_t>(pair >> 4)];
    };
    from += first / 2;
    if (first % 2 != 0 && count > 0) {
        set_number(numbers, 0, high(*from++));
        numbers += sizeof(float);
        --count;
    }
    for (; count >= 2; count -= 2, numbers += 2 * sizeof(float), ++from) {
        set_number(numbers, 0, low(*from));
        set_number(numbers, 1, high(*from));
    }
    if (count > 0) set_number(numbers, 0, low(*from));
}

/// Multiplies numbers by a factor, as F32.
inline void scale_numbers(std::byte* numbers, std::size_t count, float factor) noexcept {
    const auto scaled = [factor](std::uint32_t each) noexcept {
        return std::bit_cast<std::uint32_t>(std::bit_cast<float>(each) * factor);
    };
    for (; count >= codec_step; count -= codec_step, numbers += codec_step * sizeof(float)) {
        SAFEFUSE_APART
        for (std::size_t i = 0; i < codec_step; ++i)
            set_number(numbers, i, scaled(number_at(numbers, i)));
    }
    for (std::size_t i = 0; i < count; ++i) set_number(numbers, i, scaled(number_at(numbers, i)));
}

#undef SAFEFUSE_ALWAYS_INLINE
#undef SAFEFUSE_APART

// Streaming stores

/// Makes whole lines of F32 from BF16 with streaming stores in one step. Equals decoding and
/// stream_lines. Returns false if this machine has no such step.
inline bool stream_bf16_lines(std::byte* to, const std::byte* from,
                              std::size_t line_count) noexcept {
#if (defined(__clang__) || defined(__GNUC__)) && defined(__x86_64__)
    using codes = unsigned short __attribute__((vector_size(16), may_alias));
    using lines = long long __attribute__((vector_size(16), may_alias));
    auto* const out = reinterpret_cast<lines*>(to);
    const codes zero{};
    for (std::size_t i = 0; i < line_count * 2; ++i) {
        codes eight;
        std::memcpy(&eight, from + i * sizeof eight, sizeof eight);
        const auto low =
            reinterpret_cast<lines>(__builtin_shufflevector(zero, eight, 0, 8, 1, 9, 2, 10, 3, 11));
        const auto high = reinterpret_cast<lines>(
            __builtin_shufflevector(zero, eight, 4, 12, 5, 13, 6, 14, 7, 15));
#if defined(__clang__)
        __builtin_nontemporal_store(low, out + 2 * i);
        __builtin_nontemporal_store(high, out + 2 * i + 1);
#else
        __builtin_ia32_movntdq(out + 2 * i, low);
        __builtin_ia32_movntdq(out + 2 * i + 1, high);
#endif
    }
    return true;
#else
    return to == nullptr && from == nullptr && line_count == 0;
#endif
}
/// Encodes numbers and writes them to memory contiguously, with streaming stores if asked for.
class number_writer {
public:
    /// Largest count in one call of write().
    static constexpr std::size_t most = 512;

    number_writer(dtype type, std::byte* to, bool streams, std::uint32_t bf16_nan) noexcept
        : type_{type},
          element_bytes_{static_cast<std::size_t>(bits(type) / 8)},
          to_{to},
          bf16_nan_{bf16_nan},
          streams_{streams && reinterpret_cast<std::uintptr_t>(to) % element_bytes_ == 0},
          encodes_{type != dtype::f32 || std::endian::native != std::endian::little} {}
    number_writer(const number_writer&) = delete;
    number_writer& operator=(const number_writer&) = delete;
    ~number_writer() {
        if (streams_) finish_streaming();
    }

    /// How many numbers to pass next if `left` remain.
    [[nodiscard]] std::size_t next(std::uint64_t left) const noexcept {
        const std::size_t wanted =
            streams_ && astray() != 0 ? (cache_line_bytes - astray()) / element_bytes_ : most;
        return left < wanted ? static_cast<std::size_t>(left) : wanted;
    }
    /// Where to put the numbers: their final place if possible.
    [[nodiscard]] std::byte* numbers() noexcept { return encodes_ || streams_ ? numbers_ : to_; }
    /// Encodes and writes numbers from numbers() or from elsewhere.
    void write(const std::byte* numbers, std::size_t count) noexcept {
        const std::size_t size_bytes = count * element_bytes_;
        const std::size_t lines = streams_ && astray() == 0 ? size_bytes / cache_line_bytes : 0;
        const std::byte* from = numbers;
        if (encodes_) {
            std::byte* const encoded = lines > 0 ? encoded_ : to_;
            encode_numbers(numbers, type_, encoded, count, bf16_nan_);
            from = encoded;
        }
        if (lines > 0) stream_lines(to_, from, lines);
        const std::size_t done = lines * cache_line_bytes;
        if (from != to_ && size_bytes > done)
            std::memcpy(to_ + done, from + done, size_bytes - done);
        to_ += size_bytes;
    }

    /// Writes all remaining elements, from BF16 to F32 in one step, if possible.
    bool stream_bf16(const std::byte* from, std::uint64_t count) noexcept {
        constexpr std::size_t in_line = cache_line_bytes / sizeof(float);
        if (!streams_ || type_ != dtype::f32 || encodes_ || astray() != 0) return false;
        const std::size_t lines = static_cast<std::size_t>(count / in_line),
                          rest = static_cast<std::size_t>(count % in_line);
        if (!stream_bf16_lines(to_, from, lines)) return false;
        decode_numbers(dtype::bf16, from + lines * in_line * 2, to_ + lines * cache_line_bytes,
                       rest);
        to_ += static_cast<std::size_t>(count) * sizeof(float);
        return true;
    }

private:
    /// Bytes from the start of the current cache line.
    [[nodiscard]] std::size_t astray() const noexcept {
        return reinterpret_cast<std::uintptr_t>(to_) % cache_line_bytes;
    }

    dtype type_;
    std::size_t element_bytes_;
    std::byte* to_;
    std::uint32_t bf16_nan_;
    bool streams_;
    bool encodes_;
    alignas(cache_line_bytes) std::byte numbers_[most * sizeof(float)];
    alignas(cache_line_bytes) std::byte encoded_[most * sizeof(double)];
};

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
