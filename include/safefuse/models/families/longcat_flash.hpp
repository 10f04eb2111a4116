// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: LongCat-Flash: experts without a down matrix.
#ifndef SAFEFUSE_MODELS_FAMILIES_LONGCAT_FLASH_HPP
#define SAFEFUSE_MODELS_FAMILIES_LONGCAT_FLASH_HPP

#include <safefuse/models/families/common.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

/// Zero-computation experts have a gate and an up matrix but no down matrix. T counts all experts,
/// E those that compute.
using longcat_gate = part_of<expert_range<"T">, "gate", "I", "H">;
using longcat_up = part_of<expert_range<"T">, "up", "I", "H">;
using longcat_per_expert = layout<module_suffixes, tensor<"{i}.gate_proj", longcat_gate>,
                                  tensor<"{i}.up_proj", longcat_up>, tensor<"{i}.down_proj", down>>;
using longcat_fused =
    layout<parameter_suffixes, tensor<"gate_up_proj", stack<concat<0, longcat_gate, longcat_up>>>,
           tensor<"down_proj", stack<down>>>;

/// Meituan's LongCat-Flash: experts that compute nothing have no down matrix.
struct longcat_flash : family<"longcat_flash", longcat_per_expert, longcat_fused> {};

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
