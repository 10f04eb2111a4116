"""Our layouts of vLLM and SGLang against the engines' own naming code, which is cut out of their
wheels and run alone: no CUDA, no import of the engine. SAFEFUSE_ENGINE_WHEELS is a directory with
the wheels (pip download --no-deps vllm==0.33.0 sglang==0.5.23)."""

import ast
import os
import pathlib
import re
import zipfile

from support import interop

ENGINES = {
    "vllm": ("vllm/model_executor/layers/", "fused_moe/routed_experts.py"),
    "sglang": ("sglang/srt/layers/", "moe/fused_moe_triton/layer.py"),
}
# Fields of ours that are no literal name in the engine's code: vLLM's FP8 layer puts
# w13_weight_scale_inv together at run time, and its 0.33 has no experts with g_idx any more, which
# older versions called w13_g_idx (GPTQ) and w13_weight_g_idx (compressed-tensors).
NOT_REGISTERED = {"vllm": {"_g_idx", "_weight_g_idx", "_weight_scale_inv"}, "sglang": set()}


def wheel_of(engine):
    where = os.environ.get("SAFEFUSE_ENGINE_WHEELS")
    if not where:
        interop.skip("SAFEFUSE_ENGINE_WHEELS is not set: the directory with their wheels")
    wheels = sorted(pathlib.Path(where).glob(f"{engine}-*.whl"))
    return wheels[-1] if wheels else None


def suffixes_of(engine):
    """The fields' suffixes in our layout, from the declaration."""
    headers = interop.test_data().parent.parent / "include" / "safefuse"
    for header in headers.rglob("engines.hpp"):
        layout = re.search(rf"using {engine} =\s*layout<(.*?)>;\n", header.read_text(), re.S)
        suffixes = set(re.findall(r'suffix<\w+, "(\w+)">', layout[1] if layout else ""))
        if suffixes:
            return suffixes
    interop.check(False, "no engines.hpp declares the suffixes of", engine)


def registered(wheel, below):
    """The suffixes of all w13 parameters that the engine's layers create."""
    found = set()
    for name in wheel.namelist():
        if name.startswith(below) and name.endswith(".py"):
            source = wheel.read(name).decode()
            found |= set(re.findall(r'register_parameter\(\s*"w13(_\w+)"', source))
    return found


def function(source, name, **globals_):
    """A function of a module, run alone."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            node.decorator_list, node.returns = [], None
            for argument in [*node.args.args, *node.args.kwonlyargs]:
                argument.annotation = None
            exec(compile(ast.Module([node], []), name, "exec"), globals_)
            return globals_[name]
    interop.check(False, "the engine has no", name)


class every_expert_is_itself:
    @staticmethod
    def build_initial_global_physical_to_logical_map(experts, redundant):
        return list(range(experts))


def vllm_takes(mapping, name, parameters):
    """Which parameter vLLM's RoutedExperts.load_weights fills from a tensor of that name, by its
    rules for names."""
    for parameter, weight, _, _ in mapping:
        if weight in name:
            filled = name.replace(weight, parameter).rpartition("experts.routed_experts.")[2]
            return filled if filled in parameters else None
    return None


# What vLLM's generic loader makes of fused names: (names of the matrices on the hub, stored name,
# the parameter or None).
projections, numbers = ("gate_proj", "down_proj", "up_proj"), ("w1", "w2", "w3")
VLLM_TABLE = [
    (projections, "experts.gate_up_proj", "w13_weight"),
    (projections, "experts.down_proj", "w2_weight"),
    (projections, "experts.gate_up_proj_scale_inv", "w13_weight_scale_inv"),
    (projections, "experts.gate_up_proj_weight_scale", None),
    (projections, "experts.gate_up_proj_bias", None),
    (projections, "experts.w13_weight", None),
    (numbers, "experts.gate_up_proj", None),
    (numbers, "experts.down_proj", None),
    (numbers, "experts.w13_weight", None),
    (projections, "experts.3.gate_proj.weight", "w13_weight"),
    (projections, "experts.3.down_proj.weight_scale_inv", "w2_weight_scale_inv"),
    (numbers, "experts.3.w1.weight", "w13_weight"),
]
# And SGLang's, of the mapping that loaders of some models ask for.
SGLANG_TABLE = [
    ("w13_weight", "gate_up_proj"),
    ("w13_weight_bias", "gate_up_proj_bias"),
    ("w2_weight", "down_proj"),
]

looked_at = 0
for engine, (below, layer) in ENGINES.items():
    path = wheel_of(engine)
    if path is None:
        print(f"{engine}: no wheel")
        continue
    looked_at += 1
    wheel = zipfile.ZipFile(path)
    theirs, ours = registered(wheel, below), suffixes_of(engine)
    unknown = ours - theirs - NOT_REGISTERED[engine]
    interop.check(not unknown, engine, "creates no", sorted(unknown))
    known = theirs & NOT_REGISTERED[engine]
    interop.check(not known, engine, "creates these now: the limit is gone:", sorted(known))
    print(f"{path.name}: {len(ours)} fields are spelled as it spells them")
    print("  of its own, not in checkpoints:", ", ".join(sorted(theirs - ours)))
    source = wheel.read(below + layer).decode()
    if engine == "sglang":
        mapping = function(source, "make_expert_params_mapping", List=list, Tuple=tuple)
        mapped = mapping(None, "gate_proj", "down_proj", "up_proj", 1)
        named = {(parameter + "weight", weight + "weight") for parameter, weight, _, _ in mapped}
        own = ("experts.w13_weight", "experts.0.gate_proj.weight")
        interop.check(own in named, "SGLang names it otherwise:", named)
        fused = function(source, "make_expert_params_mapping_fused")
        biases = ("gate_up_proj_bias", "down_proj_bias")
        named = {(p, w) for p, w, _ in fused(None, "gate_up_proj", "down_proj", *biases)}
        for parameter, stored in SGLANG_TABLE:
            pair = (f"experts.{parameter}", f"experts.{stored}")
            interop.check(pair in named, "SGLang does not take", stored)
        print("SGLang takes what transformers holds, and calls it as ours")
        continue
    given = {"EplbState": every_expert_is_itself, "logger": None}
    build = function(source, "build_expert_params_mapping", **given)
    parameters = {f"{part}{suffix}" for part in ("w13", "w2") for suffix in ours}
    for (gate, down, up), name, expected in VLLM_TABLE:
        mapping = build(gate, down, up, 4, include_fused=True)
        taken = vllm_takes(mapping, f"model.layers.0.mlp.{name}", parameters)
        names = "/".join((gate, up, down))
        interop.check(
            taken == expected, f"vLLM makes {taken} of {name} ({names}), and not {expected}"
        )
        print(f"  {names:30} {name:40} {taken or 'not taken'}")
if looked_at == 0:
    interop.skip("no wheel of vLLM or SGLang")
