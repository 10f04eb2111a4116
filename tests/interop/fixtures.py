"""The checkpoints in tests/data/transformers: tiny random models, as they are stored and as
transformers loads them, for the C++ tests, which need no Python.

fixtures.py PROGRAMS DATA [TYPE...]     makes them again and compares with what is kept; skipped if
                                        transformers is absent or of another version than the one
                                        that made them
fixtures.py PROGRAMS DATA --write       writes them anew
"""

import json
import logging
import os
import pathlib
import shutil
import sys
import tempfile

from support import interop

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch, transformers, safetensors = interop.require("torch", "transformers", "safetensors.torch")
if int(transformers.__version__.split(".")[0]) < 5:
    interop.skip(f"transformers {transformers.__version__} does not hold experts fused; 5 does")
from support import tiny_models

logging.disable(logging.WARNING)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)

# Smaller than for families.py: the files are in the repository.
SMALL = {
    "hidden_size": 32, "intermediate_size": 40, "moe_intermediate_size": 24, "vocab_size": 16,
    "head_dim": 8, "kv_lora_rank": 8, "v_head_dim": 8, "qk_nope_head_dim": 8, "q_lora_rank": 8,
    "shared_expert_intermediate_size": 8, "index_head_dim": 8, "rel_extent": 8, "num_experts": 3,
    "num_local_experts": 3, "n_routed_experts": 3, "swa_head_dim": 8,
}  # fmt: skip
small_attention = {
    "num_attention_heads": 2, "num_key_value_heads": 2, "q_lora_rank": 8, "kv_lora_rank": 8,
    "head_dim": 16, "qk_nope_head_dim": 8, "v_head_dim": 8, "qk_rope_head_dim": 8,
}  # fmt: skip
# Types that transformers converts in ways of their own, in transformers/generated.
GENERATED = {
    "dots3_note": {
        "text_config": {
            "qk_rope_head_dim": 8,
            "per_layer_config": {i: small_attention for i in (1, 3)},
        },
        "vision_config": {"adapter_in_dim": 32, "adapter_out_dim": 32},
        "audio_config": {
            "adapter_input_size": 32, "adapter_out_dim": 32, "head_dim": 8, "num_hidden_layers": 1,
        },
    },
    "inkling2_loop_text": {
        "unpadded_vocab_size": 16, "moe_intermediate_size": 24, "rel_extent": 8,
    },
    "lara_mini": {},
    "mistral_large4": {},
    "sarvam_moe": {},
}  # fmt: skip

# Types of several families, in transformers itself: two layers and 12 experts, so that numeric and
# alphabetical order differ.
every = {
    "hidden_size": 16, "intermediate_size": 20, "max_position_embeddings": 64, "vocab_size": 64,
    "num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 2,
}  # fmt: skip
begin_and_end = {"bos_token_id": 1, "eos_token_id": 2}
two_local, local = {"num_experts_per_tok": 2, "num_local_experts": 12}, {"num_local_experts": 12}
latent = {
    "n_routed_experts": 12, "num_experts_per_tok": 2, "moe_intermediate_size": 8,
    "first_k_dense_replace": 1, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4, "v_head_dim": 8, **begin_and_end,
}  # fmt: skip
dense_then_sparse = {"mlp_layer_types": ["dense", "sparse"]}
TWELVE_EXPERTS = {
    "deepseek_v3": {**latent, "n_group": 1, "topk_group": 1, "num_nextn_predict_layers": 0},
    "ernie4_5_moe": {
        "moe_intermediate_size": 8, "moe_k": 2, "moe_layer_end_index": 1, "moe_num_experts": 12,
        "moe_num_shared_experts": 1,
    },
    "glm_moe_dsa": {
        **latent, **dense_then_sparse, "index_head_dim": 8, "index_n_heads": 2, "index_topk": 4,
    },
    "granitemoe": local,
    "hy_v3": {
        **dense_then_sparse, "head_dim": 8, "moe_intermediate_size": 8, "num_experts": 12,
        "num_experts_per_tok": 2,
    },
    "jamba": {
        "attn_layer_offset": 0, "attn_layer_period": 1, "expert_layer_offset": 0,
        "expert_layer_period": 1, "mamba_d_state": 4, "mamba_dt_rank": 4, "num_experts": 12,
    },
    "minimax_m2": {**two_local, **begin_and_end, "head_dim": 8},
    "mixtral": local,
    "nemotron_h": {
        "head_dim": 8, "mamba_head_dim": 8, "mamba_num_heads": 4, "moe_intermediate_size": 8,
        "moe_shared_expert_intermediate_size": 12, "n_routed_experts": 12, "ssm_state_size": 4,
        "num_hidden_layers": None,
    },
    "phimoe": local,
    "qwen3_moe": {**two_local, "moe_intermediate_size": 8},
}  # fmt: skip
# Types whose routers are stored in F32, as transformers holds them. The others are stored in BF16
# as a whole, and transformers widens routers of some of them while it loads.
ROUTERS_IN_F32 = ("ernie4_5_moe", "glm_moe_dsa")
SEED_OF_TWELVE, SEED_OF_GENERATED = 11, 1


def generated(model_type):
    """The class and the config of a type in GENERATED."""
    config = transformers.CONFIG_MAPPING[model_type]
    overrides = tiny_models.OVERRIDES.get(model_type, {})
    before = dict(tiny_models.SMALL)
    tiny_models.SMALL.update(SMALL)
    small = tiny_models.merged(tiny_models.small(config().to_dict()), overrides)
    tiny_models.SMALL.clear()
    tiny_models.SMALL.update(before)
    given = tiny_models.merged(small, GENERATED[model_type])
    return tiny_models.class_of(model_type), config(**given)


def twelve_experts(model_type):
    """The class and the config of a type in TWELVE_EXPERTS."""
    given = {**every, **TWELVE_EXPERTS[model_type]}
    given = {key: value for key, value in given.items() if value is not None}
    return tiny_models.class_of(model_type), transformers.CONFIG_MAPPING[model_type](**given)


def randomise(tensors, seed):
    """Random numbers in all tensors that are floating-point."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in tensors:
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))


def load(kind, path):
    """The model as transformers loads it, which must be whole."""
    config = transformers.AutoConfig.from_pretrained(path)
    model, info = kind.from_pretrained(
        path, config=config, dtype="auto", output_loading_info=True, experts_implementation="eager"
    )
    lost = {what: keys for what, keys in info.items() if keys}
    interop.check(not lost, path, "is not loaded whole:", lost)
    return model


def make(model_type, directory):
    """directory/checkpoint and directory/loaded.safetensors."""
    kept = directory / "checkpoint"
    if model_type in GENERATED:
        kind, config = generated(model_type)
        model = kind._from_config(config, dtype=torch.bfloat16)
        randomise(model.state_dict().values(), SEED_OF_GENERATED)
        # twice: what transformers widens is stored wide to begin with
        model.save_pretrained(directory / "first")
        load(kind, directory / "first").save_pretrained(kept, max_shard_size="300KB")
        shutil.rmtree(directory / "first")
    else:
        kind, config = twelve_experts(model_type)
        model = kind._from_config(config, dtype=torch.bfloat16)
        stored = model.state_dict()
        buffers = [tensor for name, tensor in model.named_buffers() if name in stored]
        randomise([*model.parameters(), *buffers], SEED_OF_TWELVE)
        if model_type not in ROUTERS_IN_F32:
            model.to(torch.bfloat16)
        model.save_pretrained(kept, max_shard_size="40KB")
    (kept / "generation_config.json").unlink(missing_ok=True)
    state = load(kind, kept).state_dict()
    state = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    safetensors.save_file(state, directory / "loaded.safetensors", {"format": "pt"})


def version_of(directory):
    """The version of transformers that made a fixture, which its config.json tells."""
    return json.loads((directory / "checkpoint" / "config.json").read_text())[
        "transformers_version"
    ]


def place_of(model_type):
    """Where a fixture is kept."""
    data = interop.test_data() / "transformers"
    return data / "generated" / model_type if model_type in GENERATED else data / model_type


write = "--write" in sys.argv
asked = [argument for argument in sys.argv[3:] if argument != "--write"]
types = [*TWELVE_EXPERTS, *GENERATED]
folders = {path.parent.name for path in interop.test_data().glob("transformers/**/checkpoint")}
interop.check(folders <= set(types), "no generator makes", sorted(folders - set(types)))
for model_type in asked or types:
    kept = place_of(model_type)
    if not write and version_of(kept) != transformers.__version__:
        interop.skip(
            f"{kept} was made with transformers {version_of(kept)}, "
            f"and here is {transformers.__version__}"
        )
    with tempfile.TemporaryDirectory() as directory:
        made = pathlib.Path(directory) / model_type
        made.mkdir()
        make(model_type, made)
        if write:
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(made, kept)
        for what in ("checkpoint", "."):
            found = interop.read_checkpoint(made / what)
            wanted = interop.read_checkpoint(kept / what)
            names = sorted(found.keys() | wanted.keys())
            other = [name for name in names if found.get(name) != wanted.get(name)]
            interop.check(not other, model_type, what, "differs:", other[:3])
        # not compared byte for byte: a config.json may be spelled in another order
        config = "checkpoint/config.json"
        same = json.loads((made / config).read_text()) == json.loads((kept / config).read_text())
        interop.check(same, model_type, "has another config.json")
        size_bytes = sum(file.stat().st_size for file in kept.rglob("*") if file.is_file())
        said = "written" if write else "the same again"
        print(f"{model_type}: {said}, {size_bytes / 1000:.0f} kB", flush=True)
