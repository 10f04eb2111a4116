// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: constants of the header format that the parser and the writer share.
#ifndef SAFEFUSE_FORMAT_DETAIL_HEADER_BYTES_HPP
#define SAFEFUSE_FORMAT_DETAIL_HEADER_BYTES_HPP

#include <cstdint>
#include <string_view>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// The size in bytes of the header length at the start of a file.
inline constexpr std::uint64_t length_bytes = 8;

/// The header key that is not the name of a tensor.
inline constexpr std::string_view metadata_key = "__metadata__";

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
