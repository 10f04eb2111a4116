"""Files of the reference writer, read and rewritten by the library, stay equal byte for byte."""

import pathlib
import random
import tempfile

from support import interop

safetensors, numpy = interop.require("safetensors", "numpy")
if not hasattr(safetensors, "TensorSpec"):
    interop.skip("safetensors is older than 0.8: it has no TensorSpec")

# Bytes of an element, by the reference's names. Its Python side has no F6; an F4 element of this
# kind is two of the header's.
dtypes = {
    "bool": 1, "uint8": 1, "int8": 1, "int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2,
    "int32": 4, "uint32": 4, "float32": 4,
    "complex64": 8, "float64": 8, "int64": 8, "uint64": 8, "float8_e5m2": 1, "float8_e4m3fn": 1,
    "float8_e8m0fnu": 1,
    "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float4_e2m1fn_x2": 1,
}  # fmt: skip
characters = ["a", "Z", "0", ".", "_", "-", "/", " ", '"', "\\", "\b", "\f", "\n", "\r", "\t", "\0",
    "\x01", "\x1f", "\x7f", "\u0080",
              "é", "\u2028", "\ufeff", "\uffff", "專", "😀"]  # fmt: skip


def copies_alike(work, specs, metadata, buffers):
    theirs, ours = work / "theirs.safetensors", work / "ours.safetensors"
    safetensors.serialize_file(specs, theirs, metadata)
    interop.run("copy_tensor_file", theirs, ours)
    interop.check(theirs.read_bytes() == ours.read_bytes(), "another file than the reference's for",
        list(specs), metadata)
    del buffers  # they had to live until here


def random_case(generator):
    specs, buffers = {}, []
    for _ in range(generator.randrange(40)):
        dtype = generator.choice(list(dtypes))
        shape = [generator.choice([0, 1, 2, 3, 5])
            for _ in range(generator.randrange(1 if "_x2" in dtype else 0, 5))]
        count = dtypes[dtype]
        for extent in shape:
            count *= extent
        data = numpy.frombuffer(generator.randbytes(count + 1), dtype=numpy.uint8).copy()
        buffers.append(data)
        name = "".join(generator.choice(characters) for _ in range(generator.randrange(20)))
        if name != "__metadata__":
            specs[name] = safetensors.TensorSpec(dtype=dtype, shape=shape,
                data_ptr=data.ctypes.data, data_len=count)
    # more than one key comes in random order from the reference
    text = "".join(generator.choice(characters) for _ in range(10))
    return specs, generator.choice([None, {"format": "pt"}, {text: text}]), buffers


with tempfile.TemporaryDirectory() as directory:
    work = pathlib.Path(directory)
    copies_alike(work, {}, None, [])
    copies_alike(work, {}, {"format": "pt"}, [])
    data = numpy.arange(64, dtype=numpy.uint8)
    for dtype, size in dtypes.items():
        spec = safetensors.TensorSpec(dtype=dtype, shape=[64 // size], data_ptr=data.ctypes.data,
            data_len=64)
        copies_alike(work, {"one": spec}, None, [data])
    every = {
        dtype: safetensors.TensorSpec(dtype=dtype, shape=[64 // size], data_ptr=data.ctypes.data,
            data_len=64) for dtype, size in dtypes.items()
    }
    copies_alike(work, every, None, [data])
    generator = random.Random(1)
    for _ in range(300):
        copies_alike(work, *random_case(generator))

    # also the output of the fixtures' writer, if its metadata has one key
    copied = 0
    for path in interop.test_data().glob("transformers/*/checkpoint/*.safetensors"):
        metadata, _ = interop.read_tensor_file(path)
        if len(metadata or {}) > 1:
            continue
        interop.run("copy_tensor_file", path, work / "ours.safetensors")
        interop.check(path.read_bytes() == (work / "ours.safetensors").read_bytes(),
            "another file than", path)
        copied += 1
    interop.check(copied > 0, "no fixture was copied")
    print(f"{len(dtypes)} dtypes, 300 random files and {copied} files of transformers come out "
          f"byte for byte the same")
