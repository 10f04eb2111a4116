// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: which deviations from the format a header parser accepts.
#ifndef SAFEFUSE_FORMAT_READ_OPTIONS_HPP
#define SAFEFUSE_FORMAT_READ_OPTIONS_HPP

#include <cstdint>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// What a parser accepts. Each flag accepts something that the format's description forbids or
/// leaves open. The defaults accept what the reference implementation (safetensors 0.8) accepts,
/// except last_duplicate_wins, array_entries and object_dtypes, which are off here and on there.
struct read_options {
    /// limit for the size of the JSON; values above 4 GiB mean 4 GiB
    std::uint64_t max_header_bytes = 100'000'000;
    /// accept white space before the JSON; after it accept also tabs and line ends, not only spaces
    bool any_padding = true;
    /// accept and ignore fields of a tensor other than dtype, shape and data_offsets
    bool unknown_fields = true;
    /// accept a repeated key in `__metadata__`; the last one counts
    bool repeated_metadata = true;
    /// accept a repeated tensor name; the last one counts
    bool last_duplicate_wins = false;
    /// accept ["U8", [4], [0, 4]] for {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    bool array_entries = false;
    /// accept {"U8": null} for "U8"
    bool object_dtypes = false;
    /// accept bytes that belong to no tensor before and between tensors: header::gap_bytes()
    bool gaps = false;
    /// accept bytes after the last tensor: header::trailing_bytes()
    bool trailing_bytes = false;

    /// Exactly the format's description: no deviation is accepted.
    [[nodiscard]] static constexpr read_options strict() noexcept {
        return {.any_padding = false, .unknown_fields = false, .repeated_metadata = false};
    }
    /// What the reference implementation accepts.
    [[nodiscard]] static constexpr read_options reference() noexcept {
        return {.last_duplicate_wins = true, .array_entries = true, .object_dtypes = true};
    }
    /// The defaults, and bytes that belong to no tensor. Tensors that share bytes are still
    /// refused.
    [[nodiscard]] static constexpr read_options lenient() noexcept {
        return {.gaps = true, .trailing_bytes = true};
    }
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
