"""Checkpoints of tiny random models, in the form in which the hub stores those of their type."""

import json
import re
import shutil

import safetensors.torch as safetensors
import torch
import transformers

from support import tiny_models

# If save_pretrained does not bring back the names that checkpoints have, because its renames cannot
# be turned round: what has to change in what it wrote. transformers then loads the result, which
# proves that it is a form that it reads.
HUB_NAMES = {
    "deepseek_v4": [
        (r"^model\.embed_tokens\.", "embed."),
        (r"^model\.hc_head\.hc_", "hc_head_"),
        (r"^model\.", ""),
        (r"\.attn\.norm\.", ".attn.kv_norm."),
    ],
    "hy_v4": [(r"\.mlp\.(.*)linear_gate\.", r".mlp.\1gate_proj.")],
    "hy_v4_vl": [(r"\.mlp\.(.*)linear_gate\.", r".mlp.\1gate_proj.")],
    "hy_v4_vl_text": [(r"\.mlp\.(.*)linear_gate\.", r".mlp.\1gate_proj.")],
    "kimi_k25": [(r"^language_model\.model\.blocks\.", "language_model.model.layers.")],
    "kimi_linear": [(r"\.block_sparse_moe\.(gate_proj|up_proj|down_proj)\.", r".mlp.\1.")],
    "minimax_m3_vl": [
        (r"\.block_sparse_moe\.(gate_proj|up_proj|down_proj|fc1|fc2)\.", r".mlp.\1.")
    ],
}
# The same of tensors: (names, what the checkpoint holds instead).
HUB_TENSORS = {
    "qwen3_vl_moe": (
        r"\.mlp\.experts\.(gate_up_proj|down_proj)$",
        lambda tensor: tensor.transpose(1, 2).contiguous(),
    ),
}


def speechlm_experts(tensors):
    """Experts as NeMo stores them, fused and transposed; transformers saves them one by one."""
    experts = {}
    for name in [name for name in tensors if ".mixer.experts." in name]:
        scope, expert, kind = re.match(
            r"(.*\.experts)\.(\d+)\.(up|down)_proj\.weight$", name
        ).groups()
        target = f"{scope}.gate_and_up_projs" if kind == "up" else f"{scope}.down_projs"
        experts.setdefault(target, {})[int(expert)] = tensors.pop(name)
    for name, matrices in experts.items():
        tensors[name] = (
            torch.stack([matrices[e] for e in sorted(matrices)]).transpose(1, 2).contiguous()
        )
    return tensors


# The same of whole checkpoints.
HUB_CHECKPOINTS = {"nemo_speechlm": speechlm_experts}


class Difference(Exception):
    """Something is not as it should be."""


def check(condition, *what):
    if not condition:
        raise Difference(" ".join(map(str, what)))


def randomise(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            else:
                tensor.copy_(torch.randint(0, 100, tensor.shape, generator=generator))


def load(kind, path):
    """The model, and what its loader found missing, unexpected or of the wrong shape."""
    config = transformers.AutoConfig.from_pretrained(
        path
    )  # several types share a class, which has a config of its own
    model, info = kind.from_pretrained(
        path, config=config, dtype="auto", output_loading_info=True, experts_implementation="eager"
    )
    return model, {what: sorted(map(str, keys)) for what, keys in info.items() if keys}


def rename(source, destination, renames, changes=("^$", None), rebuild=lambda tensors: tensors):
    """A copy of a checkpoint under other names, in two files; `changes` are what else to do to some
    tensors, and `rebuild` to all."""
    destination.mkdir()
    tensors = {}
    for file in sorted(source.glob("*.safetensors")):
        tensors.update(safetensors.load_file(file))
    changed = {}
    for name, tensor in tensors.items():
        for pattern, to in renames:
            name = re.sub(pattern, to, name)
        check(name not in changed, "the script gives two tensors the name", name)
        changed[name] = changes[1](tensor) if re.search(changes[0], name) else tensor
    changed = rebuild(changed)
    names = sorted(changed)
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    parts = [names[: len(names) // 2], names[len(names) // 2 :]]
    for file, part in zip(files, parts):
        safetensors.save_file(
            {name: changed[name] for name in part}, destination / file, {"format": "pt"}
        )
    index = {
        "metadata": {},
        "weight_map": {name: file for file, part in zip(files, parts) for name in part},
    }
    (destination / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    shutil.copy(source / "config.json", destination)


def make(model_type, kind, directory, config=None):
    """A checkpoint of a random model as `directory`/original."""
    model = kind._from_config(config or tiny_models.config_of(model_type), dtype=torch.bfloat16)
    randomise(model)
    model.save_pretrained(directory / "first", max_shard_size="300KB")
    # transformers widens a few tensors when it loads them; stored wide, nothing is rounded
    model, info = load(kind, directory / "first")
    check(not info, "transformers does not load what it saved:", info)
    model.save_pretrained(directory / "saved", max_shard_size="300KB")
    rename(
        directory / "saved",
        directory / "original",
        HUB_NAMES.get(model_type, []),
        HUB_TENSORS.get(model_type, ("^$", None)),
        HUB_CHECKPOINTS.get(model_type, lambda tensors: tensors),
    )
