// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the parts of an expert, and the forms in which most checkpoints and models store them.
#ifndef SAFEFUSE_MODELS_STANDARD_HPP
#define SAFEFUSE_MODELS_STANDARD_HPP

#include <safefuse/layout/layout.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace layouts {

/// One expert: down(act(gate(x)) * up(x)), as torch.nn.Linear weights [out, in].
using gate = part<"gate", "I", "H">;
using up = part<"up", "I", "H">;
using down = part<"down", "H", "I">;

/// One module per matrix of each expert, as in most models on the hub: 7.gate_proj.weight.
using per_expert = layout<module_suffixes, tensor<"{i}.gate_proj", gate>, tensor<"{i}.up_proj", up>,
                          tensor<"{i}.down_proj", down>>;

/// Like per_expert, with Mixtral's names: w1 is gate, w3 is up, w2 is down.
using per_expert_w123 =
    layout<module_suffixes, tensor<"{i}.w1", gate>, tensor<"{i}.w3", up>, tensor<"{i}.w2", down>>;

/// Like per_expert, for experts without a gate.
using per_expert_ungated =
    layout<module_suffixes, tensor<"{i}.up_proj", up>, tensor<"{i}.down_proj", down>>;

/// The form of transformers 5: gate_up_proj [E, 2I, H], gate's rows first, and down_proj [E, H, I].
///   source  transformers 5.24.0 conversion_mapping.py "qwen2_moe";
///           tests/unit/write/rewrite.test.cpp compares with what it loaded
using gate_up_fused = layout<parameter_suffixes, tensor<"gate_up_proj", stack<concat<0, gate, up>>>,
                             tensor<"down_proj", stack<down>>>;

/// Like gate_up_fused, for experts without a gate: up_proj [E, I, H] and down_proj [E, H, I].
using ungated_fused =
    layout<parameter_suffixes, tensor<"up_proj", stack<up>>, tensor<"down_proj", stack<down>>>;

/// The form of MegaBlocks and DBRX: w1 (gate), v1 (up) and w2 (down transposed), each [E * I, H].
using flat_experts = layout<suffixes<suffix<weight, "">>, tensor<"w1", flatten<0, stack<gate>>>,
                            tensor<"v1", flatten<0, stack<up>>>,
                            tensor<"w2", flatten<0, stack<transpose<0, 1, down>>>>>;

/// Granite's names for matrices that are stored fused.
using linear_pair = layout<module_suffixes, tensor<"input_linear", stack<concat<0, gate, up>>>,
                           tensor<"output_linear", stack<down>>>;

}  // namespace layouts
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
