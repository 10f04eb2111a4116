// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: reports an invalid tensor size as a failure.
#ifndef SAFEFUSE_TENSOR_DETAIL_SIZE_CHECK_HPP
#define SAFEFUSE_TENSOR_DETAIL_SIZE_CHECK_HPP

#include <cstdint>

#include <safefuse/core/config.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/tensor/dtype.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Stores the size of a tensor in bytes, as tensor_size does.
///   fails   size_overflow, partial_byte; the caller adds the tensor's name
[[nodiscard]] SAFEFUSE_NOINLINE inline result<void> check_size(dtype type, shape_view shape,
                                                               std::uint64_t& size_bytes) noexcept {
    const size_verdict verdict = tensor_size(type, shape, size_bytes);
    if (verdict == size_verdict::fits) return {};
    return failure{.code = verdict == size_verdict::overflows ? errc::size_overflow
                                                              : errc::partial_byte};
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
