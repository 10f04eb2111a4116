"""Contenders in Python. A benchmark keeps this running and asks it once per round, so that all take
turns (measure.hpp).

Questions are lines of words separated by tabs. Answers are lines of numbers, the first of them
seconds:

    header FILE       safetensors.safe_open, and the list of its names
    open DIRECTORY    the index read by json, each shard opened, and its names compared with the
                      index
    fuse torch|numpy FILE THREADS fresh|reused
                      gate and up of each expert concatenated, and all experts stacked; down
                      stacked; then the bytes of additional memory. FILE has the names
                      mlp.experts.{e}.{gate,up,down}_proj.weight, in BF16.

"missing WHY" says that a contender cannot take part, "failed WHY" that it failed.
"""
import json
import os
import re
import sys
import time
import traceback


def modules(*names):
    """Imports the modules that are installed, and says how to install the others."""
    found = []
    for name in names:
        try:
            found.append(__import__(name))
        except ImportError:
            raise LookupError(f"pip install {name}") from None
    return found


def header(path):
    modules("safetensors", "numpy")
    from safetensors import safe_open

    start = time.perf_counter()
    with safe_open(path, "np") as file:
        names = file.keys()
    seconds = time.perf_counter() - start
    return [seconds, len(names)]


def open_checkpoint(directory):
    modules("safetensors", "numpy")
    from safetensors import safe_open

    start = time.perf_counter()
    with open(os.path.join(directory, "model.safetensors.index.json"), encoding="utf-8") as file:
        weight_map = json.load(file)["weight_map"]
    by_file = {}
    for name, file in weight_map.items():
        by_file.setdefault(file, []).append(name)
    files = []
    for file, names in by_file.items():
        opened = safe_open(os.path.join(directory, file), "np")
        if not set(names) <= set(opened.keys()):
            raise ValueError(f"{file}: names are missing")
        files.append(opened)
    return [time.perf_counter() - start, len(weight_map)]


def status_bytes(field):
    """VmRSS or VmHWM, if there is a /proc."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))
    except OSError:
        return 0


def experts_of(names):
    found = {}
    for name in names:
        match = re.fullmatch(r"mlp\.experts\.(\d+)\.(gate|up|down)_proj\.weight", name)
        if match:
            found[int(match[1]), match[2]] = name
    return found, 1 + max(expert for expert, _ in found)


def fuse_torch(path, threads, reuse):
    (torch,) = modules("torch")
    modules("safetensors")
    from safetensors import safe_open

    torch.set_num_threads(threads)
    file = safe_open(path, "pt")
    names, count = experts_of(file.keys())
    get = {key: file.get_tensor(name) for key, name in names.items()}
    outputs = [None, None]

    def work():
        pairs = [torch.cat([get[e, "gate"], get[e, "up"]]) for e in range(count)]
        outputs[0] = torch.stack(pairs, out=outputs[0])
        del pairs
        outputs[1] = torch.stack([get[e, "down"] for e in range(count)], out=outputs[1])

    if not reuse:
        return work
    work()
    return work


def fuse_numpy(path, _threads, reuse):
    (numpy,) = modules("numpy")
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        table = json.loads(file.read(size))
    data = numpy.memmap(path, numpy.uint8, "r", offset=8 + size)
    names, count = experts_of(table)

    def matrix(name):
        begin, end = table[name]["data_offsets"]
        return data[begin:end].view(numpy.uint16).reshape(table[name]["shape"])

    get = {key: matrix(name) for key, name in names.items()}
    outputs = [None, None]

    def work():
        outputs[0] = numpy.stack([numpy.concatenate([get[e, "gate"], get[e, "up"]])
            for e in range(count)], out=outputs[0])
        outputs[1] = numpy.stack([get[e, "down"] for e in range(count)], out=outputs[1])

    if reuse:
        work()
    return work


def fuse(library, path, threads, memory):
    modules(library)
    reuse = memory == "reused"
    # a child for each question: its peak is its own, and what it frees is gone; the parent never
    # starts a thread
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            work = (fuse_torch if library == "torch" else fuse_numpy)(path, int(threads), reuse)
            # from the page cache, as for all contenders
            with open(path, "rb", buffering=1 << 20) as file:
                while file.read(1 << 24):
                    pass
            before = status_bytes("VmRSS")
            start = time.perf_counter()
            work()
            seconds = time.perf_counter() - start
            os.write(writing, f"{seconds} {max(0, status_bytes('VmHWM') - before)}".encode())
        except BaseException as why:  # noqa: BLE001
            os.write(writing, f"failed {why}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    if answer.startswith("failed") or not answer:
        raise RuntimeError(answer)
    return [float(number) for number in answer.split()]


QUESTIONS = {"header": header, "open": open_checkpoint, "fuse": fuse}


def main():
    for line in sys.stdin:
        what, *words = line.rstrip("\n").split("\t")
        try:
            answer = " ".join(str(number) for number in QUESTIONS[what](*words))
        except LookupError as why:
            answer = f"missing {why}"
        except Exception as why:  # noqa: BLE001
            traceback.print_exc()
            answer = "failed " + " ".join(str(why).split())
        print(answer, flush=True)


main()
