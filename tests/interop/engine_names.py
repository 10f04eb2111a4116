"""Compares our layouts of vLLM and SGLang with the engines' own naming code, which is cut out of
their wheels and run alone: no CUDA, no import of the engine. SAFEFUSE_ENGINE_WHEELS is a
directory with the wheels (pip download --no-deps vllm==0.33.0 sglang==0.5.23).
"""

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
        interop.skip(
            "SAFEFUSE_ENGINE_WHEELS is not set: a directory with the wheels of vLLM and SGLang")
    wheels = sorted(pathlib.Path(where).glob(f"{engine}-*.whl"))
    return wheels[-1] if wheels else None


def suffixes_of(engine):
    """The suffixes of fields in our layout, from its declaration."""
    declared = (interop.test_data().parent.parent / "include" / "safefuse" / "layouts" / "engines.hpp").read_text()
    layout = re.search(rf"using {engine} =\s*layout<(.*?)>;\n", declared, re.S)[1]
    return set(re.findall(r'spelled<\w+, "(\w+)">', layout))


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
    """The parameter that vLLM's RoutedExperts.load_weights fills from a tensor with this name."""
    for parameter, weight, _, _ in mapping:
        if weight in name:
            filled = name.replace(weight, parameter).rpartition("experts.routed_experts.")[2]
            return filled if filled in parameters else None
    return None


# What vLLM's generic loader makes of fused names: (names of the matrices on the hub, stored name,
# the parameter or None).
VLLM_TABLE = [
    (("gate_proj", "down_proj", "up_proj"), "experts.gate_up_proj", "w13_weight"),
    (("gate_proj", "down_proj", "up_proj"), "experts.down_proj", "w2_weight"),
    (("gate_proj", "down_proj", "up_proj"), "experts.gate_up_proj_scale_inv",
     "w13_weight_scale_inv"),
    (("gate_proj", "down_proj", "up_proj"), "experts.gate_up_proj_weight_scale", None),
    (("gate_proj", "down_proj", "up_proj"), "experts.gate_up_proj_bias", None),
    (("gate_proj", "down_proj", "up_proj"), "experts.w13_weight", None),
    (("w1", "w2", "w3"), "experts.gate_up_proj", None),
    (("w1", "w2", "w3"), "experts.down_proj", None),
    (("w1", "w2", "w3"), "experts.w13_weight", None),
    (("gate_proj", "down_proj", "up_proj"), "experts.3.gate_proj.weight", "w13_weight"),
    (("gate_proj", "down_proj", "up_proj"), "experts.3.down_proj.weight_scale_inv",
     "w2_weight_scale_inv"),
    (("w1", "w2", "w3"), "experts.3.w1.weight", "w13_weight"),
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
    interop.check(ours <= theirs | NOT_REGISTERED[engine], engine, "creates no",
        sorted(ours - theirs))
    print(f"{path.name}: {len(ours)} fields are spelled as it spells them; of its own, not in "
          f"checkpoints:",
          ", ".join(sorted(theirs - ours)))  # fmt: skip
    source = wheel.read(below + layer).decode()
    if engine == "sglang":
        mapping = function(source, "make_expert_params_mapping", List=list, Tuple=tuple)
        named = {(p + "weight", w + "weight") for p, w, _, _ in mapping(None, "gate_proj",
            "down_proj", "up_proj", 1)}
        interop.check(("experts.w13_weight", "experts.0.gate_proj.weight") in named,
            "SGLang names it otherwise:", named)
        fused = function(source, "make_expert_params_mapping_fused")
        named = {(p, w) for p, w, _ in fused(None, "gate_up_proj", "down_proj", "gate_up_proj_bias",
            "down_proj_bias")}
        for parameter, stored in (("w13_weight", "gate_up_proj"),
            ("w13_weight_bias", "gate_up_proj_bias"), ("w2_weight", "down_proj")):
            interop.check((f"experts.{parameter}", f"experts.{stored}") in named,
                "SGLang does not take", stored)
        print("SGLang takes what transformers holds, and calls it as ours")
        continue
    build = function(source, "build_expert_params_mapping", EplbState=every_expert_is_itself,
        logger=None)
    parameters = {f"{part}{suffix}" for part in ("w13", "w2") for suffix in ours}
    for (gate, down, up), name, expected in VLLM_TABLE:
        mapping = build(gate, down, up, 4, include_fused=True)
        taken = vllm_takes(mapping, f"model.layers.0.mlp.{name}", parameters)
        interop.check(taken == expected,
            f"vLLM makes {taken} of {name} ({gate}, {down}, {up}), and not {expected}")
        print(f"  {'/'.join((gate, up, down)):30} {name:40} {taken or 'not taken'}")
if looked_at == 0:
    interop.skip("no wheel of vLLM or SGLang")
