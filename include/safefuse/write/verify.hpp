// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: compares a checkpoint with what a rewrite would write.
#ifndef SAFEFUSE_WRITE_VERIFY_HPP
#define SAFEFUSE_WRITE_VERIFY_HPP

#include <cstdint>

#include <safefuse/core/progress.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/tensor/byte_source.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/write/detail/rewrite_comparison.hpp>
#include <safefuse/write/detail/rewrite_run.hpp>
#include <safefuse/write/rewrite_plan.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Compares a tensor set byte by byte with what a rewrite would write. Neither is loaded into
/// memory.
///   reads   every byte of both once
///   fails   tensor_not_found (missing in `other`), unexpected_tensor (only in `other`),
///           dtype_mismatch, shape_mismatch, bytes_differ (`offset` is relative to the tensor),
///           canceled, and as reading does
inline result<void> verify_rewritten(const rewrite_plan& plan, tensor_set_ref other,
                                     progress_ref progress = {}) noexcept {
    vector<std::uint32_t> chosen, counterpart;
    if (auto matched = detail::match_tensors(counterpart, plan.tensors(), other); !matched)
        return matched;
    for (std::uint32_t t = 0; t < plan.tensors().size(); ++t)
        if (!chosen.push(t)) return failure{.code = errc::out_of_memory};
    detail::rewrite_comparison comparison{plan.tensors(), other, counterpart.view()};
    detail::rewrite_run run{plan, progress, advice::release};
    return run.send(chosen.view(), comparison);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
