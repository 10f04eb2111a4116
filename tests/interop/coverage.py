"""What the installed transformers has that our families lack or describe differently.

coverage.py [PROGRAMS DATA]          compares, and fails if a model type is new, changed or
                                     vanished; each comes with a declaration to begin with
coverage.py PROGRAMS DATA --record   writes DATA/transformers/conversions.tsv anew, once the
                                     families follow this version
coverage.py PROGRAMS DATA TYPE...    prints what it would propose for these types

A type is new if its model has fused experts, or transformers converts experts for it, and no family
names it. It is changed if its conversions in transformers, or its parameters with experts, differ
from the record.
"""

import logging
import os
import pathlib
import re
import sys

from support import interop

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch, transformers = interop.require("torch", "transformers")
if int(transformers.__version__.split(".")[0]) < 5:
    interop.skip(
        f"transformers {transformers.__version__} does not hold experts fused; 5 and later do")
from support import tiny_models

logging.disable(logging.WARNING)
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)


def is_expert(name, tensor):
    return tensor.ndim >= 2 and re.search(r"(^|[._])experts[._]", name) is not None


def expert_parameters(model):
    """The parameters that contain experts, one of each kind: name without layer numbers, and shape.
    """
    found = {}
    for name, tensor in model.state_dict().items():
        is_single = re.search(r"experts\.(expert_)?\d+\.", name)
        if is_expert(name, tensor) and not is_single and "shared_experts" not in name:
            found.setdefault(re.sub(r"\d+", "N", name), list(tensor.shape))
    return found


def parts(transform):
    """A conversion as text: sources, targets, operations with arguments, and the part of the model.
    """
    operations = []
    for operation in getattr(transform, "operations", []):
        arguments = ", ".join(f"{k}={v}" for k, v in sorted(vars(operation).items())
            if not k.startswith("_") and v is not None)
        operations.append(f"{type(operation).__name__}({arguments})")
    extra = [f"{k}={v}" for k in ("prefix_to_add", "prefix_to_remove", "offset")
        if (v := getattr(transform, k, None))]
    sources, targets = (
        getattr(transform, f"_original_{what}_patterns", None)
        or getattr(transform, f"{what}_patterns")
        for what in ("source", "target")
    )
    as_list = lambda patterns: [patterns] if isinstance(patterns, str) else list(patterns)
    return (getattr(transform, "scope_prefix", None) or "", as_list(sources), as_list(targets),
        operations + extra)


def text_of(transform):
    scope, sources, targets, operations = parts(transform)
    where = f"[{scope}] " if scope else ""
    what = "".join(f" | {each}" for each in operations)
    return where + " + ".join(sources) + " -> " + " + ".join(targets) + what


def conversions_of(model):
    from transformers.conversion_mapping import get_model_conversion_mapping

    return get_model_conversion_mapping(model, add_legacy=False)


def make(model_type):
    """A tiny model of the type without bytes."""
    kind = tiny_models.class_of(model_type)
    with torch.device("meta"):
        return kind._from_config(tiny_models.config_of(model_type))


def record_of(model):
    """The entry for the record: the conversions in order, then the experts."""
    lines = [text_of(each) for each in conversions_of(model)]
    return lines + [f"{name}: {len(shape)} axes"
        for name, shape in sorted(expert_parameters(model).items())]


def has_experts(model_type):
    """Whether a type may have experts, from its source, which is faster than making a model."""
    try:
        kind = tiny_models.class_of(model_type)
    except (KeyError, AttributeError):
        return False  # a part of another model that has no class of its own
    # absent where the class is a stand-in for one that needs another package
    source = sys.modules.get(kind.__module__)
    return source is not None and "Experts" in pathlib.Path(source.__file__).read_text()


# ------------------------------------------------------------------------------------------

PER_EXPERT = {("gate_proj", "up_proj", "down_proj"): "per_expert",
    ("w1", "w3", "w2"): "per_expert_w123"}


def literal(pattern):
    """A regular expression as a pattern of whole segments, or None if that is impossible."""
    at_start = pattern.startswith("^")
    text = pattern.removeprefix("^").removesuffix("$").replace(r"(\d+)", "{i}")
    text = text.replace(r"\.", ".").strip(".")
    text = re.sub(r"\\\d", "{i}", text)
    if re.search(r"[()\[\]|*?\\+$^]", text):
        return None
    return ("^" if at_start else "") + text


def rename_of(transform):
    scope, sources, targets, extra = parts(transform)
    source, target = literal(sources[0]), literal(targets[0].removeprefix("^"))
    if extra or len(sources) != 1 or source is None or target is None:
        return f"// by hand: {text_of(transform)}"
    where = f"  // only under {scope}" if scope else ""
    return f'rename("{source}", "{target}"),{where}'


def experts_layout(model, converters):
    """(stored layout, model's layout, notes), as far as the conversions of experts tell."""
    held = {name.rsplit(".", 1)[1] for name in expert_parameters(model)}
    to = "ungated_fused" if "up_proj" in held and "gate_up_proj" not in held else "gate_up_fused"
    config = model.config.get_text_config()
    for name, shape in expert_parameters(model).items():
        if name.endswith("gate_up_proj") and len(shape) == 3 and shape[2] == 2 * shape[1]:
            return "?", "?", [
                "the shapes of the tiny model do not tell whether matrices are transposed"]
        hidden = getattr(config, "hidden_size", None)
        if name.endswith("gate_up_proj") and len(shape) == 3 and shape[1] == hidden:
            to = "gate_up_transposed"
    if not converters:
        return to, to, ["stored as the model holds them"]
    names, notes = [], []
    for each in converters:
        _, sources, targets, operations = parts(each)
        for source in sources:
            clean = source.replace("\\", "")
            leaf = re.search(r"\.\*\.(\w+)\.weight", clean)
            names.append(leaf[1] if leaf else clean.rsplit(".", 1)[-1])
        known = {"MergeModulelist", "Concatenate"}
        if any(operation.split("(")[0] not in known for operation in operations):
            notes.append(f"by hand: {text_of(each)}")
    otherwise = "per_expert_ungated" if len(names) == 2 and to == "ungated_fused" else "?"
    return PER_EXPERT.get(tuple(names), otherwise), to, notes


def proposal(model_type, model):
    """A first declaration, as lines of C++."""
    converters, others, renames = [], [], []
    for each in conversions_of(model):
        _, sources, targets, operations = parts(each)
        if type(each).__name__ != "WeightConverter" and not re.search(r"(^|[._])experts\b",
            " ".join(targets).replace("\\", "")):
            renames.append(rename_of(each))
        elif any("expert" in target and "shared" not in target for target in targets):
            converters.append(each)
        else:
            others.append(text_of(each))
    stored, held, notes = experts_layout(model, converters)
    path = {re.sub(r"^.*?\d*N\.", "", name).rsplit(".", 1)[0] for name in expert_parameters(model)}
    where = sorted(path)
    at = "" if where == ["mlp.experts"] else "".join(f', at_path<"{each}">' for each in where)
    lines = [f'struct {model_type} : family<"{model_type}", {stored}, {held}{at}> {{']
    lines += [f"    // {note}" for note in notes]
    lines += [f"    // other modules: {each}" for each in others]
    if renames:
        lines += ["    static constexpr rename_description renames[] = {",
                  *(f"        {each}" for each in renames), "    };"]  # fmt: skip
    return lines[:-1] + [lines[-1] + "};"] if len(lines) == 1 else lines + ["};"]


# ------------------------------------------------------------------------------------------


def read_record(path):
    """model type -> lines."""
    recorded = {}
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            model_type, _, what = line.partition("\t")
            recorded.setdefault(model_type, []).append(what)
    return recorded


def main():
    record_path = interop.test_data() / "transformers" / "conversions.tsv"
    known = {kind for kinds in interop.families_on_page().values() for kind in kinds}
    asked = [each for each in sys.argv[3:] if not each.startswith("-")]
    for model_type in asked:
        print("\n".join([f"// {model_type}", *record_of(make(model_type)),
            *proposal(model_type, make(model_type))]))
    if asked:
        return
    if "--record" in sys.argv:
        with open(record_path, "w") as out:
            out.write(
                f"# What transformers {transformers.__version__} converts for each model type, and "
                f"what holds its experts.\n")
            for model_type in sorted(known):
                out.writelines(f"{model_type}\t{line}\n" for line in record_of(make(model_type)))
        return

    pinned = interop.pinned("transformers")
    print(f"transformers {transformers.__version__}; the families follow {pinned}")
    recorded = read_record(record_path)
    vanished = sorted(each for each in known if each not in transformers.CONFIG_MAPPING)
    new, changed, unseen = [], [], []
    for model_type in sorted(transformers.CONFIG_MAPPING):
        if model_type not in known and not has_experts(model_type):
            continue
        try:
            model = make(model_type)
        except Exception as error:
            unseen.append(f"{model_type} ({type(error).__name__}: {str(error).splitlines()[-1]})")
            continue
        if model_type in known:
            if recorded.get(model_type) != record_of(model):
                changed.append((model_type, model))
        elif expert_parameters(model):
            new.append((model_type, model))
    for model_type, model in new:
        print(f"\nNEW         {model_type}")
        print("\n".join(proposal(model_type, model)))
    for model_type, model in changed:
        print(f"\nCHANGED     {model_type}")
        before, now = recorded.get(model_type, []), record_of(model)
        print("\n".join([f"  - {line}" for line in before if line not in now]
            + [f"  + {line}" for line in now if line not in before]))
        if sorted(before) == sorted(now):
            print("  the same conversions in another order")
        print("\n".join(proposal(model_type, model)))
    for model_type in vanished:
        print(f"\nVANISHED    {model_type}")
    if unseen:
        print("\nnot looked into, for no tiny model of it can be made:", "; ".join(unseen))
    print(f"\n{len(known)} model types are known, {len(new)} are new, {len(changed)} changed, "
          f"{len(vanished)} vanished")
    same = transformers.__version__ == pinned
    interop.check(not (new or changed or vanished), "the families do not follow transformers",
        transformers.__version__)
    interop.check(same or not unseen, "types could not be looked into")


main()
