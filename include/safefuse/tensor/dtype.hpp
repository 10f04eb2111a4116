// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the 22 element types of the safetensors format.
#ifndef SAFEFUSE_TENSOR_DTYPE_HPP
#define SAFEFUSE_TENSOR_DTYPE_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/config.hpp>
#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/span.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// An element type. The order is that of the reference implementation (tensor.rs @ 24b0b28), whose
/// writer sorts by it in descending order.
enum class dtype : std::uint8_t {
    boolean,
    f4,
    f6_e2m3,
    f6_e3m2,
    u8,
    i8,
    f8_e5m2,
    f8_e4m3,
    f8_e8m0,
    f8_e4m3fnuz,
    f8_e5m2fnuz,
    i16,
    u16,
    f16,
    bf16,
    i32,
    u32,
    f32,
    c64,
    f64,
    i64,
    u64,
};

inline constexpr std::size_t dtype_count = 22;

namespace detail {

/// The characters of the name are stored in the row, so the table needs no initialisation at
/// program start.
struct dtype_row {
    char characters[14];
    std::uint8_t name_bytes;
    std::uint8_t bits;

    [[nodiscard]] constexpr std::string_view name() const noexcept {
        return characters_at(characters, name_bytes);
    }
};

inline constexpr dtype_row dtype_rows[dtype_count] = {
    {"BOOL", 4, 8},    {"F4", 2, 4},           {"F6_E2M3", 7, 6},      {"F6_E3M2", 7, 6},
    {"U8", 2, 8},      {"I8", 2, 8},           {"F8_E5M2", 7, 8},      {"F8_E4M3", 7, 8},
    {"F8_E8M0", 7, 8}, {"F8_E4M3FNUZ", 11, 8}, {"F8_E5M2FNUZ", 11, 8}, {"I16", 3, 16},
    {"U16", 3, 16},    {"F16", 3, 16},         {"BF16", 4, 16},        {"I32", 3, 32},
    {"U32", 3, 32},    {"F32", 3, 32},         {"C64", 3, 64},         {"F64", 3, 64},
    {"I64", 3, 64},    {"U64", 3, 64},
};

}  // namespace detail

/// The name as a header spells it: `BF16`, `F8_E4M3`, `BOOL`.
[[nodiscard]] constexpr std::string_view name(dtype type) noexcept {
    return detail::dtype_rows[static_cast<std::size_t>(type)].name();
}

/// Bits per element: 4, 6, 8, 16, 32 or 64.
[[nodiscard]] constexpr std::uint64_t bits(dtype type) noexcept {
    return detail::dtype_rows[static_cast<std::size_t>(type)].bits;
}

/// Stores the type with this exact, case-sensitive name. Returns false if there is none.
[[nodiscard]] constexpr bool parse_dtype(std::string_view spelled, dtype& type) noexcept {
    for (std::size_t i = 0; i < dtype_count; ++i) {
        if (detail::dtype_rows[i].name() != spelled) continue;
        type = static_cast<dtype>(i);
        return true;
    }
    return false;
}

/// Whether the elements are codes that need a scale to become numbers (F4, F6 and F8). Never cast
/// such elements alone.
[[nodiscard]] constexpr bool is_code(dtype type) noexcept {
    return (type >= dtype::f4 && type <= dtype::f6_e3m2) ||
           (type >= dtype::f8_e5m2 && type <= dtype::f8_e5m2fnuz);
}

/// The element type that a C++ type corresponds to. Specialise it for your own half-precision type.
template <class T>
inline constexpr bool has_dtype = false;
template <class T>
inline constexpr dtype dtype_of{};

// clang-format off
template <> inline constexpr bool has_dtype<bool> = true;
template <> inline constexpr dtype dtype_of<bool> = dtype::boolean;
template <> inline constexpr bool has_dtype<std::uint8_t> = true;
template <> inline constexpr dtype dtype_of<std::uint8_t> = dtype::u8;
template <> inline constexpr bool has_dtype<std::int8_t> = true;
template <> inline constexpr dtype dtype_of<std::int8_t> = dtype::i8;
template <> inline constexpr bool has_dtype<std::int16_t> = true;
template <> inline constexpr dtype dtype_of<std::int16_t> = dtype::i16;
template <> inline constexpr bool has_dtype<std::uint16_t> = true;
template <> inline constexpr dtype dtype_of<std::uint16_t> = dtype::u16;
template <> inline constexpr bool has_dtype<std::int32_t> = true;
template <> inline constexpr dtype dtype_of<std::int32_t> = dtype::i32;
template <> inline constexpr bool has_dtype<std::uint32_t> = true;
template <> inline constexpr dtype dtype_of<std::uint32_t> = dtype::u32;
template <> inline constexpr bool has_dtype<float> = true;
template <> inline constexpr dtype dtype_of<float> = dtype::f32;
template <> inline constexpr bool has_dtype<double> = true;
template <> inline constexpr dtype dtype_of<double> = dtype::f64;
template <> inline constexpr bool has_dtype<std::int64_t> = true;
template <> inline constexpr dtype dtype_of<std::int64_t> = dtype::i64;
template <> inline constexpr bool has_dtype<std::uint64_t> = true;
template <> inline constexpr dtype dtype_of<std::uint64_t> = dtype::u64;
// clang-format on

/// Extents of a tensor, outermost first. Empty for a scalar.
using shape_view = span<const std::uint64_t>;

namespace detail {

/// Whether two shapes have the same axes.
[[nodiscard]] SAFEFUSE_NOINLINE constexpr bool same_shape(shape_view a, shape_view b) noexcept {
    bool same = a.size() == b.size();
    for (std::size_t axis = 0; same && axis < a.size(); ++axis) same = a[axis] == b[axis];
    return same;
}

}  // namespace detail

/// The outcome of computing a tensor's size.
enum class size_verdict : std::uint8_t { fits, overflows, partial_byte };

/// Stores the size of a tensor in bytes.
///   fails   overflows: the product of the extents, computed from left to right, or the size in
///           bits does not fit 64 bits. As in the reference, [0, huge, huge] is valid and [huge,
///           huge, 0] is not. partial_byte: F4 or F6 elements end inside a byte
[[nodiscard]] constexpr size_verdict tensor_size(dtype type, shape_view shape,
                                                 std::uint64_t& size_bytes) noexcept {
    std::uint64_t elements = 1;
    for (const std::uint64_t extent : shape)
        if (!detail::checked_mul(elements, extent, elements)) return size_verdict::overflows;
    std::uint64_t size_bits = 0;
    if (!detail::checked_mul(elements, bits(type), size_bits)) return size_verdict::overflows;
    if (size_bits % 8 != 0) return size_verdict::partial_byte;
    size_bytes = size_bits / 8;
    return size_verdict::fits;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
