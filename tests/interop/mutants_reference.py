"""The reference library and ours judge tensor files with deliberately changed numbers
(tests/support/mutants.hpp: powers of two and their neighbours, sums and products that wrap at
2^64, ends before begins) alike: verdict, tensors, bytes. In every profile, our program also
compares what it accepts with the oracle (tests/support/oracle.hpp).

    --count=N, or SAFEFUSE_MUTANTS   how many files (default 100000)
    --first=N, or SAFEFUSE_SEED      number of the first (default 0): equal numbers, equal files
"""

import os
import pathlib
import struct
import subprocess
import sys
import tempfile

from support import interop

options = dict(each[2:].split("=", 1) for each in sys.argv[1:] if each.startswith("--")
    and "=" in each)
sys.argv = [each for each in sys.argv if not each.startswith("--")]
count = int(options.get("count", os.environ.get("SAFEFUSE_MUTANTS", "100000")))
first = int(options.get("first", os.environ.get("SAFEFUSE_SEED", "0")))

(safetensors,) = interop.require("safetensors")
version = getattr(safetensors, "__version__", "0")
if tuple(int(part) for part in version.split(".")[:2]) < (0, 8):
    interop.skip(f"safetensors is {version}: the verdicts are those of 0.8")
program = next(
    (p for p in (interop.programs() / name for name in ("judge_mutants", "judge_mutants.exe"))
     if p.exists()), None)
if program is None:
    interop.skip(f"there is no program {interop.programs() / 'judge_mutants'}")

STRICT, DEFAULT, REFERENCE, LENIENT = 1, 2, 4, 8


def differs(number, contents, *what):
    kept = pathlib.Path(tempfile.gettempdir()) / "safefuse-mutant-differs.safetensors"
    kept.write_bytes(contents)
    interop.check(False, f"mutant {number}", *what, "| kept as", kept)


def tensors_of(table, contents):
    """Our table in the reference's form: name -> dtype, shape, bytes."""
    data = memoryview(contents)[8 + struct.unpack_from("<Q", contents)[0] :]
    tensors = {}
    at = 0
    while at < len(table):
        line_end = table.index(b"\n", at)
        begin, end, dtype, shape, name_bytes = table[at:line_end].decode().split(" ")
        at = line_end + 1 + int(name_bytes)
        extents = [int(extent) for extent in shape.split(",")] if shape else []
        tensors[table[line_end + 1 : at].decode()] = {"dtype": dtype, "shape": extents,
            "data": data[int(begin) : int(end)]}
    return tensors


def judge(number, contents, verdicts, table):
    """Whether both accept one file."""
    try:
        theirs = safetensors.deserialize(contents)
    except safetensors.SafetensorError as error:
        if verdicts & (STRICT | DEFAULT | REFERENCE):
            differs(number, contents, "is refused by the reference:", error, "| ours:", verdicts)
        return False
    if not verdicts & REFERENCE:
        differs(number, contents, "is accepted by the reference alone")
    ours = tensors_of(table, contents)
    if len(ours) != len(theirs):
        differs(number, contents, "has another number of tensors:", len(ours), len(theirs))
    for name, tensor in theirs:
        mine = ours.get(name)
        alike = mine is not None and mine["dtype"] == tensor["dtype"] and mine["shape"] == list(
            tensor["shape"])
        if not alike or mine["data"] != tensor["data"]:
            differs(number, contents, "has another tensor", name, "| ours:", mine, "| theirs:",
                tensor)
    return True


seen = {"both": 0, "neither": 0, "lenient": 0, "documented": 0}
with subprocess.Popen([program, str(first), str(count)], stdout=subprocess.PIPE,
    bufsize=1 << 20) as running:

    def take(size):
        taken = running.stdout.read(size)
        if len(taken) != size:
            sys.exit(
                f"FAILED: the program that judges mutants ended early (status {running.wait()})")
        return taken

    for number in range(first, first + count):
        contents = take(struct.unpack("<I", take(4))[0])
        verdicts = take(1)[0]
        table = take(struct.unpack("<I", take(4))[0])
        if judge(number, contents, verdicts, table):
            seen["both"] += 1
            seen["documented"] += not verdicts & DEFAULT  # a duplicate name
        else:
            seen["neither"] += 1
            seen["lenient"] += bool(verdicts & LENIENT)
    interop.check(running.wait() == 0, "the program that judges mutants ended with status",
        running.returncode)
print(
    f"mutants {first} to {first + count - 1}, safetensors {version}:"
    f" {seen['both']} accepted by both ({seen['documented']} of them by our reference profile "
    f"alone),"
    f" {seen['neither']} refused by both ({seen['lenient']} of them accepted by our lenient "
    f"profile)"
)
interop.check(count < 1000 or min(seen["both"], seen["neither"]) > count // 10,
    "too few mutants of one verdict to compare")
