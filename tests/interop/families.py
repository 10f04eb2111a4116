"""Every model type in the table of families: a tiny random model, stored as its checkpoints are, is
fused by fuse_checkpoint into exactly the state_dict() of the model that transformers loads from it,
and unfuse_checkpoint brings the checkpoint back, byte for byte."""

import json
import logging
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import traceback

from support import interop

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch, transformers, accelerate, safetensors = interop.require("torch", "transformers",
    "accelerate", "safetensors.torch")
if int(transformers.__version__.split(".")[0]) < 5:
    interop.skip(
        f"transformers {transformers.__version__} does not hold experts fused; 5 and later do")
from support import tiny_models

logging.disable(logging.WARNING)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)

# Where save_pretrained does not bring back the names that checkpoints have, because its renames
# cannot be turned round: what has to change in what it wrote. transformers then loads the result,
# which is the proof that it is a form that it reads.
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
    "minimax_m3_vl": [(r"\.block_sparse_moe\.(gate_proj|up_proj|down_proj|fc1|fc2)\.",
        r".mlp.\1.")],
}
# Changes to tensors: (names, what the checkpoint contains instead).
HUB_TENSORS = {
    "qwen3_vl_moe": (r"\.mlp\.experts\.(gate_up_proj|down_proj)$",
        lambda tensor: tensor.transpose(1, 2).contiguous()),
}


def speechlm_experts(tensors):
    """Experts as NeMo stores them, fused and transposed; transformers saves them one by one."""
    experts = {}
    for name in [name for name in tensors if ".mixer.experts." in name]:
        found = re.match(r"(.*\.experts)\.(\d+)\.(up|down)_proj\.weight$", name)
        scope, expert, kind = found.groups()
        target = f"{scope}.gate_and_up_projs" if kind == "up" else f"{scope}.down_projs"
        experts.setdefault(target, {})[int(expert)] = tensors.pop(name)
    for name, matrices in experts.items():
        tensors[name] = torch.stack([matrices[e] for e in sorted(matrices)]).transpose(1,
            2).contiguous()
    return tensors


# Changes to whole checkpoints.
HUB_CHECKPOINTS = {"nemo_speechlm": speechlm_experts}
# What the tensors of a fused checkpoint were called when an older version of transformers had
# loaded it, newest to oldest: such checkpoints are fused to the newest names, and unfused. Experts
# that were held otherwise are renamed, too.
OLDER_NAMES = {
    "aria": [(r"\.experts\.gate_up_proj$", ".experts.fc1.weight"),
        (r"\.experts\.down_proj$", ".experts.fc2.weight")],
    "aria_text": [(r"\.experts\.gate_up_proj$", ".experts.fc1.weight"),
        (r"\.experts\.down_proj$", ".experts.fc2.weight")],
    "inkling_mm_model": [(r"\.embed_tokens\.embed_norm\.", ".embed_norm.")],
    "inkling_text": [(r"\.embed_tokens\.embed_norm\.", ".embed_norm.")],
    "qwen3_omni_moe": [(r"^thinker\.model\.(audio_tower|visual)\.", r"thinker.\1."),
                       (r"^thinker\.model\.language_model\.", "thinker.model.")],
    "qwen3_omni_moe_thinker": [(r"^model\.(audio_tower|visual)\.", r"\1."),
        (r"^model\.language_model\.", "model.")],
}  # fmt: skip
# Another spelling of the same checkpoint, which is fused all the same; unfusing gives the first
# one.
OTHER_NAMES = {
    "deepseek_v4": [(r"^(layers|norm)\.", r"model.\1."), (r"\.attn\.kv_norm\.", ".attn.norm.")],
    "hy_v4": [(r"\.mlp\.(.*)gate_proj\.", r".mlp.\1linear_gate.")],
    "kimi_linear": [(r"\.mlp\.", ".block_sparse_moe.")],
    "minimax_m3_vl": [(r"^(vision_tower.*)\.mlp\.", r"\1.block_sparse_moe.")],
    "qwen3_5_moe_text": [(r"^model\.", "model.language_model.")],
    "qwen4_exp_text": [(r"^model\.", "model.language_model.")],
}


# Such spellings that only older versions of transformers loaded.
NO_LONGER_LOADED = {"minimax_m3_vl"}


class Difference(Exception):
    pass


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
    # several types share a class, which has a config of its own
    config = transformers.AutoConfig.from_pretrained(path)
    model, info = kind.from_pretrained(
        path, config=config, dtype="auto", output_loading_info=True, experts_implementation="eager"
    )
    return model, {what: sorted(map(str, keys)) for what, keys in info.items() if keys}


def read(path):
    """All tensors of a checkpoint: name -> (dtype, shape, bytes)."""
    return interop.read_checkpoint(path)


def rename(source, destination, renames, changes=("^$", None), rebuild=lambda tensors: tensors):
    """A copy of a checkpoint under other names, in two files. `changes` also changes some tensors,
    and `rebuild` all of them."""
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
        safetensors.save_file({name: changed[name] for name in part}, destination / file,
            {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, part in zip(files, parts)
        for name in part}}
    (destination / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    shutil.copy(source / "config.json", destination)


def make(model_type, kind, directory, config=None):
    """Writes a checkpoint of a random model to `directory`/original."""
    model = kind._from_config(config or tiny_models.config_of(model_type), dtype=torch.bfloat16)
    randomise(model)
    model.save_pretrained(directory / "first", max_shard_size="300KB")
    # transformers widens a few tensors when it loads them: stored so to begin with, nothing is
    # rounded
    model, info = load(kind, directory / "first")
    check(not info, "transformers does not load what it saved:", info)
    model.save_pretrained(directory / "saved", max_shard_size="300KB")
    rename(directory / "saved", directory / "original", HUB_NAMES.get(model_type, []),
        HUB_TENSORS.get(model_type, ("^$", None)),
           HUB_CHECKPOINTS.get(model_type, lambda tensors: tensors))  # fmt: skip


def same_as_loaded(fused, model, what):
    """Checks that the tensors of a checkpoint are the model's state. Returns those that the
    checkpoint need not contain."""
    state = model.state_dict()
    unknown = sorted(fused.keys() - state.keys())
    check(not unknown, f"{what}: {len(unknown)} names that the model does not have, such as",
        unknown[:3],
          "and it has", sorted(state.keys() - fused.keys())[:3])  # fmt: skip
    held = {state[name].data_ptr() for name in fused if state[name].numel()}
    absent = sorted(state.keys() - fused.keys())
    tied = [name for name in absent if state[name].data_ptr() in held]
    check(tied == absent, f"{what}: not in the fused checkpoint:",
        sorted(set(absent) - set(tied))[:3])
    dtypes = {v: k for k, v in {"BF16": torch.bfloat16, "F32": torch.float32, "I64": torch.int64,
        "I32": torch.int32,
                                "BOOL": torch.bool, "F16": torch.float16}.items()}  # fmt: skip
    for name, (dtype, shape, contents) in fused.items():
        tensor = state[name].contiguous()
        check(dtypes[tensor.dtype] == dtype, what, name, "is", dtype, "and not", tensor.dtype)
        check(list(tensor.shape) == shape, what, name, "is", shape, "and not", list(tensor.shape))
        check(contents == tensor.view(-1).view(torch.uint8).numpy().tobytes(), what, name,
            "holds other bytes")
    return tied


def transformers_names(model_type, directory):
    """(stored, loaded) of every tensor that transformers only renames, except experts, one layer of
    each kind."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, dot_natural_key, rename_source_key

    kind = tiny_models.class_of(model_type)
    make(model_type, kind, directory)
    model, info = load(kind, directory / "original")
    conversions = get_model_conversion_mapping(model)
    converters = [each for each in conversions if isinstance(each, WeightConverter)]
    renamings = [each for each in conversions if not isinstance(each, WeightConverter)]
    state = model.state_dict()
    seen = {}
    for name in sorted(read(directory / "original"), key=dot_natural_key):
        loaded, converter = rename_source_key(name, renamings, converters, model.base_model_prefix,
            state)
        if converter is None and ".experts." not in loaded and not loaded.endswith("_proj"):
            check(loaded in state, name, "becomes", loaded, "which the model does not have")
            seen.setdefault(re.sub(r"(layers|blocks)\.\d+", r"\1.N", name), (name, loaded))
    return seen.values()


def by_names_alone(family, original, fused, directory):
    """Checks that the experts are fused equally without a config.json. No tensor may ever become
    something else."""
    shutil.copytree(original, directory / "in")
    (directory / "in" / "config.json").unlink()
    program = interop.programs() / "fuse_checkpoint"
    done = subprocess.run([program, directory / "in", directory / "out", "--quiet"],
        capture_output=True, text=True)
    shutil.copytree(directory.parent / "fused", directory / "fused")
    (directory / "fused" / "config.json").unlink()
    program = interop.programs() / "unfuse_checkpoint"
    undone = subprocess.run([program, directory / "fused", directory / "back", "--quiet"],
        capture_output=True, text=True)
    if undone.returncode == 0:
        # experts are as stored; other names stay
        for name, tensor in read(directory / "back").items():
            known = read(original).get(name) == tensor or fused.get(name) == tensor
            check(known or tuple(tensor) in [tuple(each) for each in read(original).values()],
                "without config.json", name)
    if done.returncode == 0:
        # the experts alone are fused; all else stays under its stored name, and the way back is
        # remembered
        made, stored = [tuple(each) for each in fused.values()], read(original)
        for name, tensor in read(directory / "out").items():
            check(stored.get(name) == tensor or tuple(tensor) in made, "without config.json", name,
                "is something else")
        program = interop.programs() / "unfuse_checkpoint"
        if read(directory / "out") == stored:
            return "nothing to fuse by its names"
        subprocess.run([program, directory / "out", directory / "again", "--quiet"], check=True,
            capture_output=True)
        check(read(directory / "again") == stored, "without config.json it does not come back")
        return "told by its names"
    if "more than one model family fits" in done.stderr:
        candidates = re.search(r"the names fit ([^;]*);", done.stderr)[1].split(", ")
        check(family in candidates, "by its names it is one of", candidates)
        return "by its names one of " + ", ".join(candidates)
    if "do not tell all extents" in done.stderr:
        return "told by its names, but extents are in config.json only"
    check("fused already" in done.stderr or "unknown model family" in done.stderr,
        "without config.json:", done.stderr)
    experts = [name for name in fused if ".experts." in name]
    same_experts = bool(experts) and all(name in read(original) for name in experts)
    check(same_experts or len(read(original)) == len(fused), "not known without config.json")
    return "nothing to fuse by its names"


def mxfp4_passes(original, directory):
    """Checks that the MXFP4 codes and scales of a released gpt-oss stay unchanged in both
    directions."""
    path = directory / "mxfp4"
    path.mkdir()
    tensors = {}
    for file in sorted(original.glob("*.safetensors")):
        tensors.update(safetensors.load_file(file))
    for name in [name for name in tensors
        if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, inputs, outputs = tensors.pop(name).shape
        for suffix, shape in {"_blocks": (experts, outputs, inputs // 32, 16),
            "_scales": (experts, outputs, inputs // 32)}.items():
            tensors[name + suffix] = torch.randint(0, 256, shape, dtype=torch.uint8)
    safetensors.save_file(tensors, path / "model.safetensors", {"format": "pt"})
    shutil.copy(original / "config.json", path)
    for program in "fuse_checkpoint", "unfuse_checkpoint":
        interop.run(program, path, directory / f"mxfp4.{program}", "--quiet")
        check(read(directory / f"mxfp4.{program}") == read(path), program, "changes MXFP4 codes")
    return "MXFP4 passes"


def quantise_inkling2(original, path, nvfp4):
    """A checkpoint of Inkling 2 with experts in MXFP8 or NVFP4, as released."""
    path.mkdir()
    tensors = {}
    for file in sorted(original.glob("*.safetensors")):
        tensors.update(safetensors.load_file(file))
    for name in [name for name in tensors
        if name.endswith(("experts.w13_weight", "experts.w2_weight"))]:
        experts, rows, columns = tensors.pop(name).shape
        if nvfp4:
            tensors[name] = torch.randint(0, 256, (experts, rows, columns // 2), dtype=torch.uint8)
            tensors[name + "_scale"] = torch.rand(experts, rows,
                columns // 16).to(torch.float8_e4m3fn)
            tensors[name + "_amax"] = torch.rand(experts) + 1
            tensors[name + "_outer_scale_denominator"] = torch.full((experts,), 2688.0)
        else:
            tensors[name] = torch.randn(experts, rows, columns).to(torch.float8_e4m3fn)
            tensors[name + "_scale"] = torch.randint(120, 130, (experts, rows, columns // 32),
                dtype=torch.uint8)
    safetensors.save_file(tensors, path / "model.safetensors", {"format": "pt"})
    shutil.copy(original / "config.json", path)


def inkling2_codes(model_type, kind, original, directory):
    """NVFP4 experts pass through, and so do MXFP8 experts if transformers dequantises them;
    otherwise these are fused like numbers."""
    notes = []
    for nvfp4 in (True, False):
        what = "NVFP4" if nvfp4 else "MXFP8"
        quantise_inkling2(original, directory / what, nvfp4)
        interop.run("fuse_checkpoint", directory / what, directory / f"{what}.fused", "--quiet")
        interop.run("unfuse_checkpoint", directory / f"{what}.fused", directory / f"{what}.back",
            "--quiet")
        before, after = read(directory / what), read(directory / f"{what}.fused")
        back = read(directory / f"{what}.back")
        other = sorted(name for name in before.keys() | back.keys()
            if before.get(name) != back.get(name))
        check(not other, what, "unfused is not as it was:", other[:3])
        experts = {name.rsplit(".", 1)[1] for name in after if ".mlp.experts." in name}
        passes = nvfp4 or "loop" in model_type
        check(passes == any(name.startswith("w13") for name in experts), what, "experts are called",
            experts)
        if passes and "loop" in model_type:
            one, info = load(kind, directory / what)
            other, other_info = load(kind, directory / f"{what}.fused")
            check(not info and not other_info, what, "is not loaded whole:", info, other_info)
            state, fused = one.state_dict(), other.state_dict()
            check(all(torch.equal(fused[name], tensor) for name, tensor in state.items()), what,
                "loads otherwise")
        elif not passes:
            for name, (dtype, shape, contents) in before.items():
                if not re.search(r"\.w13_weight(_scale)?$", name):
                    continue
                rows = torch.frombuffer(bytearray(contents), dtype=torch.uint8).reshape(shape[0],
                    shape[1], -1)
                apart = torch.cat([rows[:, 0::2], rows[:, 1::2]], 1).numpy().tobytes()
                model = "model." if "text" in model_type else "model.language_model."
                name = re.sub(r"^model\.llm\.", model, name)
                name = name.replace("w13_weight_scale", "gate_up_proj_scale_inv")
                name = name.replace("w13_weight", "gate_up_proj")
                check(after[name] == (dtype, shape, apart), what, name,
                    "is not as transformers makes it")
        notes.append(f"{what} {'passes' if passes else 'is fused'}")
    return ", ".join(notes)


def padded_vocabulary(model_type, kind, directory):
    """Inkling 2's unembedding has padding rows that transformers drops while loading; they must
    stay."""
    directory.mkdir()
    text = {"unpadded_vocab_size": 120}
    config = tiny_models.config_of(model_type)
    for key, value in text.items():
        setattr(config.get_text_config(), key, value)
    make(model_type, kind, directory, config)
    interop.run("fuse_checkpoint", directory / "original", directory / "fused", "--quiet")
    (one, info), (other, other_info) = load(kind, directory / "original"), load(kind, directory
        / "fused")
    check(not info and not other_info, "a padded vocabulary is not loaded whole:", info, other_info)
    state, fused = one.state_dict(), other.state_dict()
    check(state["lm_head.weight"].shape[0] == 120, "transformers keeps the padding")
    check(read(directory / "fused")["lm_head.weight"][1][0] == 128,
        "the padding is not there any more")
    check(all(torch.equal(fused[name], tensor) for name, tensor in state.items()),
        "a padded vocabulary loads otherwise")
    interop.run("unfuse_checkpoint", directory / "fused", directory / "back", "--quiet")
    check(read(directory / "back") == read(directory / "original"),
        "a padded vocabulary is unfused to something else")
    return "padding of the vocabulary stays"


def compare(family, model_type, directory):
    """Returns remarks on a model type. Raises Difference if something is wrong."""
    kind = tiny_models.class_of(model_type)
    make(model_type, kind, directory)
    original = directory / "original"
    model, info = load(kind, original)
    check(not info, "transformers does not load it whole:", info)

    said = interop.run("fuse_checkpoint", original, directory / "fused", "--quiet",
        "--max-shard-size", "300KB")
    fused = read(directory / "fused")
    tied = same_as_loaded(fused, model, "fused")
    interop.run("unfuse_checkpoint", directory / "fused", directory / "back", "--quiet")
    before, after = read(original), read(directory / "back")
    check(before.keys() == after.keys(), "unfused, it has other names:",
        sorted(after.keys() - before.keys())[:3],
          "for", sorted(before.keys() - after.keys())[:3])  # fmt: skip
    for name in before:
        check(before[name] == after[name], "unfused,", name, "is not as it was")

    notes = [f"{len(before)} tensors become {len(fused)}"]
    interop.run("fuse_checkpoint", directory / "fused", directory / "again", "--quiet")
    check(read(directory / "again") == fused, "fused once more, it is something else")
    again, info = load(kind, directory / "fused")
    check(not info, "transformers does not load the fused one whole:", info)
    same_as_loaded(fused, again, "loaded again")

    if model_type in OTHER_NAMES:
        rename(original, directory / "other", OTHER_NAMES[model_type])
        check(read(directory / "other").keys() != before.keys(),
            "the other spelling is the same one")
        if model_type not in NO_LONGER_LOADED:
            other, info = load(kind, directory / "other")
            check(not info, "transformers does not load the other spelling whole:", info)
        interop.run("fuse_checkpoint", directory / "other", directory / "other.fused", "--quiet")
        check(read(directory / "other.fused") == fused,
            "the other spelling fuses to something else")
        notes.append("another spelling, too")
    if model_type in OLDER_NAMES:
        rename(directory / "fused", directory / "older", OLDER_NAMES[model_type])
        check(read(directory / "older").keys() != fused.keys(), "the older names are the same ones")
        interop.run("fuse_checkpoint", directory / "older", directory / "older.fused", "--quiet")
        check(read(directory / "older.fused") == fused,
            "fused for an older version, it becomes something else:",
              sorted(read(directory / "older.fused").keys() - fused.keys())[:3])  # fmt: skip
        interop.run("unfuse_checkpoint", directory / "older", directory / "older.back", "--quiet")
        check(read(directory / "older.back") == before,
            "fused for an older version, it is unfused to something else:",
              sorted(read(directory / "older.back").keys() - before.keys())[:3])  # fmt: skip
        notes.append("older names, too")
    on_meta = left_on_meta(kind, directory / "fused")
    check(not on_meta, "accelerate leaves", len(on_meta), "without bytes:", on_meta[:3])
    notes.append(by_names_alone(family, original, fused, directory / "alone"))
    if model_type == "gpt_oss":
        notes.append(mxfp4_passes(original, directory))
    if model_type.startswith("inkling2"):
        notes.append(inkling2_codes(model_type, kind, original, directory))
        notes.append(padded_vocabulary(model_type, kind, directory / "padded"))
    if tied:
        notes.append("tied: " + (", ".join(tied) if len(tied) < 4 else f"{len(tied)} tensors"))
    return "; ".join(notes)


def left_on_meta(kind, path):
    """What has no bytes after accelerate loaded a checkpoint. accelerate takes every name as
    stored."""
    config = transformers.AutoConfig.from_pretrained(path)
    with accelerate.init_empty_weights():
        model = kind._from_config(config)
    model.tie_weights()
    model = accelerate.load_checkpoint_and_dispatch(model, path, device_map={"": "cpu"})
    return [name for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        if tensor.is_meta]


# Larger models with a language model of a type in the table. They have no families of their own.
WITH_EXPERTS_INSIDE = [
    ("cohere2_vision", "cohere2_moe"),
    ("internvl", "gpt_oss"),
    ("internvl", "qwen3_moe"),
    ("lfm2_vl", "lfm2_moe"),
    ("llava", "mixtral"),
    ("mistral3", "mistral4"),
]


def compare_inside(model_type, text_type, directory):
    """Fuses such a model with its language model's family. transformers must load an equal model,
    although its prefixes may be as stored."""
    config = tiny_models.config_of(model_type, text_config=tiny_models.config_of(text_type).to_dict())
    kind = tiny_models.class_of(model_type)
    make(model_type, kind, directory, config)
    model, _ = load(kind, directory / "original")
    interop.run("fuse_checkpoint", directory / "original", directory / "fused", "--quiet")
    again, info = load(kind, directory / "fused")
    check(not info, "transformers does not load the fused one whole:", info)
    state, fused = model.state_dict(), again.state_dict()
    check(all(torch.equal(fused[name], tensor) for name, tensor in state.items()),
        "the fused one is another model")
    interop.run("unfuse_checkpoint", directory / "fused", directory / "back", "--quiet")
    check(read(directory / "back") == read(directory / "original"), "unfused, it is not as it was")
    names = read(directory / "fused").keys()
    return "loads as it did" + ("" if names <= state.keys() else "; prefixes are as stored")


families = interop.families_on_page()
# families.py PROGRAMS DATA --names: writes DATA/transformers/names.tsv anew, for
# tests/unit/layout/rename.test.cpp
if "--names" in sys.argv:
    with open(interop.test_data() / "transformers" / "names.tsv", "w") as out:
        for model_type in sorted(kind for kinds in families.values() for kind in kinds):
            with tempfile.TemporaryDirectory() as directory:
                names = list(transformers_names(model_type, pathlib.Path(directory)))
                if any(stored != loaded for stored, loaded in names):
                    out.writelines(f"{model_type}\t{stored}\t{loaded}\n"
                        for stored, loaded in names)
    sys.exit()
asked = sys.argv[3:]
failed = []


def report(what, verdict_of):
    """Prints one line of remarks. Returns whether the result is right."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            print(f"ok          {what}: {verdict_of(pathlib.Path(directory))}", flush=True)
            return True
        except Difference as difference:
            print(f"DIFFERENCE  {what}: {difference}", flush=True)
        except SystemExit as failure:  # a program failed
            if failure.code == interop.SKIPPED:
                raise
            print(f"DIFFERENCE  {what}: {failure.code}", flush=True)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"FAILED      {what}: {type(error).__name__}: {error} "
                  f"({where.filename}:{where.lineno})", flush=True)
    failed.append(what)
    return False


count = 0
for family, model_types in families.items():
    for model_type in model_types:
        if not asked or model_type in asked:
            count += report(model_type, lambda directory: compare(family, model_type, directory))
for model_type, text_type in WITH_EXPERTS_INSIDE:
    if not asked or model_type in asked:
        report(f"{model_type} with {text_type}", lambda directory: compare_inside(model_type,
            text_type, directory))
print(f"{count} model types of {len(families)} families are what transformers "
      f"{transformers.__version__} loads")
interop.check(not failed, len(failed), "are not:", ", ".join(failed))
