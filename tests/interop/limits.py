"""Limits of others that no other test here meets: each is shown as it is with the version that
README's table names, and the test fails when it is no more, so that the table is put right.

limits.py PROGRAMS DATA [LIMIT...]: each is skipped, with the reason, if its package is absent."""

import importlib.metadata
import json
import logging
import os
import pathlib
import sys
import tempfile

from support import interop

os.environ.setdefault("HF_HUB_OFFLINE", "1")
EXTENT = 128  # of a block, of hidden states and of experts


class absent(Exception):
    """A package is not installed, or is too old."""


def fp8_checkpoint(torch, transformers, save_file, path):
    """A tiny Qwen3 MoE whose matrices are FP8 in blocks, as it is released."""
    from support import tiny_models

    config = tiny_models.config_of(
        "qwen3_moe",
        **dict.fromkeys(("hidden_size", "intermediate_size", "moe_intermediate_size"), EXTENT),
        num_hidden_layers=1,
    )
    model = tiny_models.class_of("qwen3_moe")._from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(path)
    generator, tensors = torch.Generator().manual_seed(1), {}
    for name, tensor in interop.read_checkpoint(path).items():
        numbers = torch.randn(tensor[1], generator=generator)
        if name.endswith("_proj.weight"):
            blocks = [(extent + EXTENT - 1) // EXTENT for extent in tensor[1]]
            tensors[name + "_scale_inv"] = torch.rand(blocks, generator=generator) + 0.5
            tensors[name] = numbers.to(torch.float8_e4m3fn)
        else:
            tensors[name] = numbers.to(torch.bfloat16)
    for file in path.glob("*.safetensors"):
        file.unlink()
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    config = json.loads((path / "config.json").read_text())
    blocks = {"quant_method": "fp8", "weight_block_size": [EXTENT, EXTENT]}
    config["quantization_config"] = {**blocks, "activation_scheme": "dynamic", "fmt": "e4m3"}
    (path / "config.json").write_text(json.dumps(config))
    return tensors


def fp8_blocks(directory):
    """transformers on the processor makes numbers of FP8 blocks: right ones of experts one by one,
    and of fused ones the codes without their scales, which it calls unexpected."""
    try:
        import torch
        import transformers
        from safetensors.torch import save_file
    except ImportError as error:
        raise absent(f"the module {error.name} cannot be imported")
    if int(transformers.__version__.split(".")[0]) < 5:
        raise absent(f"transformers {transformers.__version__} does not hold experts fused")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    original, fused, back = (directory / each for each in ("original", "fused", "back"))
    stored = fp8_checkpoint(torch, transformers, save_file, original)
    interop.run("fuse_checkpoint", original, fused, "--quiet")
    interop.run("unfuse_checkpoint", fused, back, "--quiet")

    def loaded(path):
        """The experts' down_proj, and what is unexpected."""
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            path, output_loading_info=True, dtype=torch.bfloat16
        )
        name = "model.layers.0.mlp.experts.down_proj"
        return model.state_dict()[name], sorted(info["unexpected_keys"])

    scope = "model.layers.0.mlp.experts"
    names = [f"{scope}.{e}.down_proj.weight" for e in range(6)]
    codes = torch.stack([stored[name].float() for name in names])
    scales = torch.stack([stored[name + "_scale_inv"] for name in names])
    right = (codes * scales).to(torch.bfloat16)  # one block is one matrix
    for path in original, back:
        found, unexpected = loaded(path)
        interop.check(not unexpected, path.name, "has unexpected:", unexpected)
        interop.check(torch.equal(found, right), path.name, "is not loaded as it should be")
    found, unexpected = loaded(fused)
    scale = f"{scope}.down_proj_scale_inv"
    interop.check(scale in unexpected, "transformers takes the fused scales: the limit is gone")
    interop.check(torch.equal(found.float(), codes), "it makes something else of fused codes")
    return "transformers", "takes fused FP8 codes as numbers, without their scales"


def no_bf16_in_numpy(directory):
    """safetensors gives NumPy no BF16."""
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise absent(f"the module {error.name} cannot be imported")
    fixture = interop.test_data() / "transformers" / "mixtral" / "checkpoint"
    interop.run("fuse_checkpoint", fixture, directory / "fused", "--quiet")
    try:
        load_file(directory / "fused" / "model.safetensors")
    except (KeyError, TypeError) as error:
        interop.check("bfloat16" in str(error).lower(), "it fails otherwise:", error)
        return "safetensors", f"has no BF16 in NumPy ({error})"
    interop.check(False, "safetensors gives NumPy BF16: the limit is gone")


def gathered_bf16_in_mlx(directory):
    """MLX multiplies gathered matrices, which experts are, in F32 only on the processor."""
    try:
        import mlx.core as mx
    except ImportError as error:
        raise absent(f"the module {error.name} cannot be imported")
    mx.set_default_device(mx.cpu)

    def multiply(dtype):
        matrices, rows = mx.ones((3, 4, 4), dtype), mx.ones((1, 1, 4), dtype)
        mx.eval(mx.gather_mm(rows, matrices, rhs_indices=mx.array([1])))

    multiply(mx.float32)
    try:
        multiply(mx.bfloat16)
    except (RuntimeError, ValueError) as error:
        return "mlx", f"does not gather BF16 matrices on the processor ({error})"
    interop.check(False, "MLX gathers BF16 matrices on the processor: the limit is gone")


LIMITS = (fp8_blocks, no_bf16_in_numpy, gathered_bf16_in_mlx)
asked = sys.argv[3:]
shown = 0
for limit in LIMITS:
    if asked and limit.__name__ not in asked:
        continue
    with tempfile.TemporaryDirectory() as directory:
        try:
            package, said = limit(pathlib.Path(directory))
        except absent as reason:
            print(f"{limit.__name__}: skipped: {reason}")
            continue
    print(f"{limit.__name__}: {package} {importlib.metadata.version(package)} {said}", flush=True)
    shown += 1
if not shown:
    interop.skip("no package is installed")
