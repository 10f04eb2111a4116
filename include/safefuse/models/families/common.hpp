// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: declarations that several families share: short names of the standard layouts, the form
// that quantisers write, and layouts of modules other than experts.
#ifndef SAFEFUSE_MODELS_FAMILIES_COMMON_HPP
#define SAFEFUSE_MODELS_FAMILIES_COMMON_HPP

#include <safefuse/layout/family.hpp>
#include <safefuse/models/standard.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

// The standard layouts and parts, by their short names.
using layouts::down;
using layouts::flat_experts;
using layouts::gate;
using layouts::gate_up_fused;
using layouts::linear_pair;
using layouts::per_expert;
using layouts::per_expert_ungated;
using layouts::per_expert_w123;
using layouts::ungated_fused;
using layouts::up;

/// The form that quantisers (llm-compressor, ModelOpt, axolotl) write for experts that the hub
/// stores in another form: one module per matrix of each expert, with the names that most models
/// use.
template <class Modules, shared_experts Shared = shared_experts::some>
using one_by_one = stored_forms<stored_form<"per-expert", Modules, per_expert, Shared>>;

/// gate_up_proj [E, H, 2I], gate's columns first, and down_proj [E, I, H].
using gate_up_transposed =
    layout<parameter_suffixes, tensor<"gate_up_proj", stack<transpose<0, 1, concat<0, gate, up>>>>,
           tensor<"down_proj", stack<transpose<0, 1, down>>>>;

/// The short convolutions of q, k and v: three tensors [C, 1, W] on the hub, one tensor [3C, 1, W]
/// in the model.
using convolution_weight = field<"weight", field_role::value, 1, 1, 1>;
using q_convolution = matrix<"q_conv1d", "C", "ONE", "W">;
using k_convolution = matrix<"k_conv1d", "C", "ONE", "W">;
using v_convolution = matrix<"v_conv1d", "C", "ONE", "W">;
using convolutions_apart =
    layout<suffixes<suffix<convolution_weight, ".weight">>, tensor<"q_conv1d", q_convolution>,
           tensor<"k_conv1d", k_convolution>, tensor<"v_conv1d", v_convolution>>;
using convolutions_joined =
    layout<suffixes<suffix<convolution_weight, ".weight">>,
           tensor<"conv1d", concat<0, q_convolution, k_convolution, v_convolution>>>;

/// gate and up of a dense MLP or of shared experts: two matrices on the hub, one in the model.
using mlp_gate = matrix<"gate", "I", "H">;
using mlp_up = matrix<"up", "I", "H">;
using mlp_apart = layout<module_suffixes, tensor<"gate_proj", mlp_gate>, tensor<"up_proj", mlp_up>>;
using mlp_joined = layout<module_suffixes, tensor<"gate_up_proj", concat<0, mlp_gate, mlp_up>>>;

/// q, k and v with R rows each: one matrix on the hub, three in the model.
using attention_q = matrix<"q", "R", "H">;
using attention_k = matrix<"k", "R", "H">;
using attention_v = matrix<"v", "R", "H">;
using attention_apart = layout<module_suffixes, tensor<"q_proj", attention_q>,
                               tensor<"k_proj", attention_k>, tensor<"v_proj", attention_v>>;
// One alias for each name, because nvcc 13 loses text arguments that an alias template passes on.
using attention_as_qkv =
    layout<module_suffixes, tensor<"qkv", concat<0, attention_q, attention_k, attention_v>>>;
using attention_as_qkv_proj =
    layout<module_suffixes, tensor<"qkv_proj", concat<0, attention_q, attention_k, attention_v>>>;
using attention_as_w_qkv =
    layout<module_suffixes, tensor<"w_qkv", concat<0, attention_q, attention_k, attention_v>>>;

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
