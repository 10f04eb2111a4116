// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: reorders a checkpoint on disk. Experts are stored in the order that the model wants
// (gate 0, up 0, gate 1, up 1, ..., down 0, down 1, ...) under their own names. A later plan then
// needs one run per output: a view instead of a copy. Any safetensors reader can read the files.
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

/// The data of a repacked file begins at a multiple of this many bytes.
inline constexpr std::uint64_t repacked_alignment = detail::repacked_alignment;

/// A rewrite that changes no tensor and no name, only the position of tensors in files. All tensors
/// that `family` fuses into one output go to one file, contiguous and in the output's order. The
/// data of each file begins at a multiple of repacked_alignment, and so does each output whose size
/// is such a multiple. Other outputs are not aligned, because the format allows no gaps. Outputs
/// that do not consist of whole tensors (interleaved, transposed) stay as they are.
///   lifetime  the tensor set must outlive the plan; it may be moved, as with copy_plan
///   fails   file_changed, out_of_memory
[[nodiscard]] inline result<rewrite_plan> repack_plan(tensor_set_ref set,
                                                      const family_description& family,
                                                      const plan_options& options = {}) noexcept {
    return detail::plan_repacker::make(set, family, options);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
