// safefuse: the families, each a declaration: where its model types store experts, how transformers 5.17.0 holds them
// (conversion_mapping.py), and what it renames. tests/rewrite.test.cpp holds them against what transformers loaded.
#ifndef SAFEFUSE_LAYOUTS_FAMILIES_HPP
#define SAFEFUSE_LAYOUTS_FAMILIES_HPP

#include <string_view>

#include <safefuse/family.hpp>
#include <safefuse/layouts/forms.hpp>

namespace safefuse::inline SAFEFUSE_ABI::layouts {

struct qwen2_moe : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "qwen2_moe";
    using modules = safefuse::modules<"mlp.experts">;
    using model_types =
        name_list<"qwen2_moe", "afmoe", "cohere2_moe", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots1", "flex_olmo", "glm4_moe",
                  "glm4_moe_lite", "glm4v_moe", "glm_moe_dsa", "hunyuan_v1_moe", "mellum", "olmoe", "qwen3_moe",
                  "qwen3_next", "qwen3_omni_moe", "qwen3_omni_moe_thinker", "solar_open">;
};

struct ernie4_5_moe : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "ernie4_5_moe";
    using modules = safefuse::modules<"mlp.experts">;
    using renames = safefuse::renames<rename<"mlp.moe_statics", "mlp.gate.moe_statics">>;
    using model_types = name_list<"ernie4_5_moe">;
};

struct exaone_moe : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "exaone_moe";
    using modules = safefuse::modules<"mlp.experts">;
    using renames = safefuse::renames<rename<"mlp.e_score_correction_bias", "mlp.gate.e_score_correction_bias">>;
    using model_types = name_list<"exaone_moe">;
};

struct hy_v3 : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "hy_v3";
    using modules = safefuse::modules<"mlp.experts">;
    using renames = safefuse::renames<rename<"mlp.router.gate", "mlp.gate">, rename<"mlp.expert_bias", "mlp.e_score_correction_bias">,
                                      rename<"mlp.shared_mlp", "mlp.shared_experts">>;
    using model_types = name_list<"hy_v3">;
};

struct jamba : family<per_expert, gate_up_fused> {
    static constexpr std::string_view name = "jamba";
    using modules = safefuse::modules<"feed_forward.experts">;
    using model_types = name_list<"jamba">;
};

struct lfm2_moe : family<per_expert_w123, gate_up_fused> {
    static constexpr std::string_view name = "lfm2_moe";
    using modules = safefuse::modules<"feed_forward.experts">;
    using model_types = name_list<"lfm2_moe">;
};

struct mixtral : family<per_expert_w123, gate_up_fused> {
    static constexpr std::string_view name = "mixtral";
    using modules = safefuse::modules<"block_sparse_moe.experts", "mlp.experts">;
    using renames = safefuse::renames<rename<"block_sparse_moe", "mlp">>;
    using model_types = name_list<"mixtral", "minimax", "minimax_m2">;
};

struct phimoe : family<per_expert_w123, gate_up_fused> {
    static constexpr std::string_view name = "phimoe";
    using modules = safefuse::modules<"block_sparse_moe.experts", "mlp.experts">;
    using renames = safefuse::renames<rename<"block_sparse_moe", "mlp">, rename<"mlp.gate", "mlp.router">>;
    using model_types = name_list<"phimoe">;
};

struct nemotron_h : family<per_expert_ungated, ungated_fused> {
    static constexpr std::string_view name = "nemotron_h";
    using modules = safefuse::modules<"mixer.experts">;
    using renames = safefuse::renames<rename<"^backbone", "model">>;
    using model_types = name_list<"nemotron_h">;
};

struct granitemoe : family<linear_pair, gate_up_fused> {
    static constexpr std::string_view name = "granitemoe";
    using modules = safefuse::modules<"block_sparse_moe", "block_sparse_moe.experts">;
    using renames = safefuse::renames<rename<"block_sparse_moe.router.layer", "block_sparse_moe.router">>;
    using model_types = name_list<"granitemoe", "granitemoehybrid", "granitemoeshared">;
};

}  // namespace safefuse::inline SAFEFUSE_ABI::layouts

#endif
