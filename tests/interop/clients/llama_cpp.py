"""llama.cpp's converter (convert_hf_to_gguf.py) and the gguf package: from what unfuse_checkpoint
gives of a fused checkpoint, the converter makes the GGUF that it makes of the original, byte for
byte; what it makes of the fused one is in FUSED below. The experts that fuse_checkpoint --to gguf
writes are those in that GGUF, and the gguf package of PyPI reads it.

llama_cpp.py PROGRAMS DATA [MODEL_TYPE...]. SAFEFUSE_LLAMA_CPP is the directory that contains
convert_hf_to_gguf.py, conversion/ and gguf-py/, of llama.cpp's sources (the source package of
llama-cpp-python contains them in vendor/llama.cpp). The converter's classes run as its main() runs
them, but for the vocabulary, which tiny models do not have."""

import hashlib
import importlib.metadata
import json
import logging
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from support import interop

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch, transformers = interop.require("torch", "transformers")
sources = os.environ.get("SAFEFUSE_LLAMA_CPP")
if not sources:
    interop.skip("SAFEFUSE_LLAMA_CPP is not set: the directory with convert_hf_to_gguf.py")
if not (pathlib.Path(sources) / "conversion" / "base.py").is_file():
    interop.skip(f"{sources} has no conversion/base.py: it is no llama.cpp of 2026-05 or later")
if int(transformers.__version__.split(".")[0]) < 5:
    interop.skip(f"transformers {transformers.__version__} does not hold experts fused; 5 does")
# its own gguf-py first: the released package is older than the converter
sys.path[1:1] = [str(pathlib.Path(sources) / "gguf-py"), sources]
converter, gguf = interop.require("conversion", "gguf")
from support import stored_models, tiny_models

logging.disable(logging.CRITICAL)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)

# What the converter does with a fused checkpoint: it makes the same GGUF of it; it stops; it ends
# well and writes experts under names that llama.cpp does not know, none at all, or transposed ones.
SAME, STOPS = "the same GGUF", "stops"
OTHER_NAMES, NO_EXPERTS = "WRONG: experts under other names", "WRONG: no experts"
OTHER_EXTENTS = "WRONG: experts of other extents"
FUSED = {
    **dict.fromkeys(
        "dots1 gpt_oss granitemoe_swa llama4 llama4_text qwen2_moe qwen3_moe".split(), SAME
    ),
    **dict.fromkeys(
        (
            "afmoe deepseek_v2 deepseek_v3 deepseek_v32 ernie4_5_moe exaone_moe glm4_moe "
            "glm4_moe_lite glm4v_moe glm_moe_dsa granitemoe granitemoehybrid granitemoeshared "
            "hy_v3 jamba laguna lfm2_moe minimax_m2 mixtral nemotron_h olmoe phimoe qwen4_exp "
            "qwen4_exp_text sarvam_mla sarvam_moe solar_open"
        ).split(),
        STOPS,
    ),
    "cohere2_moe": OTHER_NAMES,
    "mellum": NO_EXPERTS,
    "qwen3_omni_moe": OTHER_EXTENTS,
    "qwen3_vl_moe": OTHER_EXTENTS,
}
# What the converter reads from configs and transformers 5 does not write.
CONFIGS = {
    "minimax_m2": {"rotary_dim": 8},
    "phimoe": {
        "architectures": ["PhiMoEForCausalLM"],
        "original_max_position_embeddings": 32,
    },
}
# What fuse_checkpoint --to gguf refuses: experts without a gate; two models whose layers would get
# the same names.
NOT_TO_GGUF = {"nemotron_h", "qwen3_omni_moe"}
HALVES = ("gate", "up")
# The names of experts in a GGUF.
EXPERTS = re.compile(r"blk\.\d+\.ffn_(gate|up|down|gate_up)_exps\.(weight|bias)")


def convert(checkpoint, path):
    """All tensors of the GGUF that the converter makes: name -> (type, extents, bytes)."""
    with torch.inference_mode():
        config = converter.ModelBase.load_hparams(checkpoint, False)
        name = converter.get_model_architecture(config, converter.ModelType.TEXT)
        kind = converter.get_model_class(name)
        kind.set_vocab = lambda self: None
        kind(checkpoint, gguf.LlamaFileType.MOSTLY_BF16, path, eager=True).write()
    return {
        tensor.name: (tensor.tensor_type.name, tensor.shape.tolist(), tensor.data.tobytes())
        for tensor in gguf.GGUFReader(path).tensors
    }


# What the released package sees: a process of its own, for here is the converter's.
READ = """
import gguf, hashlib, json, sys
def seen(tensor):
    digest = hashlib.sha256(tensor.data.tobytes()).hexdigest()
    return [tensor.tensor_type.name, tensor.shape.tolist(), digest]
print(json.dumps({each.name: seen(each) for each in gguf.GGUFReader(sys.argv[1]).tensors}))
"""


def read_by_package(path, expected):
    """The released package reads a GGUF as it was written."""
    said = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True)
    interop.check(said.returncode == 0, "the gguf package does not read it:", said.stderr[-300:])
    seen = json.loads(said.stdout)
    hashed = {
        name: [kind, extents, hashlib.sha256(contents).hexdigest()]
        for name, (kind, extents, contents) in expected.items()
    }
    interop.check(seen == hashed, "the gguf package reads something else")


def verdict(found, expected):
    """What the converter made of a fused checkpoint."""
    if found == expected:
        return SAME
    other = [name for name in expected if found.get(name) != expected[name]]
    interop.check(all(map(EXPERTS.fullmatch, other)), "other tensors than experts differ:", other)
    if found.keys() == expected.keys():
        extents = [name for name in other if found[name][1] != expected[name][1]]
        return OTHER_EXTENTS if extents == other else "WRONG: other experts"
    return OTHER_NAMES if found.keys() - expected.keys() else NO_EXPERTS


def one_after_other(gate, up):
    """[E, 2I, H] of two tensors [E, I, H]."""
    dtype, (experts, rows, columns), _ = gate
    each = [len(tensor[2]) // experts for tensor in (gate, up)]
    parts = [
        tensor[2][e * size : (e + 1) * size]
        for e in range(experts)
        for tensor, size in zip((gate, up), each)
    ]
    return dtype, [experts, 2 * rows, columns], b"".join(parts)


def set_config(path, changes):
    """Changes entries of a checkpoint's config.json."""
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **changes}))


def compare(model_type, directory):
    """One model type; returns what to say."""
    stored_models.make(model_type, tiny_models.class_of(model_type), directory)
    original, fused, back = (directory / each for each in ("original", "fused", "back"))
    set_config(original, CONFIGS.get(model_type, {}))
    interop.run("fuse_checkpoint", original, fused, "--quiet", "--max-shard-size", "300KB")
    interop.run("unfuse_checkpoint", fused, back, "--quiet")
    expected = convert(original, directory / "original.gguf")
    experts = {name: tensor for name, tensor in expected.items() if EXPERTS.fullmatch(name)}
    interop.check(len(experts) > 1, model_type, "has no experts:", sorted(expected)[:5])
    if version:
        read_by_package(directory / "original.gguf", expected)
    found = convert(back, directory / "back.gguf")
    other = [name for name in expected if found.get(name) != expected[name]]
    interop.check(found == expected, model_type, "unfused gives another GGUF:", other[:3])

    try:
        is_what = verdict(convert(fused, directory / "fused.gguf"), expected)
    except (AssertionError, KeyError, ValueError) as error:
        is_what, why = STOPS, f" ({type(error).__name__}: {str(error)[:70]})"
    else:
        why = ""
    wanted = FUSED.get(model_type)
    interop.check(wanted in (None, is_what), model_type, "fused:", is_what + why, "and not", wanted)

    said = f"{len(expected)} tensors; fused: {is_what}{why}"
    if model_type in NOT_TO_GGUF:
        return said
    interop.run("fuse_checkpoint", fused, directory / "gguf", "--to", "gguf", "--quiet")
    ours = interop.read_checkpoint(directory / "gguf")
    ours = {name: each for name, each in ours.items() if EXPERTS.fullmatch(name)}
    for name in sorted(experts.keys() - ours.keys()):
        if "ffn_gate_up_exps" in name:  # the converter leaves these as they are stored
            ours[name] = one_after_other(*(ours.pop(name.replace("gate_up", p)) for p in HALVES))
    interop.check(ours.keys() <= experts.keys(), model_type, "--to gguf:", sorted(ours)[:3])
    for name, (_, extents, contents) in ours.items():
        if experts[name][0] == "F32":  # the converter widens biases
            halves = zip(contents[::2], contents[1::2])
            contents = b"".join(b"\0\0" + bytes(half) for half in halves)
        same = (extents[::-1], contents) == experts[name][1:]
        interop.check(same, model_type, "--to gguf:", name, "is not what the converter writes")
    written = f"--to gguf writes {len(ours)} of {len(experts)} expert tensors alike"
    return f"{said}; {written}"


try:
    version = importlib.metadata.version("gguf")
except importlib.metadata.PackageNotFoundError:
    version = None
for model_type in sys.argv[3:] or FUSED:
    with tempfile.TemporaryDirectory() as directory:
        said = compare(model_type, pathlib.Path(directory))
    print(f"{model_type}: {said}", flush=True)
by = f"read by the package gguf {version}" if version else "the package gguf is not installed"
print(f"{len(sys.argv[3:] or FUSED)} types: unfused gives the GGUF of the original; {by}")
