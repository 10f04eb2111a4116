// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: DeepSeek V4: factors of codes are called scale, and most names are shorter on the hub.
#ifndef SAFEFUSE_MODELS_FAMILIES_DEEPSEEK_V4_HPP
#define SAFEFUSE_MODELS_FAMILIES_DEEPSEEK_V4_HPP

#include <safefuse/models/families/common.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

/// Mixtral's names, with factors of codes that are called scale.
using deepseek_v4_experts =
    layout<suffixes<suffix<weight, ".weight">, suffix<weight_scale_inv, ".scale">>,
           tensor<"{i}.w1", gate>, tensor<"{i}.w3", up>, tensor<"{i}.w2", down>>;

/// DeepSeek V4: experts are w1, w3, w2 on the hub, and most names are shorter there.
struct deepseek_v4 : family<"deepseek_v4", deepseek_v4_experts, gate_up_fused,
                            at_path<"ffn.experts", "mlp.experts">> {
    static constexpr rename_description renames[] = {
        rename("^layers", "model.layers"), rename("^embed", "model.embed_tokens"),
        rename("^norm", "model.norm"), optional_rename("^head", "lm_head"),
        rename("^hc_head_fn", "model.hc_head.hc_fn"),
        rename("^hc_head_base", "model.hc_head.hc_base"),
        rename("^hc_head_scale", "model.hc_head.hc_scale"), rename("hc_attn_fn", "attn_hc.fn"),
        rename("hc_attn_base", "attn_hc.base"), rename("hc_attn_scale", "attn_hc.scale"),
        rename("hc_ffn_fn", "ffn_hc.fn"), rename("hc_ffn_base", "ffn_hc.base"),
        rename("hc_ffn_scale", "ffn_hc.scale"), rename("attn_norm", "input_layernorm"),
        rename("ffn_norm", "post_attention_layernorm"), rename("ffn", "mlp"),
        rename("mlp.gate.bias", "mlp.gate.e_score_correction_bias"),
        rename("mlp.shared_experts.w1", "mlp.shared_experts.gate_proj"),
        rename("mlp.shared_experts.w2", "mlp.shared_experts.down_proj"),
        rename("mlp.shared_experts.w3", "mlp.shared_experts.up_proj"), rename("attn", "self_attn"),
        rename("self_attn.attn_sink", "self_attn.sinks"),
        rename("self_attn.q_norm", "self_attn.q_a_norm"),
        rename("self_attn.wq_a", "self_attn.q_a_proj"),
        rename("self_attn.wq_b", "self_attn.q_b_proj"),
        rename("self_attn.wo_a", "self_attn.o_a_proj"),
        rename("self_attn.wo_b", "self_attn.o_b_proj"), rename("wkv", "kv_proj"),
        rename("ape", "position_bias"),
        rename("self_attn.indexer.compressor", "self_attn.compressor.indexer"),
        rename("self_attn.indexer.weights_proj",
               "self_attn.compressor.indexer.scorer.weights_proj"),
        rename("self_attn.indexer.wq_b", "self_attn.compressor.indexer.q_b_proj"),
        rename("compressor.wgate", "compressor.gate_proj"),
        rename("compressor.indexer.wgate", "compressor.indexer.gate_proj"),
        rename("compressor.norm", "compressor.kv_norm"),
        rename("compressor.indexer.norm", "compressor.indexer.kv_norm"),
        alias("self_attn.norm", "self_attn.kv_norm"),
        // the scales of FP8 codes
        optional_rename("q_a_proj.scale", "q_a_proj.weight_scale_inv"),
        optional_rename("q_b_proj.scale", "q_b_proj.weight_scale_inv"),
        optional_rename("kv_proj.scale", "kv_proj.weight_scale_inv"),
        optional_rename("o_a_proj.scale", "o_a_proj.weight_scale_inv"),
        optional_rename("o_b_proj.scale", "o_b_proj.weight_scale_inv"),
        optional_rename("gate_proj.scale", "gate_proj.weight_scale_inv"),
        optional_rename("up_proj.scale", "up_proj.weight_scale_inv"),
        optional_rename("down_proj.scale", "down_proj.weight_scale_inv")};
};

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
