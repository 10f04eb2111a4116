// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: Inkling and Inkling 2: alternating rows of gate and up; looped layers.
#ifndef SAFEFUSE_MODELS_FAMILIES_INKLING_HPP
#define SAFEFUSE_MODELS_FAMILIES_INKLING_HPP

#include <string_view>

#include <safefuse/models/families/common.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

/// Rows g0, u0, g1, u1, ... in experts, shared experts and dense layers.
using inkling_experts =
    layout<suffixes<suffix<weight, "_weight">>, tensor<"w13", stack<interleave<0, 1, gate, up>>>,
           tensor<"w2", stack<down>>>;
using inkling_shared_ones = expert_range<"S">;
using inkling_shared_gate = part_of<inkling_shared_ones, "gate", "I", "H">;
using inkling_shared_up = part_of<inkling_shared_ones, "up", "I", "H">;
using inkling_shared_down = part_of<inkling_shared_ones, "down", "H", "I">;
using inkling_shared =
    layout<suffixes<suffix<weight, "_weight">>,
           tensor<"shared_w13", stack<interleave<0, 1, inkling_shared_gate, inkling_shared_up>>>,
           tensor<"shared_w2", stack<inkling_shared_down>>>;
using inkling_shared_apart =
    layout<suffixes<suffix<weight, "">>, tensor<"gate_proj", stack<inkling_shared_gate>>,
           tensor<"up_proj", stack<inkling_shared_up>>,
           tensor<"down_proj", stack<inkling_shared_down>>>;
using inkling_dense = layout<module_suffixes, tensor<"w13_dn", interleave<0, 1, mlp_gate, mlp_up>>>;

/// Thinking Machines' Inkling: stored fused with alternating rows of gate and up. In the model, the
/// rows of gate come first.
struct inkling_mm_model : family<"inkling_mm_model", inkling_experts, gate_up_fused> {
    using extra_modules = extra_module_list<
        extra_module<at_path<"mlp.shared_experts">, inkling_shared, inkling_shared_apart>,
        extra_module<at_path<"mlp">, inkling_dense, mlp_apart>>;
    static constexpr rename_description renames[] = {
        rename("^model.llm.layers", "model.language_model.layers"),
        rename("^model.llm.embed", "model.language_model.embed_tokens"),
        rename("^model.llm.embed_norm", "model.language_model.embed_tokens.embed_norm"),
        rename("^model.llm.norm", "model.language_model.norm"),
        optional_rename("^model.llm.unembed", "lm_head"),
        rename("^model.audio.encoder", "model.audio_tower.embed_audio_tokens.embed_audio_tokens"),
        rename("^model.audio.final_norm", "model.audio_tower.norm"),
        rename("^model.visual.layers.linear_{i}",
               "model.vision_tower.encoder_layers.{i}.projection"),
        rename("^model.visual.layers.norm_{i}", "model.vision_tower.encoder_layers.{i}.layer_norm"),
        rename("^model.visual.final_norm", "model.vision_tower.final_norm"),
        rename("mlp.w2_md", "mlp.down_proj"),
        rename("mlp.gate.bias", "mlp.gate.e_score_correction_bias"),
        rename("attn.wq_du", "self_attn.q_proj"),
        rename("attn.wk_dv", "self_attn.k_proj"),
        rename("attn.wv_dv", "self_attn.v_proj"),
        rename("attn.wr_du", "self_attn.r_proj"),
        rename("attn.wo_ud", "self_attn.o_proj"),
        rename("attn.q_norm", "self_attn.q_norm"),
        rename("attn.k_norm", "self_attn.k_norm"),
        rename("attn.k_sconv", "self_attn.k_sconv.conv1d"),
        rename("attn.v_sconv", "self_attn.v_sconv.conv1d"),
        rename("attn.rel_logits_proj", "self_attn.rel_logits_proj"),
        rename("attn_sconv", "attn_sconv.conv1d"),
        rename("mlp_sconv", "mlp_sconv.conv1d"),
        rename("mlp_norm", "post_attention_layernorm"),
        rename("attn_norm", "input_layernorm"),
        formerly("^model.language_model.embed_norm",
                 "model.language_model.embed_tokens.embed_norm")};
};

/// Only the language model of Inkling: stored fused.
struct inkling_text : family<"inkling_text", gate_up_fused, gate_up_fused> {
    using forms = one_by_one<at_path<"mlp.experts">>;
    static constexpr rename_description renames[] = {
        formerly("^model.embed_norm", "model.embed_tokens.embed_norm")};
};

/// Rows g0, u0, g1, u1, ... MXFP8 codes have one scale for 32 codes.
using inkling2_experts =
    layout<suffixes<suffix<weight, "_weight">, suffix<weight_scale_inv, "_weight_scale">>,
           tensor<"w13", stack<interleave<0, 1, gate, up>>>, tensor<"w2", stack<down>>>;
/// The queries of L looped layers. The hub has two matrices [2L, D]: one for queries and the MLP,
/// one for keys and values. The model has one tensor [L, 4, D].
using loop_weight = field<"weight", field_role::value, 1, 1, 1>;
using loop_queries = matrix<"queries", "L", "ONE", "D">;
using loop_keys = matrix<"keys", "L", "ONE", "D">;
using loop_values = matrix<"values", "L", "ONE", "D">;
using loop_mlp = matrix<"mlp", "L", "ONE", "D">;
using loop_queries_apart = layout<
    suffixes<suffix<loop_weight, "">>,
    tensor<"middle_cycle_cross_pass_queries", flatten<0, concat<1, loop_queries, loop_mlp>>>,
    tensor<"middle_cycle_cross_pass_kv_queries", flatten<0, concat<1, loop_keys, loop_values>>>>;
using loop_queries_joined =
    layout<suffixes<suffix<loop_weight, "">>,
           tensor<"query", concat<1, loop_queries, loop_keys, loop_values, loop_mlp>>>;

/// Names that mark NVFP4 codes and, in models with looped layers, MXFP8 codes. Such experts stay as
/// they are, because models dequantise them under their stored names only.
inline constexpr std::string_view inkling2_passing[] = {"w13_weight_amax", "w2_weight_amax"};
inline constexpr std::string_view inkling2_loop_passing[] = {"w13_weight_amax", "w2_weight_amax",
                                                             "w13_weight_scale", "w2_weight_scale"};

/// Renames in Inkling 2's language model, without the prefixes.
inline constexpr rename_description inkling2_text_renames[] = {
    rename("embed", "embed_tokens"),
    rename("embed_norm", "embed_tokens.embed_norm"),
    rename("attn_res.attn_queries.{i}", "layers.{i+1}.attention_input.query"),
    rename("attn_res.mlp_queries.{i}", "layers.{i}.mlp_input.query"),
    rename("attn_res.output_query", "final_input.query"),
    rename("mlp.gate.bias", "mlp.gate.e_score_correction_bias"),
    rename("attn.wq_du", "self_attn.q_proj.linear"),
    rename("attn.wk_dv", "self_attn.k_proj.linear"),
    rename("attn.wv_dv", "self_attn.v_proj.linear"),
    rename("attn.k_sconv", "self_attn.k_proj.sconv"),
    rename("attn.v_sconv", "self_attn.v_proj.sconv"),
    rename("attn.rel_logits_proj", "self_attn.relative_position_bias"),
    rename("attn.wr_du", "self_attn.relative_position_bias.linear"),
    rename("attn.q_l2_clip", "self_attn.q_proj.norm"),
    rename("attn.rel_l2_clip", "self_attn.relative_position_bias.norm"),
    rename("attn.wo_ud", "self_attn.o_proj.linear"),
    rename("attn.gate_attn", "self_attn.o_proj.gate_proj"),
    rename("attn.attn_sink_proj", "self_attn.sink_proj"),
    rename("attn_sconv", "post_attention_convolution"),
    rename("mlp_sconv", "post_mlp_convolution"),
    rename("sconv.weight", "sconv.conv1d.weight"),
    optional_rename("sconv.static_w", "sconv.static_weight"),
    optional_rename("sconv.weight_proj", "sconv.weight_proj.weight"),
    rename("post_attention_convolution.weight", "post_attention_convolution.conv1d.weight"),
    optional_rename("post_attention_convolution.static_w",
                    "post_attention_convolution.static_weight"),
    optional_rename("post_attention_convolution.weight_proj",
                    "post_attention_convolution.weight_proj.weight"),
    rename("post_mlp_convolution.weight", "post_mlp_convolution.conv1d.weight"),
    optional_rename("post_mlp_convolution.static_w", "post_mlp_convolution.static_weight"),
    optional_rename("post_mlp_convolution.weight_proj", "post_mlp_convolution.weight_proj.weight"),
    rename("mlp_norm", "post_attention_layernorm"),
    rename("attn_norm", "input_layernorm"),
    optional_rename("q_input_norm", "q_input_layernorm"),
    optional_rename("k_input_norm", "k_input_layernorm"),
    optional_rename("v_input_norm", "v_input_layernorm")};
/// Renames in Inkling 2's vision tower.
inline constexpr rename_description inkling2_vision_renames[] = {
    rename("^model.visual", "model.vision_tower"),
    rename("^model.vision_tower.backbone.embeddings", "model.vision_tower.embeddings"),
    rename("^model.vision_tower.embeddings.position_embedding",
           "model.vision_tower.embeddings.position_embedding.weight"),
    rename("^model.vision_tower.backbone.ln_pre", "model.vision_tower.pre_layernorm"),
    rename("^model.vision_tower.backbone.layers", "model.vision_tower.layers"),
    rename("^model.vision_tower.proj_in", "model.vision_tower.merger.linear_1"),
    rename("^model.vision_tower.proj_out", "model.vision_tower.merger.linear_2"),
    rename("^model.vision_tower.layers.{i}.ln_1", "model.vision_tower.layers.{i}.layernorm_before"),
    rename("^model.vision_tower.layers.{i}.ln_2", "model.vision_tower.layers.{i}.layernorm_after"),
    rename("^model.vision_tower.layers.{i}.mlp.c_fc", "model.vision_tower.layers.{i}.mlp.fc1"),
    rename("^model.vision_tower.layers.{i}.mlp.c_proj", "model.vision_tower.layers.{i}.mlp.fc2"),
    rename("^model.vision_tower.layers.{i}.ls_1.gamma", "model.vision_tower.layers.{i}.lambda_1"),
    rename("^model.vision_tower.layers.{i}.ls_2.gamma", "model.vision_tower.layers.{i}.lambda_2")};
/// Renames in Inkling 2's looped layers, in addition.
inline constexpr rename_description inkling2_loop_renames[] = {
    rename("controllers.attn", "q_message_gate"),
    rename("q_message_gate.down_weight", "q_message_gate.down_proj.weight"),
    rename("q_message_gate.gain_weight", "q_message_gate.message_gate_proj.weight"),
    rename("q_message_gate.forget_weight", "q_message_gate.forget_gate_proj.weight"),
    rename("controllers.k", "k_message_gate"),
    rename("k_message_gate.down_weight", "k_message_gate.down_proj.weight"),
    rename("k_message_gate.gain_weight", "k_message_gate.message_gate_proj.weight"),
    rename("k_message_gate.forget_weight", "k_message_gate.forget_gate_proj.weight"),
    rename("controllers.v", "v_message_gate"),
    rename("v_message_gate.down_weight", "v_message_gate.down_proj.weight"),
    rename("v_message_gate.gain_weight", "v_message_gate.message_gate_proj.weight"),
    rename("v_message_gate.forget_weight", "v_message_gate.forget_gate_proj.weight"),
    rename("controllers.mlp", "mlp_message_gate"),
    rename("mlp_message_gate.down_weight", "mlp_message_gate.down_proj.weight"),
    rename("mlp_message_gate.gain_weight", "mlp_message_gate.message_gate_proj.weight"),
    rename("mlp_message_gate.forget_weight", "mlp_message_gate.forget_gate_proj.weight")};
inline constexpr rename_description inkling2_root_renames[] = {
    optional_rename("^model.llm.unembed", "lm_head"), rename("^model.llm", "model.language_model")};
inline constexpr rename_description inkling2_text_root_renames[] = {
    optional_rename("^model.llm.unembed", "lm_head"), rename("^model.llm", "model")};

/// Thinking Machines' Inkling 2: stored fused with alternating rows of gate and up.
struct inkling2 : family<"inkling2", inkling2_experts, gate_up_fused> {
    static constexpr auto renames =
        joined_renames(inkling2_root_renames, inkling2_text_renames, inkling2_vision_renames);
    static constexpr span<const std::string_view> passing{inkling2_passing};
};

/// Only the language model of Inkling 2.
struct inkling2_text : family<"inkling2_text", inkling2_experts, gate_up_fused> {
    static constexpr auto renames =
        joined_renames(inkling2_text_root_renames, inkling2_text_renames);
    static constexpr span<const std::string_view> passing{inkling2_passing};
};

/// Inkling 2 with looped layers: their queries are one tensor in the model.
struct inkling2_loop : family<"inkling2_loop", inkling2_experts, gate_up_fused> {
    using extra_modules =
        extra_module_list<extra_module<at_path<"model.llm", "model.language_model.message_input">,
                                       loop_queries_apart, loop_queries_joined>>;
    static constexpr auto renames = joined_renames(inkling2_root_renames, inkling2_text_renames,
                                                   inkling2_vision_renames, inkling2_loop_renames);
    static constexpr span<const std::string_view> passing{inkling2_loop_passing};
};

/// Only the language model of Inkling 2 with looped layers.
struct inkling2_loop_text : family<"inkling2_loop_text", inkling2_experts, gate_up_fused> {
    using extra_modules =
        extra_module_list<extra_module<at_path<"model.llm", "model.message_input">,
                                       loop_queries_apart, loop_queries_joined>>;
    static constexpr auto renames =
        joined_renames(inkling2_text_root_renames, inkling2_text_renames, inkling2_loop_renames);
    static constexpr span<const std::string_view> passing{inkling2_loop_passing};
};

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
