// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: Mistral Large 4: q and k of the vision tower in another order of rows.
#ifndef SAFEFUSE_MODELS_FAMILIES_MISTRAL_LARGE4_HPP
#define SAFEFUSE_MODELS_FAMILIES_MISTRAL_LARGE4_HPP

#include <safefuse/models/families/common.hpp>
#include <safefuse/models/families/rope.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

/// q and k of a vision tower: N heads of 2P rows. On the hub, rows of the two halves of a head
/// alternate.
using mistral_vision_stored =
    layout<rope_fields, tensor<"{i}.attention.wq", rope_in_turn<rope_q_first, rope_q_second>>,
           tensor<"{i}.attention.wk", rope_in_turn<rope_k_first, rope_k_second>>>;
using mistral_vision_held =
    layout<rope_fields, tensor<"{i}.attention.q_proj", rope_in_a_row<rope_q_first, rope_q_second>>,
           tensor<"{i}.attention.k_proj", rope_in_a_row<rope_k_first, rope_k_second>>>;

/// Mistral Large 4: w1, w3, w2 on the hub, directly under the layer; the vision tower's q and k
/// have another order of rows.
struct mistral_large4
    : family<"mistral_large4", per_expert_w123, gate_up_fused, at_path<"experts", "mlp.experts">> {
    using extra_modules = extra_module_list<extra_module<
        at_path<"vision_encoder.transformer.layers", "model.vision_tower.transformer.layers">,
        mistral_vision_stored, mistral_vision_held>>;
    using config_extents =
        extents_in_config<extent_in_config<"N", "vision_config.num_attention_heads">>;
    static constexpr rename_description renames[] = {
        rename("^vision_encoder", "model.vision_tower"),
        rename("^tok_embeddings", "model.language_model.embed_tokens"),
        rename("^lerope.alpha", "model.language_model.rotary_emb.alpha"),
        rename("^layers", "model.language_model.layers"),
        rename("^norm", "model.language_model.norm"),
        optional_rename("^output", "lm_head"),
        rename("^pre_mm_projector_norm", "model.multi_modal_projector.norm"),
        rename("^patch_merger", "model.multi_modal_projector.patch_merger"),
        rename("^vision_language_adapter.w_in", "model.multi_modal_projector.linear_1"),
        rename("^vision_language_adapter.w_out", "model.multi_modal_projector.linear_2"),
        rename("wv", "v_proj"),
        rename("wo", "o_proj"),
        rename("feed_forward.w1", "feed_forward.gate_proj"),
        rename("feed_forward.w2", "feed_forward.down_proj"),
        rename("feed_forward.w3", "feed_forward.up_proj"),
        rename("shared_experts.w1", "shared_experts.gate_proj"),
        rename("shared_experts.w2", "shared_experts.down_proj"),
        rename("shared_experts.w3", "shared_experts.up_proj"),
        rename("^model.language_model.layers.{i}.attention",
               "model.language_model.layers.{i}.self_attn"),
        rename("^model.language_model.layers.{i}.attention_norm",
               "model.language_model.layers.{i}.input_layernorm"),
        rename("^model.language_model.layers.{i}.ffn_norm",
               "model.language_model.layers.{i}.post_attention_layernorm"),
        rename("^model.language_model.layers.{i}.feed_forward",
               "model.language_model.layers.{i}.mlp"),
        rename("^model.language_model.layers.{i}.gate", "model.language_model.layers.{i}.mlp.gate"),
        rename("^model.language_model.layers.{i}.shared_experts",
               "model.language_model.layers.{i}.mlp.shared_experts"),
        rename("^model.language_model.layers.{i}.self_attn.wq",
               "model.language_model.layers.{i}.self_attn.q_proj"),
        rename("^model.language_model.layers.{i}.self_attn.wkv_a_with_mqa",
               "model.language_model.layers.{i}.self_attn.kv_a_proj_with_mqa"),
        rename("^model.language_model.layers.{i}.self_attn.wkv_b",
               "model.language_model.layers.{i}.self_attn.kv_b_proj"),
        rename("^model.language_model.layers.{i}.self_attn.kv_a_norm",
               "model.language_model.layers.{i}.self_attn.kv_a_layernorm"),
        rename("ssmax_scaling.s", "softmax_scaling.scale"),
        rename("ssmax_scaling.b", "softmax_scaling.bias")};
};

/// Only the language model of Mistral Large 4.
struct mistral_large4_text : family<"mistral_large4_text", per_expert_w123, gate_up_fused,
                                    at_path<"experts", "mlp.experts">> {
    static constexpr rename_description renames[] = {
        rename("^layers.{i}.attention", "layers.{i}.self_attn"),
        rename("^layers.{i}.attention_norm", "layers.{i}.input_layernorm"),
        rename("^layers.{i}.ffn_norm", "layers.{i}.post_attention_layernorm"),
        rename("^layers.{i}.feed_forward", "layers.{i}.mlp"),
        rename("^layers.{i}.gate", "layers.{i}.mlp.gate"),
        rename("^layers.{i}.shared_experts", "layers.{i}.mlp.shared_experts"),
        rename("^layers.{i}.self_attn.wq", "layers.{i}.self_attn.q_proj"),
        rename("^layers.{i}.self_attn.wkv_a_with_mqa", "layers.{i}.self_attn.kv_a_proj_with_mqa"),
        rename("^layers.{i}.self_attn.wkv_b", "layers.{i}.self_attn.kv_b_proj"),
        rename("^layers.{i}.self_attn.kv_a_norm", "layers.{i}.self_attn.kv_a_layernorm"),
        rename("ssmax_scaling.s", "softmax_scaling.scale"),
        rename("ssmax_scaling.b", "softmax_scaling.bias")};
};

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
