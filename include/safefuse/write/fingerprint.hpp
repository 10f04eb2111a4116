// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a 128-bit fingerprint, to tell whether two runs work on the same thing.
#ifndef SAFEFUSE_WRITE_FINGERPRINT_HPP
#define SAFEFUSE_WRITE_FINGERPRINT_HPP

#include <cstdint>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// A 128-bit fingerprint.
struct fingerprint {
    std::uint64_t high = 0;  ///< first half
    std::uint64_t low = 0;   ///< second half
    friend bool operator==(const fingerprint&, const fingerprint&) noexcept = default;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
