"""numpy and PyTorch (and MLX, if installed) use our DLPack tensors, of every dtype they know, in
place in the mapped file. The mapping lives exactly as long as the last of their tensors. We fuse
from and into theirs.

    dlpack.py LIBRARY
"""

import ctypes
import gc
import pathlib
import struct
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from support import interop

numpy, torch = interop.require("numpy", "torch")
try:
    import mlx.core as mlx
except ImportError:
    mlx = None
if not hasattr(torch, "float4_e2m1fn_x2") or int(numpy.__version__.split(".")[0]) < 2:
    interop.skip(f"torch {torch.__version__} and numpy {numpy.__version__} are too old")
try:
    library = ctypes.CDLL(sys.argv[1])
except OSError as error:
    interop.skip(f"the library cannot be loaded into this Python ({error})")
for name in ("open_checkpoint", "lend_versioned", "lend_legacy"):
    getattr(library, name).restype = ctypes.c_void_p
library.last_message.restype = ctypes.c_char_p
check = interop.check

# Capsules -----------------------------------------------------------------------------------------

python = ctypes.pythonapi
python.PyCapsule_New.restype = ctypes.py_object
python.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p,
    ctypes.c_char_p)(("PyCapsule_GetPointer", python))
kinds = {True: (b"dltensor_versioned", "versioned"), False: (b"dltensor", "legacy")}


class Lent:
    """A tensor of a checkpoint, as other frameworks expect one."""

    def __init__(self, checkpoint, name, versioned=True):
        self.checkpoint, self.name, self.versioned = checkpoint, name, versioned

    def __dlpack__(self, *, max_version=None, **others):
        versioned = self.versioned and max_version is not None and max_version[0] >= 1
        name, kind = kinds[versioned]
        managed = getattr(library, "lend_" + kind)(ctypes.c_void_p(self.checkpoint),
            self.name.encode())
        if not managed:
            raise BufferError(library.last_message().decode())
        return python.PyCapsule_New(managed, name,
            ctypes.cast(getattr(library, "free_" + kind), ctypes.c_void_p))

    def __dlpack_device__(self):
        return (1, 0)


class Borrowed:
    """The managed tensor in a framework's capsule, which keeps it."""

    def __init__(self, tensor):
        self.capsule = tensor.__dlpack__(max_version=(1, 0))
        self.pointer = ctypes.c_void_p(pointer_of(id(self.capsule), kinds[True][0]))


# A file with a tensor of each dtype, and experts --------------------------------------------------

bits = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
in_numpy = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "F16": "float16",
    "I32": "int32", "U32": "uint32",
    "F32": "float32", "C64": "complex64", "F64": "float64", "I64": "int64", "U64": "uint64",
}  # fmt: skip
in_torch = in_numpy | {
    "BF16": "bfloat16", "F4": "float4_e2m1fn_x2", "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
in_mlx = in_numpy | {"BOOL": "bool_", "BF16": "bfloat16"}
experts, intermediate, hidden, scope = 3, 4, 6, "mlp.experts"


def write(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, contents) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
            "data_offsets": [len(data), len(data) + len(contents)]}
        data += contents
    text = interop.json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def contents_of(dtype, shape, first):
    size = int(numpy.prod(shape)) * bits[dtype] // 8
    return bytes((first + i * 7) % 251 % (2 if dtype == "BOOL" else 251) for i in range(size))


generator = torch.Generator().manual_seed(1)
weights = {}
for e in range(experts):
    for part, shape in (("gate", (intermediate, hidden)), ("up", (intermediate, hidden)),
        ("down", (hidden, intermediate))):
        weights[f"{scope}.{e}.{part}_proj.weight"] = torch.randn(shape, generator=generator)
tensors = {dtype: (dtype, [2, 8], contents_of(dtype, (2, 8), i))
    for i, dtype in enumerate(sorted(bits, key=bits.get, reverse=True))}
tensors |= {"empty": ("F32", [2, 0], b""), "scalar": ("F32", [], struct.pack("<f", 2.5))}
tensors |= {name: ("F32", list(weight.shape), weight.numpy().tobytes())
    for name, weight in weights.items()}
tensors = dict(sorted(tensors.items(), key=lambda item: bits[item[1][0]], reverse=True))
tensors["cut"] = ("U8", [1], b"\1")
tensors["behind an odd byte"] = ("F32", [2], bytes(8))
directory = tempfile.TemporaryDirectory()
write(pathlib.Path(directory.name) / "model.safetensors", tensors)


def open_checkpoint():
    opened = library.open_checkpoint(directory.name.encode())
    check(opened, library.last_message())
    return opened


def close(checkpoint):
    library.close_checkpoint(ctypes.c_void_p(checkpoint))


def bytes_of(tensor):
    return bytes((ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr()))


# Every dtype --------------------------------------------------------------------------------------

checkpoint = open_checkpoint()
taken = {"numpy": 0, "torch": 0, "mlx": 0}
refused = dict(taken)
for versioned in kinds:
    for dtype in bits:
        shape, contents = tensors[dtype][1:]
        if dtype in in_numpy:
            array = numpy.from_dlpack(Lent(checkpoint, dtype, versioned))
            check(str(array.dtype) == in_numpy[dtype] and list(array.shape) == shape
                and array.tobytes() == contents, dtype, "differs in numpy")
            check(not array.flags.writeable, dtype, "can be written to in numpy")
            check(array.flags.aligned and array.flags.c_contiguous, dtype,
                "is not aligned in numpy")
            taken["numpy"] += 1
        else:
            try:
                numpy.from_dlpack(Lent(checkpoint, dtype, versioned))
                check(False, dtype, "is known to numpy now")
            except (BufferError, TypeError, RuntimeError):
                refused["numpy"] += 1
        if dtype in in_torch:
            tensor = torch.from_dlpack(Lent(checkpoint, dtype, versioned))
            expected = shape if dtype != "F4" else [2, 4]
            check(tensor.dtype == getattr(torch, in_torch[dtype]), dtype, "is", tensor.dtype,
                "in torch")
            check(list(tensor.shape) == expected and bytes_of(tensor) == contents, dtype,
                "differs in torch")
            taken["torch"] += 1
        else:
            try:
                torch.from_dlpack(Lent(checkpoint, dtype, versioned))
                check(False, dtype, "is known to torch now")
            except (BufferError, TypeError, RuntimeError):
                refused["torch"] += 1
        if mlx is not None:
            try:
                array = mlx.array(Lent(checkpoint, dtype, versioned))
                if dtype == "F64":  # MLX converts it to float32, from any source
                    check(array.dtype == mlx.float32, dtype, "is", array.dtype, "in MLX")
                    taken["mlx"] += 1
                    continue
                check(dtype in in_mlx, dtype, "is known to MLX now")
                check(array.dtype == getattr(mlx, in_mlx[dtype]) and list(array.shape) == shape,
                    dtype, "is", array.dtype, "in MLX")
                same = numpy.asarray(
                    array.view(
                        mlx.uint8)).tobytes() == contents if dtype != "BOOL" else numpy.asarray(
                            array).tobytes() == contents
                check(same, dtype, "differs in MLX")
                taken["mlx"] += 1
            except (BufferError, TypeError, RuntimeError, ValueError) as error:
                check(dtype not in in_mlx, dtype, "is refused by MLX:", error)
                refused["mlx"] += 1
for framework in (numpy, torch):
    check(list(framework.from_dlpack(Lent(checkpoint, "empty")).shape) == [2, 0], "empty")
    check(float(framework.from_dlpack(Lent(checkpoint, "scalar"))) == 2.5, "scalar")
    try:
        framework.from_dlpack(Lent(checkpoint, "behind an odd byte"))
        check(False, "a misaligned tensor is lent")
    except BufferError as error:
        check("aligned" in str(error), error)

# Lifetimes ----------------------------------------------------------------------------------------

array = tensor = None
gc.collect()
close(checkpoint)
check(library.checkpoints_open() == 0, "a checkpoint stays open:", library.checkpoints_open())

for framework in (numpy, torch):
    for versioned in kinds:
        name = f"{scope}.1.up_proj.weight"
        before = library.tensors_deleted()
        checkpoint = open_checkpoint()
        tensor = framework.from_dlpack(Lent(checkpoint, name, versioned))
        close(checkpoint)
        check(library.checkpoints_open() == 1, "the mapping is gone while a tensor lives")
        row = tensor[2]
        other = framework.from_dlpack(tensor)
        del tensor
        gc.collect()
        check(library.checkpoints_open() == 1, "the mapping is gone while a view of a tensor lives")
        check(float(row[3]) == float(weights[name][2, 3]), "a row differs")
        del row
        check(library.tensors_deleted() == before, "the deleter was called too early")
        check(other[0].tolist() == weights[name][0].tolist(), "a tensor that went on differs")
        del other
        gc.collect()
        check(library.checkpoints_open() == 0, "the mapping outlives the last tensor")
        check(library.tensors_deleted() == before + 1, "the deleter was called",
            library.tensors_deleted() - before, "times")

        checkpoint = open_checkpoint()
        capsule = Lent(checkpoint, name, versioned).__dlpack__(max_version=(1, 0))
        close(checkpoint)
        check(library.checkpoints_open() == 1, "the mapping is gone while a capsule lives")
        del capsule
        check(library.checkpoints_open() == 0, "a capsule that nobody used keeps the mapping")
        check(library.tensors_deleted() == before + 2, "a capsule that nobody used is freed",
            library.tensors_deleted() - before - 1, "times")

# Fusing into and out of frameworks' tensors -------------------------------------------------------

gate_up = torch.stack(
    [torch.cat([weights[f"{scope}.{e}.gate_proj.weight"], weights[f"{scope}.{e}.up_proj.weight"]])
     for e in range(experts)])
down = torch.stack([weights[f"{scope}.{e}.down_proj.weight"] for e in range(experts)])
checkpoint = open_checkpoint()
for output, expected in (("gate_up_proj", gate_up), ("down_proj", down)):
    for source in ("checkpoint", "torch", "numpy"):
        for destination in (torch.zeros(expected.shape),
            numpy.zeros(tuple(expected.shape), dtype="float32")):
            into = Borrowed(destination)
            arguments = (scope.encode(), output.encode(), into.pointer)
            if source == "checkpoint":
                done = library.fuse_checkpoint(ctypes.c_void_p(checkpoint), *arguments)
            else:
                held = [Borrowed(weight if source == "torch" else weight.numpy())
                    for weight in weights.values()]
                names = (ctypes.c_char_p * len(weights))(*[name.encode() for name in weights])
                pointers = (ctypes.c_void_p * len(weights))(*[each.pointer for each in held])
                done = library.fuse_tensors(names, pointers, ctypes.c_size_t(len(weights)),
                    *arguments)
            check(done == 0, library.last_message())
            check(torch.equal(torch.as_tensor(destination), expected), output,
                "differs, fused from", source)

read_only = numpy.zeros(tuple(gate_up.shape), dtype="float32")
read_only.flags.writeable = False
for unfit, word in (
    (read_only, b"size"),
    (torch.zeros(3, 6, 8).transpose(1, 2), b"row-major"),
    (torch.zeros(gate_up.shape, dtype=torch.float64), b"dtype"),
    (torch.zeros(gate_up.shape, dtype=torch.complex128), b"unknown dtype"),
    (torch.zeros(24, 6), b"shape"),
):
    into = Borrowed(unfit)
    done = library.fuse_checkpoint(ctypes.c_void_p(checkpoint), scope.encode(), b"gate_up_proj",
        into.pointer)
    check(done != 0 and word in library.last_message(), library.last_message(), "does not say",
        word)
close(checkpoint)

versions = f"numpy {numpy.__version__}, torch {torch.__version__}" + (f", MLX {mlx.__version__}"
    if mlx else "; MLX is not installed")
print(f"{versions}: taken {taken}, refused {refused}, both kinds of capsule; fused from and into "
      f"both")
