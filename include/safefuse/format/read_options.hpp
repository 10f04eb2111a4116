// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: what the reader of a header accepts.
#ifndef SAFEFUSE_FORMAT_READ_OPTIONS_HPP
#define SAFEFUSE_FORMAT_READ_OPTIONS_HPP

#include <cstdint>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// What a file may be like. Each flag accepts something that the format's description forbids or
/// leaves open. The defaults give the verdicts of the reference implementation (safetensors 0.8)
/// but for last_duplicate_wins, array_entries and object_dtypes, which it has on.
struct read_options {
    std::uint64_t max_header_bytes = 100'000'000;  ///< of the JSON; above 4 GiB it means 4 GiB
    bool any_padding = true;  ///< accept white space before the JSON, and tabs and line ends behind
                              ///< it, not spaces alone
    bool unknown_fields =
        true;  ///< accept and ignore what a tensor has beside dtype, shape and data_offsets
    bool repeated_metadata =
        true;  ///< accept a key of `__metadata__` that stands there twice; the last one counts
    bool last_duplicate_wins =
        false;  ///< accept a tensor name that stands there twice; the last one counts
    bool array_entries = false;  ///< accept ["U8", [4], [0, 4]] for {"dtype": "U8", "shape": [4],
                                 ///< "data_offsets": [0, 4]}
    bool object_dtypes = false;  ///< accept {"U8": null} for "U8"
    bool gaps =
        false;  ///< accept bytes of no tensor before and between tensors: header::gap_bytes()
    bool trailing_bytes = false;  ///< accept bytes behind the last tensor: header::trailing_bytes()

    /// The format to the letter: nothing above is accepted.
    [[nodiscard]] static constexpr read_options strict() noexcept {
        return {.any_padding = false, .unknown_fields = false, .repeated_metadata = false};
    }
    /// The verdicts of the reference implementation.
    [[nodiscard]] static constexpr read_options reference() noexcept {
        return {.last_duplicate_wins = true, .array_entries = true, .object_dtypes = true};
    }
    /// The defaults, and bytes that belong to no tensor. Tensors that share bytes are refused all
    /// the same.
    [[nodiscard]] static constexpr read_options lenient() noexcept {
        return {.gaps = true, .trailing_bytes = true};
    }
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
