// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: transposes matrices of elements of 1, 2, 4 or 8 bytes. Squares of 16 bytes a side are
// transposed in registers with compiler vectors if available. The scalar version gives equal
// results.
#ifndef SAFEFUSE_RUN_DETAIL_TRANSPOSE_HPP
#define SAFEFUSE_RUN_DETAIL_TRANSPOSE_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include <safefuse/core/span.hpp>
#include <safefuse/run/detail/copy_bytes.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Elements on a side of a square.
template <class Element>
inline constexpr std::size_t square_side = 16 / sizeof(Element);

/// to[c][r] = from[r][c] for `rows` rows of `columns` elements. Strides are in bytes.
template <class Element>
void transpose_scalar(const std::byte* from, std::size_t from_stride, std::byte* to,
                      std::size_t to_stride, std::size_t rows, std::size_t columns) noexcept {
    for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c) {
            Element element;
            std::memcpy(&element, from + r * from_stride + c * sizeof element, sizeof element);
            std::memcpy(to + c * to_stride + r * sizeof element, &element, sizeof element);
        }
}

// i386 is excluded because its calling convention for vectors depends on compiler flags.
#if (defined(__GNUC__) || defined(__clang__)) && !defined(__i386__)

template <class Element>
class square {
public:
    [[gnu::always_inline]] static void transpose(const std::byte* from, std::size_t from_stride,
                                                 std::byte* to, std::size_t to_stride) noexcept {
        transpose(from, from_stride, to, to_stride, std::make_index_sequence<side>{});
    }

private:
    static constexpr std::size_t side = square_side<Element>;
    using row [[gnu::vector_size(16), gnu::may_alias]] = Element;

    // In each round, the elements of rows i and i + side/2 alternate in the new rows 2i and 2i + 1.
    // After log2(side) rounds, rows are columns.
    template <std::size_t... At>
    [[gnu::always_inline]] static void transpose(const std::byte* from, std::size_t from_stride,
                                                 std::byte* to, std::size_t to_stride,
                                                 std::index_sequence<At...> each) noexcept {
        row a[side], b[side];
        (std::memcpy(&a[At], from + At * from_stride, sizeof(row)), ...);
        if constexpr (side == 2) {
            round(a, b, each);
            (std::memcpy(to + At * to_stride, &b[At], sizeof(row)), ...);
        } else if constexpr (side == 4) {
            round(a, b, each);
            round(b, a, each);
            (std::memcpy(to + At * to_stride, &a[At], sizeof(row)), ...);
        } else if constexpr (side == 8) {
            round(a, b, each);
            round(b, a, each);
            round(a, b, each);
            (std::memcpy(to + At * to_stride, &b[At], sizeof(row)), ...);
        } else {
            round(a, b, each);
            round(b, a, each);
            round(a, b, each);
            round(b, a, each);
            (std::memcpy(to + At * to_stride, &a[At], sizeof(row)), ...);
        }
    }
    template <std::size_t... At>
    [[gnu::always_inline]] static void round(const row* from, row* to,
                                             std::index_sequence<At...>) noexcept {
        ((to[At] = At % 2 == 0 ? low(from[At / 2], from[At / 2 + side / 2])
                               : high(from[At / 2], from[At / 2 + side / 2])),
         ...);
    }
    // The indices are written out because nvcc 13 accepts no pack expansion for them.
    [[gnu::always_inline]] static row low(row a, row b) noexcept {
        if constexpr (side == 2)
            return __builtin_shufflevector(a, b, 0, 2);
        else if constexpr (side == 4)
            return __builtin_shufflevector(a, b, 0, 4, 1, 5);
        else if constexpr (side == 8)
            return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
        else
            return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7,
                                           23);
    }
    [[gnu::always_inline]] static row high(row a, row b) noexcept {
        if constexpr (side == 2)
            return __builtin_shufflevector(a, b, 1, 3);
        else if constexpr (side == 4)
            return __builtin_shufflevector(a, b, 2, 6, 3, 7);
        else if constexpr (side == 8)
            return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
        else
            return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14,
                                           30, 15, 31);
    }
};

#if defined(__x86_64__)

/// Pairs of neighbouring squares of elements of 1 or 2 bytes, in vectors of 32 bytes: each half
/// contains a row of one square.
template <class Element>
class square_pairs {
public:
    /// Transposes the pairs of a band, which is as high as a square. Returns the columns done.
    [[gnu::target("avx2")]] SAFEFUSE_NOINLINE static std::size_t transpose(
        const std::byte* from, std::size_t from_stride, std::byte* to, std::size_t to_stride,
        std::size_t columns) noexcept {
        std::size_t done = 0;
        for (; columns - done >= 2 * side; done += 2 * side)
            transpose(from + done * sizeof(Element), from_stride, to + done * to_stride, to_stride,
                      std::make_index_sequence<side>{});
        return done;
    }

private:
    static constexpr std::size_t side = square_side<Element>;
    using row [[gnu::vector_size(32), gnu::may_alias]] = Element;
    static constexpr std::size_t half_bytes = sizeof(row) / 2;

    // The rounds are those of `square`, in both halves.
    template <std::size_t... At>
    [[gnu::target("avx2"), gnu::always_inline]] static void transpose(
        const std::byte* from, std::size_t from_stride, std::byte* to, std::size_t to_stride,
        std::index_sequence<At...> each) noexcept {
        row a[side], b[side];
        (std::memcpy(&a[At], from + At * from_stride, sizeof(row)), ...);
        round(a, b, each);
        round(b, a, each);
        round(a, b, each);
        if constexpr (side > 8) round(b, a, each);
        row(&turned)[side] = side == 8 ? b : a;
        (std::memcpy(to + At * to_stride, &turned[At], half_bytes), ...);
        (std::memcpy(to + (side + At) * to_stride,
                     reinterpret_cast<const std::byte*>(&turned[At]) + half_bytes, half_bytes),
         ...);
    }
    template <std::size_t... At>
    [[gnu::target("avx2"), gnu::always_inline]] static void round(
        const row* from, row* to, std::index_sequence<At...>) noexcept {
        (merge<At % 2>(from[At / 2], from[At / 2 + side / 2], to[At]), ...);
    }
    /// Merges the lower (0) or upper (1) halves of two rows of each square, element by element.
    template <std::size_t Upper>
    [[gnu::target("avx2"), gnu::always_inline]] static void merge(const row& a, const row& b,
                                                                  row& out) noexcept {
        if constexpr (side == 8 && Upper == 0)
            out = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 8, 24, 9, 25, 10, 26,
                                          11, 27);
        else if constexpr (side == 8)
            out = __builtin_shufflevector(a, b, 4, 20, 5, 21, 6, 22, 7, 23, 12, 28, 13, 29, 14, 30,
                                          15, 31);
        else if constexpr (Upper == 0)
            out = __builtin_shufflevector(a, b, 0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7,
                                          39, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22,
                                          54, 23, 55);
        else
            out = __builtin_shufflevector(a, b, 8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14,
                                          46, 15, 47, 24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29,
                                          61, 30, 62, 31, 63);
    }
};

#endif

#else

template <class Element>
class square {
public:
    static void transpose(const std::byte* from, std::size_t from_stride, std::byte* to,
                          std::size_t to_stride) noexcept {
        transpose_scalar<Element>(from, from_stride, to, to_stride, square_side<Element>,
                                  square_side<Element>);
    }
};

#endif

/// Copies the rows of a tile to their places. With `in_lines`, they start at cache lines and are
/// written with streaming stores.
SAFEFUSE_NOINLINE inline void write_tile(std::byte* to, std::size_t to_stride,
                                         const std::byte* tile, std::size_t tile_stride,
                                         std::size_t rows, std::size_t row_bytes,
                                         bool in_lines) noexcept {
    for (; rows > 0; --rows, to += to_stride, tile += tile_stride)
        if (in_lines && row_bytes % cache_line_bytes == 0)
            stream_lines(to, tile, row_bytes / cache_line_bytes);
        else
            copy_by_library(to, tile, row_bytes);
}

// A tile is one source line wide, so that each line is read once, and some destination lines high.
inline constexpr std::size_t tile_row_bytes = 4 * cache_line_bytes;
/// Rows of a band of a tile: one square or more.
inline constexpr std::size_t band_rows = 16;

/// Transposes a band of a tile: at most band_rows rows of `columns` elements.
using band_function = void (*)(const std::byte* from, std::size_t from_stride, std::byte* tile,
                               std::size_t rows, std::size_t columns) noexcept;

template <class Element>
void transpose_band(const std::byte* from, std::size_t from_stride, std::byte* tile,
                    std::size_t rows, std::size_t columns) noexcept {
    constexpr std::size_t side = square_side<Element>;
    for (std::size_t r = 0; r < rows; r += side)
        for (std::size_t c = 0; c < columns; c += side) {
            const std::byte* const corner = from + r * from_stride + c * sizeof(Element);
            std::byte* const turned = tile + c * tile_row_bytes + r * sizeof(Element);
            const std::size_t high = rows - r, wide = columns - c;
            if (high >= side && wide >= side)
                square<Element>::transpose(corner, from_stride, turned, tile_row_bytes);
            else
                transpose_scalar<Element>(corner, from_stride, turned, tile_row_bytes,
                                          high < side ? high : side, wide < side ? wide : side);
        }
}

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
/// transpose_band for processors with AVX2.
template <class Element>
void transpose_band_in_pairs(const std::byte* from, std::size_t from_stride, std::byte* tile,
                             std::size_t rows, std::size_t columns) noexcept {
    constexpr std::size_t side = square_side<Element>;
    for (std::size_t r = 0; r < rows; r += side) {
        const std::byte* const row = from + r * from_stride;
        const std::size_t high = rows - r < side ? rows - r : side;
        std::size_t done = 0;
        if (high == side)
            done = square_pairs<Element>::transpose(row, from_stride, tile + r * sizeof(Element),
                                                    tile_row_bytes, columns);
        if (done < columns)
            transpose_band<Element>(row + done * sizeof(Element), from_stride,
                                    tile + done * tile_row_bytes + r * sizeof(Element), high,
                                    columns - done);
    }
}
#endif

/// to[c][r] = from[r][c] for `rows` rows of `columns` elements of `element_bytes`. Strides are in
/// bytes. `band` transposes the bands: see band_of. With `streams`, uses streaming stores; call
/// finish_streaming() afterwards. One copy for all elements.
SAFEFUSE_NOINLINE inline void transpose_tiles(const std::byte* from, std::size_t from_stride,
                                              std::byte* to, std::size_t to_stride,
                                              std::size_t rows, std::size_t columns,
                                              std::size_t element_bytes, band_function band,
                                              bool streams) noexcept {
    const std::size_t tile_columns = cache_line_bytes / element_bytes,
                      tile_rows = tile_row_bytes / element_bytes;
    // A tile is assembled in a small array first, because rows at a distance of a large power of
    // two compete for the same few cache lines. Tiles follow each other along the source's rows.
    // While one is made, the destination of the next and the source of the one after it are
    // prefetched.
    constexpr std::size_t ahead_bytes = 2 * cache_line_bytes;
    alignas(cache_line_bytes) std::byte tile[cache_line_bytes * tile_row_bytes];
    const bool in_lines = streams && to_stride % cache_line_bytes == 0 && bytes_to_line(to) == 0;
    for (std::size_t r = 0; r < rows; r += tile_rows)
        for (std::size_t c = 0; c < columns; c += tile_columns) {
            const std::size_t high = rows - r < tile_rows ? rows - r : tile_rows;
            const std::size_t wide = columns - c < tile_columns ? columns - c : tile_columns;
            std::size_t next_column = c + tile_columns;
            for (std::size_t rr = 0; rr < high; rr += band_rows) {
                const std::byte* const first = from + (r + rr) * from_stride + c * element_bytes;
                const std::size_t count = high - rr < band_rows ? high - rr : band_rows;
                prefetch_rows(first + ahead_bytes, from_stride, count);
                for (; !in_lines && next_column < columns &&
                       next_column < c + tile_columns + (rr + count) * tile_columns / high;
                     ++next_column)
                    prefetch_to_write(to + next_column * to_stride + r * element_bytes,
                                      high * element_bytes);
                band(first, from_stride, tile + rr * element_bytes, count, wide);
            }
            write_tile(to + c * to_stride + r * element_bytes, to_stride, tile, tile_row_bytes,
                       wide, high * element_bytes, in_lines);
        }
}

/// The fastest band function for elements of this type on this processor.
template <class Element>
[[nodiscard]] band_function band_of() noexcept {
#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
    if constexpr (sizeof(Element) <= 2)  // the sizes of common weights
        if (has_wide_vectors()) return &transpose_band_in_pairs<Element>;
#endif
    return &transpose_band<Element>;
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
