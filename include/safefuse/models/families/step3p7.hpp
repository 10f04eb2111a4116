// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: Step 3.7: stacked experts with gate and up in separate tensors; heads in another order
// of rows.
#ifndef SAFEFUSE_MODELS_FAMILIES_STEP3P7_HPP
#define SAFEFUSE_MODELS_FAMILIES_STEP3P7_HPP

#include <safefuse/models/families/common.hpp>
#include <safefuse/models/families/rope.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

/// Stacked experts, with gate and up in separate tensors.
using step3p7_experts = layout<module_suffixes, tensor<"gate_proj", stack<gate>>,
                               tensor<"up_proj", stack<up>>, tensor<"down_proj", stack<down>>>;
using step3p7_vision_joined =
    layout<suffixes<suffix<rope_weight, "_weight">, suffix<rope_bias, "_bias">>,
           tensor<"{i}.attn.in_proj", rope_qkv>>;
using step3p7_vision_apart =
    layout<rope_fields, tensor<"{i}.self_attn.q_proj", rope_in_a_row<rope_q_first, rope_q_second>>,
           tensor<"{i}.self_attn.k_proj", rope_in_a_row<rope_k_first, rope_k_second>>,
           tensor<"{i}.self_attn.v_proj", rope_in_a_row<rope_v_first, rope_v_second>>>;

/// StepFun's Step 3.7: on the hub experts are stacked, with gate and up in separate tensors, and
/// the vision tower's q, k and v are one matrix.
struct step3p7 : family<"step3p7", step3p7_experts, gate_up_fused, at_path<"moe", "mlp.experts">> {
    using forms = one_by_one<at_path<"mlp.experts">>;
    using extra_modules = extra_module_list<
        extra_module<at_path<"vision_model.transformer.resblocks", "model.vision_model.layers">,
                     step3p7_vision_joined, step3p7_vision_apart>>;
    using config_extents =
        extents_in_config<extent_in_config<"N", "vision_config.num_attention_heads">>;
    static constexpr rename_description renames[] = {
        rename("^vision_model", "model.vision_model"),
        rename("^vit_large_projector", "model.multi_modal_projector"),
        rename("^model.vision_model.conv1", "model.vision_model.embeddings.patch_embedding"),
        rename("^model.vision_model.positional_embedding",
               "model.vision_model.embeddings.position_embedding.weight"),
        rename("^model.vision_model.transformer.resblocks", "model.vision_model.layers"),
        rename("^model.vision_model.ln_pre", "model.vision_model.pre_layernorm"),
        rename("^model.vision_model.vit_downsampler1", "model.vision_model.downsampler1"),
        rename("^model.vision_model.vit_downsampler2", "model.vision_model.downsampler2"),
        rename("^model.vision_model.layers.{i}.ls_1.gamma",
               "model.vision_model.layers.{i}.lambda_1"),
        rename("^model.vision_model.layers.{i}.ls_2.gamma",
               "model.vision_model.layers.{i}.lambda_2"),
        rename("^model.vision_model.layers.{i}.mlp.c_fc", "model.vision_model.layers.{i}.mlp.fc1"),
        rename("^model.vision_model.layers.{i}.mlp.c_proj",
               "model.vision_model.layers.{i}.mlp.fc2"),
        rename("^model.vision_model.layers.{i}.attn", "model.vision_model.layers.{i}.self_attn"),
        rename("^model.vision_model.layers.{i}.ln_1",
               "model.vision_model.layers.{i}.layernorm_before"),
        rename("^model.vision_model.layers.{i}.ln_2",
               "model.vision_model.layers.{i}.layernorm_after"),
        rename("^model.embed_tokens", "model.language_model.embed_tokens"),
        rename("^model.layers", "model.language_model.layers"),
        rename("^model.norm", "model.language_model.norm"),
        rename("moe.gate", "mlp.gate"),
        rename("moe.router_bias", "mlp.gate.e_score_correction_bias"),
        rename("share_expert", "mlp.shared_experts")};
};

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
