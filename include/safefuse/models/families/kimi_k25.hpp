// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: Kimi K2.5: q and k of the vision tower in another order of rows.
#ifndef SAFEFUSE_MODELS_FAMILIES_KIMI_K25_HPP
#define SAFEFUSE_MODELS_FAMILIES_KIMI_K25_HPP

#include <safefuse/models/families/common.hpp>
#include <safefuse/models/families/rope.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

/// The vision tower's q, k and v: one matrix on the hub, three in the model.
using kimi_vision_joined = layout<rope_fields, tensor<"{i}.wqkv", rope_qkv>>;
using kimi_vision_apart =
    layout<rope_fields, tensor<"{i}.attn.q_proj", rope_in_a_row<rope_q_first, rope_q_second>>,
           tensor<"{i}.attn.k_proj", rope_in_a_row<rope_k_first, rope_k_second>>,
           tensor<"{i}.attn.v_proj", rope_in_a_row<rope_v_first, rope_v_second>>>;

/// Moonshot's Kimi K2.5 and K2.6: the vision tower's q, k and v are one matrix on the hub, in
/// another order of rows.
struct kimi_k25 : family<"kimi_k25", per_expert, gate_up_fused> {
    using extra_modules = extra_module_list<
        extra_module<at_path<"vision_tower.encoder.blocks", "model.vision_tower.layers">,
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
};

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
