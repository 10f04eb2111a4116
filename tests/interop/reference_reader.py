"""The reference library reads the right tensors from the example programs' output."""

import itertools
import pathlib
import tempfile

from support import interop

safetensors, numpy, torch = interop.require("safetensors", "numpy", "torch")
interop.require("safetensors.numpy", "safetensors.torch")

# family: the name of an experts module, the parts of an expert in order of gate, up, down
families = {
    "qwen2_moe": ("mlp.experts", "mlp.experts", ["gate_proj", "up_proj", "down_proj"]),
    "jamba": ("feed_forward.experts", "feed_forward.experts",
        ["gate_proj", "up_proj", "down_proj"]),
    "mixtral": ("block_sparse_moe.experts", "mlp.experts", ["w1", "w3", "w2"]),
}


def open_all(directory, framework):
    """Everything that the reference finds in a checkpoint, read by it; bytes if it has no type for
    them."""
    tensors = {}
    for path in sorted(pathlib.Path(directory).glob("*.safetensors")):
        with safetensors.safe_open(path, framework=framework) as file:
            interop.check(file.metadata() == {"format": "pt"}, path, "has the metadata",
                file.metadata())
            for name in file.keys():
                tensors[name] = file.get_tensor(name)
    return tensors


def fused_in_torch(stored, layers, experts, family):
    """Stacks and concatenates in the obvious way."""
    module, model_module, (gate, up, down) = families[family]
    fused = {
        name.replace("block_sparse_moe", "mlp"): tensor for name, tensor in stored.items()
        if f"{module}." not in name
    }
    for layer in range(layers):
        # noqa: E731
        part = lambda e, name: stored[f"model.layers.{layer}.{module}.{e}.{name}.weight"]
        scope = f"model.layers.{layer}.{model_module}"
        fused[f"{scope}.gate_up_proj"] = torch.stack(
            [torch.cat([part(e, gate), part(e, up)]) for e in range(experts)])
        fused[f"{scope}.down_proj"] = torch.stack([part(e, down) for e in range(experts)])
    return fused


def same_tensors(found, expected, what):
    interop.check(found.keys() == expected.keys(), what, sorted(found.keys() ^ expected.keys())[:5])
    for name, tensor in expected.items():
        alike = found[name].dtype == tensor.dtype and torch.equal(found[name].view(torch.uint8),
            tensor.view(torch.uint8))
        interop.check(alike and found[name].shape == tensor.shape, what, name)


with tempfile.TemporaryDirectory() as directory:
    work = pathlib.Path(directory)
    for number, (family, dtype) in enumerate(itertools.product(families, ["BF16", "F16", "F32"])):
        stored, fused = work / f"stored{number}", work / f"fused{number}"
        back = work / f"back{number}"
        layers, experts = 2, 11
        interop.run("make_checkpoint", stored, "--family", family, "--layers", layers, "--experts",
            experts, "--hidden", 24,
                    "--intermediate", 8, "--dtype", dtype, "--max-shard-size", "30KB")  # fmt: skip
        interop.run("fuse_checkpoint", stored, fused, "--quiet", "--max-shard-size", "20KB",
            "--source", ["mmap", "pread"][number % 2])
        interop.run("verify_fused", stored, fused, "--quiet")
        interop.run("unfuse_checkpoint", fused, back, "--quiet")

        original, ours = open_all(stored, "pt"), open_all(fused, "pt")
        same_tensors(ours, fused_in_torch(original, layers, experts, family),
            f"fused {family} {dtype}:")
        same_tensors(open_all(back, "pt"), original, f"unfused {family} {dtype}:")
        raw = interop.read_checkpoint(fused)
        names = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
        for name, tensor in ours.items():
            kind, shape, data = raw[name]
            interop.check(names[kind] == tensor.dtype and list(tensor.shape) == shape, name, kind,
                shape)
            interop.check(tensor.view(torch.uint8).numpy().tobytes() == data, name,
                "has other bytes")
        if dtype != "BF16":  # numpy has no such type
            for name, array in open_all(fused, "numpy").items():
                interop.check(array.tobytes() == raw[name][2] and list(array.shape) == raw[name][1],
                    name, "differs in numpy")

    # the original's metadata is kept
    plain = interop.read_checkpoint(stored)
    metadata = {"format": "pt", "zeta": 'of "all"\n', "alpha": "é"}
    (work / "marked").mkdir()
    safetensors.torch.save_file(original, work / "marked" / "model.safetensors", metadata)
    interop.run("fuse_checkpoint", work / "marked", work / "marked_fused", "--quiet", "--layout",
        "mixtral")
    with safetensors.safe_open(work / "marked_fused" / "model.safetensors", framework="pt") as file:
        interop.check(file.metadata() == metadata, "metadata", file.metadata())
    same_tensors(safetensors.torch.load_file(work / "marked_fused" / "model.safetensors"), ours,
        "from one file:")
    header = (work / "marked_fused" / "model.safetensors").read_bytes()[8:100]
    interop.check(
        header.startswith(
            '{"__metadata__":{"alpha":"é","format":"pt","zeta":"of \\"all\\"\\n"}'.encode()),
            header)
    print(f"{number + 1} checkpoints of {len(families)} families are what the reference reads and "
          f"torch computes")
