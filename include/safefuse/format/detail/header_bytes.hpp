// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: what the reader and the writer of a header both know of its bytes.
#ifndef SAFEFUSE_FORMAT_DETAIL_HEADER_BYTES_HPP
#define SAFEFUSE_FORMAT_DETAIL_HEADER_BYTES_HPP

#include <cstdint>
#include <string_view>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// How many bytes the length of the JSON takes, at the start of a file.
inline constexpr std::uint64_t length_bytes = 8;

/// A header's key that names no tensor.
inline constexpr std::string_view metadata_key = "__metadata__";

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
