// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: dots3-note: the vision tower has experts, too.
#ifndef SAFEFUSE_MODELS_FAMILIES_DOTS3_NOTE_HPP
#define SAFEFUSE_MODELS_FAMILIES_DOTS3_NOTE_HPP

#include <safefuse/models/families/common.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

/// The V experts of the vision tower: fc1 is gate, fc3 is up, fc2 is down.
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
struct dots3_note
    : family<"dots3_note", per_expert, gate_up_fused,
             at_path<"layers.{i}.mlp.experts", "language_model.layers.{i}.mlp.experts">> {
    using extra_modules =
        extra_module_list<extra_module<at_path<"vision_encoder.blocks.{i}.mlp.experts",
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
};

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
