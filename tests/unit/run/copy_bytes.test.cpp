#include <safefuse/run/detail/copy_bytes.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include <safefuse/run/detail/transpose.hpp>

namespace detail = safefuse::detail;

namespace {

std::vector<std::byte> noise(std::size_t size) {
    std::vector<std::byte> out(size);
    std::uint32_t state = 12345;
    for (std::byte& each : out) {
        state = state * 1664525u + 1013904223u;
        each = static_cast<std::byte>(state >> 24);
    }
    return out;
}

constexpr std::size_t page = 4096;
std::byte* page_start(std::vector<std::byte>& bytes) {
    return bytes.data() + (page - reinterpret_cast<std::uintptr_t>(bytes.data()) % page) % page;
}

/// Copies in every way. Each must equal memcpy and write nothing else.
void check_copies(std::byte* to, const std::byte* from, std::size_t size) {
    const auto check = [&](auto&& copy) {
        constexpr std::size_t margin = 64;
        std::memset(to - margin, 0xEE, size + 2 * margin);
        copy();
        CHECK(std::memcmp(to, from, size) == 0);
        const auto is_untouched = [](std::byte b) { return b == std::byte{0xEE}; };
        CHECK(std::all_of(to - margin, to, is_untouched));
        CHECK(std::all_of(to + size, to + size + margin, is_untouched));
    };
    check([&] { detail::copy_bytes(to, from, size); });
    check([&] { detail::copy_by_library(to, from, size); });
    check([&] { detail::copy_to_read_soon(to, from, size); });
    check([&] {
        detail::stream_bytes(to, from, size);
        detail::finish_streaming();
    });
    if (size % detail::cache_line_bytes != 0) return;
    check([&] { detail::copy_lines(to, from, size / detail::cache_line_bytes); });
    if (detail::bytes_to_line(to) != 0) return;
    check([&] {
        detail::stream_lines(to, from, size / detail::cache_line_bytes);
        detail::finish_streaming();
    });
#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
    check([&] {
        detail::stream_lines_narrow(to, from, size / detail::cache_line_bytes);
        detail::finish_streaming();
    });
#endif
}

template <class Element>
void check_transposes() {
    using detail::square_side;
    const std::size_t side = square_side<Element>,
                      tile = detail::cache_line_bytes / sizeof(Element);
    for (const std::size_t rows : {std::size_t{1}, side - 1, side, side + 1, 4 * tile - 1, 4 * tile,
                                   4 * tile + side, 9 * tile})
        for (const std::size_t columns :
             {std::size_t{1}, side - 1, side, tile - 1, tile, tile + 1, 2 * tile + side + 1})
            for (const std::size_t astray :
                 {0u, 1u, 8u, 64u}) {  // both sides, with more bytes between the rows
                const std::size_t from_stride = columns * sizeof(Element) + astray,
                                  to_stride = rows * sizeof(Element) + astray;
                std::vector<std::byte> from = noise(rows * from_stride + astray),
                                       to(columns * to_stride + 2 * page), expected = to;
                CAPTURE(sizeof(Element));
                CAPTURE(rows);
                CAPTURE(columns);
                CAPTURE(astray);
                const auto offset = static_cast<std::size_t>(page_start(to) - to.data()) + astray;
                detail::transpose_scalar<Element>(from.data() + astray, from_stride,
                                                  expected.data() + offset, to_stride, rows,
                                                  columns);
                for (const detail::band_function band :
                     {detail::band_of<Element>(), &detail::transpose_band<Element>})
                    for (const bool streams : {false, true}) {
                        std::fill(to.begin(), to.end(), std::byte{0});
                        detail::transpose_tiles(from.data() + astray, from_stride,
                                                to.data() + offset, to_stride, rows, columns,
                                                sizeof(Element), band, streams);
                        detail::finish_streaming();
                        CHECK(to == expected);
                    }
                for (std::size_t r = 0; r < rows; r += side)
                    for (std::size_t c = 0; c < columns; c += side) {
                        const std::size_t high = std::min(side, rows - r),
                                          wide = std::min(side, columns - c);
                        if (high != side || wide != side) continue;
                        std::byte whole[16 * 16], plain[16 * 16];
                        const std::byte* const corner =
                            from.data() + astray + r * from_stride + c * sizeof(Element);
                        detail::square<Element>::transpose(corner, from_stride, whole, 16);
                        detail::transpose_scalar<Element>(corner, from_stride, plain, 16, side,
                                                          side);
                        CHECK(std::memcmp(whole, plain, side * 16) == 0);
                    }
            }
}

}  // namespace

TEST_CASE("copy_bytes: equals memcpy for every size and alignment up to some cache lines") {
    std::vector<std::byte> from = noise(2 * page), to(4 * page);
    for (const std::size_t from_astray : {0u, 1u, 8u, 63u})
        for (std::size_t to_astray = 0; to_astray < 66; to_astray += 1 + to_astray % 3)
            for (std::size_t size = 0; size < 300; ++size)
                check_copies(page_start(to) + 64 + to_astray, page_start(from) + from_astray, size);
}

TEST_CASE(
    "copy_bytes: equals memcpy for sizes near every threshold, at every critical distance "
    "within a page") {
    const std::size_t most = (std::size_t{1} << 20) + 100;
    std::vector<std::byte> from = noise(most + 3 * page), to(most + 4 * page);
    for (const std::size_t size :
         {std::size_t{511}, std::size_t{512}, std::size_t{513}, std::size_t{2047},
          std::size_t{2048}, std::size_t{2049}, std::size_t{65'536}, std::size_t{1} << 20,
          (std::size_t{1} << 20) + 1})
        for (const std::size_t apart : {0u, 1u, 2u, 8u, 15u, 16u, 17u, 64u, 4081u, 4095u}) {
            CAPTURE(size);
            CAPTURE(apart);
            check_copies(page_start(to) + page + apart, page_start(from), size);
            check_copies(page_start(to) + page, page_start(from) + apart, size);
        }
}

TEST_CASE("copy_to_read_soon: equals memcpy for sizes near a multiple of what it copies at once") {
    const std::size_t at_once = detail::pages_at_once * detail::page_bytes;
    std::vector<std::byte> from = noise(3 * at_once + 3 * page), to(3 * at_once + 4 * page);
    for (const std::size_t size :
         {at_once - 1, at_once, at_once + 1, 3 * at_once - 1, 3 * at_once, 3 * at_once + page})
        for (const std::size_t apart : {0u, 1u, 63u, 64u})
            check_copies(page_start(to) + page + apart, page_start(from), size);
}

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
TEST_CASE("copy_bytes: copies that glibc 2.36 does slowly on some processors are recognised") {
    std::vector<std::byte> some(4 * page);
    std::byte* const start = page_start(some);
    for (std::size_t apart = 0; apart < page; ++apart) {
        const bool is_slow = apart >= 1 && apart <= 15;
        CHECK(detail::library_is_slow(start + page + apart, start, 2048) == is_slow);
        CHECK(detail::library_is_slow(start + apart, start + page, std::size_t{1} << 20) ==
              is_slow);
        CHECK_FALSE(detail::library_is_slow(start + apart, start, 2047));
        CHECK_FALSE(detail::library_is_slow(start + apart, start, (std::size_t{1} << 20) + 1));
    }
}
#endif

TEST_CASE(
    "transpose: whole and partial tiles of every element size equal the scalar version, and "
    "nothing else is written") {
    check_transposes<std::uint8_t>();
    check_transposes<std::uint16_t>();
    check_transposes<std::uint32_t>();
    check_transposes<std::uint64_t>();
}
