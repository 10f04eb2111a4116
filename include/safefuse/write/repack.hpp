// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the same checkpoint in another order. Experts lie in their files as the model wants
// them (gate 0, up 0, gate 1, up 1,
// ..., down 0, down 1, ...), under their own names, so that a later plan is one run for each
// output: a view, no copy. Any reader of safetensors takes the files.
#ifndef SAFEFUSE_WRITE_REPACK_HPP
#define SAFEFUSE_WRITE_REPACK_HPP

#include <cstdint>

#include <safefuse/core/result.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/plan/plan_options.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/write/detail/plan_repacker.hpp>
#include <safefuse/write/rewrite_plan.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Where the data of a repacked file begins: on a multiple of this.
inline constexpr std::uint64_t repacked_alignment = detail::repacked_alignment;

/// A rewrite that changes no tensor and no name, only where in which file each lies: those that
/// `family` makes one output of lie in one file, end to end, in the output's order. The data of
/// each file begins on a multiple of repacked_alignment, and so does each output whose size is a
/// multiple of it; of others nothing is promised, for the format has no room for holes. Outputs
/// that cannot be put together from whole tensors (interleaved, transposed) are left as they are.
///   lifetime  the tensor set must outlive it and may be moved, as with copy_plan
///   fails   file_changed, out_of_memory
[[nodiscard]] inline result<rewrite_plan> repack_plan(tensor_set_ref set,
                                                      const family_description& family,
                                                      const plan_options& options = {}) noexcept {
    return detail::plan_repacker::make(set, family, options);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
