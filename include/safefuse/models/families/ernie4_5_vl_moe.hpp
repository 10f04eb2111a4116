// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: ERNIE 4.5 VL: experts for text and for images in one numbered list.
#ifndef SAFEFUSE_MODELS_FAMILIES_ERNIE4_5_VL_MOE_HPP
#define SAFEFUSE_MODELS_FAMILIES_ERNIE4_5_VL_MOE_HPP

#include <safefuse/models/families/common.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

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
/// The routers, which are stored transposed, and one tensor with the corrections of both.
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

/// ERNIE 4.5 VL: the hub numbers experts for text and for images in one list; the model has two
/// modules. Routers are transposed.
struct ernie4_5_vl_moe
    : family<"ernie4_5_vl_moe", ernie_vl_per_expert, ernie_vl_fused, at_path<"mlp">> {
    using extra_modules = extra_module_list<
        extra_module<at_path<"mlp">, ernie_vl_text_gate, ernie_vl_text_gate_turned>,
        extra_module<at_path<"mlp">, ernie_vl_vision_gate, ernie_vl_vision_gate_turned>,
        extra_module<at_path<"mlp">, ernie_vl_biases, ernie_vl_biases_apart>>;
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
};

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
