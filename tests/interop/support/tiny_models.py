"""Models of a few kilobytes, with experts, of every model type of transformers that has them fused.
Made from the library's own config classes with everything small.
"""

import transformers
import transformers.models.auto.modeling_auto as auto

# What these extents are in a tiny model. Experts are no square (I != H) and there are five or more
# of them.
SMALL = {
    key: extent
    for extent, keys in (
        (64, "hidden_size d_model out_hidden_size output_dim thinker_hidden_size text_hidden_size"),
        (96, "intermediate_size intermediate_size_mlp dense_intermediate_size "
             "prefix_dense_intermediate_size"),
        (40, "moe_intermediate_size ffn_hidden_size expert_ffn_hidden_size"),
        (24, "shared_expert_intermediate_size shared_intermediate_size "
             "moe_shared_expert_intermediate_size share_expert_dim q_lora_rank"),
        (4, "num_hidden_layers num_layers n_layers"),
        (2, "depth encoder_layers decoder_layers index_n_heads o_groups temporal_patch_size "
            "num_quantizers"),
        (6, "num_experts num_local_experts n_routed_experts moe_num_experts"),
        (2, "num_experts_per_tok num_experts_per_token moe_topk moe_k moe_top_k top_k_experts"),
        (4, "num_attention_heads n_heads num_heads encoder_attention_heads "
            "num_sliding_attention_heads swa_num_attention_heads"),
        (1, "n_group topk_group num_expert_group n_groups mamba_n_groups"),
        (16, "head_dim swa_head_dim kv_channels kv_lora_rank qk_nope_head_dim v_head_dim "
             "index_head_dim mamba_d_head mamba_head_dim"),
        (8, "qk_rope_head_dim rotary_dim o_lora_rank linear_head_dim linear_key_head_dim "
            "linear_value_head_dim downsample_hidden_size"),
        (4, "linear_num_heads linear_num_key_heads linear_num_value_heads mamba_dt_rank "
            "mamba_n_heads mamba_num_heads index_topk"),
        (4, "swa_num_key_value_heads patch_size pos_emb_height pos_emb_width pos_emb_time "
            "num_code_groups"),
        (8, "ssm_state_size mamba_d_state hidden_size_per_layer_input gated_norm_rank d_rel "
            "sliding_window"),
        (16, "router_hidden_size image_size num_position_embeddings num_mel_bins"),
        (128, "vocab_size vocab_size_per_layer_input"),
        (32, "encoder_ffn_dim codebook_size decoder_dim max_position_embeddings rel_extent "
             "max_source_positions"),
    )
    for key in keys.split()
}
MAY_BE_ABSENT = ("n_routed_experts", "num_experts", "num_experts_per_tok", "moe_intermediate_size",
    "top_k_experts")
KINDS_OF_LAYERS = ("layer_types", "mlp_layer_types", "layers_block_type")


def small(config):
    """The entries of a config, as a dict, that must change to make it small."""
    changed = {}
    for key, value in config.items():
        if isinstance(value, dict) and key.endswith("config"):
            changed[key] = small(value)
            if value.get("model_type"):
                changed[key]["model_type"] = value["model_type"]
        elif key == "num_key_value_heads" and value is not None:
            changed[key] = 4 if value == config.get("num_attention_heads") else min(value, 2)
        elif key in SMALL and isinstance(value, (int, float)) and not isinstance(value,
            bool) and value != 0:
            changed[key] = SMALL[key]
        elif key in MAY_BE_ABSENT and value is None:
            changed[key] = SMALL[key]
        elif key in KINDS_OF_LAYERS and isinstance(value, list):
            kinds = list(dict.fromkeys(value))  # each kind of layer, in turn
            changed[key] = (kinds * 4)[:4]
        elif key == "deepstack_visual_indexes":
            changed[key] = [0, 1]
        elif key in ("pad_token_id", "bos_token_id", "eos_token_id") and value is not None:
            changed[key] = 1
    return changed


def merged(one, other):
    out = dict(one)
    for key, value in other.items():
        out[key] = merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key),
            dict) else value
    return out


gemma4_tower = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16, "patch_size": 4, "position_embedding_size": 16, "model_type": "gemma4_vision",
}  # fmt: skip
gemma4_audio = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "subsampling_conv_channels": [8, 4],
    "output_proj_dims": 16, "model_type": "gemma4_audio",
}  # fmt: skip
gemma4_text = {"enable_moe_block": True, "per_layer_config": {}}
one_dense_layer = {"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]}
mrope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
qwen4_text = {
    "layer_types": ["linear_attention", "linear_attention", "linear_attention",
        "qwen_sparse_attention"], "ple_layer_ids": [2],
    "ple_embed_dim": 32, "heads_per_ngram": 4, "ngram_vocab_size_base": 64,
    "make_ngram_vocab_size_divisible_by": 8,
    "split_ngram_parts": 4, "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 16,
    "indexer_budget": 8,
    "indexer_compress_ratio": 4, "hc_lowrank": 8, "eos_token_id": 1,
}  # fmt: skip

dots3_text = {
    "layer_types": ["indexed_attention", "sliding_attention"] * 2,
    "shared_experts_intermediate_size": 24, "n_group": 1,
    "per_layer_config": {
        i: {"num_attention_heads": 2, "num_key_value_heads": 2, "q_lora_rank": 24,
            "kv_lora_rank": 16, "head_dim": 24,
            "qk_nope_head_dim": 16, "v_head_dim": 16, "qk_rope_head_dim": 8} for i in (1, 3)
    },
}  # fmt: skip
# scales are for 32
inkling2_text = {"unpadded_vocab_size": 128, "n_layers_per_attn_res_block": 2,
                 "moe_intermediate_size": 96}  # fmt: skip
inkling2_loop_text = {**inkling2_text, "loop_layer_index_start": 2, "loop_layer_index_end": 4,
                      "loop_gate_rank": 8}  # fmt: skip
inkling2_vision = {"posemb_grid_size": 4, "projection_hidden_dim": 48}
hy_v4_text = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
    "mrope_section": [2, 1, 1]}}
muse_text = {"moe_hidden_size": 32}
nemotron_text = {"layers_block_type": ["mamba", "moe", "attention", "mlp"]}

# Further settings of a model type.
OVERRIDES = {
    "dots3_note": {
        "text_config": dots3_text,
        "vision_config": {"adapter_in_dim": 64, "adapter_out_dim": 64,
            "mlp_layer_types": ["dense", "sparse"] * 2,
                          "num_experts_per_tok": 2, "num_local_experts": 3},
        "audio_config": {"adapter_input_size": 64, "adapter_out_dim": 64, "feature_size": 16,
            "head_dim": 16},
    },
    "dots3_note_text": dots3_text,
    "glm5_next_text": {"index_topk": 16, "index_kpool": 4},
    "hy_v4_vl": {"text_config": hy_v4_text, "vision_config": {"max_image_size": 16}},
    "hy_v4_vl_text": hy_v4_text,
    "inkling2": {"text_config": inkling2_text, "vision_config": inkling2_vision},
    "inkling2_text": inkling2_text,
    "inkling2_loop": {"text_config": inkling2_loop_text, "vision_config": inkling2_vision},
    "inkling2_loop_text": inkling2_loop_text,
    "muse_spark": {
        "text_config": muse_text,
        "projector_hidden_size": 64,
        "audio_config": {"patch_sizes": [4, 3], "hidden_sizes": [8, 16], "depths": [1, 1],
            "num_hidden_layers": 2},
    },
    "muse_spark_text": muse_text,
    "nemo_speechlm": {
        "audio_config": {"diarization_config": {"head_config": {"audio_hidden_size": 64}}},
        "text_config": nemotron_text,
        "word_timestamp_config": {"blank_token_id": 127},
    },
    "nemotron_h_omni": {
        "text_config": nemotron_text,
        "vision_config": {"video_temporal_patch_size": 2, "max_img_size": 16},
        "projector_hidden_size": 48,
        "vision_hidden_size": 64,
    },
    "dbrx": {"attn_config": {"rope_theta": 10000.0}},
    "deepseek_ocr2": {
        "text_config": {"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]},
        "vision_config": {
            "sam_config": {"downsample_channels": [32, 64], "output_channels": 16,
                "global_attn_indexes": [1, 3], "window_size": 2},
        },
    },
    "deepseek_v3": {"first_k_dense_replace": 1},
    "deepseek_v32": {"first_k_dense_replace": 1},
    "deepseek_v4": {"num_hidden_layers": 5, "layer_types": None,
        "mlp_layer_types": ["hash_moe", "moe", "moe", "moe", "moe"]},
    "dots1": {"first_k_dense_replace": 1, "n_shared_experts": 1},
    "ernie4_5_vl_moe": {"text_config": {"moe_intermediate_size": [40, 24],
        "rope_parameters": mrope}},
    "gemma4": {"text_config": gemma4_text, "vision_config": gemma4_tower,
        "audio_config": gemma4_audio},
    "gemma4_text": gemma4_text,
    "diffusion_gemma": {"text_config": {"per_layer_config": {}}, "vision_config": gemma4_tower},
    "glm5_next": {"text_config": {"index_topk": 16, "index_kpool": 4}},
    "granitemoehybrid": {"mamba_d_head": 32, "layer_types": ["linear_attention",
        "full_attention"] * 2},
    "hunyuan_v1_moe": {"head_dim": 16},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "llama4": {
        "text_config": {"interleave_moe_layer_step": 2, "moe_layers": None, "no_rope_layers": None},
        "vision_config": {"vision_output_dim": 48, "projector_input_dim": 48,
            "projector_output_dim": 48},
    },
    "llama4_text": {"interleave_moe_layer_step": 2, "moe_layers": None, "no_rope_layers": None},
    "inkling_mm_model": {"text_config": one_dense_layer,
        "audio_config": {"mel_vocab_size": 16, "n_mel_bins": 8}},
    "inkling_text": one_dense_layer,
    "minimax_m3_vl": {"text_config": one_dense_layer, "projector_hidden_size": 64,
        "merged_hidden_size": 256},
    "minimax_m3_vl_text": one_dense_layer,
    "mistral4": {"qk_nope_head_dim": 8},
    "longcat_flash": {"num_hidden_layers": 2, "num_layers": 2, "zero_expert_num": 3,
        "ffn_hidden_size": 96},
    "kimi_k25": {"text_config": {"first_k_dense_replace": 1}, "projection_hidden_size": 64},
    "qwen4_exp": {"text_config": qwen4_text},
    "qwen4_exp_text": qwen4_text,
    "qwen3_omni_moe": {"talker_config": {"spatial_merge_size": 2,
        "text_config": {"shared_expert_intermediate_size": 24}}},
    "zaya": {"num_experts_per_tok": 1},
}


def config_of(model_type, **given):
    kind = transformers.CONFIG_MAPPING[model_type]
    return kind(**{**merged(small(kind().to_dict()), OVERRIDES.get(model_type, {})), **given})


def class_of(model_type):
    """The class that loads a checkpoint of this type: the whole model with its head."""
    for what in ("IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM", "CAUSAL_LM", "TOKEN_CLASSIFICATION"):
        name = getattr(auto, f"MODEL_FOR_{what}_MAPPING_NAMES").get(model_type)
        if name is not None:
            return getattr(transformers, name if isinstance(name, str) else name[0])
    name = auto.MODEL_MAPPING_NAMES.get(model_type)  # a language model that is saved without a head
    if name is not None:
        return getattr(transformers, name if isinstance(name, str) else name[0])
    raise KeyError(f"transformers has no class for {model_type}")
