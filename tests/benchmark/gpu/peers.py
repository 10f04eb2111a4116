"""Other loaders: the fused experts of a checkpoint in device memory, as torch tensors.

    peers.py CONTENDER CHECKPOINT [SUMS]

Prints one line of JSON: the seconds from opening the files to the last fused byte; of these, the
seconds until the tensors of each expert were on the device; the bytes loaded; and the peak of
device memory in torch and in the process. A checksum of each fused tensor is written to SUMS, to be
compared with fuse_to_gpu's. Each process measures once, after an untimed warm-up of the device.
"""
import glob
import json
import os
import re
import sys
import time

import torch

EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(gate|up|down)_proj\.weight")


def files_of(directory):
    return sorted(glob.glob(os.path.join(directory, "*.safetensors")))


def experts_only(names):
    return [name for name in names if EXPERT.fullmatch(name)]


def rc1_prefetch(directory):
    from safetensors import safe_open

    tensors, keep = {}, []
    for path in files_of(directory):
        handle = safe_open(path, "pt", device="cuda:0", backend="pread")
        keep.append(handle)
        keep.append(handle.prefetch({name: None for name in experts_only(handle.keys())},
            device="cuda:0", threads=8))
    for loader in keep[1::2]:
        for name, tensor in loader:
            tensors[name] = tensor
    return tensors, keep


def load_file(directory):
    from safetensors.torch import load_file as load

    tensors = {}
    for path in files_of(directory):
        tensors.update(load(path, device="cuda:0"))
    return tensors, None


def fastsafetensors(directory):
    from fastsafetensors import SafeTensorsFileLoader

    loader = SafeTensorsFileLoader(None, device="cuda:0", nogds=True)
    loader.add_filenames({0: files_of(directory)})
    buffers = loader.copy_files_to_device()
    return {name: buffers.get_tensor(name) for name in loader.get_keys()}, (loader, buffers)


def fastsafetensors_buffered(directory):
    os.environ["FASTSAFETENSORS_ODIRECT"] = "0"  # it bypasses the page cache by default
    return fastsafetensors(directory)


def instanttensor(directory):
    from instanttensor import safe_open

    return instanttensor_with(safe_open, directory)


def instanttensor_buffered(directory):
    from instanttensor import BackendPolicy, safe_open

    return instanttensor_with(safe_open, directory, backend=BackendPolicy.BUFFERED)


def instanttensor_with(safe_open, directory, **options):
    with safe_open(files_of(directory), framework="pt", device=0, **options) as file:
        return dict(file.tensors()), None


def runai(directory):
    from runai_model_streamer import SafetensorsStreamer

    tensors = {}
    with SafetensorsStreamer() as streamer:
        streamer.stream_files(files_of(directory), device="cpu")
        for name, tensor in streamer.get_tensors():
            tensors[name] = tensor.to("cuda:0", non_blocking=True)
    return tensors, None


def transformers(directory):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(directory, device_map={"": 0},
        dtype=torch.bfloat16)
    return None, model


CONTENDERS = {each.__name__: each for each in (rc1_prefetch, load_file, fastsafetensors,
    fastsafetensors_buffered,
                                               instanttensor, instanttensor_buffered, runai,
                                               transformers)}


def fuse(tensors):
    """One concatenation per fused tensor: the fewest copies that torch can do."""
    found = {}
    for name in tensors:
        match = EXPERT.fullmatch(name)
        if match:
            found.setdefault(match[1], {})[int(match[2]), match[3]] = name
    made = {}
    for scope, names in found.items():
        count = 1 + max(expert for expert, _ in names)
        parts = [tensors.pop(names[e, part]) for e in range(count) for part in ("gate", "up")]
        made[scope + ".gate_up_proj"] = torch.cat(parts).view(count, -1, parts[0].shape[-1])
        parts = [tensors.pop(names[e, "down"]) for e in range(count)]
        made[scope + ".down_proj"] = torch.cat(parts).view(count, *parts[0].shape)
        del parts
    return made


def signed(number):
    return number - (1 << 64) if number >> 63 else number


def checksum(tensor):
    """The checksum of checksum.hpp."""
    words = tensor.contiguous().view(-1).view(torch.int64)
    total = 0
    step = 1 << 24
    for begin in range(0, words.numel(), step):
        part = words[begin : begin + step]
        at = torch.arange(begin, begin + part.numel(), device=part.device, dtype=torch.int64)
        x = (part ^ (at * signed(0x9E3779B97F4A7C15))) * signed(0xBF58476D1CE4E5B9)
        x = (x ^ ((x >> 32) & 0xFFFFFFFF)) * signed(0x94D049BB133111EB)
        total += int(x.sum())
    return total % (1 << 64)


def main():
    name, directory = sys.argv[1:3]
    load = CONTENDERS[name]
    if name == "transformers":
        import transformers as _  # noqa: F401  the import is not part of loading
    small = [torch.ones(64, 64, dtype=torch.bfloat16, device="cuda:0") for _ in range(4)]
    torch.cat(small).view(4, 64, 64)
    torch.ones(8).pin_memory()
    torch.cuda.synchronize()
    free_before = torch.cuda.mem_get_info(0)[0]

    start = time.perf_counter()
    tensors, keep = load(directory)
    torch.cuda.synchronize()
    loaded = time.perf_counter()
    least_free = torch.cuda.mem_get_info(0)[0]
    if tensors is None:
        made = {key: value for key, value in keep.state_dict().items() if ".experts." in key}
        size = sum(value.numel() * value.element_size() for value in keep.state_dict().values())
    else:
        size = sum(value.numel() * value.element_size() for value in tensors.values())
        made = fuse(tensors)
    torch.cuda.synchronize()
    end = time.perf_counter()
    least_free = min(least_free, torch.cuda.mem_get_info(0)[0])
    with open("/proc/self/status", encoding="ascii") as file:
        status = dict(line.split(":", 1) for line in file)
    answer = {"seconds": end - start, "load_seconds": loaded - start, "bytes": size,
              "fused_bytes": sum(value.numel() * value.element_size() for value in made.values()),
              "device_bytes": free_before - least_free,
              "torch_peak_bytes": torch.cuda.max_memory_allocated(0),
              "host_peak_bytes": int(status["VmHWM"].split()[0]) * 1024,
              "host_anonymous_bytes": int(status["RssAnon"].split()[0]) * 1024}
    if len(sys.argv) > 3:
        with open(sys.argv[3], "w", encoding="utf-8") as file:
            for key, value in sorted(made.items()):
                file.write(f"{key} {checksum(value)}\n")
    print(json.dumps(answer), flush=True)
    os._exit(0)  # some of them wait for their own threads


if __name__ == "__main__":
    main()
