"""Clients read the files that fuse_checkpoint writes, and fuse_checkpoint reads those that clients
write: equal names, dtypes, shapes and bytes. reads_ours.py PROGRAMS DATA [CLIENT...]; each client
is skipped, with the reason, where its package is absent."""

import importlib
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from support import interop


class absent(Exception):
    pass


def modules(*names):
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as error:
        raise absent(f"the module {error.name} cannot be imported ({error})")


def bytes_of_torch(torch, tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def safetensors_torch(files, out):
    """safetensors with PyTorch: safe_open and save_file."""
    torch, library, safetensors = modules("torch", "safetensors.torch", "safetensors")
    seen, tensors = {}, {}
    for file in files:
        with safetensors.safe_open(file, "pt") as opened:
            for name in opened.keys():
                tensors[name] = opened.get_tensor(name)
                seen[name] = (list(tensors[name].shape), bytes_of_torch(torch, tensors[name]))
    library.save_file(tensors, out / "model.safetensors", {"format": "pt"})
    return seen


def safetensors_numpy(files, out):
    """safetensors with NumPy, which has no BF16: the bytes as it gives them raw."""
    numpy, library, safetensors = modules("numpy", "safetensors.numpy", "safetensors")
    seen = {}
    for file in files:
        for name, tensor in safetensors.deserialize(pathlib.Path(file).read_bytes()):
            seen[name] = (list(tensor["shape"]), bytes(tensor["data"]))
    return seen


def mlx(files, out):
    """MLX: load and save_safetensors."""
    core, numpy = modules("mlx.core", "numpy")
    core.set_default_device(core.cpu)
    seen, arrays = {}, {}
    for file in files:
        for name, array in core.load(str(file)).items():
            arrays[name] = array
            raw = array if array.dtype in (core.float32, core.int64,
                core.int32) else array.view(core.uint16)
            seen[name] = (list(array.shape), numpy.array(raw, copy=False).tobytes())
    core.save_safetensors(str(out / "model.safetensors"), arrays)
    return seen


def fastsafetensors(files, out):
    """fastsafetensors, on the processor."""
    torch, library = modules("torch", "fastsafetensors")
    seen = {}
    with library.fastsafe_open(filenames=[str(file) for file in files], nogds=True, device="cpu",
        debug_log=False) as opened:
        for name in opened.keys():
            tensor = opened.get_tensor(name).clone()
            seen[name] = (list(tensor.shape), bytes_of_torch(torch, tensor))
    return seen


def runai(files, out):
    """Run:ai's model streamer."""
    torch, library = modules("torch", "runai_model_streamer")
    seen = {}
    with library.SafetensorsStreamer() as streamer:
        for file in files:
            streamer.stream_file(str(file))
            for name, tensor in streamer.get_tensors():
                seen[name] = (list(tensor.shape), bytes_of_torch(torch, tensor.clone()))
    return seen


def torch_dcp(files, out):
    """torch.distributed.checkpoint's reader of Hugging Face checkpoints."""
    torch, library, reader = modules("torch", "torch.distributed.checkpoint",
        "torch.distributed.checkpoint.hf_storage")
    metadata = reader.HuggingFaceStorageReader(str(files[0].parent)).read_metadata()
    state = {
        name: torch.empty(each.size, dtype=each.properties.dtype)
        for name, each in metadata.state_dict_metadata.items()
    }
    library.load(state, storage_reader=reader.HuggingFaceStorageReader(str(files[0].parent)),
        no_dist=True)
    seen = {name: (list(tensor.shape), bytes_of_torch(torch, tensor))
        for name, tensor in state.items()}
    return seen


CLIENTS = (safetensors_torch, safetensors_numpy, mlx, fastsafetensors, runai, torch_dcp)
original = interop.test_data() / "transformers" / "mixtral" / "checkpoint"
asked = sys.argv[3:]
done, skipped = 0, 0
for client in CLIENTS:
    if asked and client.__name__ not in asked:
        continue
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        interop.run("fuse_checkpoint", original, directory / "fused", "--quiet", "--max-shard-size",
            "30KB")
        ours = interop.read_checkpoint(directory / "fused")
        (directory / "theirs").mkdir()
        try:
            seen = client(sorted((directory / "fused").glob("*.safetensors")), directory / "theirs")
        except absent as reason:
            print(f"{client.__name__}: skipped: {reason}")
            skipped += 1
            continue
        interop.check(seen.keys() == ours.keys(), client.__name__, "sees other names:",
            sorted(seen.keys() ^ ours.keys())[:3])
        for name, (_, shape, contents) in ours.items():
            interop.check(seen[name] == (shape, contents), client.__name__, "sees another", name)
        said = f"{len(seen)} tensors of ours are the same"
        if any((directory / "theirs").iterdir()):
            (directory / "theirs" / "config.json").write_bytes((original
                / "config.json").read_bytes())
            interop.run("unfuse_checkpoint", directory / "theirs", directory / "back", "--quiet")
            interop.check(interop.read_checkpoint(directory
                / "back") == interop.read_checkpoint(original),
                          client.__name__, "writes what is unfused to something else")  # fmt: skip
            said += ", and what it writes unfuses to the original"
        print(f"{client.__name__}: {said}")
        done += 1
if done == 0:
    interop.skip("no client is installed")
print(f"{done} clients, {skipped} skipped")
