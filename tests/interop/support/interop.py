"""Shared by the interop tests: paths, running our programs, reading a tensor file without a
library.
"""

import importlib
import json
import os
import pathlib
import struct
import subprocess
import sys

SKIPPED = 77


def skip(reason):
    print("skipped:", reason)
    sys.exit(SKIPPED)


def require(*names):
    """Imports modules, or ends the test as skipped."""
    modules = []
    for name in names:
        try:
            modules.append(importlib.import_module(name))
        except ImportError as error:
            skip(f"the module {name} cannot be imported ({error})")
    return modules


def directory(position, *variables):
    """A directory from the command line or the environment."""
    if len(sys.argv) > position:
        return pathlib.Path(sys.argv[position])
    for variable in variables:
        if os.environ.get(variable):
            return pathlib.Path(os.environ[variable])
    skip(f"neither argument {position} nor {' nor '.join(variables)} is set")


def programs():
    return directory(1, "SAFEFUSE_BIN_DIR", "SAFEFUSE_BIN")


def test_data():
    data = directory(2, "SAFEFUSE_TEST_DATA").resolve()
    if not data.is_dir():
        skip(f"there is no {data}")
    return data


def run(name, *arguments, standard_input=None):
    """Runs one of our programs, which must succeed. Returns what it printed."""
    path = next((p for p in (programs() / name, programs() / (name + ".exe")) if p.exists()), None)
    if path is None:
        skip(f"there is no program {programs() / name}")
    command = [str(path), *map(str, arguments)]
    done = subprocess.run(command, input=standard_input, capture_output=True, text=True)
    if done.returncode != 0:
        said = " ".join([name, *command[1:]])
        sys.exit(f"{said} failed ({done.returncode}): {done.stderr}")
    return done.stdout


def read_tensor_file(path):
    """Metadata, and name -> (dtype, shape, bytes), following only the format's description."""
    contents = pathlib.Path(path).read_bytes()
    (size,) = struct.unpack("<Q", contents[:8])
    header = json.loads(contents[8 : 8 + size])
    data = memoryview(contents)[8 + size :]
    metadata = header.pop("__metadata__", None)
    return metadata, {
        name: (entry["dtype"], entry["shape"], bytes(data[slice(*entry["data_offsets"])]))
        for name, entry in header.items()
    }


def read_checkpoint(path):
    """All tensors of a directory."""
    tensors = {}
    for file in sorted(pathlib.Path(path).glob("*.safetensors")):
        for name, tensor in read_tensor_file(file)[1].items():
            assert name not in tensors, name
            tensors[name] = tensor
    return tensors


def check(condition, *what):
    if not condition:
        sys.exit("FAILED: " + " ".join(map(str, what)))


def families_on_page():
    """Family -> model types, from the table of include/safefuse/models/README.md."""
    page = test_data().parent.parent / "include/safefuse/models/README.md"
    table = page.read_text().split("<!-- families:", 1)[1].split("<!-- end of families -->", 1)[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| `")]
    return {row[0].strip(" `"): [kind.strip() for kind in row[-1].split(",")] for row in rows}


def pinned(package):
    """The version of a package in tests/interop/requirements.txt, the only place where it is
    written."""
    requirements = pathlib.Path(__file__).parent.parent / "requirements.txt"
    for line in requirements.read_text().splitlines():
        name, _, version = line.partition("==")
        if name == package:
            return version
    sys.exit(f"{requirements} names no {package}")
