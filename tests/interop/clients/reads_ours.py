"""Clients read the files that fuse_checkpoint writes, and our programs read those that clients
write: equal names, dtypes, shapes and bytes, both ways.

reads_ours.py PROGRAMS DATA [CLIENT...]: each client is skipped, with the reason, if its package is
absent. A client that reads only is asked to read only."""

import importlib
import importlib.metadata
import json
import pathlib
import shutil
import struct
import sys
import tempfile
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from support import interop


class absent(Exception):
    """A package is not installed."""


def module(name):
    """Imports a module, or raises absent."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise absent(f"the module {error.name} cannot be imported ({error})")


class with_torch:
    """What clients that give PyTorch's tensors share."""

    dtypes = ("BF16", "F16")
    write = None  # of a client that reads only

    def __init__(self):
        self.torch = module("torch")
        self.names = {self.torch.bfloat16: "BF16", self.torch.float16: "F16"}

    def content(self, tensor):
        """(dtype, shape, bytes), as interop.read_checkpoint gives them."""
        contents = tensor.contiguous().reshape(-1).view(self.torch.uint8).numpy().tobytes()
        return self.names[tensor.dtype], list(tensor.shape), contents


class safetensors_torch(with_torch):
    """safetensors with PyTorch: safe_open and save_file."""

    package = "safetensors"

    def __init__(self):
        super().__init__()
        self.library, self.safetensors = module("safetensors.torch"), module("safetensors")

    def read(self, files):
        tensors = {}
        for file in files:
            with self.safetensors.safe_open(file, "pt") as opened:
                tensors.update({name: opened.get_tensor(name) for name in opened.keys()})
        return tensors

    def write(self, tensors, out):
        self.library.save_file(tensors, out / "model.safetensors", {"format": "pt"})


class safetensors_numpy:
    """safetensors with NumPy, which has no BF16."""

    package = "safetensors"
    dtypes = ("F16",)

    def __init__(self):
        self.numpy, self.library = module("numpy"), module("safetensors.numpy")

    def content(self, array):
        interop.check(array.dtype == self.numpy.float16, "an array is", array.dtype)
        return "F16", list(array.shape), array.tobytes()

    def read(self, files):
        return {name: each for file in files for name, each in self.library.load_file(file).items()}

    def write(self, arrays, out):
        self.library.save_file(arrays, out / "model.safetensors", {"format": "np"})


class mlx:
    """MLX: load and save_safetensors."""

    package = "mlx"
    dtypes = ("BF16", "F16")

    def __init__(self):
        self.core, self.numpy = module("mlx.core"), module("numpy")
        self.core.set_default_device(self.core.cpu)
        self.names = {self.core.bfloat16: "BF16", self.core.float16: "F16"}

    def content(self, array):
        raw = self.numpy.array(array.view(self.core.uint16), copy=False)
        return self.names[array.dtype], list(array.shape), raw.tobytes()

    def read(self, files):
        return {name: each for file in files for name, each in self.core.load(str(file)).items()}

    def write(self, arrays, out):
        self.core.save_safetensors(str(out / "model.safetensors"), arrays)


class fastsafetensors(with_torch):
    """fastsafetensors, on the processor: fastsafe_open and ParallelSaver."""

    package = "fastsafetensors"

    def __init__(self):
        super().__init__()
        self.library = module("fastsafetensors")
        if not hasattr(self.library, "ParallelSaver"):  # its versions before 0.5 only read
            self.write = None

    def read(self, files):
        given = {"nogds": True, "device": "cpu", "debug_log": False}
        with self.library.fastsafe_open(filenames=[str(file) for file in files], **given) as opened:
            return {name: opened.get_tensor(name).clone() for name in opened.keys()}

    def write(self, tensors, out):
        self.library.ParallelSaver(num_shards=3, num_threads=1).save(tensors, str(out / "model"))


class runai(with_torch):
    """Run:ai's model streamer, which only reads."""

    package = "runai-model-streamer"

    def __init__(self):
        super().__init__()
        self.library = module("runai_model_streamer")

    def read(self, files):
        tensors = {}
        with self.library.SafetensorsStreamer() as streamer:
            for file in files:
                streamer.stream_file(str(file))
                tensors.update({name: each.clone() for name, each in streamer.get_tensors()})
        return tensors


class torch_dcp(with_torch):
    """torch.distributed.checkpoint: HuggingFaceStorageReader and HuggingFaceStorageWriter."""

    package = "torch"

    def __init__(self):
        super().__init__()
        self.library = module("torch.distributed.checkpoint")
        self.storage = module("torch.distributed.checkpoint.hf_storage")
        warnings.filterwarnings("ignore", "torch.distributed is disabled")

    def read(self, files):
        path = str(files[0].parent)
        metadata = self.storage.HuggingFaceStorageReader(path).read_metadata()
        state = {
            name: self.torch.empty(each.size, dtype=each.properties.dtype)
            for name, each in metadata.state_dict_metadata.items()
        }
        reader = self.storage.HuggingFaceStorageReader(path)
        self.library.load(state, storage_reader=reader, no_dist=True)
        return state

    def write(self, tensors, out):
        files = {name: 1 + number % 2 for number, name in enumerate(sorted(tensors))}
        writer = self.storage.HuggingFaceStorageWriter(str(out), fqn_to_index_mapping=files)
        self.library.save(tensors, storage_writer=writer, no_dist=True)


CLIENTS = (safetensors_torch, safetensors_numpy, mlx, fastsafetensors, runai, torch_dcp)


def write_as(source, destination, dtype):
    """A copy of a checkpoint of 16-bit floats whose headers say another such type; the same bytes,
    in one file."""
    destination.mkdir()
    header, contents = {}, b""
    for name, (_, shape, data) in interop.read_checkpoint(source).items():
        span = [len(contents), len(contents) + len(data)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": span}
        contents += data
    text = json.dumps(header).encode()
    file = struct.pack("<Q", len(text)) + text + contents
    (destination / "model.safetensors").write_bytes(file)
    shutil.copy(source / "config.json", destination)


def same(client, tensors, path, what):
    """The client's tensors are those of the checkpoint at path."""
    expected = interop.read_checkpoint(path)
    other = sorted(tensors.keys() ^ expected.keys())
    interop.check(not other, what, "has other names:", other[:3])
    for name, content in expected.items():
        interop.check(client.content(tensors[name]) == content, what, "has another", name)


def there_and_back(client, dtype, directory):
    """One client and one dtype; returns what to say."""
    what = f"{type(client).__name__}, {dtype}:"
    original, fused = directory / "original", directory / "fused"
    write_as(interop.test_data() / "transformers" / "mixtral" / "checkpoint", original, dtype)
    interop.run("fuse_checkpoint", original, fused, "--quiet", "--max-shard-size", "30KB")
    files = sorted(fused.glob("*.safetensors"))
    interop.check(len(files) > 1, "the fused checkpoint is one file")
    ours = client.read(files)
    same(client, ours, fused, f"{what} reading what we wrote, it")
    if client.write is None:
        return f"reads our {len(ours)} tensors in {len(files)} files"
    # theirs is fused to what ours is, and what they write of the fused one is unfused
    stored = client.read([original / "model.safetensors"])
    for tensors, program, expected in (
        (stored, "fuse_checkpoint", fused),
        (ours, "unfuse_checkpoint", original),
    ):
        theirs, made = directory / f"for_{program}", directory / f"by_{program}"
        theirs.mkdir()
        client.write(tensors, theirs)
        shutil.copy(original / "config.json", theirs)
        interop.run(program, theirs, made, "--quiet")
        found, wanted = interop.read_checkpoint(made), interop.read_checkpoint(expected)
        interop.check(found == wanted, what, program, "makes something else of what it writes")
    return f"reads our {len(ours)} tensors in {len(files)} files, and writes for both programs"


asked = sys.argv[3:]
done, skipped = 0, 0
for kind in CLIENTS:
    if asked and kind.__name__ not in asked:
        continue
    try:
        client = kind()
    except absent as reason:
        print(f"{kind.__name__}: skipped: {reason}")
        skipped += 1
        continue
    version = importlib.metadata.version(kind.package)
    for dtype in kind.dtypes:
        with tempfile.TemporaryDirectory() as directory:
            said = there_and_back(client, dtype, pathlib.Path(directory))
        print(f"{kind.__name__} ({kind.package} {version}), {dtype}: {said}", flush=True)
    done += 1
if done == 0:
    interop.skip("no client is installed")
print(f"{done} clients, {skipped} skipped")
