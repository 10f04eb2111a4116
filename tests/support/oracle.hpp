// What must hold for every accepted file, written again without the library's arithmetic. Sums and
// products have 128 bits here, and nothing of detail/ is used. The fuzz targets, the mutants and
// the conformance test check every accepted file with it.
#ifndef SAFEFUSE_TESTS_ORACLE_HPP
#define SAFEFUSE_TESTS_ORACLE_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

#include <safefuse/format/header.hpp>
#include <safefuse/read/tensor_file.hpp>

namespace oracle {

/// A number of 128 bits: no sum or product of a file's numbers overflows in it, if intermediate
/// results are compared with 2^64.
struct wide {
    std::uint64_t high = 0;
    std::uint64_t low = 0;

    wide() = default;
    wide(std::uint64_t number) : low{number} {}  // NOLINT: implicit on purpose
    wide(std::uint64_t high_word, std::uint64_t low_word) : high{high_word}, low{low_word} {}

    friend wide operator+(wide a, wide b) {
        const std::uint64_t sum = a.low + b.low;
        return {a.high + b.high + (sum < a.low ? 1u : 0u), sum};
    }
    friend bool operator==(const wide&, const wide&) = default;
    bool fits_64_bits() const { return high == 0; }
};

/// a * b, by long multiplication in base 2^32.
inline wide product(std::uint64_t a, std::uint64_t b) {
    const std::uint64_t low_mask = 0xFFFFFFFF;
    const std::uint64_t ll = (a & low_mask) * (b & low_mask), lh = (a & low_mask) * (b >> 32),
                        hl = (a >> 32) * (b & low_mask), hh = (a >> 32) * (b >> 32);
    return wide{hh, ll} + wide{lh >> 32, lh << 32} + wide{hl >> 32, hl << 32};
}

/// Bits of an element, by the name in a header.
inline std::uint64_t bits_of(std::string_view type) {
    constexpr std::pair<std::string_view, std::uint64_t> all[] = {
        {"BOOL", 8},        {"F4", 4},          {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
        {"I8", 8},          {"F8_E5M2", 8},     {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},
        {"U16", 16},        {"F16", 16},        {"BF16", 16},   {"I32", 32},    {"U32", 32},
        {"F32", 32},        {"C64", 64},        {"F64", 64},    {"I64", 64},    {"U64", 64},
        {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
    };
    for (const auto& [name, bits] : all)
        if (name == type) return bits;
    return 0;
}

/// The fault in the table of an accepted file; empty if there is none.
///   file_bytes  the size of the file, or `unknown`
inline std::string_view fault_of(const safefuse::header& header, std::uint64_t file_bytes,
                                 const safefuse::read_options& options) {
    wide sizes_bytes, gaps_bytes;
    std::uint64_t previous_end = 0;
    for (std::size_t i = 0; i < header.size(); ++i) {
        const safefuse::tensor_entry entry = header[i];
        if (entry.begin > entry.end) return "a tensor ends before it begins";
        if (entry.end > header.data_bytes()) return "a tensor ends behind the data section";
        if (entry.begin < previous_end)
            return "two tensors share bytes, or are not in the order of their bytes";
        gaps_bytes = gaps_bytes + (entry.begin - previous_end);
        previous_end = entry.end;

        std::uint64_t elements = 1;
        for (const std::uint64_t extent : entry.shape) {
            const wide next = product(elements, extent);
            if (!next.fits_64_bits()) return "a shape has 2^64 elements or more";
            elements = next.low;
        }
        const std::uint64_t bits = bits_of(safefuse::name(entry.type));
        const wide size_bits = product(elements, bits);
        if (bits == 0) return "a dtype is unknown";
        if (!size_bits.fits_64_bits()) return "a tensor has 2^64 bits or more";
        if (size_bits.low % 8 != 0) return "a tensor ends inside a byte";
        if (size_bits.low / 8 != entry.end - entry.begin)
            return "a tensor's bytes are not those of its shape";
        sizes_bytes = sizes_bytes + size_bits.low / 8;
    }
    if (previous_end != header.data_bytes())
        return "the data section does not end with the last tensor";
    if (!(sizes_bytes + gaps_bytes == wide{header.data_bytes()})) return "the sizes do not add up";
    if (!(gaps_bytes == wide{header.gap_bytes()})) return "the gaps do not add up";
    if (!options.gaps && header.gap_bytes() != 0) return "there are gaps that nobody accepts";
    if (!options.trailing_bytes && header.trailing_bytes() != 0)
        return "there are trailing bytes that nobody accepts";
    const wide whole = wide{header.header_bytes()} + header.data_bytes() + header.trailing_bytes();
    if (!whole.fits_64_bits()) return "header and data together have 2^64 bytes or more";
    if (file_bytes != safefuse::unknown && !(whole == wide{file_bytes}))
        return "header and data are not the whole file";
    return {};
}

/// Reads a byte so that no compiler removes the read.
inline void look_at(std::byte value) {
    volatile unsigned char taken = static_cast<unsigned char>(value);
    static_cast<void>(taken);
}

/// The fault in the views of a file that `options` accept; empty if there is none. The file is
/// copied to memory of the exact size, and the first and last byte of each view are read, so that a
/// sanitizer detects a view outside the file.
inline std::string_view fault_of_views(std::string_view contents,
                                       const safefuse::read_options& options) {
    const auto copy = std::make_unique<std::byte[]>(contents.size());
    if (!contents.empty()) std::memcpy(copy.get(), contents.data(), contents.size());
    const auto file = safefuse::basic_tensor_file<safefuse::memory_source>::from(
        safefuse::memory_source{{copy.get(), contents.size()}}, "accepted", options);
    if (!file) return "the file is accepted by its header, and refused as a file";
    const auto first = reinterpret_cast<std::uintptr_t>(copy.get());
    for (std::size_t i = 0; i < file->size(); ++i) {
        const auto view = file->view(i);
        if (!view) return "a tensor of an accepted file has no view";
        if (view->size_bytes() != (*file)[i].end - (*file)[i].begin)
            return "a view has another size than its tensor";
        if (view->bytes().empty()) continue;
        const auto at = reinterpret_cast<std::uintptr_t>(view->bytes().data());
        if (at < first || at - first > contents.size() ||
            contents.size() - (at - first) < view->size_bytes())
            return "a view is not inside the file";
        look_at(view->bytes().front());
        look_at(view->bytes().back());
        const auto found = file->find((*file)[i].name);
        if (!found || found->bytes().data() != view->bytes().data())
            return "a tensor is found elsewhere than its view";
    }
    return {};
}

}  // namespace oracle

#endif
