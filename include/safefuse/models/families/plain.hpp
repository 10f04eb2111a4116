// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the families that use only standard layouts and layouts of common.hpp.
#ifndef SAFEFUSE_MODELS_FAMILIES_PLAIN_HPP
#define SAFEFUSE_MODELS_FAMILIES_PLAIN_HPP

#include <string_view>

#include <safefuse/models/families/common.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

/// Qwen2, 2.5, 3 and 3.5 MoE, DeepSeek V2 and V3, GLM-4 MoE, and all model types with the same
/// forms.
struct qwen2_moe : family<"qwen2_moe", per_expert, gate_up_fused> {
    static constexpr std::string_view model_types[] = {
        "qwen2_moe",   "afmoe",         "beam",      "cohere2_moe",     "deepseek_v2",
        "deepseek_v3", "deepseek_v32",  "dots1",     "dots3_note_text", "flex_olmo",
        "glm4_moe",    "glm4_moe_lite", "glm4v_moe", "glm_moe_dsa",     "hunyuan_v1_moe",
        "mellum",      "olmoe",         "qwen3_moe", "qwen3_5_moe",     "qwen3_next",
        "sarvam_mla",  "solar_open"};
};

/// SK Telecom's A.X K1: the norm after the experts has another name in the model.
struct axk1 : family<"axk1", per_expert, gate_up_fused> {
    static constexpr rename_description renames[] = {
        optional_rename("post_mlp_layernorm", "mlp.post_mlp_layernorm")};
};

/// SK Telecom's A.X K2: two MLP matrices and a gate have other names in the model.
struct axk2 : family<"axk2", per_expert, gate_up_fused> {
    static constexpr rename_description renames[] = {
        rename("W_down", "mlp.fc1"), rename("W_up", "mlp.fc2"),
        rename("self_attn.q_b_proj", "self_attn.q_gate_proj")};
};

/// Ant's Ling 2.5 and Ring 2.5: the short convolutions of q, k and v are one tensor in the model.
struct bailing_hybrid : family<"bailing_hybrid", per_expert, gate_up_fused> {
    using extra_modules = extra_module_list<
        extra_module<at_path<"attention", "self_attn">, convolutions_apart, convolutions_joined>>;
    static constexpr rename_description renames[] = {
        rename("^model.word_embeddings", "model.embed_tokens"),
        rename("attention", "self_attn"),
        rename("self_attn.f_proj", "self_attn.forget_gate.f_proj"),
        rename("self_attn.dt_bias", "self_attn.forget_gate.dt_bias"),
        rename("self_attn.A_log", "self_attn.forget_gate.A_log"),
        rename("self_attn.dense", "self_attn.o_proj"),
        rename("mlp.gate.expert_bias", "mlp.gate.e_score_correction_bias")};
};

/// Databricks' DBRX: the hub and the model store the rows of all experts as one matrix.
struct dbrx : family<"dbrx", flat_experts, flat_experts, at_path<"ffn.experts.mlp">> {};

/// DeepSeek-OCR 2: the vision towers have other names in the model.
struct deepseek_ocr2 : family<"deepseek_ocr2", per_expert, gate_up_fused> {
    static constexpr rename_description renames[] = {
        rename("^model.sam_model.blocks", "model.vision_tower.sam_encoder.layers"),
        rename("^model.vision_tower.sam_encoder.layers.{i}.norm1",
               "model.vision_tower.sam_encoder.layers.{i}.layer_norm1"),
        rename("^model.vision_tower.sam_encoder.layers.{i}.norm2",
               "model.vision_tower.sam_encoder.layers.{i}.layer_norm2"),
        rename("^model.sam_model.patch_embed.proj",
               "model.vision_tower.sam_encoder.patch_embed.projection"),
        rename("^model.sam_model.pos_embed", "model.vision_tower.sam_encoder.pos_embed"),
        rename("^model.sam_model.neck.0", "model.vision_tower.sam_encoder.neck.conv1"),
        rename("^model.sam_model.neck.1", "model.vision_tower.sam_encoder.neck.layer_norm1"),
        rename("^model.sam_model.neck.2", "model.vision_tower.sam_encoder.neck.conv2"),
        rename("^model.sam_model.neck.3", "model.vision_tower.sam_encoder.neck.layer_norm2"),
        rename("^model.sam_model.net_2", "model.vision_tower.sam_encoder.proj.conv1"),
        rename("^model.sam_model.net_3", "model.vision_tower.sam_encoder.proj.conv2"),
        rename("^model.qwen2_model.model.model.layers", "model.vision_tower.vision_encoder.layers"),
        rename("^model.qwen2_model.model.model.norm", "model.vision_tower.vision_encoder.norm"),
        rename("^model.qwen2_model.query_768", "model.vision_tower.query_768_resolution"),
        rename("^model.qwen2_model.query_1024", "model.vision_tower.query_1024_resolution"),
        rename("^model.projector.layers", "model.multi_modal_projector"),
        rename("^model.view_seperator", "model.view_separator"),
        rename("^model.embed_tokens", "model.language_model.embed_tokens"),
        rename("^model.layers", "model.language_model.layers"),
        rename("^model.norm", "model.language_model.norm")};
};

/// Baidu's ERNIE 4.5.
struct ernie4_5_moe : family<"ernie4_5_moe", per_expert, gate_up_fused> {
    static constexpr rename_description renames[] = {
        rename("mlp.moe_statics", "mlp.gate.moe_statics")};
};

/// LG's K-EXAONE.
struct exaone_moe : family<"exaone_moe", per_expert, gate_up_fused> {
    static constexpr rename_description renames[] = {
        rename("mlp.e_score_correction_bias", "mlp.gate.e_score_correction_bias")};
};

/// Flint.
struct flint : family<"flint", per_expert, gate_up_fused> {
    static constexpr rename_description renames[] = {
        rename("self_attn.softmax_offset", "self_attn.sinks")};
};

/// Google's Gemma 4 with experts and DiffusionGemma: stored fused.
struct gemma4 : family<"gemma4", gate_up_fused, gate_up_fused, at_path<"experts">> {
    using forms = one_by_one<at_path<"experts">>;
    static constexpr std::string_view model_types[] = {"gemma4", "gemma4_text", "diffusion_gemma"};
};

/// GLM-5.3-Flash: the short convolutions of q, k and v are one tensor in the model.
struct glm5_next : family<"glm5_next", per_expert, gate_up_fused> {
    using extra_modules = extra_module_list<
        extra_module<at_path<"self_attn">, convolutions_apart, convolutions_joined>>;
    static constexpr rename_description renames[] = {
        rename("self_attn.f_a_proj", "self_attn.forget_gate.f_a_proj"),
        rename("self_attn.f_b_proj", "self_attn.forget_gate.f_b_proj"),
        rename("self_attn.dt_bias", "self_attn.forget_gate.dt_bias"),
        rename("self_attn.A_log", "self_attn.forget_gate.A_log"),
        rename("hc_attn_fn", "attn_hc.fn"),
        rename("hc_attn_base", "attn_hc.base"),
        rename("hc_attn_scale", "attn_hc.scale"),
        rename("hc_ffn_fn", "ffn_hc.fn"),
        rename("hc_ffn_base", "ffn_hc.base"),
        rename("hc_ffn_scale", "ffn_hc.scale")};
    static constexpr std::string_view model_types[] = {"glm5_next", "glm5_next_text"};
};

/// IBM's Granite MoE: input_linear contains gate and up of all experts.
struct granitemoe : family<"granitemoe", linear_pair, gate_up_fused,
                           at_path<"block_sparse_moe", "block_sparse_moe.experts">> {
    using forms = one_by_one<at_path<"block_sparse_moe.experts">>;
    static constexpr rename_description renames[] = {
        rename("block_sparse_moe.router.layer.weight", "block_sparse_moe.router.weight")};
    static constexpr std::string_view model_types[] = {"granitemoe", "granitemoehybrid",
                                                       "granitemoeshared"};
};

/// IBM's Granite MoE with sliding windows: stored fused.
struct granitemoe_swa
    : family<"granitemoe_swa", gate_up_fused, gate_up_fused, at_path<"block_sparse_moe.experts">> {
    using forms = one_by_one<at_path<"block_sparse_moe.experts">>;
};

/// Tencent's Hy3.
struct hy_v3 : family<"hy_v3", per_expert, gate_up_fused> {
    static constexpr rename_description renames[] = {
        rename("mlp.router.gate", "mlp.gate"),
        rename("mlp.expert_bias", "mlp.e_score_correction_bias"),
        rename("mlp.shared_mlp", "mlp.shared_experts")};
};

/// MiniMax M3 VL: w1, w3, w2 on the hub; dense and shared MLPs are fused in the model, too.
struct minimax_m3_vl : family<"minimax_m3_vl", per_expert_w123, gate_up_fused,
                              at_path<"block_sparse_moe.experts", "mlp.experts">> {
    using extra_modules = extra_module_list<
        extra_module<at_path<"mlp">, mlp_apart, mlp_joined>,
        extra_module<at_path<"block_sparse_moe.shared_experts", "mlp.shared_experts">, mlp_apart,
                     mlp_joined>>;
    static constexpr rename_description renames[] = {
        optional_rename("^language_model.lm_head", "lm_head"),
        rename("^language_model.model", "model.language_model"),
        rename("^vision_tower.vision_model.embeddings.patch_embedding",
               "model.vision_tower.embeddings.proj"),
        rename("^vision_tower.vision_model.encoder.layers", "model.vision_tower.layers"),
        rename("^vision_tower.vision_model.pre_layrnorm", "model.vision_tower.pre_layrnorm"),
        rename("^multi_modal_projector", "model.multi_modal_projector"),
        rename("^patch_merge_mlp.linear_1", "model.multi_modal_projector.merge_linear_1"),
        rename("^patch_merge_mlp.linear_2", "model.multi_modal_projector.merge_linear_2"),
        rename("block_sparse_moe.gate", "mlp.gate"),
        rename("block_sparse_moe.e_score_correction_bias", "mlp.gate.e_score_correction_bias"),
        rename("block_sparse_moe.shared_experts", "mlp.shared_experts"),
        alias("block_sparse_moe", "mlp"),
        optional_rename("self_attn.index_q_proj", "self_attn.indexer.q_proj"),
        optional_rename("self_attn.index_k_proj", "self_attn.indexer.k_proj"),
        optional_rename("self_attn.index_q_norm", "self_attn.indexer.q_norm"),
        optional_rename("self_attn.index_k_norm", "self_attn.indexer.k_norm")};
};

/// AI21's Jamba.
struct jamba : family<"jamba", per_expert, gate_up_fused, at_path<"feed_forward.experts">> {};

/// JetMoE: fused on the hub and in the model.
struct jetmoe : family<"jetmoe", linear_pair, linear_pair, at_path<"mlp">> {};

/// Moonshot's Kimi Linear: w1, w3, w2 on the hub. The short convolutions of q, k and v are one
/// tensor in the model.
struct kimi_linear : family<"kimi_linear", per_expert_w123, gate_up_fused,
                            at_path<"block_sparse_moe.experts", "mlp.experts">> {
    using forms = one_by_one<at_path<"mlp.experts">>;
    using extra_modules = extra_module_list<
        extra_module<at_path<"self_attn">, convolutions_apart, convolutions_joined>>;
    static constexpr rename_description renames[] = {
        rename("self_attn.f_a_proj", "self_attn.forget_gate.f_a_proj"),
        rename("self_attn.f_b_proj", "self_attn.forget_gate.f_b_proj"),
        rename("self_attn.dt_bias", "self_attn.forget_gate.dt_bias"),
        rename("self_attn.A_log", "self_attn.forget_gate.A_log"),
        rename("block_sparse_moe.gate", "mlp.gate"),
        rename("block_sparse_moe.shared_experts", "mlp.shared_experts"),
        alias("block_sparse_moe", "mlp")};
};

/// Kolibri 1.
struct kolibri1 : family<"kolibri1", per_expert, gate_up_fused> {
    static constexpr rename_description renames[] = {
        rename("moe.router.expert_bias", "mlp.gate.e_score_correction_bias"),
        rename("post_attn_norm", "post_self_attn_layernorm"),
        rename("post_ffn_norm", "post_mlp_layernorm")};
};

/// Poolside's Laguna.
struct laguna : family<"laguna", per_expert, gate_up_fused> {
    static constexpr rename_description renames[] = {
        rename("mlp.experts.e_score_correction_bias", "mlp.gate.e_score_correction_bias"),
        rename("mlp.shared_expert", "mlp.shared_experts")};
};

/// Liquid AI's LFM2 MoE: w1, w3, w2 on the hub.
struct lfm2_moe
    : family<"lfm2_moe", per_expert_w123, gate_up_fused, at_path<"feed_forward.experts">> {
    using forms = one_by_one<at_path<"feed_forward.experts">, shared_experts::none>;
};

/// Meta's Llama 4: stored fused and transposed.
struct llama4
    : family<"llama4", gate_up_transposed, gate_up_transposed, at_path<"feed_forward.experts">> {
    using forms = one_by_one<at_path<"feed_forward.experts">>;
    static constexpr std::string_view model_types[] = {"llama4", "llama4_text"};
};

/// Xiaomi's MiMo-V2-Flash.
struct mimo_v2_flash : family<"mimo_v2_flash", per_expert, gate_up_fused> {
    static constexpr rename_description renames[] = {
        rename("self_attn.attention_sink_bias", "self_attn.sinks")};
};

/// Mistral 4, Muse Spark, Zaya, and language models that transformers saves without the rest of
/// their models: stored fused.
struct mistral4 : family<"mistral4", gate_up_fused, gate_up_fused> {
    using forms = one_by_one<at_path<"mlp.experts">>;
    static constexpr std::string_view model_types[] = {
        "mistral4",   "glm4v_moe_text",  "minimax_m3_vl_text",
        "muse_spark", "muse_spark_text", "qwen3_vl_moe_text",
        "zaya"};
};

/// Mixtral, MiniMax and MiniMax M2: w1, w3, w2 on the hub.
struct mixtral : family<"mixtral", per_expert_w123, gate_up_fused,
                        at_path<"block_sparse_moe.experts", "mlp.experts">> {
    using forms = stored_forms<
        stored_form<"per-expert", at_path<"mlp.experts">, per_expert, shared_experts::none>,
        stored_form<"per-expert", at_path<"block_sparse_moe.experts", "mlp.experts">, per_expert,
                    shared_experts::none>>;
    static constexpr rename_description renames[] = {
        rename("block_sparse_moe.gate", "mlp.gate"),
        optional_rename("block_sparse_moe.e_score_correction_bias", "mlp.e_score_correction_bias"),
        alias("block_sparse_moe", "mlp")};
    static constexpr std::string_view model_types[] = {"mixtral", "minimax", "minimax_m2"};
};

/// NVIDIA's Nemotron-H: up and down, no gate.
struct nemotron_h
    : family<"nemotron_h", per_expert_ungated, ungated_fused, at_path<"mixer.experts">> {
    static constexpr rename_description renames[] = {rename("^backbone", "model")};
};

/// Nemotron-H Omni: up and down, no gate; the vision tower's q, k and v are one matrix on the hub.
struct nemotron_h_omni
    : family<"nemotron_h_omni", per_expert_ungated, ungated_fused, at_path<"mixer.experts">> {
    using extra_modules =
        extra_module_list<extra_module<at_path<"vision_model.radio_model.model.blocks.{i}.attn",
                                               "vision_model.encoder.layer.{i}.attention">,
                                       attention_as_qkv, attention_apart>>;
    static constexpr rename_description renames[] = {
        rename("^language_model.backbone", "language_model.model"),
        rename("^mlp1.0", "multi_modal_projector.layer_norm"),
        rename("^mlp1.1", "multi_modal_projector.linear_1"),
        rename("^mlp1.3", "multi_modal_projector.linear_2"),
        optional_rename("^vision_projector.vision_final_layernorm", "vision_final_layernorm"),
        optional_rename("^sound_encoder.encoder", "audio_tower"),
        optional_rename("^sound_projection.norm", "embed_audio.layer_norm"),
        optional_rename("^sound_projection.linear1", "embed_audio.linear_1"),
        optional_rename("^sound_projection.linear2", "embed_audio.linear_2"),
        optional_rename("^vision_model.radio_model.model.patch_generator.video_embedder",
                        "vision_model.embeddings.video_patch_projection"),
        rename("^vision_model.radio_model.model.patch_generator.embedder",
               "vision_model.embeddings.patch_projection"),
        rename("^vision_model.radio_model.model.patch_generator.pos_embed",
               "vision_model.embeddings.position_embedding"),
        rename("^vision_model.radio_model.model.patch_generator.cls_token.token",
               "vision_model.embeddings.cls_register_token"),
        rename("^vision_model.radio_model.model.blocks", "vision_model.encoder.layer"),
        rename("^vision_model.encoder.layer.{i}.attn.proj",
               "vision_model.encoder.layer.{i}.attention.o_proj"),
        optional_rename("^vision_model.radio_model.input_conditioner",
                        "vision_model.input_conditioner"),
        optional_rename("^vision_model.radio_model.summary_idxs", "vision_model.summary_idxs")};
};

/// OpenAI's privacy filter: stored fused and transposed.
struct openai_privacy_filter
    : family<"openai_privacy_filter", gate_up_transposed, gate_up_transposed> {
    using forms = one_by_one<at_path<"mlp.experts">, shared_experts::none>;
};

/// Microsoft's Phi-3.5-MoE: w1, w3, w2 on the hub.
struct phimoe : family<"phimoe", per_expert_w123, gate_up_fused,
                       at_path<"block_sparse_moe.experts", "mlp.experts">> {
    using forms = one_by_one<at_path<"mlp.experts">, shared_experts::none>;
    static constexpr rename_description renames[] = {rename("block_sparse_moe.gate", "mlp.router"),
                                                     alias("block_sparse_moe", "mlp")};
};

/// The language model of Qwen3.5 MoE.
struct qwen3_5_moe_text : family<"qwen3_5_moe_text", per_expert, gate_up_fused> {
    static constexpr rename_description renames[] = {alias("^model.language_model", "model")};
};

/// Qwen3-Omni MoE: in transformers 5.17 and earlier, the thinker's modules had the stored names.
struct qwen3_omni_moe : family<"qwen3_omni_moe", per_expert, gate_up_fused> {
    static constexpr rename_description renames[] = {
        always(rename("^thinker.audio_tower", "thinker.model.audio_tower")),
        always(rename("^thinker.visual", "thinker.model.visual")),
        always(rename("^thinker.model.embed_tokens", "thinker.model.language_model.embed_tokens")),
        always(rename("^thinker.model.layers", "thinker.model.language_model.layers")),
        always(rename("^thinker.model.norm", "thinker.model.language_model.norm"))};
};

/// Only the thinker of Qwen3-Omni MoE.
struct qwen3_omni_moe_thinker : family<"qwen3_omni_moe_thinker", per_expert, gate_up_fused> {
    static constexpr rename_description renames[] = {
        always(rename("^audio_tower", "model.audio_tower")),
        always(rename("^visual", "model.visual")),
        always(rename("^model.embed_tokens", "model.language_model.embed_tokens")),
        always(rename("^model.layers", "model.language_model.layers")),
        always(rename("^model.norm", "model.language_model.norm"))};
};

/// Qwen3-VL MoE: stored fused and transposed; not transposed in the model.
struct qwen3_vl_moe : family<"qwen3_vl_moe", gate_up_transposed, gate_up_fused> {
    using forms = one_by_one<at_path<"mlp.experts">, shared_experts::none>;
};

/// Unlimited-OCR: the vision towers have other names in the model. q, k and v of one tower are one
/// matrix on the hub.
struct unlimited_ocr : family<"unlimited_ocr", per_expert, gate_up_fused> {
    using extra_modules = extra_module_list<
        extra_module<at_path<"model.vision_model.transformer.layers.{i}.self_attn",
                             "model.vision_tower.vision_encoder.encoder.layers.{i}.self_attn">,
                     attention_as_qkv_proj, attention_apart>>;
    static constexpr rename_description renames[] = {
        rename("^model.sam_model.blocks", "model.vision_tower.sam_encoder.layers"),
        rename("^model.vision_tower.sam_encoder.layers.{i}.norm1",
               "model.vision_tower.sam_encoder.layers.{i}.layer_norm1"),
        rename("^model.vision_tower.sam_encoder.layers.{i}.norm2",
               "model.vision_tower.sam_encoder.layers.{i}.layer_norm2"),
        rename("^model.sam_model.patch_embed.proj",
               "model.vision_tower.sam_encoder.patch_embed.projection"),
        rename("^model.sam_model.pos_embed", "model.vision_tower.sam_encoder.pos_embed"),
        rename("^model.sam_model.neck.0", "model.vision_tower.sam_encoder.neck.conv1"),
        rename("^model.sam_model.neck.1", "model.vision_tower.sam_encoder.neck.layer_norm1"),
        rename("^model.sam_model.neck.2", "model.vision_tower.sam_encoder.neck.conv2"),
        rename("^model.sam_model.neck.3", "model.vision_tower.sam_encoder.neck.layer_norm2"),
        rename("^model.sam_model.net_2", "model.vision_tower.sam_encoder.proj.conv1"),
        rename("^model.sam_model.net_3", "model.vision_tower.sam_encoder.proj.conv2"),
        rename("^model.vision_model", "model.vision_tower.vision_encoder"),
        rename("^model.vision_tower.vision_encoder.transformer",
               "model.vision_tower.vision_encoder.encoder"),
        rename("^model.projector.layers", "model.multi_modal_projector"),
        rename("^model.view_seperator", "model.view_separator"),
        rename("^model.embed_tokens", "model.language_model.embed_tokens"),
        rename("^model.layers", "model.language_model.layers"),
        rename("^model.norm", "model.language_model.norm")};
};

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
