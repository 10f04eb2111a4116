// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the layouts of engines, as destinations of plans: plan<layouts::per_expert,
// engines::vllm>(set, scope, {.destination_scope = ...}). Each layout names the file and the commit
// of the engine that it was read from. Changes that an engine makes after loading (padding, tiles,
// row shuffles of one kernel) are not included.
#ifndef SAFEFUSE_MODELS_ENGINES_HPP
#define SAFEFUSE_MODELS_ENGINES_HPP

#include <string_view>

#include <safefuse/core/span.hpp>
#include <safefuse/layout/engine.hpp>
#include <safefuse/layout/layout.hpp>
#include <safefuse/models/standard.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace engines {

// The standard layouts and parts, by their short names.
using layouts::down;
using layouts::flat_experts;
using layouts::gate;
using layouts::up;

/// vLLM: w13_weight [E, 2I, H], gate's rows first, and w2_weight [E, H, I]; w13_bias,
/// w13_weight_scale_inv likewise.
///   source  vllm-project/vllm, vllm/model_executor/layers:
///           fused_moe/unquantized_fused_moe_method.py @ 017b8f2 (names, shapes),
///           fused_moe/routed_experts.py @ 002d607 (w1, the gate, comes first), quantization/fp8.py
///           @ 0071b24 (block scales)
using vllm = layout<
    suffixes<suffix<weight, "_weight">, suffix<bias, "_bias">,
             suffix<weight_scale_inv, "_weight_scale_inv">, suffix<weight_scale, "_weight_scale">,
             suffix<weight_scale_2, "_weight_scale_2">, suffix<input_scale, "_input_scale">,
             suffix<weight_packed, "_weight_packed">,
             suffix<weight_global_scale, "_weight_global_scale">,
             suffix<input_global_scale, "_input_global_scale">,
             suffix<weight_shape, "_weight_shape">, suffix<weight_zero_point, "_weight_zero_point">,
             suffix<weight_g_idx, "_weight_g_idx">, suffix<qweight, "_qweight">,
             suffix<qzeros, "_qzeros">, suffix<scales, "_scales">, suffix<g_idx, "_g_idx">>,
    tensor<"w13", stack<concat<0, gate, up>>>, tensor<"w2", stack<down>>>;

/// SGLang: as vllm, but biases are w13_weight_bias and w2_weight_bias.
///   source  sgl-project/sglang 0.5.23, python/sglang/srt/layers: moe/fused_moe_triton/layer.py
///           (make_expert_params_mapping_fused), quantization/unquant.py,
///           compressed_tensors/schemes/compressed_tensors_wNa16_moe.py (w13_weight_zero_point,
///           w13_weight_g_idx), gptq/schemes/gptq_moe.py (w13_g_idx, w13_qzeros)
using sglang = layout<
    suffixes<suffix<weight, "_weight">, suffix<bias, "_weight_bias">,
             suffix<weight_scale_inv, "_weight_scale_inv">, suffix<weight_scale, "_weight_scale">,
             suffix<weight_scale_2, "_weight_scale_2">, suffix<input_scale, "_input_scale">,
             suffix<weight_packed, "_weight_packed">,
             suffix<weight_global_scale, "_weight_global_scale">,
             suffix<input_global_scale, "_input_global_scale">,
             suffix<weight_shape, "_weight_shape">, suffix<weight_zero_point, "_weight_zero_point">,
             suffix<weight_g_idx, "_weight_g_idx">, suffix<qweight, "_qweight">,
             suffix<qzeros, "_qzeros">, suffix<scales, "_scales">, suffix<g_idx, "_g_idx">>,
    tensor<"w13", stack<concat<0, gate, up>>>, tensor<"w2", stack<down>>>;

/// TensorRT-LLM: w3_w1_weight [E, 2I, H], up's rows first, and w2_weight [E, H, I]; block scales
/// are ..._weight_scaling_factor.
///   source  NVIDIA/TensorRT-LLM, tensorrt_llm/_torch/modules/fused_moe/quantization.py @ 002366a
///           (FusedMoEMethodBase, DeepSeekFP8BlockScalesFusedMoEMethod)
using tensorrt_llm = layout<suffixes<suffix<weight, "_weight">, suffix<bias, "_bias">,
                                     suffix<weight_scale_inv, "_weight_scaling_factor">>,
                            tensor<"w3_w1", stack<concat<0, up, gate>>>, tensor<"w2", stack<down>>>;

/// TensorRT-LLM with its CuteDSL kernels: like tensorrt_llm, but 64 rows of up and 64 of gate in
/// turn.
///   fails   unnested_groups (I is not a multiple of 64), unexpected_key (a field other than the
///           weight)
///   source  NVIDIA/TensorRT-LLM, tensorrt_llm/_torch/modules/fused_moe/quantization.py @ 002366a
///           (interleave_linear_and_gate, NVFP4CuteDslFusedMoEMethod)
using cutedsl =
    layout<suffixes<suffix<weight, "_weight">>, tensor<"w3_w1", stack<interleave<0, 64, up, gate>>>,
           tensor<"w2", stack<down>>>;

/// MLX-LM: switch_mlp.gate_proj.weight and switch_mlp.up_proj.weight [E, I, H],
/// switch_mlp.down_proj.weight [E, H, I].
///   scope   the destination scope is the mlp, not mlp.experts
///   source  ml-explore/mlx-lm, mlx_lm/models: qwen3_moe.py @ 0161813 (names), switch_layers.py @
///           04e6af1 (shapes, bias)
using mlx =
    layout<suffixes<suffix<weight, ".weight">, suffix<bias, ".bias">>,
           tensor<"switch_mlp.gate_proj", stack<gate>>, tensor<"switch_mlp.up_proj", stack<up>>,
           tensor<"switch_mlp.down_proj", stack<down>>>;

/// llama.cpp's GGUF: ffn_gate_exps.weight and ffn_up_exps.weight [E, I, H], ffn_down_exps.weight
/// [E, H, I], with axes in the order of numpy. ggml counts axes from the innermost: ne = {H, I, E}
/// and {I, H, E}. The bytes are the same.
///   scope   the destination scope is blk.N
///   source  ggml-org/llama.cpp: gguf-py/gguf/{constants,gguf_writer}.py @ 0024aa7 (names, order of
///           axes), conversion/qwen.py @ 03173d5 (stacks), conversion/gpt_oss.py @ 2984e6e (bias)
using gguf = layout<suffixes<suffix<weight, ".weight">, suffix<bias, ".bias">>,
                    tensor<"ffn_gate_exps", stack<gate>>, tensor<"ffn_up_exps", stack<up>>,
                    tensor<"ffn_down_exps", stack<down>>>;

/// ONNX Runtime GenAI: gate_up_proj.weight [E, 2I, H], rows g0, u0, g1, u1, ... (its swiglu_fusion
/// = 1), and down_proj.weight [E, H, I].
///   scope   the destination scope is model.layers.N.moe.experts
///   source  microsoft/onnxruntime-genai, src/python/py/models/builders/qwen.py @ 005dd0b
///           (Qwen35MoeTextModel.make_moe)
using onnxruntime_genai = layout<suffixes<suffix<weight, ".weight">, suffix<bias, ".bias">>,
                                 tensor<"gate_up_proj", stack<interleave<0, 1, gate, up>>>,
                                 tensor<"down_proj", stack<down>>>;

/// NeMo Automodel: gate_and_up_projs [E, H, 2I], gate's columns first, and down_projs [E, I, H].
///   fails   unexpected_key (biases: their names have another stem, gate_up_proj_bias, that a
///           suffix cannot give)
///   source  NVIDIA-NeMo/Automodel, nemo_automodel/components/moe: experts.py @ 01f0725 (names,
///           shapes), state_dict_mixin.py @ 021e97f (order)
using automodel = layout<suffixes<suffix<weight, "">>,
                         tensor<"gate_and_up_projs", stack<transpose<0, 1, concat<0, gate, up>>>>,
                         tensor<"down_projs", stack<transpose<0, 1, down>>>>;

/// MegaBlocks: w1 (gate), v1 (up) and w2 (down transposed), each [E * I, H].
///   fails   shape_mismatch as a source without plan_options::known_extents (the shapes give only
///           the product of E and I), unexpected_key (its GLU has no biases)
///   source  databricks/megablocks, megablocks/layers: glu.py @ 014667c (the roles of w1, v1 and
///           w2; w2 is used without a transposition), mlp.py @ 0fe1eab (shapes)
using megablocks = flat_experts;

}  // namespace engines
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// An entry of an engine_list: the name, the layout, and the scope in which the engine expects
/// experts (engine_entry::scope).
template <fixed_text Name, class Layout, fixed_text Scope = "{scope}">
struct engine {
    /// The engine as data.
    static constexpr engine_entry entry{Name.view(), &Layout::description, Scope.view()};
};

/// A list of engines to search: shipped_engines, or a list of your own. Its members are
/// instantiated only when used.
template <class... Engine>
struct engine_list {
private:
    static constexpr engine_entry list[] = {Engine::entry...};

public:
    /// The engines as data, in the order of the list.
    static constexpr span<const engine_entry> all{list};
};

/// All engines whose layouts the library ships.
using shipped_engines = engine_list<
    engine<"automodel", engines::automodel>, engine<"cutedsl", engines::cutedsl>,
    engine<"gguf", engines::gguf, "blk.{i}">, engine<"megablocks", engines::megablocks>,
    engine<"mlx", engines::mlx, "{parent}">,
    engine<"onnxruntime_genai", engines::onnxruntime_genai, "model.layers.{i}.moe.experts">,
    engine<"sglang", engines::sglang>, engine<"tensorrt_llm", engines::tensorrt_llm>,
    engine<"vllm", engines::vllm>>;

/// The engine with this name, or null.
template <class Engines = shipped_engines>
[[nodiscard]] constexpr const engine_entry* find_engine(std::string_view name) noexcept {
    for (const engine_entry& each : Engines::all)
        if (each.name == name) return &each;
    return nullptr;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
