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
torch, transformers, accelerate, safetensors = interop.require(
    "torch", "transformers", "accelerate", "safetensors.torch"
)
if int(transformers.__version__.split(".")[0]) < 5:
    interop.skip(
        f"transformers {transformers.__version__} does not hold experts fused; 5 and later do"
    )
from support import tiny_models
from support.stored_models import HUB_CHECKPOINTS, Difference, check, load, make, rename

logging.disable(logging.WARNING)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)

# What the tensors of a fused checkpoint were called when an older version of transformers had
# loaded it, newest to oldest: such checkpoints are fused to the newest names, and unfused. Experts
# that were held otherwise are renamed, too.
experts_of_aria = [
    (r"\.experts\.gate_up_proj$", ".experts.fc1.weight"),
    (r"\.experts\.down_proj$", ".experts.fc2.weight"),
]
OLDER_NAMES = {
    "aria": experts_of_aria,
    "aria_text": experts_of_aria,
    "inkling_mm_model": [(r"\.embed_tokens\.embed_norm\.", ".embed_norm.")],
    "inkling_text": [(r"\.embed_tokens\.embed_norm\.", ".embed_norm.")],
    "qwen3_omni_moe": [
        (r"^thinker\.model\.(audio_tower|visual)\.", r"thinker.\1."),
        (r"^thinker\.model\.language_model\.", "thinker.model."),
    ],
    "qwen3_omni_moe_thinker": [
        (r"^model\.(audio_tower|visual)\.", r"\1."),
        (r"^model\.language_model\.", "model."),
    ],
}
# Another spelling of the same checkpoint, which is fused all the same; unfusing gives the first.
OTHER_NAMES = {
    "deepseek_v4": [(r"^(layers|norm)\.", r"model.\1."), (r"\.attn\.kv_norm\.", ".attn.norm.")],
    "hy_v4": [(r"\.mlp\.(.*)gate_proj\.", r".mlp.\1linear_gate.")],
    "kimi_linear": [(r"\.mlp\.", ".block_sparse_moe.")],
    "minimax_m3_vl": [(r"^(vision_tower.*)\.mlp\.", r"\1.block_sparse_moe.")],
    "qwen3_5_moe_text": [(r"^model\.", "model.language_model.")],
    "qwen4_exp_text": [(r"^model\.", "model.language_model.")],
}


# Such spellings that an older version of transformers loaded and this one does not.
NO_LONGER_LOADED = {"minimax_m3_vl"}


def read(path):
    """All tensors of a checkpoint: name -> (dtype, shape, bytes)."""
    return interop.read_checkpoint(path)


def same_as_loaded(fused, model, what):
    """Whether the tensors of a checkpoint are the model's state; returns what it need not hold."""
    state = model.state_dict()
    unknown = sorted(fused.keys() - state.keys())
    check(
        not unknown,
        f"{what}: {len(unknown)} names that the model does not have, such as {unknown[:3]},",
        "and it has",
        sorted(state.keys() - fused.keys())[:3],
    )
    held = {state[name].data_ptr() for name in fused if state[name].numel()}
    absent = sorted(state.keys() - fused.keys())
    tied = [name for name in absent if state[name].data_ptr() in held]
    check(
        tied == absent, f"{what}: not in the fused checkpoint:", sorted(set(absent) - set(tied))[:3]
    )
    dtypes = {
        torch.bfloat16: "BF16",
        torch.float16: "F16",
        torch.float32: "F32",
        torch.int64: "I64",
        torch.int32: "I32",
        torch.bool: "BOOL",
    }
    for name, (dtype, shape, contents) in fused.items():
        tensor = state[name].contiguous()
        check(dtypes[tensor.dtype] == dtype, what, name, "is", dtype, "and not", tensor.dtype)
        check(list(tensor.shape) == shape, what, name, "is", shape, "and not", list(tensor.shape))
        check(
            contents == tensor.view(-1).view(torch.uint8).numpy().tobytes(),
            what,
            name,
            "holds other bytes",
        )
    return tied


def transformers_names(model_type, directory):
    """(stored, loaded) of every tensor but experts that transformers only renames, one layer of
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
        loaded, converter = rename_source_key(
            name, renamings, converters, model.base_model_prefix, state
        )
        if converter is None and ".experts." not in loaded and not loaded.endswith("_proj"):
            check(loaded in state, name, "becomes", loaded, "which the model does not have")
            seen.setdefault(re.sub(r"(layers|blocks)\.\d+", r"\1.N", name), (name, loaded))
    return seen.values()


def by_names_alone(family, original, fused, directory):
    """Whether the experts are fused alike if no config.json says what it is; nothing must ever
    become something else."""
    shutil.copytree(original, directory / "in")
    (directory / "in" / "config.json").unlink()
    program = interop.programs() / "fuse_checkpoint"
    done = subprocess.run(
        [program, directory / "in", directory / "out", "--quiet"], capture_output=True, text=True
    )
    shutil.copytree(directory.parent / "fused", directory / "fused")
    (directory / "fused" / "config.json").unlink()
    program = interop.programs() / "unfuse_checkpoint"
    undone = subprocess.run(
        [program, directory / "fused", directory / "back", "--quiet"],
        capture_output=True,
        text=True,
    )
    if undone.returncode == 0:
        for name, tensor in read(
            directory / "back"
        ).items():  # experts are as stored; other names stay as they are
            known = read(original).get(name) == tensor or fused.get(name) == tensor
            check(
                known or tuple(tensor) in [tuple(each) for each in read(original).values()],
                "without config.json",
                name,
            )
    if done.returncode == 0:
        # the experts alone are fused; all else stays under its stored name, and the way back is
        # remembered
        made, stored = [tuple(each) for each in fused.values()], read(original)
        for name, tensor in read(directory / "out").items():
            check(
                stored.get(name) == tensor or tuple(tensor) in made,
                "without config.json",
                name,
                "is something else",
            )
        program = interop.programs() / "unfuse_checkpoint"
        if read(directory / "out") == stored:
            return "nothing to fuse by its names"
        subprocess.run(
            [program, directory / "out", directory / "again", "--quiet"],
            check=True,
            capture_output=True,
        )
        check(read(directory / "again") == stored, "without config.json it does not come back")
        return "told by its names"
    if "more than one model family fits" in done.stderr:
        candidates = re.search(r"the names fit ([^;]*);", done.stderr)[1].split(", ")
        check(family in candidates, "by its names it is one of", candidates)
        return "by its names one of " + ", ".join(candidates)
    if "do not tell all extents" in done.stderr:
        return "told by its names, but extents are in config.json only"
    check(
        "fused already" in done.stderr or "unknown model family" in done.stderr,
        "without config.json:",
        done.stderr,
    )
    experts = [name for name in fused if ".experts." in name]
    same_experts = bool(experts) and all(name in read(original) for name in experts)
    check(same_experts or len(read(original)) == len(fused), "not known without config.json")
    return "nothing to fuse by its names"


def mxfp4_passes(original, directory):
    """gpt-oss as it is released: its MXFP4 codes and their scales stay as they are, both ways."""
    path = directory / "mxfp4"
    path.mkdir()
    tensors = {}
    for file in sorted(original.glob("*.safetensors")):
        tensors.update(safetensors.load_file(file))
    for name in [
        name for name in tensors if name.endswith(("experts.gate_up_proj", "experts.down_proj"))
    ]:
        experts, inputs, outputs = tensors.pop(name).shape
        for suffix, shape in {
            "_blocks": (experts, outputs, inputs // 32, 16),
            "_scales": (experts, outputs, inputs // 32),
        }.items():
            tensors[name + suffix] = torch.randint(0, 256, shape, dtype=torch.uint8)
    safetensors.save_file(tensors, path / "model.safetensors", {"format": "pt"})
    shutil.copy(original / "config.json", path)
    for program in "fuse_checkpoint", "unfuse_checkpoint":
        interop.run(program, path, directory / f"mxfp4.{program}", "--quiet")
        check(read(directory / f"mxfp4.{program}") == read(path), program, "changes MXFP4 codes")
    return "MXFP4 passes"


def quantise_inkling2(original, path, nvfp4):
    """A checkpoint of Inkling 2 with experts in MXFP8 or NVFP4, as it is released."""
    path.mkdir()
    tensors = {}
    for file in sorted(original.glob("*.safetensors")):
        tensors.update(safetensors.load_file(file))
    for name in [
        name for name in tensors if name.endswith(("experts.w13_weight", "experts.w2_weight"))
    ]:
        experts, rows, columns = tensors.pop(name).shape
        if nvfp4:
            tensors[name] = torch.randint(0, 256, (experts, rows, columns // 2), dtype=torch.uint8)
            tensors[name + "_scale"] = torch.rand(experts, rows, columns // 16).to(
                torch.float8_e4m3fn
            )
            tensors[name + "_amax"] = torch.rand(experts) + 1
            tensors[name + "_outer_scale_denominator"] = torch.full((experts,), 2688.0)
        else:
            tensors[name] = torch.randn(experts, rows, columns).to(torch.float8_e4m3fn)
            tensors[name + "_scale"] = torch.randint(
                120, 130, (experts, rows, columns // 32), dtype=torch.uint8
            )
    safetensors.save_file(tensors, path / "model.safetensors", {"format": "pt"})
    shutil.copy(original / "config.json", path)


def inkling2_codes(model_type, kind, original, directory):
    """NVFP4 experts pass, and so do MXFP8 experts if transformers makes numbers of them; else these
    are fused as numbers are."""
    notes = []
    for nvfp4 in (True, False):
        what = "NVFP4" if nvfp4 else "MXFP8"
        quantise_inkling2(original, directory / what, nvfp4)
        interop.run("fuse_checkpoint", directory / what, directory / f"{what}.fused", "--quiet")
        interop.run(
            "unfuse_checkpoint", directory / f"{what}.fused", directory / f"{what}.back", "--quiet"
        )
        before, after = read(directory / what), read(directory / f"{what}.fused")
        back = read(directory / f"{what}.back")
        other = sorted(
            name for name in before.keys() | back.keys() if before.get(name) != back.get(name)
        )
        check(not other, what, "unfused is not as it was:", other[:3])
        experts = {name.rsplit(".", 1)[1] for name in after if ".mlp.experts." in name}
        passes = nvfp4 or "loop" in model_type
        check(
            passes == any(name.startswith("w13") for name in experts),
            what,
            "experts are called",
            experts,
        )
        if passes and "loop" in model_type:
            one, info = load(kind, directory / what)
            other, other_info = load(kind, directory / f"{what}.fused")
            check(not info and not other_info, what, "is not loaded whole:", info, other_info)
            state, fused = one.state_dict(), other.state_dict()
            check(
                all(torch.equal(fused[name], tensor) for name, tensor in state.items()),
                what,
                "loads otherwise",
            )
        elif not passes:
            for name, (dtype, shape, contents) in before.items():
                if not re.search(r"\.w13_weight(_scale)?$", name):
                    continue
                rows = torch.frombuffer(bytearray(contents), dtype=torch.uint8).reshape(
                    shape[0], shape[1], -1
                )
                apart = torch.cat([rows[:, 0::2], rows[:, 1::2]], 1).numpy().tobytes()
                name = re.sub(
                    r"^model\.llm\.",
                    "model." if "text" in model_type else "model.language_model.",
                    name,
                )
                name = name.replace("w13_weight_scale", "gate_up_proj_scale_inv").replace(
                    "w13_weight", "gate_up_proj"
                )
                check(
                    after[name] == (dtype, shape, apart),
                    what,
                    name,
                    "is not as transformers makes it",
                )
        notes.append(f"{what} {'passes' if passes else 'is fused'}")
    return ", ".join(notes)


def padded_vocabulary(model_type, kind, directory):
    """Inkling 2's unembedding has rows that only pad it, which transformers drops while it loads;
    they stay."""
    directory.mkdir()
    text = {"unpadded_vocab_size": 120}
    config = tiny_models.config_of(model_type)
    for key, value in text.items():
        setattr(config.get_text_config(), key, value)
    make(model_type, kind, directory, config)
    interop.run("fuse_checkpoint", directory / "original", directory / "fused", "--quiet")
    (one, info), (other, other_info) = (
        load(kind, directory / "original"),
        load(kind, directory / "fused"),
    )
    check(not info and not other_info, "a padded vocabulary is not loaded whole:", info, other_info)
    state, fused = one.state_dict(), other.state_dict()
    check(state["lm_head.weight"].shape[0] == 120, "transformers keeps the padding")
    check(
        read(directory / "fused")["lm_head.weight"][1][0] == 128,
        "the padding is not there any more",
    )
    check(
        all(torch.equal(fused[name], tensor) for name, tensor in state.items()),
        "a padded vocabulary loads otherwise",
    )
    interop.run("unfuse_checkpoint", directory / "fused", directory / "back", "--quiet")
    check(
        read(directory / "back") == read(directory / "original"),
        "a padded vocabulary is unfused to something else",
    )
    return "padding of the vocabulary stays"


def compare(family, model_type, directory):
    """What is to be said of a model type; raises Difference where it is not as it should be."""
    kind = tiny_models.class_of(model_type)
    make(model_type, kind, directory)
    original = directory / "original"
    model, info = load(kind, original)
    check(not info, "transformers does not load it whole:", info)

    interop.run(
        "fuse_checkpoint", original, directory / "fused", "--quiet", "--max-shard-size", "300KB"
    )
    fused = read(directory / "fused")
    tied = same_as_loaded(fused, model, "fused")
    interop.run("unfuse_checkpoint", directory / "fused", directory / "back", "--quiet")
    before, after = read(original), read(directory / "back")
    more, less = sorted(after.keys() - before.keys()), sorted(before.keys() - after.keys())
    check(not more and not less, "unfused, it has other names:", more[:3], "for", less[:3])
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
        check(
            read(directory / "other").keys() != before.keys(), "the other spelling is the same one"
        )
        if model_type not in NO_LONGER_LOADED:
            other, info = load(kind, directory / "other")
            check(not info, "transformers does not load the other spelling whole:", info)
        interop.run("fuse_checkpoint", directory / "other", directory / "other.fused", "--quiet")
        check(
            read(directory / "other.fused") == fused, "the other spelling fuses to something else"
        )
        notes.append("another spelling, too")
    if model_type in HUB_CHECKPOINTS:  # what transformers saves is a form, too, that people have
        rename(directory / "saved", directory / "one_by_one", [])
        one_by_one = read(directory / "one_by_one")
        check(one_by_one.keys() != before.keys(), "transformers saves it as the hub stores it")
        interop.run("fuse_checkpoint", directory / "one_by_one", directory / "of_it", "--quiet")
        check(read(directory / "of_it") == fused, "what transformers saves fuses to another")
        interop.run("unfuse_checkpoint", directory / "of_it", directory / "it", "--quiet")
        check(read(directory / "it") == one_by_one, "what transformers saves comes back otherwise")
        notes.append("what transformers saves, too")
    if model_type in OLDER_NAMES:
        rename(directory / "fused", directory / "older", OLDER_NAMES[model_type])
        check(read(directory / "older").keys() != fused.keys(), "the older names are the same ones")
        interop.run("fuse_checkpoint", directory / "older", directory / "older.fused", "--quiet")
        made = read(directory / "older.fused")
        other = sorted(made.keys() - fused.keys())[:3]
        check(made == fused, "fused for an older version, it becomes something else:", other)
        interop.run("unfuse_checkpoint", directory / "older", directory / "older.back", "--quiet")
        made = read(directory / "older.back")
        other = sorted(made.keys() - before.keys())[:3]
        check(made == before, "fused for an older version, it is unfused to something else:", other)
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
    """What has no bytes after accelerate loaded a checkpoint, which takes every name as it stands
    in the files."""
    config = transformers.AutoConfig.from_pretrained(path)
    with accelerate.init_empty_weights():
        model = kind._from_config(config)
    model.tie_weights()
    model = accelerate.load_checkpoint_and_dispatch(model, path, device_map={"": "cpu"})
    return [
        name
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        if tensor.is_meta
    ]


HELD_AS_STORED = ("gpt_oss", "mistral4")  # their experts are fused on the hub
# Larger models whose language model is of a type in the table; they have no families of their own,
# and are fused by the language model's. Fused, these have the names of the model that transformers
# loads, so accelerate loads them, too.
WITH_EXPERTS_INSIDE = [
    ("cohere2_vision", "cohere2_moe"),
    ("lfm2_vl", "lfm2_moe"),
    *(
        (model_type, "qwen3_moe")
        for model_type in (
            "blip-2 deepseek_vl deepseek_vl_hybrid exaone4_5 glm46v idefics2 idefics3 instructblip "
            "instructblipvideo janus lighton_ocr minicpm_ocr minicpmv4_6 minicpmv4_7 "
            "moss_transcribe_diarize omniasr ovis2 qwen3_asr smolvlm vibevoice video_llama_3"
        ).split()
    ),
]
# The same, but transformers renames what is around the experts (language_model.model. becomes
# model.language_model.), and these names stay as they are stored: transformers loads the fused
# checkpoint whole, and accelerate, which takes names as they stand, leaves them without bytes.
WITH_PREFIXES_AS_STORED = [
    ("internvl", "gpt_oss"),
    ("llava", "mixtral"),
    ("mistral3", "mistral4"),
    *(
        (model_type, "qwen3_moe")
        for model_type in (
            "audioflamingo3 aya_vision cosmos3_omni fuyu glmasr got_ocr2 granite_speech "
            "granite_speech_plus hyperclovax_vision_v2 internvl lfm3_vl llava_next "
            "llava_next_video llava_onevision musicflamingo qianfan_ocr qwen2_audio "
            "vibevoice_asr video_llava vipllava voxtral"
        ).split()
    ),
]


def compare_inside(model_type, text_type, as_stored, directory):
    """Such a model fused by its language model's family: transformers loads the same from it."""
    text = tiny_models.config_of(text_type).to_dict()
    config = tiny_models.config_of(model_type, text_config=text)
    kind = tiny_models.class_of(model_type)
    make(model_type, kind, directory, config)
    model, _ = load(kind, directory / "original")
    interop.run("fuse_checkpoint", directory / "original", directory / "fused", "--quiet")
    again, info = load(kind, directory / "fused")
    check(not info, "transformers does not load the fused one whole:", info)
    state, loaded = model.state_dict(), again.state_dict()
    for name, tensor in state.items():
        check(torch.equal(loaded[name], tensor), "fused,", name, "is not as it was")
    interop.run("unfuse_checkpoint", directory / "fused", directory / "back", "--quiet")
    check(read(directory / "back") == read(directory / "original"), "unfused, it is not as it was")
    stored, fused = read(directory / "original").keys(), read(directory / "fused").keys()
    if text_type not in HELD_AS_STORED:
        check(len(fused) < len(stored), "nothing is fused")
    if not as_stored:
        same_as_loaded(read(directory / "fused"), model, "fused")
        on_meta = left_on_meta(kind, directory / "fused")
        check(not on_meta, "accelerate leaves", len(on_meta), "without bytes:", on_meta[:3])
        return "loads as it did, in accelerate, too"
    check(fused - state.keys(), "all names are the model's: it belongs to the other list")
    try:
        on_meta = left_on_meta(kind, directory / "fused")
    except NotImplementedError as error:
        check("meta tensor" in str(error), "accelerate fails otherwise:", error)
    else:
        check(on_meta, "accelerate leaves nothing without bytes: it belongs to the other list")
    return f"loads as it did; {len(fused - state.keys())} names are as stored"


families = interop.families_on_page()
# families.py PROGRAMS DATA --names: writes DATA/transformers/names.tsv anew, for rename.test.cpp
if "--names" in sys.argv:
    with open(interop.test_data() / "transformers" / "names.tsv", "w") as out:
        for model_type in sorted(kind for kinds in families.values() for kind in kinds):
            with tempfile.TemporaryDirectory() as directory:
                names = list(transformers_names(model_type, pathlib.Path(directory)))
                if any(stored != loaded for stored, loaded in names):
                    out.writelines(
                        f"{model_type}\t{stored}\t{loaded}\n" for stored, loaded in names
                    )
    sys.exit()
asked = sys.argv[3:]
failed = []


def report(what, verdict_of):
    """Prints what is to be said, one line; returns whether it is as it should be."""
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
            at = f"{where.filename}:{where.lineno}"
            print(f"FAILED      {what}: {type(error).__name__}: {error} ({at})", flush=True)
    failed.append(what)
    return False


count = 0
for family, model_types in families.items():
    for model_type in model_types:
        if not asked or model_type in asked:
            count += report(model_type, lambda directory: compare(family, model_type, directory))
for as_stored, pairs in ((False, WITH_EXPERTS_INSIDE), (True, WITH_PREFIXES_AS_STORED)):
    for model_type, text_type in pairs:
        if not asked or model_type in asked:
            report(
                f"{model_type} with {text_type}",
                lambda directory: compare_inside(model_type, text_type, as_stored, directory),
            )
version = transformers.__version__
print(f"{count} model types of {len(families)} families are what transformers {version} loads")
interop.check(not failed, len(failed), "are not:", ", ".join(failed))
