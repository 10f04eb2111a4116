// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: Nemotron 3.5 Transcribe: experts without a gate are stored fused and transposed.
#ifndef SAFEFUSE_MODELS_FAMILIES_NEMO_SPEECHLM_HPP
#define SAFEFUSE_MODELS_FAMILIES_NEMO_SPEECHLM_HPP

#include <safefuse/models/families/common.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace families {

/// Stored fused and transposed: gate_and_up_projs [E, H, I], which contains only up, and down_projs
/// [E, I, H].
using speechlm_experts =
    layout<suffixes<suffix<weight, "">>, tensor<"gate_and_up_projs", stack<transpose<0, 1, up>>>,
           tensor<"down_projs", stack<transpose<0, 1, down>>>>;

/// Nemotron 3.5 Transcribe: stored fused and transposed, without a gate. The audio towers' q, k and
/// v are one matrix on the hub.
struct nemo_speechlm
    : family<"nemo_speechlm", speechlm_experts, ungated_fused, at_path<"mixer.experts">> {
    using forms =
        stored_forms<stored_form<"per-expert", at_path<"mixer.experts">, per_expert_ungated>>;
    using extra_modules = extra_module_list<
        extra_module<at_path<"attn", "self_attn">, attention_as_w_qkv, attention_apart>>;
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
};

}  // namespace families
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
