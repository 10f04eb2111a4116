// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a short stand-in for something large, to tell whether two runs are about the same.
#ifndef SAFEFUSE_WRITE_FINGERPRINT_HPP
#define SAFEFUSE_WRITE_FINGERPRINT_HPP

#include <cstdint>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// 128 bits that stand for something large.
struct fingerprint {
    std::uint64_t high = 0;  ///< the first half
    std::uint64_t low = 0;   ///< the second half
    friend bool operator==(const fingerprint&, const fingerprint&) noexcept = default;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
