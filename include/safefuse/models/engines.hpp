// safefuse: layouts that engines hold experts in, as targets: plan<layouts::per_expert, layouts::vllm>(set, scope,
// {.destination_scope = ...}). Each names the engine's file and commit that it was read from. What an engine does after loading
// (padding, tiles, row shuffles of one kernel) is not here.
#ifndef SAFEFUSE_MODELS_ENGINES_HPP
#define SAFEFUSE_MODELS_ENGINES_HPP

#include <string_view>

#include <safefuse/core/span.hpp>
#include <safefuse/layout/layout.hpp>
#include <safefuse/models/standard.hpp>

namespace safefuse::inline SAFEFUSE_ABI::layouts {

/// vLLM: w13_weight [E, 2I, H], gate's rows first, and w2_weight [E, H, I]; w13_bias, w13_weight_scale_inv likewise.
///   source  vllm-project/vllm, vllm/model_executor/layers: fused_moe/unquantized_fused_moe_method.py @ 017b8f2 (names, shapes),
///           fused_moe/routed_experts.py @ 002d607 (w1, the gate, goes first), quantization/fp8.py @ 0071b24 (block scales)
using vllm =
    layout<spelling<spelled<weight, "_weight">, spelled<bias, "_bias">, spelled<weight_scale_inv, "_weight_scale_inv">,
                    spelled<weight_scale, "_weight_scale">, spelled<weight_scale_2, "_weight_scale_2">,
                    spelled<input_scale, "_input_scale">, spelled<weight_packed, "_weight_packed">,
                    spelled<weight_global_scale, "_weight_global_scale">, spelled<input_global_scale, "_input_global_scale">,
                    spelled<weight_shape, "_weight_shape">, spelled<weight_g_idx, "_weight_g_idx">, spelled<qweight, "_qweight">,
                    spelled<qzeros, "_qzeros">, spelled<scales, "_scales">, spelled<g_idx, "_g_idx">>,
           tensor<"w13", stack<concat<0, gate, up>>>, tensor<"w2", stack<down>>>;

/// TensorRT-LLM: w3_w1_weight [E, 2I, H], up's rows first, and w2_weight [E, H, I]; block scales are ..._weight_scaling_factor.
///   source  NVIDIA/TensorRT-LLM, tensorrt_llm/_torch/modules/fused_moe/quantization.py @ 002366a (FusedMoEMethodBase,
///           DeepSeekFP8BlockScalesFusedMoEMethod)
using tensorrt_llm =
    layout<spelling<spelled<weight, "_weight">, spelled<bias, "_bias">, spelled<weight_scale_inv, "_weight_scaling_factor">>,
           tensor<"w3_w1", stack<concat<0, up, gate>>>, tensor<"w2", stack<down>>>;

/// TensorRT-LLM with its CuteDSL kernels: like tensorrt_llm, but 64 rows of up and 64 of gate in turn.
///   fails   unnested_groups (I is not a multiple of 64), leftover_tensor (only weights are put so)
///   source  NVIDIA/TensorRT-LLM, tensorrt_llm/_torch/modules/fused_moe/quantization.py @ 002366a (interleave_linear_and_gate,
///           NVFP4CuteDslFusedMoEMethod)
using cutedsl =
    layout<spelling<spelled<weight, "_weight">>, tensor<"w3_w1", stack<interleave<0, 64, up, gate>>>, tensor<"w2", stack<down>>>;

/// MLX-LM: switch_mlp.gate_proj.weight and switch_mlp.up_proj.weight [E, I, H], switch_mlp.down_proj.weight [E, H, I].
///   scope   the destination's is the mlp, not mlp.experts
///   source  ml-explore/mlx-lm, mlx_lm/models: qwen3_moe.py @ 0161813 (names), switch_layers.py @ 04e6af1 (shapes, bias)
using mlx = layout<spelling<spelled<weight, ".weight">, spelled<bias, ".bias">>, tensor<"switch_mlp.gate_proj", stack<gate>>,
                   tensor<"switch_mlp.up_proj", stack<up>>, tensor<"switch_mlp.down_proj", stack<down>>>;

/// llama.cpp's GGUF: ffn_gate_exps.weight and ffn_up_exps.weight [E, I, H], ffn_down_exps.weight [E, H, I], as numpy counts axes.
/// ggml counts them from the innermost, ne = {H, I, E} and {I, H, E}; the bytes are the same.
///   scope   the destination's is blk.N
///   source  ggml-org/llama.cpp: gguf-py/gguf/{constants,gguf_writer}.py @ 0024aa7 (names, order of axes),
///           conversion/qwen.py @ 03173d5 (stacks), conversion/gpt_oss.py @ 2984e6e (bias)
using gguf = layout<spelling<spelled<weight, ".weight">, spelled<bias, ".bias">>, tensor<"ffn_gate_exps", stack<gate>>,
                    tensor<"ffn_up_exps", stack<up>>, tensor<"ffn_down_exps", stack<down>>>;

/// ONNX Runtime GenAI: gate_up_proj.weight [E, 2I, H], rows g0, u0, g1, u1, ... (its swiglu_fusion = 1), and down_proj.weight
/// [E, H, I].
///   scope   the destination's is model.layers.N.moe.experts
///   source  microsoft/onnxruntime-genai, src/python/py/models/builders/qwen.py @ 005dd0b (Qwen35MoeTextModel.make_moe)
using onnxruntime_genai = layout<spelling<spelled<weight, ".weight">, spelled<bias, ".bias">>,
                                 tensor<"gate_up_proj", stack<interleave<0, 1, gate, up>>>, tensor<"down_proj", stack<down>>>;

/// NeMo Automodel: gate_and_up_projs [E, H, 2I], gate's columns first, and down_projs [E, I, H].
///   fails   leftover_tensor (biases: their names have another stem, gate_up_proj_bias, that a suffix cannot give)
///   source  NVIDIA-NeMo/Automodel, nemo_automodel/components/moe: experts.py @ 01f0725 (names, shapes),
///           state_dict_mixin.py @ 021e97f (order)
using automodel = layout<spelling<spelled<weight, "">>, tensor<"gate_and_up_projs", stack<transpose<0, 1, concat<0, gate, up>>>>,
                         tensor<"down_projs", stack<transpose<0, 1, down>>>>;

/// MegaBlocks: w1 (gate), v1 (up) and w2 (down transposed), each [E * I, H].
///   fails   shape_mismatch as a source without plan_options::known_extents (E and I show only as their product), leftover_tensor (its
///           GLU has no biases)
///   source  databricks/megablocks, megablocks/layers: glu.py @ 014667c (which is which, w2 not transposed when it is used),
///           mlp.py @ 0fe1eab (shapes)
using megablocks = flat_experts;

}  // namespace safefuse::inline SAFEFUSE_ABI::layouts

namespace safefuse::inline SAFEFUSE_ABI {

/// An engine's layout by name, for programs that learn it at run time: plan(set, scope, layouts::per_expert::description, *it->layout).
struct known_engine {
    std::string_view name;             ///< as find_engine takes it
    const layout_description* layout;  ///< never null
};

/// An entry of an engine_list.
template <fixed_text Name, class Layout>
struct engine {
    /// The engine as data.
    static constexpr known_engine entry{Name.view(), &Layout::description};
};

/// Engines that are looked through: shipped_engines, or a list of your own. Nothing of them is instantiated before it is asked for.
template <class... Engine>
struct engine_list {
private:
    static constexpr known_engine list[] = {Engine::entry...};

public:
    /// The engines as data, in the order of the list.
    static constexpr sequence<const known_engine> all{list};
};

/// All engines whose layouts the library ships.
using shipped_engines = engine_list<engine<"automodel", layouts::automodel>, engine<"cutedsl", layouts::cutedsl>,
                                    engine<"gguf", layouts::gguf>, engine<"megablocks", layouts::megablocks>,
                                    engine<"mlx", layouts::mlx>, engine<"onnxruntime_genai", layouts::onnxruntime_genai>,
                                    engine<"tensorrt_llm", layouts::tensorrt_llm>, engine<"vllm", layouts::vllm>>;

/// The engine of that name, or null.
template <class Engines = shipped_engines>
[[nodiscard]] constexpr const known_engine* find_engine(std::string_view name) noexcept {
    for (const known_engine& each : Engines::all)
        if (each.name == name) return &each;
    return nullptr;
}

}  // namespace safefuse::inline SAFEFUSE_ABI

#endif
