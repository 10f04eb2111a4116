// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: Qwen4-Exp: an embedding is stored in shards.
#ifndef SAFEFUSE_MODELS_FAMILIES_QWEN4_EXP_HPP
#define SAFEFUSE_MODELS_FAMILIES_QWEN4_EXP_HPP

#include <safefuse/models/families/common.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

/// An embedding: S shards of R rows on the hub, one tensor in the model.
using ngram_shard = part_of<expert_range<"S">, "shard", "R", "D">;
using ngrams_in_shards = layout<module_suffixes, tensor<"ngram_embedding.shard_{i}", ngram_shard>>;
using ngrams_joined =
    layout<module_suffixes, tensor<"ngram_embedding", flatten<0, stack<ngram_shard>>>>;

/// Qwen4-Exp: an embedding is stored in shards, and is one tensor in the model.
struct qwen4_exp : family<"qwen4_exp", per_expert, gate_up_fused> {
    using extra_modules =
        extra_module_list<extra_module<at_path<"ple_embedding">, ngrams_in_shards, ngrams_joined>>;
    using config_extents =
        extents_in_config<extent_in_config<"S", "text_config.split_ngram_parts">>;
};

/// The language model of Qwen4-Exp.
struct qwen4_exp_text : family<"qwen4_exp_text", per_expert, gate_up_fused> {
    using extra_modules =
        extra_module_list<extra_module<at_path<"ple_embedding">, ngrams_in_shards, ngrams_joined>>;
    using config_extents = extents_in_config<extent_in_config<"S", "split_ngram_parts">>;
    static constexpr rename_description renames[] = {alias("^model.language_model", "model")};
};

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
