"""The checkpoints in tests/data/transformers/generated: tiny random models of types with
conversions of their own in transformers, as stored and as transformers loads them.
rewrite.test.cpp uses them without Python.

fixtures.py PROGRAMS DATA           makes them again and compares; skipped if transformers is
                                    absent or of another version than the one that made them
fixtures.py PROGRAMS DATA --write   writes them anew"""

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
    interop.skip(
        f"transformers {transformers.__version__} does not hold experts fused; 5 and later do")
from support import tiny_models

logging.disable(logging.WARNING)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)

TYPES = ("dots3_note", "inkling2_loop_text", "lara_mini", "mistral_large4", "sarvam_moe")
# Smaller than in families.py, because the files are in the repository.
tiny_models.SMALL.update({
    "hidden_size": 32, "intermediate_size": 40, "moe_intermediate_size": 24, "vocab_size": 16,
    "head_dim": 8, "kv_lora_rank": 8,
    "v_head_dim": 8, "qk_nope_head_dim": 8, "q_lora_rank": 8, "shared_expert_intermediate_size": 8,
    "index_head_dim": 8,
    "rel_extent": 8, "num_experts": 3, "num_local_experts": 3, "n_routed_experts": 3,
    "swa_head_dim": 8,
})  # fmt: skip
CONFIGS = {
    "dots3_note": {
        "text_config": {
            "qk_rope_head_dim": 8,
            "per_layer_config": {i: {"num_attention_heads": 2, "num_key_value_heads": 2,
                "q_lora_rank": 8, "kv_lora_rank": 8,
                                     "head_dim": 16, "qk_nope_head_dim": 8, "v_head_dim": 8,
                                     "qk_rope_head_dim": 8} for i in (1, 3)},
        },
        "vision_config": {"adapter_in_dim": 32, "adapter_out_dim": 32},
        "audio_config": {"adapter_input_size": 32, "adapter_out_dim": 32, "head_dim": 8,
            "num_hidden_layers": 1},
    },
    "inkling2_loop_text": {"unpadded_vocab_size": 16, "moe_intermediate_size": 24, "rel_extent": 8},
}  # fmt: skip


def make(model_type, directory):
    """Makes directory/checkpoint and directory/loaded.safetensors."""
    kind = tiny_models.class_of(model_type)
    config = transformers.CONFIG_MAPPING[model_type]
    small = tiny_models.merged(tiny_models.small(config().to_dict()),
        tiny_models.OVERRIDES.get(model_type, {}))
    model = kind._from_config(config(**tiny_models.merged(small, CONFIGS.get(model_type, {}))),
        dtype=torch.bfloat16)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor)
    # Twice, so that tensors that transformers widens are stored widened.
    for path in directory / "first", directory / "checkpoint":
        model.save_pretrained(path, max_shard_size="300KB")
        config = transformers.AutoConfig.from_pretrained(path)
        model, info = kind.from_pretrained(
            path, config=config, dtype="auto", output_loading_info=True,
            experts_implementation="eager"
        )
        lost = {what: keys for what, keys in info.items() if keys}
        interop.check(not lost, model_type, "is not loaded whole:", lost)
    shutil.rmtree(directory / "first")
    (directory / "checkpoint" / "generation_config.json").unlink(missing_ok=True)
    state = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    safetensors.save_file(state, directory / "loaded.safetensors", {"format": "pt"})


def version_of(directory):
    return json.loads((directory / "checkpoint" / "config.json").read_text())[
        "transformers_version"]


data = interop.test_data() / "transformers" / "generated"
write = "--write" in sys.argv
for model_type in TYPES:
    kept = data / model_type
    if not write and version_of(kept) != transformers.__version__:
        interop.skip(
            f"{kept} was made with transformers {version_of(kept)}, and here is "
            f"{transformers.__version__}")
    with tempfile.TemporaryDirectory() as directory:
        made = pathlib.Path(directory) / model_type
        made.mkdir()
        make(model_type, made)
        if write:
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(made, kept)
        for what in ("checkpoint", "."):
            interop.check(interop.read_checkpoint(made / what) == interop.read_checkpoint(kept
                / what), model_type, what, "differs")
        size_bytes = sum(file.stat().st_size for file in kept.rglob("*") if file.is_file())
        print(f"{model_type}: {'written' if write else 'the same again'}, {size_bytes / 1000:.0f} "
              f"kB", flush=True)
