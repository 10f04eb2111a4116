"""mlx-lm loads the output of fuse_checkpoint --to mlx, on the processor, as it loads the original,
which it stacks itself: the same parameters and the same logits.
"""

import json
import pathlib
import shutil
import sys
import tempfile

from support import interop

mx, utils = interop.require("mlx.core", "mlx_lm.utils")
mx.set_default_device(mx.cpu)

from mlx.utils import tree_flatten

# The fixtures that mlx-lm 0.32.2 loads as transformers 5 writes their configs, but for what CONFIGS
# adds.
TYPES = ("deepseek_v3", "ernie4_5_moe", "mixtral", "qwen3_moe")
CONFIGS = {"qwen3_moe": {"num_experts": 12, "head_dim": 8}}


def logits(model):
    # on the processor, MLX multiplies gathered matrices of this type only
    model.set_dtype(mx.float32)
    return model(mx.arange(8)[None])


def compare(kind):
    with tempfile.TemporaryDirectory() as directory:
        original = pathlib.Path(directory) / "original"
        shutil.copytree(interop.test_data() / "transformers" / kind / "checkpoint", original)
        config = json.loads((original / "config.json").read_text())
        rope = config.get("rope_parameters") or {}
        for key, value in {**rope, **CONFIGS.get(kind, {})}.items():
            config.setdefault(key, value)  # as in configs before transformers 5
        (original / "config.json").write_text(json.dumps(config))
        expected, _ = utils.load_model(original)
        written = pathlib.Path(directory) / "mlx"
        interop.run("fuse_checkpoint", original, written, "--to", "mlx", "--quiet")
        names = interop.read_checkpoint(written).keys()
        interop.check(any(".switch_mlp." in name for name in names), kind, "has no switch_mlp")
        interop.check(not any(".experts." in name and name.endswith("_proj.weight")
            and ".shared" not in name for name in names),
                      kind, "still stores experts one by one")  # fmt: skip
        model, _ = utils.load_model(written)
        found, wanted = dict(tree_flatten(model.parameters())), dict(
            tree_flatten(expected.parameters()))
        interop.check(found.keys() == wanted.keys(), kind, sorted(found.keys() ^ wanted.keys())[:3])
        for name, value in wanted.items():
            interop.check(mx.array_equal(found[name], value), kind, name, "differs")
        interop.check(mx.array_equal(logits(model), logits(expected), equal_nan=True), kind,
            "gives other logits")
    print(kind, "is loaded as the original is, and gives the same logits", flush=True)


for kind in sys.argv[3:] or TYPES:
    compare(kind)
