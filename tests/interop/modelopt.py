"""The problem that this library began with, end to end on the processor. nvidia-modelopt makes a
quantised model without bytes and lets accelerate load a checkpoint into it, with every name as
stored. Unfused experts stay on the meta device. Fused experts load, equal those that
transformers loads, and calibrate with experts excluded. If experts are quantised, too, modelopt
0.47 itself fails.
"""

import copy
import logging
import os
import pathlib
import sys
import tempfile
import traceback

sys.path.append(sys.path.pop(0))  # this file has the name of the package, which must be found first
from support import interop

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch, transformers, accelerate, mtq, plugin = interop.require(
    "torch", "transformers", "accelerate", "modelopt.torch.quantization",
    "modelopt.torch.quantization.plugins.accelerate"
)

logging.disable(logging.WARNING)
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)

# The experts' quantisers are lists, which modelopt 0.47 does not prepare for a checkpoint without
# their buffers: accelerate then finds `_amax` without bytes when it moves the model to its device.
LINE_THAT_FAILS = "self._buffers[key] = fn(buf)"


def configuration(with_experts):
    chosen = copy.deepcopy(mtq.FP8_DEFAULT_CFG)
    if not with_experts:
        chosen["quant_cfg"].append({"quantizer_name": "*experts*", "enable": False})
    return chosen


def load(path, with_experts):
    with plugin.init_quantized_weights(configuration(with_experts)):
        return transformers.AutoModelForCausalLM.from_pretrained(path)


def failure_of(path, with_experts):
    """The exception and the lines that it passed, innermost first."""
    try:
        load(path, with_experts)
    except Exception as error:
        return error, [f"{each.filename}:{each.lineno}: {each.line}"
            for each in traceback.extract_tb(error.__traceback__)][::-1]
    return None, []


def calibrate(model):
    tokens = torch.arange(12).reshape(1, 12) % model.config.vocab_size
    with torch.no_grad():
        model(tokens)


original = interop.test_data() / "transformers" / "qwen3_moe" / "checkpoint"
with tempfile.TemporaryDirectory() as directory:
    fused = pathlib.Path(directory) / "fused"
    interop.run("fuse_checkpoint", original, fused, "--quiet")

    error, _ = failure_of(original, with_experts=False)
    interop.check("meta tensor" in str(error), "the unfused checkpoint fails otherwise:", error)
    print("unfused:", type(error).__name__, str(error).split(";")[0])

    model = load(fused, with_experts=False)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    on_meta = [name for name, tensor in tensors if tensor.is_meta]
    interop.check(not on_meta, "left on meta:", on_meta[:3])
    expected = transformers.AutoModelForCausalLM.from_pretrained(original,
        dtype="auto").state_dict()
    experts = {name: tensor for name, tensor in tensors
        if name.endswith(("experts.gate_up_proj", "experts.down_proj"))}
    interop.check(len(experts) == 4, "experts:", sorted(experts))
    for name, tensor in experts.items():
        interop.check(torch.equal(tensor.to(expected[name].dtype), expected[name]), name,
            "differs from what transformers loads")
    mtq.calibrate(model, "max", calibrate)
    found = {name: tensor for name, tensor in model.named_buffers() if name.endswith("_amax")}
    interop.check(found and not any("experts" in name for name in found), "quantised:",
        sorted(found)[:3])
    interop.check(all(not tensor.is_meta and tensor.max() > 0 for tensor in found.values()),
        "a quantiser was not calibrated")
    print(f"fused: loads, {len(experts)} expert tensors are equal, {len(found)} quantisers are "
          f"calibrated")

    error, lines = failure_of(fused, with_experts=True)
    if error is None:
        print("with experts quantised, too, modelopt loads it: the limits in models/README.md are "
              "out of date")
        interop.check(False, "modelopt no longer fails where its limit is noted")
    interop.check("meta tensor" in str(error), "with experts quantised, it fails otherwise:", error)
    where = [line for line in lines if LINE_THAT_FAILS in line]
    interop.check(bool(where), "it fails for a parameter and not for a quantiser's buffer:",
        lines[:3])
    caller = next((line for line in lines if "modelopt" in line and "site-packages" in line),
        lines[-1])
    print("with experts quantised, too, modelopt fails by itself, for a buffer without bytes:",
        where[0], "called from", caller)
