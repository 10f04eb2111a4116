// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: gpt-oss: rows of gate and up alternate; MXFP4 codes are transposed against BF16.
#ifndef SAFEFUSE_MODELS_FAMILIES_GPT_OSS_HPP
#define SAFEFUSE_MODELS_FAMILIES_GPT_OSS_HPP

#include <safefuse/models/families/common.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

/// gate_up_proj [E, H, 2I], columns g0, u0, g1, u1, ..., and down_proj [E, I, H], with biases.
/// MXFP4 codes and their scales have the other order of axes: gate_up_proj_blocks [E, 2I, H / 32,
/// 16].
using gpt_oss_blocks = quantized_field<"mxfp4_blocks", field_role::value,
                                       with_entries<16, transposed_form<per_group<32>>>>;
using gpt_oss_scales =
    quantized_field<"mxfp4_scales", field_role::scale, transposed_form<per_group<32>>>;
using gpt_oss_experts =
    layout<suffixes<suffix<weight, "">, suffix<bias, "_bias">, suffix<gpt_oss_blocks, "_blocks">,
                    suffix<gpt_oss_scales, "_scales">, suffix<weight_scale, "_weight_scale">,
                    suffix<weight_scale_2, "_weight_scale_2">, suffix<input_scale, "_input_scale">>,
           tensor<"gate_up_proj", stack<transpose<0, 1, interleave<0, 1, gate, up>>>>,
           tensor<"down_proj", stack<transpose<0, 1, down>>>>;

/// Only the MXFP4 codes, for plans to other layouts: rows g0, u0, g1, u1, ...
using gpt_oss_mxfp4 = layout<suffixes<suffix<mxfp4_blocks, "_blocks">,
                                      suffix<mxfp4_scales, "_scales">, suffix<bias, "_bias">>,
                             tensor<"gate_up_proj", stack<interleave<0, 1, gate, up>>>,
                             tensor<"down_proj", stack<down>>>;

/// OpenAI's gpt-oss: stored fused, with alternating rows of gate and up, as MXFP4 codes or BF16.
struct gpt_oss : family<"gpt_oss", gpt_oss_experts, gpt_oss_experts> {
    using forms = one_by_one<at_path<"mlp.experts">, shared_experts::none>;
};

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
