"""Runs all contenders in turns:

    python3 run.py --bin DIR --data DIR --fp8 DIR --out DIR [--rounds N] [--quick]

Writes results.json after every step, so that an interrupted run keeps its results, and chart.svg at
the end.
"""
import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 1 << 20

parser = argparse.ArgumentParser()
parser.add_argument("--bin", required=True)
parser.add_argument("--data", required=True)
parser.add_argument("--fp8")
parser.add_argument("--out", required=True)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--turns", type=int, default=4,
    help="how often a round measures our own contenders")
parser.add_argument("--quick", action="store_true", help="no sweep, one round")
parser.add_argument("--seconds", type=float, default=400,
    help="no further round is begun after these")
parser.add_argument("--site", action="append", default=[],
    help="NAME=DIRECTORY: Python packages of one contender, or of all others")
parser.add_argument("--peers",
    default="rc1_prefetch,load_file,fastsafetensors_buffered,fastsafetensors,"
    "instanttensor_buffered,instanttensor,runai,transformers")
args = parser.parse_args()
os.makedirs(args.out, exist_ok=True)
began = time.time()
sites = dict(each.split("=", 1) for each in args.site)
results = {"machine": {}, "sweep": [], "rounds": [], "checks": {}, "notes": []}


def save():
    with open(os.path.join(args.out, "results.json"), "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)


def say(*words):
    print(f"[{time.time() - began:6.1f} s]", *words, flush=True)


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60,
            check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"failed: {error}"


class Ours:
    """gpu_load, kept running."""

    def __init__(self):
        self.process = subprocess.Popen([os.path.join(args.bin, "gpu_load")], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)

    def ask(self, *words):
        self.process.stdin.write("\t".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line.startswith("{"):
            return {"failed": line.strip() or "the program ended"}
        answer = json.loads(line)
        answer["rate"] = answer["bytes"] / 1e9 / answer["seconds"]
        if "whole_seconds" in answer:
            answer["whole_rate"] = answer["bytes"] / 1e9 / answer["whole_seconds"]
            answer["best_rate"] = answer["bytes"] / 1e9 / answer["best_seconds"]
        return answer

    def load(self, directory, **options):
        return self.ask("load", directory, *(f"{key}={value}" for key, value in options.items()))


def ask_peer(name, directory, sums=None):
    environment = dict(os.environ)
    site = sites.get(name, sites.get("others"))
    if site:
        environment["PYTHONPATH"] = site + os.pathsep + environment.get("PYTHONPATH", "")
    command = [sys.executable, os.path.join(HERE, "peers.py"), name, directory] + ([sums] if sums
        else [])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment,
            check=False)
    except subprocess.TimeoutExpired:
        return {"failed": "took more than 120 s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        return {"failed": (done.stderr.strip().splitlines() or ["no answer"])[-1][:400]}
    answer = json.loads(lines[-1])
    answer["rate"] = answer["bytes"] / 1e9 / answer["seconds"]
    answer["load_rate"] = answer["bytes"] / 1e9 / answer["load_seconds"]
    return answer


def sums_in(path):
    with open(path, encoding="utf-8") as file:
        return dict(line.split() for line in file)


results["machine"] = {
    "gpu": output_of("nvidia-smi", "--query-gpu=name,driver_version,memory.total",
        "--format=csv,noheader"),
    "link": output_of("nvidia-smi",
        "--query-gpu=pcie.link.gen.current,pcie.link.width.current,pcie.link.gen.max",
        "--format=csv,noheader"),
    "cpu": re.sub(r"\s+", " ", output_of("sh", "-c",
        "lscpu | grep -E 'Model name|L3|L2|NUMA node\\(s\\)|^CPU\\(s\\)'")),
    "kernel": output_of("uname", "-r"),
    "nvcc": output_of("sh", "-c", "nvcc --version | tail -2 | head -1"),
    "compiler": output_of("sh", "-c", "c++ --version | head -1"),
    "libc": output_of("sh", "-c", "ldd --version | head -1"),
    "thp": output_of("sh", "-c", "cat /sys/kernel/mm/transparent_hugepage/enabled"),
    "torch": output_of(sys.executable, "-c", "import torch; print(torch.__version__)"),
    "transformers": output_of(sys.executable, "-c",
        "import transformers; print(transformers.__version__)"),
    "file_system": output_of("sh", "-c", f"df -T {args.data} | tail -1"),
}
say(results["machine"])
save()
for directory in filter(None, (args.data, args.fp8)):
    # read into the page cache
    subprocess.run(["sh", "-c", f"cat {directory}/*.safetensors > /dev/null"], check=False)
say("page cache is warm")

ours = Ours()
results["pinned"] = {}
for piece, streams in ((800_000_000, 1), (3 * MIB, 1), (3 * MIB, 2), (3 * MIB, 4), (3 * MIB, 8),
    (MIB, 1), (MIB, 2), (256 * 1024, 1)):
    total = max(piece, 8_000_000_000 if piece > MIB else 4_000_000_000) // piece * piece
    results["pinned"][f"{piece}/{streams}"] = ours.ask("pinned", piece, total, streams)
    say("pinned", piece, streams, results["pinned"][f"{piece}/{streams}"].get("rate"))
save()

# finds good slabs and readers for this machine; a run without options uses the library's defaults
def slabs_of(mib, count):
    return {"slab_bytes": int(mib * MIB), "slabs": count}


best = {}
if not args.quick:
    grid = [dict(threads=t, **slabs_of(3, n)) for t in (8, 10, 12, 14, 16) for n in (16, 24, 28)]
    grid += [dict(threads=12, **slabs_of(mib, n)) for mib, n in ((2, 24), (2, 36), (6, 16))]
    grid += [dict(threads=t, engine="automodel") for t in (8, 12, 14, 16)]
    for options in grid:
        answer = ours.load(args.data, times=2, **options)
        results["sweep"].append({**options, **answer})
        say(options, "first", answer.get("rate"), "again", answer.get("best_rate"),
            answer.get("failed", ""))
    good = [each for each in results["sweep"] if "rate" in each and "engine" not in each]
    if good:
        top = max(good, key=lambda each: each["rate"])
        best = {key: top[key] for key in ("threads", "slab_bytes", "slabs")}
    say("best", best)
results["best"] = best
save()

own = {
    "safefuse": dict(times=2),
    "safefuse, best of the sweep": dict(times=2, **best),
    "safefuse, 4 readers": dict(threads=4),
    "safefuse, 8 readers": dict(times=2, threads=8),
    "safefuse, positional": dict(source="positional"),
    "safefuse, whole model": dict(everything=1),
    "safefuse, 64 rows in turn (cutedsl)": dict(engine="cutedsl"),
    "safefuse, rows in turn (onnxruntime_genai)": dict(engine="onnxruntime_genai"),
    "safefuse, transposed (automodel)": dict(engine="automodel"),
    "safefuse, transposed (automodel), 16 readers": dict(engine="automodel", threads=16),
}
peers = [each for each in args.peers.split(",") if each]
own_sums = os.path.join(args.out, "own.sums")
if args.fp8:
    own["safefuse, FP8 with block scales"] = {}
rounds = 1 if args.quick else args.rounds
for number in range(rounds):
    if number > 0 and time.time() - began > args.seconds:
        results["notes"].append(f"{number} rounds in {args.seconds} s")
        break
    # Each turn measures our own contenders in another order: other programs on the host take
    # processors and the bus for a second or so at a time.
    for turn in range(1 if args.quick else args.turns):
        measured = {}
        results["rounds"].append(measured)
        order = list(own)
        random.Random(number * 100 + turn).shuffle(order)
        if number == 0 and turn == 0:
            ours.load(args.data, sums=own_sums)
        measured["pinned copy"] = ours.ask("pinned", 800_000_000, 8_000_000_000, 1)
        for name in order:
            measured[name] = ours.load(args.fp8 if "FP8" in name else args.data, **own[name])
            say(name, measured[name])
    for name in peers:
        sums = os.path.join(args.out, f"{name}.sums") if number == 0 else None
        measured[name] = ask_peer(name, args.data, sums)
        say(name, measured[name])
        if sums and os.path.exists(sums):
            mine, theirs = sums_in(own_sums), sums_in(sums)
            same = bool(theirs) and all(mine.get(key) == value for key, value in theirs.items())
            results["checks"][
                name] = f"{'same' if same else 'OTHER'} checksums of {len(theirs)} fused tensors"
            say(name, results["checks"][name])
        save()
ours.process.stdin.close()

summary = {}
for name in {name: None for measured in results["rounds"] for name in measured}:
    answers = [measured[name] for measured in results["rounds"] if name in measured]
    rates = [each["rate"] for each in answers if "rate" in each]
    if not rates:
        summary[name] = {"failed": answers[0].get("failed")}
        continue
    summary[name] = {"median": statistics.median(rates), "least": min(rates), "most": max(rates),
        "rounds": len(rates)}
    for key in ("whole_rate", "best_rate", "load_rate"):
        found = [each[key] for each in answers if key in each]
        if found:
            summary[name][key] = statistics.median(found)
    for key in ("device_bytes", "pinned_bytes", "anonymous_bytes", "host_peak_bytes",
        "host_anonymous_bytes", "bytes"):
        found = [each[key] for each in answers if key in each]
        if found:
            summary[name][key] = max(found)
results["summary"] = summary
pinned = summary["pinned copy"].get("median")
mine = summary["safefuse"]
ratios = {}
for name, each in summary.items():
    if "median" not in each or name == "pinned copy":
        continue
    if name.startswith("safefuse"):
        ratios[f"{name} / pinned copy"] = each["median"] / pinned
    elif "median" in mine:
        ratios[f"safefuse / {name}"] = mine["median"] / each["median"]
        ratios[f"safefuse with opening and allocating / {name}"] = mine["whole_rate"] / each[
            "median"]
if "device_bytes" in mine:
    ratios["device bytes / tensor bytes"] = mine["device_bytes"] / mine["bytes"]
results["ratios"] = ratios
save()


def chart(path):
    rows = sorted(((name, each["median"]) for name, each in summary.items() if "median" in each),
        key=lambda row: -row[1])
    width, left, bar, top = 860, 330, 22, 34
    most = max(rate for _, rate in rows)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
        f'height="{top + 28 * len(rows) + 10}" font-family="sans-serif" font-size="13">',
             f'<rect width="100%" height="100%" fill="white"/><text x="10" y="20">Fused experts '
             f'into GPU memory, GB/s '
             f'({results["machine"]["gpu"].splitlines()[0].split(",")[0]}, page cache warm, medians'
             f')</text>']
    for i, (name, rate) in enumerate(rows):
        y = top + 28 * i
        colour = "#888888" if name == "pinned copy" else "#2b6cb0" if name.startswith(
            "safefuse") else "#c05621"
        size = (width - left - 70) * rate / most
        lines.append(
            f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{name}</text><rect x="{left}" '
            f'y="{y}" width="{size:.1f}" height="{bar}" '
                     f'fill="{colour}"/><text x="{left + size + 6:.1f}" '
                     f'y="{y + 16}">{rate:.1f}</text>')
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n</svg>\n")


chart(os.path.join(args.out, "chart.svg"))
for name, each in sorted(summary.items(), key=lambda item: -item[1].get("median", 0)):
    rates = " ".join(f"{key} {value:.1f}" for key, value in each.items()
        if key in ("median", "least", "most", "whole_rate", "best_rate", "load_rate"))
    print(f"{name:45s} {rates}{each.get('failed') or ''}")
for name, ratio in ratios.items():
    print(f"{ratio:6.2f}  {name}")
for name, check in results["checks"].items():
    print(f"{name}: {check}")
