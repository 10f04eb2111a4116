// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: Hy4 with and without images: three families that share renames.
#ifndef SAFEFUSE_MODELS_FAMILIES_HY_V4_HPP
#define SAFEFUSE_MODELS_FAMILIES_HY_V4_HPP

#include <safefuse/models/families/common.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

/// Renames in the layers of Hy4.
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
/// Renames if Hy4 is part of another model, or is stored without its head.
inline constexpr rename_description hy_v4_vl_head_renames[] = {
    rename("hc_head.hc_pre.hc_head_fn", "hc_head.hc_fn"),
    alias("hc_pre.hc_head.hc_head_fn", "hc_head.hc_fn"),
    rename("hc_head.hc_pre.hc_head_base", "hc_head.hc_base"),
    alias("hc_pre.hc_head.hc_head_base", "hc_head.hc_base"),
    rename("hc_head.hc_pre.hc_head_scale", "hc_head.hc_scale"),
    alias("hc_pre.hc_head.hc_head_scale", "hc_head.hc_scale")};

/// Tencent's Hy4: stored fused, under other names.
struct hy_v4 : family<"hy_v4", gate_up_fused, gate_up_fused> {
    using forms = one_by_one<at_path<"mlp.experts">>;
    static constexpr auto renames = joined_renames(hy_v4_layer_renames, hy_v4_head_renames);
};

/// Renames of the top-level modules of Hy4 with images.
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
struct hy_v4_vl : family<"hy_v4_vl", gate_up_fused, gate_up_fused> {
    using forms = one_by_one<at_path<"mlp.experts">>;
    static constexpr auto renames = joined_renames(hy_v4_vl_root_renames, hy_v4_layer_renames,
                                                   hy_v4_vl_head_renames, hy_v4_vl_vision_renames);
};

/// Only the language model of Hy4 with images.
struct hy_v4_vl_text : family<"hy_v4_vl_text", gate_up_fused, gate_up_fused> {
    using forms = one_by_one<at_path<"mlp.experts">>;
    static constexpr auto renames = joined_renames(hy_v4_layer_renames, hy_v4_vl_head_renames);
};

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
