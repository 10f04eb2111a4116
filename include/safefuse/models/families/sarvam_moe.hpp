// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: Sarvam's MoE: q, k and v are one matrix on the hub, ordered by heads.
#ifndef SAFEFUSE_MODELS_FAMILIES_SARVAM_MOE_HPP
#define SAFEFUSE_MODELS_FAMILIES_SARVAM_MOE_HPP

#include <safefuse/models/families/common.hpp>
#include <safefuse/models/families/rope.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

/// One matrix on the hub: q with N heads, k and v with K heads, each head with P rows.
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
struct sarvam_moe : family<"sarvam_moe", per_expert, gate_up_fused> {
    using extra_modules = extra_module_list<
        extra_module<at_path<"attention", "self_attn">, sarvam_joined, sarvam_apart>>;
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
};

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
