// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the families, each a declaration: where its model types store experts, how
// transformers 5.24.0 holds them (conversion_mapping.py), what else it holds otherwise, and what it
// renames. tests/interop/families.py holds every model type against what transformers loads.
#ifndef SAFEFUSE_MODELS_TRANSFORMERS_HPP
#define SAFEFUSE_MODELS_TRANSFORMERS_HPP

#include <string_view>

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

/// What quantisers (llm-compressor, ModelOpt, axolotl) make of experts whose hub form is another: a
/// module for each matrix of each expert, named as most models name them.
template <class Modules, shared_experts Shared = shared_experts::some>
using one_by_one = stored_forms<stored_form<"per-expert", Modules, per_expert, Shared>>;

/// Qwen2, 2.5, 3 and 3.5 MoE, DeepSeek V2 and V3, GLM-4 MoE and all that store and hold experts as
/// these do.
struct qwen2_moe : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "qwen2_moe";
    using modules = safefuse::modules<"mlp.experts">;
    static constexpr std::string_view model_types[] = {
        "qwen2_moe",   "afmoe",         "beam",      "cohere2_moe",     "deepseek_v2",
        "deepseek_v3", "deepseek_v32",  "dots1",     "dots3_note_text", "flex_olmo",
        "glm4_moe",    "glm4_moe_lite", "glm4v_moe", "glm_moe_dsa",     "hunyuan_v1_moe",
        "mellum",      "olmoe",         "qwen3_moe", "qwen3_5_moe",     "qwen3_next",
        "sarvam_mla",  "solar_open"};
};

/// gate_up_proj [E, H, 2I], gate's columns first, and down_proj [E, I, H].
using gate_up_transposed =
    layout<parameter_suffixes, tensor<"gate_up_proj", stack<transpose<0, 1, concat<0, gate, up>>>>,
           tensor<"down_proj", stack<transpose<0, 1, down>>>>;

/// fc1 [E, H, 2I], gate's columns first, and fc2 [E, I, H].
using aria_experts =
    layout<module_suffixes, tensor<"fc1", stack<transpose<0, 1, concat<0, gate, up>>>>,
           tensor<"fc2", stack<transpose<0, 1, down>>>>;

/// Rhymes AI's Aria: stored fused and transposed, under other names.
struct aria : family<aria_experts, gate_up_transposed> {
    static constexpr std::string_view name = "aria";
    using modules = safefuse::modules<"mlp.experts">;
    using forms = one_by_one<safefuse::modules<"mlp.experts">>;
    static constexpr rename_description renames[] = {
        always(optional_rename("^language_model.lm_head", "lm_head")),
        always(rename("^language_model.model", "model.language_model")),
        always(rename("^vision_tower", "model.vision_tower")),
        always(rename("^multi_modal_projector", "model.multi_modal_projector"))};
    static constexpr std::string_view model_types[] = {"aria"};
};

/// Aria's language model alone.
struct aria_text : family<aria_experts, gate_up_transposed> {
    static constexpr std::string_view name = "aria_text";
    using modules = safefuse::modules<"mlp.experts">;
    using forms = one_by_one<safefuse::modules<"mlp.experts">>;
    static constexpr std::string_view model_types[] = {"aria_text"};
};

/// SK Telecom's A.X K1: a norm behind the experts is called otherwise.
struct axk1 : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "axk1";
    using modules = safefuse::modules<"mlp.experts">;
    static constexpr rename_description renames[] = {
        optional_rename("post_mlp_layernorm", "mlp.post_mlp_layernorm")};
    static constexpr std::string_view model_types[] = {"axk1"};
};

/// SK Telecom's A.X K2: the names of two MLP matrices and of a gate differ.
struct axk2 : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "axk2";
    using modules = safefuse::modules<"mlp.experts">;
    static constexpr rename_description renames[] = {
        rename("W_down", "mlp.fc1"), rename("W_up", "mlp.fc2"),
        rename("self_attn.q_b_proj", "self_attn.q_gate_proj")};
    static constexpr std::string_view model_types[] = {"axk2"};
};

/// The short convolutions of q, k and v, [C, 1, W] each, which the model holds as one [3C, 1, W].
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

/// Ant's Ling 2.5 and Ring 2.5: the short convolutions of q, k and v are one in the model.
struct bailing_hybrid : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "bailing_hybrid";
    using modules = safefuse::modules<"mlp.experts">;
    using extra_modules =
        extra_module_list<extra_module<safefuse::modules<"attention", "self_attn">,
                                       convolutions_apart, convolutions_joined>>;
    static constexpr rename_description renames[] = {
        rename("^model.word_embeddings", "model.embed_tokens"),
        rename("attention", "self_attn"),
        rename("self_attn.f_proj", "self_attn.forget_gate.f_proj"),
        rename("self_attn.dt_bias", "self_attn.forget_gate.dt_bias"),
        rename("self_attn.A_log", "self_attn.forget_gate.A_log"),
        rename("self_attn.dense", "self_attn.o_proj"),
        rename("mlp.gate.expert_bias", "mlp.gate.e_score_correction_bias")};
    static constexpr std::string_view model_types[] = {"bailing_hybrid"};
};

/// Databricks' DBRX: the rows of all experts one below the other, on the hub as in the model.
struct dbrx : family<flat_experts, flat_experts> {
    static constexpr std::string_view name = "dbrx";
    using modules = safefuse::modules<"ffn.experts.mlp">;
    static constexpr std::string_view model_types[] = {"dbrx"};
};

/// DeepSeek-OCR 2: the vision towers have other names in the model.
struct deepseek_ocr2 : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "deepseek_ocr2";
    using modules = safefuse::modules<"mlp.experts">;
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
    static constexpr std::string_view model_types[] = {"deepseek_ocr2"};
};

/// Mixtral's names; the factors of codes are called scale.
using deepseek_v4_experts =
    layout<suffixes<suffix<weight, ".weight">, suffix<weight_scale_inv, ".scale">>,
           tensor<"{i}.w1", gate>, tensor<"{i}.w3", up>, tensor<"{i}.w2", down>>;

/// DeepSeek V4: w1, w3, w2 on the hub, and shorter names all over.
struct deepseek_v4 : family<deepseek_v4_experts, gate_up_fused> {
    static constexpr std::string_view name = "deepseek_v4";
    using modules = safefuse::modules<"ffn.experts", "mlp.experts">;
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
    static constexpr std::string_view model_types[] = {"deepseek_v4"};
};

/// The experts of a vision tower, V of them: fc1 is gate, fc3 is up, fc2 is down.
using vision_experts = expert_range<"V">;
using vision_gate = part_of<vision_experts, "gate", "I", "H">;
using vision_up = part_of<vision_experts, "up", "I", "H">;
using vision_down = part_of<vision_experts, "down", "H", "I">;
using vision_per_expert = layout<module_suffixes, tensor<"{i}.fc1", vision_gate>,
                                 tensor<"{i}.fc3", vision_up>, tensor<"{i}.fc2", vision_down>>;
using vision_fused =
    layout<parameter_suffixes, tensor<"gate_up_proj", stack<concat<0, vision_gate, vision_up>>>,
           tensor<"down_proj", stack<vision_down>>>;

/// dots3-note: the vision tower has experts, too, and all towers have other names in the model.
struct dots3_note : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "dots3_note";
    using modules =
        safefuse::modules<"layers.{i}.mlp.experts", "language_model.layers.{i}.mlp.experts">;
    using extra_modules = extra_module_list<
        extra_module<safefuse::modules<"vision_encoder.blocks.{i}.mlp.experts",
                                       "model.vision_tower.blocks.{i}.mlp.experts">,
                     vision_per_expert, vision_fused>>;
    static constexpr rename_description renames[] = {
        rename("^model.embed_tokens", "model.language_model.embed_tokens"),
        rename("^model.layers", "model.language_model.layers"),
        rename("^model.norm", "model.language_model.norm"),
        rename("^audio_encoder.audio_adapter.proj.0", "model.audio_tower.adapter.norm"),
        rename("^audio_encoder.audio_adapter.proj.1", "model.audio_tower.adapter.fc1"),
        rename("^audio_encoder.audio_adapter.proj.3", "model.audio_tower.adapter.fc2"),
        rename("^audio_encoder.dots_encoder.speech_encoder.conv2d1",
               "model.audio_tower.conv_stem.convs.0"),
        rename("^audio_encoder.dots_encoder.speech_encoder.conv2d2",
               "model.audio_tower.conv_stem.convs.1"),
        rename("^audio_encoder.dots_encoder.speech_encoder.conv2d3",
               "model.audio_tower.conv_stem.convs.2"),
        rename("^audio_encoder.dots_encoder.speech_encoder.conv_out",
               "model.audio_tower.conv_stem.conv_out"),
        rename("^audio_encoder.dots_encoder.speech_encoder.layer_norm",
               "model.audio_tower.layer_norm"),
        rename("^audio_encoder.dots_encoder.speech_encoder.layers", "model.audio_tower.layers"),
        rename("^model.audio_tower.layers.{i}.self_attn.out_proj",
               "model.audio_tower.layers.{i}.self_attn.o_proj"),
        rename("^model.audio_tower.layers.{i}.self_attn_layer_norm",
               "model.audio_tower.layers.{i}.input_layernorm"),
        rename("^model.audio_tower.layers.{i}.final_layer_norm",
               "model.audio_tower.layers.{i}.post_attention_layernorm"),
        rename("^model.audio_tower.layers.{i}.fc1",
               "model.audio_tower.layers.{i}.mlp.gate_up_proj"),
        rename("^model.audio_tower.layers.{i}.fc2", "model.audio_tower.layers.{i}.mlp.down_proj"),
        rename("^vision_encoder", "model.vision_tower"),
        rename("^model.vision_tower.post_trunk_norm", "model.vision_tower.norm"),
        rename("^model.vision_tower.adapter", "model.vision_tower.merger"),
        rename("^model.vision_tower.blocks.{i}.norm_1", "model.vision_tower.blocks.{i}.norm1"),
        rename("^model.vision_tower.blocks.{i}.norm_2", "model.vision_tower.blocks.{i}.norm2"),
        optional_rename("^model.vision_tower.blocks.{i}.mlp.fc1",
                        "model.vision_tower.blocks.{i}.mlp.gate_proj"),
        optional_rename("^model.vision_tower.blocks.{i}.mlp.fc2",
                        "model.vision_tower.blocks.{i}.mlp.down_proj"),
        optional_rename("^model.vision_tower.blocks.{i}.mlp.fc3",
                        "model.vision_tower.blocks.{i}.mlp.up_proj"),
        rename("^model.vision_tower.blocks.{i}.mlp.gate_weight",
               "model.vision_tower.blocks.{i}.mlp.gate.weight"),
        rename("^model.vision_tower.blocks.{i}.mlp.router_bias",
               "model.vision_tower.blocks.{i}.mlp.e_score_correction_bias")};
    static constexpr std::string_view model_types[] = {"dots3_note"};
};

/// Baidu's ERNIE 4.5.
struct ernie4_5_moe : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "ernie4_5_moe";
    using modules = safefuse::modules<"mlp.experts">;
    static constexpr rename_description renames[] = {
        rename("mlp.moe_statics", "mlp.gate.moe_statics")};
    static constexpr std::string_view model_types[] = {"ernie4_5_moe"};
};

/// One list of experts: the first half are for text (E of them, [I, H]), the others for images (V
/// of them, [J, H]).
using ernie_vl_image = expert_range<"V", "E">;
using ernie_vl_image_gate = part_of<ernie_vl_image, "vision_gate", "J", "H">;
using ernie_vl_image_up = part_of<ernie_vl_image, "vision_up", "J", "H">;
using ernie_vl_image_down = part_of<ernie_vl_image, "vision_down", "H", "J">;
using ernie_vl_per_expert =
    layout<module_suffixes, tensor<"experts.{i}.gate_proj", gate>,
           tensor<"experts.{i}.up_proj", up>, tensor<"experts.{i}.down_proj", down>,
           tensor<"experts.{i}.gate_proj", ernie_vl_image_gate>,
           tensor<"experts.{i}.up_proj", ernie_vl_image_up>,
           tensor<"experts.{i}.down_proj", ernie_vl_image_down>>;
using ernie_vl_fused =
    layout<parameter_suffixes, tensor<"text_moe.experts.gate_up_proj", stack<concat<0, gate, up>>>,
           tensor<"text_moe.experts.down_proj", stack<down>>,
           tensor<"vision_moe.experts.gate_up_proj",
                  stack<concat<0, ernie_vl_image_gate, ernie_vl_image_up>>>,
           tensor<"vision_moe.experts.down_proj", stack<ernie_vl_image_down>>>;
/// Their routers, transposed on disk, and the corrections of both in one tensor.
using ernie_vl_router = matrix<"router", "C", "H">;
using ernie_vl_text_gate =
    layout<suffixes<suffix<weight, ".weight">>, tensor<"gate", transpose<0, 1, ernie_vl_router>>>;
using ernie_vl_text_gate_turned =
    layout<suffixes<suffix<weight, ".weight">>, tensor<"text_moe.gate", ernie_vl_router>>;
using ernie_vl_vision_gate =
    layout<suffixes<suffix<weight, ".weight_1">>, tensor<"gate", transpose<0, 1, ernie_vl_router>>>;
using ernie_vl_vision_gate_turned =
    layout<suffixes<suffix<weight, ".weight">>, tensor<"vision_moe.gate", ernie_vl_router>>;
using ernie_vl_text_bias = matrix<"text", "ONE", "C">;
using ernie_vl_vision_bias = matrix<"vision", "ONE", "C">;
using ernie_vl_biases = layout<suffixes<suffix<weight, "">>,
                               tensor<"moe_statics.e_score_correction_bias",
                                      concat<0, ernie_vl_text_bias, ernie_vl_vision_bias>>>;
using ernie_vl_biases_apart =
    layout<suffixes<suffix<weight, "">>,
           tensor<"text_moe.gate.moe_statics.e_score_correction_bias", ernie_vl_text_bias>,
           tensor<"vision_moe.gate.moe_statics.e_score_correction_bias", ernie_vl_vision_bias>>;

/// ERNIE 4.5 VL: experts for text and for images in one numbered list, two modules in the model;
/// routers are turned.
struct ernie4_5_vl_moe : family<ernie_vl_per_expert, ernie_vl_fused> {
    static constexpr std::string_view name = "ernie4_5_vl_moe";
    using modules = safefuse::modules<"mlp">;
    using extra_modules = extra_module_list<
        extra_module<safefuse::modules<"mlp">, ernie_vl_text_gate, ernie_vl_text_gate_turned>,
        extra_module<safefuse::modules<"mlp">, ernie_vl_vision_gate, ernie_vl_vision_gate_turned>,
        extra_module<safefuse::modules<"mlp">, ernie_vl_biases, ernie_vl_biases_apart>>;
    static constexpr rename_description renames[] = {
        rename("^model.vision_model", "model.vision_tower"),
        alias("^vision_model", "model.vision_tower"),
        rename("^model.resampler_model.spatial_linear.0",
               "model.resampler_model.spatial_linear.fc1"),
        rename("^model.resampler_model.spatial_linear.2",
               "model.resampler_model.spatial_linear.fc2"),
        rename("^model.resampler_model.spatial_linear.3",
               "model.resampler_model.spatial_linear.ln"),
        rename("^model.resampler_model.temporal_linear.0",
               "model.resampler_model.temporal_linear.fc1"),
        rename("^model.resampler_model.temporal_linear.2",
               "model.resampler_model.temporal_linear.fc2"),
        rename("^model.resampler_model.temporal_linear.3",
               "model.resampler_model.temporal_linear.ln"),
        rename("^model.embed_tokens", "model.language_model.embed_tokens"),
        rename("^model.layers", "model.language_model.layers"),
        rename("^model.norm", "model.language_model.norm")};
    static constexpr std::string_view model_types[] = {"ernie4_5_vl_moe"};
};

/// LG's K-EXAONE.
struct exaone_moe : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "exaone_moe";
    using modules = safefuse::modules<"mlp.experts">;
    static constexpr rename_description renames[] = {
        rename("mlp.e_score_correction_bias", "mlp.gate.e_score_correction_bias")};
    static constexpr std::string_view model_types[] = {"exaone_moe"};
};

/// Flint.
struct flint : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "flint";
    using modules = safefuse::modules<"mlp.experts">;
    static constexpr rename_description renames[] = {
        rename("self_attn.softmax_offset", "self_attn.sinks")};
    static constexpr std::string_view model_types[] = {"flint"};
};

/// Google's Gemma 4 with experts and DiffusionGemma: stored fused.
struct gemma4 : family<gate_up_fused, gate_up_fused> {
    static constexpr std::string_view name = "gemma4";
    using modules = safefuse::modules<"experts">;
    using forms = one_by_one<safefuse::modules<"experts">>;
    static constexpr std::string_view model_types[] = {"gemma4", "gemma4_text", "diffusion_gemma"};
};

/// GLM-5.3-Flash: the short convolutions of q, k and v are one in the model.
struct glm5_next : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "glm5_next";
    using modules = safefuse::modules<"mlp.experts">;
    using extra_modules = extra_module_list<
        extra_module<safefuse::modules<"self_attn">, convolutions_apart, convolutions_joined>>;
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

/// gate_up_proj [E, H, 2I], columns g0, u0, g1, u1, ..., and down_proj [E, I, H], with biases.
/// MXFP4 codes and their scales lie the other way: gate_up_proj_blocks [E, 2I, H / 32, 16].
using gpt_oss_blocks = quantized_field<"mxfp4_blocks", field_role::value,
                                       with_entries<16, transposed_form<block_of<1, 32>>>>;
using gpt_oss_scales =
    quantized_field<"mxfp4_scales", field_role::scale, transposed_form<block_of<1, 32>>>;
using gpt_oss_experts =
    layout<suffixes<suffix<weight, "">, suffix<bias, "_bias">, suffix<gpt_oss_blocks, "_blocks">,
                    suffix<gpt_oss_scales, "_scales">, suffix<weight_scale, "_weight_scale">,
                    suffix<weight_scale_2, "_weight_scale_2">, suffix<input_scale, "_input_scale">>,
           tensor<"gate_up_proj", stack<transpose<0, 1, interleave<0, 1, gate, up>>>>,
           tensor<"down_proj", stack<transpose<0, 1, down>>>>;

/// The same MXFP4 codes, for plans that put them elsewhere: rows g0, u0, g1, u1, ...
using gpt_oss_mxfp4 = layout<suffixes<suffix<mxfp4_blocks, "_blocks">,
                                      suffix<mxfp4_scales, "_scales">, suffix<bias, "_bias">>,
                             tensor<"gate_up_proj", stack<interleave<0, 1, gate, up>>>,
                             tensor<"down_proj", stack<down>>>;

/// OpenAI's gpt-oss: stored fused, rows of gate and up in turn; MXFP4 codes or BF16.
struct gpt_oss : family<gpt_oss_experts, gpt_oss_experts> {
    static constexpr std::string_view name = "gpt_oss";
    using modules = safefuse::modules<"mlp.experts">;
    using forms = one_by_one<safefuse::modules<"mlp.experts">, shared_experts::none>;
    static constexpr std::string_view model_types[] = {"gpt_oss"};
};

/// IBM's Granite MoE: input_linear is gate and up of all experts.
struct granitemoe : family<linear_pair, gate_up_fused> {
    static constexpr std::string_view name = "granitemoe";
    using modules = safefuse::modules<"block_sparse_moe", "block_sparse_moe.experts">;
    using forms = one_by_one<safefuse::modules<"block_sparse_moe.experts">>;
    static constexpr rename_description renames[] = {
        rename("block_sparse_moe.router.layer.weight", "block_sparse_moe.router.weight")};
    static constexpr std::string_view model_types[] = {"granitemoe", "granitemoehybrid",
                                                       "granitemoeshared"};
};

/// IBM's Granite MoE with sliding windows: stored fused.
struct granitemoe_swa : family<gate_up_fused, gate_up_fused> {
    static constexpr std::string_view name = "granitemoe_swa";
    using modules = safefuse::modules<"block_sparse_moe.experts">;
    using forms = one_by_one<safefuse::modules<"block_sparse_moe.experts">>;
    static constexpr std::string_view model_types[] = {"granitemoe_swa"};
};

/// Tencent's Hy3.
struct hy_v3 : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "hy_v3";
    using modules = safefuse::modules<"mlp.experts">;
    static constexpr rename_description renames[] = {
        rename("mlp.router.gate", "mlp.gate"),
        rename("mlp.expert_bias", "mlp.e_score_correction_bias"),
        rename("mlp.shared_mlp", "mlp.shared_experts")};
    static constexpr std::string_view model_types[] = {"hy_v3"};
};

/// What Hy4's layers are called.
inline constexpr rename_description hy_v4_layer_renames[] = {
    rename("hc_pre.hc_attn_layer.hc_fn", "attn_hc.fn"),
    rename("hc_pre.hc_attn_layer.hc_base", "attn_hc.base"),
    rename("hc_pre.hc_attn_layer.hc_scale", "attn_hc.scale"),
    rename("hc_pre.hc_mlp_layer.hc_fn", "ffn_hc.fn"),
    rename("hc_pre.hc_mlp_layer.hc_base", "ffn_hc.base"),
    rename("hc_pre.hc_mlp_layer.hc_scale", "ffn_hc.scale"),
    rename("self_attn.learnable_sink_param", "self_attn.sinks"),
    rename("self_attn.linear_gate", "self_attn.gate_proj"),
    alias("linear_gate", "gate_proj")};
inline constexpr rename_description hy_v4_head_renames[] = {
    rename("hc_pre.hc_head.hc_head_fn", "hc_head.hc_fn"),
    rename("hc_pre.hc_head.hc_head_base", "hc_head.hc_base"),
    rename("hc_pre.hc_head.hc_head_scale", "hc_head.hc_scale")};
/// The same where the model is a part of another one, or stored without its head.
inline constexpr rename_description hy_v4_vl_head_renames[] = {
    rename("hc_head.hc_pre.hc_head_fn", "hc_head.hc_fn"),
    alias("hc_pre.hc_head.hc_head_fn", "hc_head.hc_fn"),
    rename("hc_head.hc_pre.hc_head_base", "hc_head.hc_base"),
    alias("hc_pre.hc_head.hc_head_base", "hc_head.hc_base"),
    rename("hc_head.hc_pre.hc_head_scale", "hc_head.hc_scale"),
    alias("hc_pre.hc_head.hc_head_scale", "hc_head.hc_scale")};

/// Tencent's Hy4: stored fused, under other names.
struct hy_v4 : family<gate_up_fused, gate_up_fused> {
    static constexpr std::string_view name = "hy_v4";
    using modules = safefuse::modules<"mlp.experts">;
    using forms = one_by_one<safefuse::modules<"mlp.experts">>;
    static constexpr auto renames = joined_renames(hy_v4_layer_renames, hy_v4_head_renames);
    static constexpr std::string_view model_types[] = {"hy_v4"};
};

/// Where the parts of Hy4 with images are.
inline constexpr rename_description hy_v4_vl_root_renames[] = {
    rename("^model.embed_tokens", "model.language_model.embed_tokens"),
    rename("^model.layers", "model.language_model.layers"),
    rename("^model.norm", "model.language_model.norm"),
    rename("^model.hc_head", "model.language_model.hc_head")};
inline constexpr rename_description hy_v4_vl_vision_renames[] = {
    rename("^vit", "model.vision_tower"),
    rename("^model.vision_tower.layers.{i}.input_layernorm",
           "model.vision_tower.layers.{i}.layer_norm1"),
    rename("^model.vision_tower.layers.{i}.post_attention_layernorm",
           "model.vision_tower.layers.{i}.layer_norm2"),
    rename("mlp.dense_h_to_4h", "mlp.fc1"),
    rename("mlp.dense_4h_to_h", "mlp.fc2"),
    rename("^model.vision_tower.perceive", "model.vision_tower.patch_merger"),
    rename("^model.vision_tower.patch_merger.norm", "model.vision_tower.patch_merger.before_rms"),
    rename("^model.vision_tower.patch_merger.proj.0", "model.vision_tower.patch_merger.proj_conv"),
    rename("^model.vision_tower.patch_merger.proj.2", "model.vision_tower.patch_merger.proj_out")};

/// Hy4 with images: stored fused, under other names.
struct hy_v4_vl : family<gate_up_fused, gate_up_fused> {
    static constexpr std::string_view name = "hy_v4_vl";
    using modules = safefuse::modules<"mlp.experts">;
    using forms = one_by_one<safefuse::modules<"mlp.experts">>;
    static constexpr auto renames = joined_renames(hy_v4_vl_root_renames, hy_v4_layer_renames,
                                                   hy_v4_vl_head_renames, hy_v4_vl_vision_renames);
    static constexpr std::string_view model_types[] = {"hy_v4_vl"};
};

/// The language model of Hy4 with images alone.
struct hy_v4_vl_text : family<gate_up_fused, gate_up_fused> {
    static constexpr std::string_view name = "hy_v4_vl_text";
    using modules = safefuse::modules<"mlp.experts">;
    using forms = one_by_one<safefuse::modules<"mlp.experts">>;
    static constexpr auto renames = joined_renames(hy_v4_layer_renames, hy_v4_vl_head_renames);
    static constexpr std::string_view model_types[] = {"hy_v4_vl_text"};
};

/// gate and up of a dense MLP, or of shared experts, which the model holds as one matrix.
using mlp_gate = matrix<"gate", "I", "H">;
using mlp_up = matrix<"up", "I", "H">;
using mlp_apart = layout<module_suffixes, tensor<"gate_proj", mlp_gate>, tensor<"up_proj", mlp_up>>;
using mlp_joined = layout<module_suffixes, tensor<"gate_up_proj", concat<0, mlp_gate, mlp_up>>>;

/// MiniMax M3 VL: w1, w3, w2 on the hub; dense and shared MLPs are fused in the model, too.
struct minimax_m3_vl : family<per_expert_w123, gate_up_fused> {
    static constexpr std::string_view name = "minimax_m3_vl";
    using modules = safefuse::modules<"block_sparse_moe.experts", "mlp.experts">;
    using extra_modules = extra_module_list<
        extra_module<safefuse::modules<"mlp">, mlp_apart, mlp_joined>,
        extra_module<safefuse::modules<"block_sparse_moe.shared_experts", "mlp.shared_experts">,
                     mlp_apart, mlp_joined>>;
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
    static constexpr std::string_view model_types[] = {"minimax_m3_vl"};
};

/// Rows g0, u0, g1, u1, ...: of the experts, of the shared ones and of dense layers.
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

/// Thinking Machines' Inkling: stored fused with rows of gate and up in turn, which the model puts
/// one below the other.
struct inkling_mm_model : family<inkling_experts, gate_up_fused> {
    static constexpr std::string_view name = "inkling_mm_model";
    using modules = safefuse::modules<"mlp.experts">;
    using extra_modules = extra_module_list<
        extra_module<safefuse::modules<"mlp.shared_experts">, inkling_shared, inkling_shared_apart>,
        extra_module<safefuse::modules<"mlp">, inkling_dense, mlp_apart>>;
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
    static constexpr std::string_view model_types[] = {"inkling_mm_model"};
};

/// Inkling's language model alone: stored fused.
struct inkling_text : family<gate_up_fused, gate_up_fused> {
    static constexpr std::string_view name = "inkling_text";
    using modules = safefuse::modules<"mlp.experts">;
    using forms = one_by_one<safefuse::modules<"mlp.experts">>;
    static constexpr rename_description renames[] = {
        formerly("^model.embed_norm", "model.embed_tokens.embed_norm")};
    static constexpr std::string_view model_types[] = {"inkling_text"};
};

/// Rows g0, u0, g1, u1, ...; MXFP8 codes have a scale for 32 of them.
using inkling2_experts =
    layout<suffixes<suffix<weight, "_weight">, suffix<weight_scale_inv, "_weight_scale">>,
           tensor<"w13", stack<interleave<0, 1, gate, up>>>, tensor<"w2", stack<down>>>;
/// The queries of L looped layers: of the queries and of the MLP in one matrix, of keys and values
/// in another, [2L, D] each; the model has one of [L, 4, D].
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

/// NVFP4 codes are left as they are, and in models with looped layers, which make numbers of them,
/// MXFP8 codes are, too.
inline constexpr std::string_view inkling2_passing[] = {"w13_weight_amax", "w2_weight_amax"};
inline constexpr std::string_view inkling2_loop_passing[] = {"w13_weight_amax", "w2_weight_amax",
                                                             "w13_weight_scale", "w2_weight_scale"};

/// The names of Inkling 2's language model, without what stands before them.
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
/// And of its vision tower.
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
/// And of what its looped layers have beside.
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

/// Thinking Machines' Inkling 2: stored fused with rows of gate and up in turn.
struct inkling2 : family<inkling2_experts, gate_up_fused> {
    static constexpr std::string_view name = "inkling2";
    using modules = safefuse::modules<"mlp.experts">;
    static constexpr auto renames =
        joined_renames(inkling2_root_renames, inkling2_text_renames, inkling2_vision_renames);
    static constexpr span<const std::string_view> passing{inkling2_passing};
    static constexpr std::string_view model_types[] = {"inkling2"};
};

/// Inkling 2's language model alone.
struct inkling2_text : family<inkling2_experts, gate_up_fused> {
    static constexpr std::string_view name = "inkling2_text";
    using modules = safefuse::modules<"mlp.experts">;
    static constexpr auto renames =
        joined_renames(inkling2_text_root_renames, inkling2_text_renames);
    static constexpr span<const std::string_view> passing{inkling2_passing};
    static constexpr std::string_view model_types[] = {"inkling2_text"};
};

/// Inkling 2 with looped layers: their queries are one tensor in the model.
struct inkling2_loop : family<inkling2_experts, gate_up_fused> {
    static constexpr std::string_view name = "inkling2_loop";
    using modules = safefuse::modules<"mlp.experts">;
    using extra_modules = extra_module_list<
        extra_module<safefuse::modules<"model.llm", "model.language_model.message_input">,
                     loop_queries_apart, loop_queries_joined>>;
    static constexpr auto renames = joined_renames(inkling2_root_renames, inkling2_text_renames,
                                                   inkling2_vision_renames, inkling2_loop_renames);
    static constexpr span<const std::string_view> passing{inkling2_loop_passing};
    static constexpr std::string_view model_types[] = {"inkling2_loop"};
};

/// The language model of Inkling 2 with looped layers alone.
struct inkling2_loop_text : family<inkling2_experts, gate_up_fused> {
    static constexpr std::string_view name = "inkling2_loop_text";
    using modules = safefuse::modules<"mlp.experts">;
    using extra_modules =
        extra_module_list<extra_module<safefuse::modules<"model.llm", "model.message_input">,
                                       loop_queries_apart, loop_queries_joined>>;
    static constexpr auto renames =
        joined_renames(inkling2_text_root_renames, inkling2_text_renames, inkling2_loop_renames);
    static constexpr span<const std::string_view> passing{inkling2_loop_passing};
    static constexpr std::string_view model_types[] = {"inkling2_loop_text"};
};

/// AI21's Jamba.
struct jamba : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "jamba";
    using modules = safefuse::modules<"feed_forward.experts">;
    static constexpr std::string_view model_types[] = {"jamba"};
};

/// JetMoE: fused, on the hub as in the model.
struct jetmoe : family<linear_pair, linear_pair> {
    static constexpr std::string_view name = "jetmoe";
    using modules = safefuse::modules<"mlp">;
    static constexpr std::string_view model_types[] = {"jetmoe"};
};

/// q, k and v of a vision tower, one matrix of all three for each of L layers. N heads of 2P rows:
/// the halves of a head of q and of k lie there row by row in turn, as complex numbers do, and one
/// behind the other in the model.
using rope_weight = field<"weight", field_role::value, 1, 1, 1>;
using rope_bias = field<"bias", field_role::addend, 1, 1, 0>;
using rope_fields = suffixes<suffix<rope_weight, ".weight">, suffix<rope_bias, ".bias">>;
template <fixed_text Name>
struct rope_half : part_of<expert_range<"L">, Name, "N", "P", "D"> {};
template <class First, class Second>
using rope_in_turn = flatten<0, interleave<1, 1, First, Second>>;
template <class First, class Second>
using rope_in_a_row = flatten<0, concat<1, First, Second>>;
using rope_q_first = rope_half<"q_first">;
using rope_q_second = rope_half<"q_second">;
using rope_k_first = rope_half<"k_first">;
using rope_k_second = rope_half<"k_second">;
using rope_v_first = rope_half<"v_first">;
using rope_v_second = rope_half<"v_second">;
using rope_qkv =
    concat<0, rope_in_turn<rope_q_first, rope_q_second>, rope_in_turn<rope_k_first, rope_k_second>,
           rope_in_a_row<rope_v_first, rope_v_second>>;
using kimi_vision_joined = layout<rope_fields, tensor<"{i}.wqkv", rope_qkv>>;
using kimi_vision_apart =
    layout<rope_fields, tensor<"{i}.attn.q_proj", rope_in_a_row<rope_q_first, rope_q_second>>,
           tensor<"{i}.attn.k_proj", rope_in_a_row<rope_k_first, rope_k_second>>,
           tensor<"{i}.attn.v_proj", rope_in_a_row<rope_v_first, rope_v_second>>>;

/// Moonshot's Kimi K2.5 and K2.6: the vision tower's q, k and v are one matrix on the hub, in
/// another order of rows.
struct kimi_k25 : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "kimi_k25";
    using modules = safefuse::modules<"mlp.experts">;
    using extra_modules = extra_module_list<
        extra_module<safefuse::modules<"vision_tower.encoder.blocks", "model.vision_tower.layers">,
                     kimi_vision_joined, kimi_vision_apart>>;
    using config_extents =
        extents_in_config<extent_in_config<"N", "vision_config.num_attention_heads">>;
    static constexpr rename_description renames[] = {
        optional_rename("^language_model.lm_head", "lm_head"),
        rename("^language_model.model", "model.language_model"),
        rename("^vision_tower.encoder.blocks.{i}.norm1", "model.vision_tower.layers.{i}.norm2"),
        rename("^vision_tower.encoder.blocks.{i}.norm0", "model.vision_tower.layers.{i}.norm1"),
        rename("^vision_tower.encoder.blocks.{i}.mlp.fc1", "model.vision_tower.layers.{i}.mlp.fc2"),
        rename("^vision_tower.encoder.blocks.{i}.mlp.fc0", "model.vision_tower.layers.{i}.mlp.fc1"),
        rename("^vision_tower.encoder.blocks.{i}.wo", "model.vision_tower.layers.{i}.attn.proj"),
        rename("^vision_tower.encoder.final_layernorm", "model.vision_tower.final_layernorm"),
        rename("^vision_tower.encoder.patch_embed.proj", "model.vision_tower.patch_embed.proj"),
        rename("^vision_tower.patch_embed.pos_emb.weight",
               "model.vision_tower.patch_embed.pos_emb.position_embeddings"),
        rename("^mm_projector.proj.0", "model.mm_projector.in_proj"),
        rename("^mm_projector.proj.2", "model.mm_projector.out_proj")};
    static constexpr std::string_view model_types[] = {"kimi_k25"};
};

/// Moonshot's Kimi Linear: w1, w3, w2 on the hub; the short convolutions of q, k and v are one in
/// the model.
struct kimi_linear : family<per_expert_w123, gate_up_fused> {
    static constexpr std::string_view name = "kimi_linear";
    using modules = safefuse::modules<"block_sparse_moe.experts", "mlp.experts">;
    using forms = one_by_one<safefuse::modules<"mlp.experts">>;
    using extra_modules = extra_module_list<
        extra_module<safefuse::modules<"self_attn">, convolutions_apart, convolutions_joined>>;
    static constexpr rename_description renames[] = {
        rename("self_attn.f_a_proj", "self_attn.forget_gate.f_a_proj"),
        rename("self_attn.f_b_proj", "self_attn.forget_gate.f_b_proj"),
        rename("self_attn.dt_bias", "self_attn.forget_gate.dt_bias"),
        rename("self_attn.A_log", "self_attn.forget_gate.A_log"),
        rename("block_sparse_moe.gate", "mlp.gate"),
        rename("block_sparse_moe.shared_experts", "mlp.shared_experts"),
        alias("block_sparse_moe", "mlp")};
    static constexpr std::string_view model_types[] = {"kimi_linear"};
};

/// Kolibri 1.
struct kolibri1 : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "kolibri1";
    using modules = safefuse::modules<"mlp.experts">;
    static constexpr rename_description renames[] = {
        rename("moe.router.expert_bias", "mlp.gate.e_score_correction_bias"),
        rename("post_attn_norm", "post_self_attn_layernorm"),
        rename("post_ffn_norm", "post_mlp_layernorm")};
    static constexpr std::string_view model_types[] = {"kolibri1"};
};

/// Poolside's Laguna.
struct laguna : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "laguna";
    using modules = safefuse::modules<"mlp.experts">;
    static constexpr rename_description renames[] = {
        rename("mlp.experts.e_score_correction_bias", "mlp.gate.e_score_correction_bias"),
        rename("mlp.shared_expert", "mlp.shared_experts")};
    static constexpr std::string_view model_types[] = {"laguna"};
};

/// The projections of a gated delta net, one matrix on the hub: q and k of K heads of D rows, v and
/// z of V heads of P rows, and a row of b and of a for each of these.
using delta_q = matrix<"q", "K", "D", "H">;
using delta_k = matrix<"k", "K", "D", "H">;
using delta_v = matrix<"v", "V", "P", "H">;
using delta_z = matrix<"z", "V", "P", "H">;
using delta_b = matrix<"b", "V", "H">;
using delta_a = matrix<"a", "V", "H">;
using delta_weight = field<"weight", field_role::value, 1, 1, 1>;
using delta_joined =
    layout<suffixes<suffix<delta_weight, ".weight">>,
           tensor<"in_proj", concat<0, flatten<0, delta_q>, flatten<0, delta_k>,
                                    flatten<0, delta_v>, flatten<0, delta_z>, delta_b, delta_a>>>;
using delta_apart = layout<
    suffixes<suffix<delta_weight, ".weight">>,
    tensor<"in_proj_qkv", concat<0, flatten<0, delta_q>, flatten<0, delta_k>, flatten<0, delta_v>>>,
    tensor<"in_proj_z", flatten<0, delta_z>>, tensor<"in_proj_b", delta_b>,
    tensor<"in_proj_a", delta_a>>;

/// Lara mini: stored fused; the projections of its gated delta nets are one matrix on the hub.
struct lara_mini : family<gate_up_fused, gate_up_fused> {
    static constexpr std::string_view name = "lara_mini";
    using modules = safefuse::modules<"mlp.experts">;
    using forms = one_by_one<safefuse::modules<"mlp.experts">>;
    using extra_modules = extra_module_list<
        extra_module<safefuse::modules<"linear_attn">, delta_joined, delta_apart>>;
    using config_extents = extents_in_config<extent_in_config<"K", "linear_num_key_heads">,
                                             extent_in_config<"D", "linear_key_head_dim">,
                                             extent_in_config<"V", "linear_num_value_heads">,
                                             extent_in_config<"P", "linear_value_head_dim">>;
    static constexpr rename_description renames[] = {
        rename("linear_attn.out_norm", "linear_attn.norm")};
    static constexpr std::string_view model_types[] = {"lara_mini"};
};

/// Liquid AI's LFM2 MoE: w1, w3, w2 on the hub.
struct lfm2_moe : family<per_expert_w123, gate_up_fused> {
    static constexpr std::string_view name = "lfm2_moe";
    using modules = safefuse::modules<"feed_forward.experts">;
    using forms = one_by_one<safefuse::modules<"feed_forward.experts">, shared_experts::none>;
    static constexpr std::string_view model_types[] = {"lfm2_moe"};
};

/// Meta's Llama 4: stored fused and transposed.
struct llama4 : family<gate_up_transposed, gate_up_transposed> {
    static constexpr std::string_view name = "llama4";
    using modules = safefuse::modules<"feed_forward.experts">;
    using forms = one_by_one<safefuse::modules<"feed_forward.experts">>;
    static constexpr std::string_view model_types[] = {"llama4", "llama4_text"};
};

/// Zero-computation experts (T experts with them, E without) have a gate and an up matrix and no
/// down matrix.
using longcat_gate = part_of<expert_range<"T">, "gate", "I", "H">;
using longcat_up = part_of<expert_range<"T">, "up", "I", "H">;
using longcat_per_expert = layout<module_suffixes, tensor<"{i}.gate_proj", longcat_gate>,
                                  tensor<"{i}.up_proj", longcat_up>, tensor<"{i}.down_proj", down>>;
using longcat_fused =
    layout<parameter_suffixes, tensor<"gate_up_proj", stack<concat<0, longcat_gate, longcat_up>>>,
           tensor<"down_proj", stack<down>>>;

/// Meituan's LongCat-Flash: experts that compute nothing have no down matrix.
struct longcat_flash : family<longcat_per_expert, longcat_fused> {
    static constexpr std::string_view name = "longcat_flash";
    using modules = safefuse::modules<"mlp.experts">;
    static constexpr std::string_view model_types[] = {"longcat_flash"};
};

/// Xiaomi's MiMo-V2-Flash.
struct mimo_v2_flash : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "mimo_v2_flash";
    using modules = safefuse::modules<"mlp.experts">;
    static constexpr rename_description renames[] = {
        rename("self_attn.attention_sink_bias", "self_attn.sinks")};
    static constexpr std::string_view model_types[] = {"mimo_v2_flash"};
};

/// Mistral 4, Muse Spark, Zaya, and language models that transformers stores without the rest of
/// their models: stored fused.
struct mistral4 : family<gate_up_fused, gate_up_fused> {
    static constexpr std::string_view name = "mistral4";
    using modules = safefuse::modules<"mlp.experts">;
    using forms = one_by_one<safefuse::modules<"mlp.experts">>;
    static constexpr std::string_view model_types[] = {
        "mistral4",   "glm4v_moe_text",  "minimax_m3_vl_text",
        "muse_spark", "muse_spark_text", "qwen3_vl_moe_text",
        "zaya"};
};

/// q and k of a vision tower, N heads of 2P rows, whose halves lie row by row in turn on the hub.
using mistral_vision_stored =
    layout<rope_fields, tensor<"{i}.attention.wq", rope_in_turn<rope_q_first, rope_q_second>>,
           tensor<"{i}.attention.wk", rope_in_turn<rope_k_first, rope_k_second>>>;
using mistral_vision_held =
    layout<rope_fields, tensor<"{i}.attention.q_proj", rope_in_a_row<rope_q_first, rope_q_second>>,
           tensor<"{i}.attention.k_proj", rope_in_a_row<rope_k_first, rope_k_second>>>;

/// Mistral Large 4: w1, w3, w2 on the hub, directly under the layer; the vision tower's q and k
/// have another order of rows.
struct mistral_large4 : family<per_expert_w123, gate_up_fused> {
    static constexpr std::string_view name = "mistral_large4";
    using modules = safefuse::modules<"experts", "mlp.experts">;
    using extra_modules =
        extra_module_list<extra_module<safefuse::modules<"vision_encoder.transformer.layers",
                                                         "model.vision_tower.transformer.layers">,
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
    static constexpr std::string_view model_types[] = {"mistral_large4"};
};

/// The language model of Mistral Large 4 alone.
struct mistral_large4_text : family<per_expert_w123, gate_up_fused> {
    static constexpr std::string_view name = "mistral_large4_text";
    using modules = safefuse::modules<"experts", "mlp.experts">;
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
    static constexpr std::string_view model_types[] = {"mistral_large4_text"};
};

/// Mixtral, MiniMax and MiniMax M2: w1, w3, w2 on the hub.
struct mixtral : family<per_expert_w123, gate_up_fused> {
    static constexpr std::string_view name = "mixtral";
    using modules = safefuse::modules<"block_sparse_moe.experts", "mlp.experts">;
    using forms = stored_forms<
        stored_form<"per-expert", safefuse::modules<"mlp.experts">, per_expert,
                    shared_experts::none>,
        stored_form<"per-expert", safefuse::modules<"block_sparse_moe.experts", "mlp.experts">,
                    per_expert, shared_experts::none>>;
    static constexpr rename_description renames[] = {
        rename("block_sparse_moe.gate", "mlp.gate"),
        optional_rename("block_sparse_moe.e_score_correction_bias", "mlp.e_score_correction_bias"),
        alias("block_sparse_moe", "mlp")};
    static constexpr std::string_view model_types[] = {"mixtral", "minimax", "minimax_m2"};
};

/// NVIDIA's Nemotron-H: up and down, no gate.
struct nemotron_h : family<per_expert_ungated, ungated_fused> {
    static constexpr std::string_view name = "nemotron_h";
    using modules = safefuse::modules<"mixer.experts">;
    static constexpr rename_description renames[] = {rename("^backbone", "model")};
    static constexpr std::string_view model_types[] = {"nemotron_h"};
};

/// q, k and v of R rows each, one matrix on the hub.
using attention_q = matrix<"q", "R", "H">;
using attention_k = matrix<"k", "R", "H">;
using attention_v = matrix<"v", "R", "H">;
using attention_apart = layout<module_suffixes, tensor<"q_proj", attention_q>,
                               tensor<"k_proj", attention_k>, tensor<"v_proj", attention_v>>;
// One alias for each name: nvcc 13 loses the texts that an alias template hands on.
using attention_as_qkv =
    layout<module_suffixes, tensor<"qkv", concat<0, attention_q, attention_k, attention_v>>>;
using attention_as_qkv_proj =
    layout<module_suffixes, tensor<"qkv_proj", concat<0, attention_q, attention_k, attention_v>>>;
using attention_as_w_qkv =
    layout<module_suffixes, tensor<"w_qkv", concat<0, attention_q, attention_k, attention_v>>>;

/// Nemotron-H Omni: up and down, no gate; the vision tower's q, k and v are one matrix on the hub.
struct nemotron_h_omni : family<per_expert_ungated, ungated_fused> {
    static constexpr std::string_view name = "nemotron_h_omni";
    using modules = safefuse::modules<"mixer.experts">;
    using extra_modules = extra_module_list<
        extra_module<safefuse::modules<"vision_model.radio_model.model.blocks.{i}.attn",
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
    static constexpr std::string_view model_types[] = {"nemotron_h_omni"};
};

/// Stored fused and transposed: gate_and_up_projs [E, H, I], which is up alone, and down_projs [E,
/// I, H].
using speechlm_experts =
    layout<suffixes<suffix<weight, "">>, tensor<"gate_and_up_projs", stack<transpose<0, 1, up>>>,
           tensor<"down_projs", stack<transpose<0, 1, down>>>>;

/// Nemotron 3.5 Transcribe: stored fused and transposed, no gate; the audio towers' q, k and v are
/// one matrix on the hub.
struct nemo_speechlm : family<speechlm_experts, ungated_fused> {
    static constexpr std::string_view name = "nemo_speechlm";
    using modules = safefuse::modules<"mixer.experts">;
    using forms = stored_forms<
        stored_form<"per-expert", safefuse::modules<"mixer.experts">, per_expert_ungated>>;
    using extra_modules = extra_module_list<
        extra_module<safefuse::modules<"attn", "self_attn">, attention_as_w_qkv, attention_apart>>;
    static constexpr rename_description renames[] = {
        rename("^perception.encoder.asr_encoder", "model.audio_tower.asr_encoder"),
        rename("^perception.encoder.diarization_model.encoder",
               "model.audio_tower.diarization_model.model.audio_tower"),
        rename("^ctc_timestamp.decoder.transformer", "model.word_timestamp_encoder"),
        rename("^ctc_timestamp.decoder.upsample", "model.word_timestamp_encoder.upsampler"),
        rename("^ctc_timestamp.decoder.decoder_layers.0", "word_timestamp_head"),
        rename("^perception.encoder.diarization_model.sortformer_modules.encoder_proj",
               "model.audio_tower.diarization_model.model.proj"),
        rename("^perception.encoder.diarization_model.sortformer_modules.subpixel_upsample",
               "model.audio_tower.diarization_model.model.upsampler.conv"),
        rename("^perception.encoder.diarization_model.sortformer_modules.first_hidden_to_hidden",
               "model.audio_tower.diarization_model.classifier.dense"),
        rename("^perception.encoder.diarization_model.sortformer_modules.single_hidden_to_spks",
               "model.audio_tower.diarization_model.classifier.out_proj"),
        rename("^perception.encoder.diarization_model.sortformer_modules.learnable_sil_emb",
               "model.audio_tower.diarization_model.silence_embeds"),
        rename("^perception.encoder.asr_norm", "model.audio_tower.asr_norm"),
        rename("^perception.encoder.diar_norm", "model.audio_tower.speaker_norm"),
        rename("^perception.proj", "model.multi_modal_projector"),
        rename("^llm.model.embed_tokens", "model.language_model.embeddings"),
        rename("^llm.model.norm", "model.language_model.norm_f"),
        rename("^llm.model.layers", "model.language_model.layers"),
        rename("^llm.lm_head", "lm_head"),
        rename("pre_encode.proj", "embedder.projection"),
        rename("embed_norm", "input_layer_norm"),
        rename("final_norm", "layer_norm"),
        rename("norm1", "layer_norm1"),
        rename("norm2", "layer_norm2"),
        rename("attn.out_proj", "self_attn.o_proj"),
        rename("attn.q_norm", "self_attn.q_norm"),
        rename("attn.k_norm", "self_attn.k_norm"),
        rename("ffn.net.0", "mlp.fc1"),
        rename("ffn.net.3", "mlp.fc2"),
        rename("mixer._fp32_params.A_log", "mixer.A_log"),
        rename("mixer._fp32_params.D", "mixer.D"),
        rename("mixer._fp32_params.dt_bias", "mixer.dt_bias")};
    static constexpr std::string_view model_types[] = {"nemo_speechlm"};
};

/// OpenAI's privacy filter: stored fused and transposed.
struct openai_privacy_filter : family<gate_up_transposed, gate_up_transposed> {
    static constexpr std::string_view name = "openai_privacy_filter";
    using modules = safefuse::modules<"mlp.experts">;
    using forms = one_by_one<safefuse::modules<"mlp.experts">, shared_experts::none>;
    static constexpr std::string_view model_types[] = {"openai_privacy_filter"};
};

/// Microsoft's Phi-3.5-MoE: w1, w3, w2 on the hub.
struct phimoe : family<per_expert_w123, gate_up_fused> {
    static constexpr std::string_view name = "phimoe";
    using modules = safefuse::modules<"block_sparse_moe.experts", "mlp.experts">;
    using forms = one_by_one<safefuse::modules<"mlp.experts">, shared_experts::none>;
    static constexpr rename_description renames[] = {rename("block_sparse_moe.gate", "mlp.router"),
                                                     alias("block_sparse_moe", "mlp")};
    static constexpr std::string_view model_types[] = {"phimoe"};
};

/// The language model of Qwen3.5 MoE.
struct qwen3_5_moe_text : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "qwen3_5_moe_text";
    using modules = safefuse::modules<"mlp.experts">;
    static constexpr rename_description renames[] = {alias("^model.language_model", "model")};
    static constexpr std::string_view model_types[] = {"qwen3_5_moe_text"};
};

/// Qwen3-Omni MoE: transformers 5.17 and earlier held the thinker's modules under the stored names.
struct qwen3_omni_moe : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "qwen3_omni_moe";
    using modules = safefuse::modules<"mlp.experts">;
    static constexpr rename_description renames[] = {
        always(rename("^thinker.audio_tower", "thinker.model.audio_tower")),
        always(rename("^thinker.visual", "thinker.model.visual")),
        always(rename("^thinker.model.embed_tokens", "thinker.model.language_model.embed_tokens")),
        always(rename("^thinker.model.layers", "thinker.model.language_model.layers")),
        always(rename("^thinker.model.norm", "thinker.model.language_model.norm"))};
    static constexpr std::string_view model_types[] = {"qwen3_omni_moe"};
};

/// The thinker of Qwen3-Omni MoE alone.
struct qwen3_omni_moe_thinker : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "qwen3_omni_moe_thinker";
    using modules = safefuse::modules<"mlp.experts">;
    static constexpr rename_description renames[] = {
        always(rename("^audio_tower", "model.audio_tower")),
        always(rename("^visual", "model.visual")),
        always(rename("^model.embed_tokens", "model.language_model.embed_tokens")),
        always(rename("^model.layers", "model.language_model.layers")),
        always(rename("^model.norm", "model.language_model.norm"))};
    static constexpr std::string_view model_types[] = {"qwen3_omni_moe_thinker"};
};

/// Qwen3-VL MoE: stored fused and transposed, which the model turns.
struct qwen3_vl_moe : family<gate_up_transposed, gate_up_fused> {
    static constexpr std::string_view name = "qwen3_vl_moe";
    using modules = safefuse::modules<"mlp.experts">;
    using forms = one_by_one<safefuse::modules<"mlp.experts">, shared_experts::none>;
    static constexpr std::string_view model_types[] = {"qwen3_vl_moe"};
};

/// An embedding in S shards of R rows, which the model holds as one.
using ngram_shard = part_of<expert_range<"S">, "shard", "R", "D">;
using ngrams_in_shards = layout<module_suffixes, tensor<"ngram_embedding.shard_{i}", ngram_shard>>;
using ngrams_joined =
    layout<module_suffixes, tensor<"ngram_embedding", flatten<0, stack<ngram_shard>>>>;

/// Qwen4-Exp: an embedding in shards is one in the model.
struct qwen4_exp : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "qwen4_exp";
    using modules = safefuse::modules<"mlp.experts">;
    using extra_modules = extra_module_list<
        extra_module<safefuse::modules<"ple_embedding">, ngrams_in_shards, ngrams_joined>>;
    using config_extents =
        extents_in_config<extent_in_config<"S", "text_config.split_ngram_parts">>;
    static constexpr std::string_view model_types[] = {"qwen4_exp"};
};

/// The language model of Qwen4-Exp.
struct qwen4_exp_text : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "qwen4_exp_text";
    using modules = safefuse::modules<"mlp.experts">;
    using extra_modules = extra_module_list<
        extra_module<safefuse::modules<"ple_embedding">, ngrams_in_shards, ngrams_joined>>;
    using config_extents = extents_in_config<extent_in_config<"S", "split_ngram_parts">>;
    static constexpr rename_description renames[] = {alias("^model.language_model", "model")};
    static constexpr std::string_view model_types[] = {"qwen4_exp_text"};
};

/// q of N heads, k and v of K heads, all of P rows, one matrix on the hub.
using sarvam_q = matrix<"q", "N", "P", "H">;
using sarvam_k = matrix<"k", "K", "P", "H">;
using sarvam_v = matrix<"v", "K", "P", "H">;
using sarvam_joined =
    layout<rope_fields,
           tensor<"query_key_value",
                  concat<0, flatten<0, sarvam_q>, flatten<0, sarvam_k>, flatten<0, sarvam_v>>>>;
using sarvam_apart =
    layout<rope_fields, tensor<"q_proj", flatten<0, sarvam_q>>,
           tensor<"k_proj", flatten<0, sarvam_k>>, tensor<"v_proj", flatten<0, sarvam_v>>>;

/// Sarvam's MoE: q, k and v are one matrix on the hub.
struct sarvam_moe : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "sarvam_moe";
    using modules = safefuse::modules<"mlp.experts">;
    using extra_modules = extra_module_list<
        extra_module<safefuse::modules<"attention", "self_attn">, sarvam_joined, sarvam_apart>>;
    using config_extents = extents_in_config<extent_in_config<"N", "num_attention_heads">,
                                             extent_in_config<"K", "num_key_value_heads">,
                                             extent_in_config<"P", "head_dim">>;
    static constexpr rename_description renames[] = {
        rename("^model.word_embeddings", "model.embed_tokens"),
        rename("attention", "self_attn"),
        rename("self_attn.dense", "self_attn.o_proj"),
        rename("self_attn.query_layernorm", "self_attn.q_norm"),
        rename("self_attn.key_layernorm", "self_attn.k_norm"),
        rename("mlp.gate.expert_bias", "mlp.gate.e_score_correction_bias")};
    static constexpr std::string_view model_types[] = {"sarvam_moe"};
};

/// The experts of a layer stacked, gate and up apart.
using step3p7_experts = layout<module_suffixes, tensor<"gate_proj", stack<gate>>,
                               tensor<"up_proj", stack<up>>, tensor<"down_proj", stack<down>>>;
using step3p7_vision_joined =
    layout<suffixes<suffix<rope_weight, "_weight">, suffix<rope_bias, "_bias">>,
           tensor<"{i}.attn.in_proj", rope_qkv>>;
using step3p7_vision_apart =
    layout<rope_fields, tensor<"{i}.self_attn.q_proj", rope_in_a_row<rope_q_first, rope_q_second>>,
           tensor<"{i}.self_attn.k_proj", rope_in_a_row<rope_k_first, rope_k_second>>,
           tensor<"{i}.self_attn.v_proj", rope_in_a_row<rope_v_first, rope_v_second>>>;

/// StepFun's Step 3.7: experts stacked, gate and up apart on the hub; the vision tower's q, k and v
/// are one matrix there.
struct step3p7 : family<step3p7_experts, gate_up_fused> {
    static constexpr std::string_view name = "step3p7";
    using modules = safefuse::modules<"moe", "mlp.experts">;
    using forms = one_by_one<safefuse::modules<"mlp.experts">>;
    using extra_modules = extra_module_list<extra_module<
        safefuse::modules<"vision_model.transformer.resblocks", "model.vision_model.layers">,
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
    static constexpr std::string_view model_types[] = {"step3p7"};
};

/// Unlimited-OCR: the vision towers have other names in the model, and q, k and v of one are one
/// matrix on the hub.
struct unlimited_ocr : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "unlimited_ocr";
    using modules = safefuse::modules<"mlp.experts">;
    using extra_modules = extra_module_list<extra_module<
        safefuse::modules<"model.vision_model.transformer.layers.{i}.self_attn",
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
    static constexpr std::string_view model_types[] = {"unlimited_ocr"};
};

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
