#!/usr/bin/env bash
# For a machine with a GPU, CUDA and PyTorch, offline: builds, checks and measures staged.hpp and
# the GPU examples.
#
#     run.sh OUT [build|nvcc|check|measure|gpus|all]...
#
# writes results.json, chart.svg and log.txt to the folder OUT.
#
#     build    the programs
#     nvcc     every header and example as a CUDA file
#     check    small checkpoints in all layouts, compared with the processor; compute-sanitizer;
#              torch
#              and transformers through DLPack
#     measure  all contenders in turns
#     gpus     several GPUs: slices, replicas, all-gathers (not part of all)
#
# Environment:
#
#     WHEELS=DIR  wheels of the contenders that are not installed (safetensors 0.9.0rc1,
#                 fastsafetensors, instanttensor, runai_model_streamer)
#     WORK=DIR    where programs and checkpoints go (25 GB); default: a folder beside OUT's parent
#                 on the same disk
#     QUICK=1     measures once, without a search for slabs and readers
#     LAYERS=12 ROUNDS=3 SECONDS_MOST=330 PEERS=rc1_prefetch,... (only these contenders)
set -u
cd "$(dirname "$0")/../../.."
out=$(mkdir -p "$1" && cd "$1" && pwd); shift
steps=" ${*:-all} "
work=${WORK:-/tmp/safefuse-gpu}
mkdir -p "$work"
: "${LAYERS:=12}" "${ROUNDS:=3}" "${SECONDS_MOST:=330}" "${QUICK:=}"
exec > >(tee -a "$out/log.txt") 2>&1
begin=$SECONDS
say() { printf '[%4d s] == %s\n' $((SECONDS - begin)) "$*"; }
wants() { case "$steps" in *" $1 "*) return 0;; *" all "*) [ "$1" != gpus ];; *) return 1;; esac; }

nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
architecture=sm_$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 |
    tr -d .)
[ "$architecture" = sm_ ] && architecture=sm_90
compiler=${CXX:-c++}
"$nvcc" --version | tail -2; "$compiler" --version | head -1; nvidia-smi -L; nproc; free -g |
    head -2; df -h "$work" | tail -1
# as C++ these go to the host's compiler, with nvcc's own include folders
flags="-x c++ -std=c++20 -O2 -Iinclude -Xcompiler -Wall,-Wextra,-pthread"

# NCCL of the system, or of PyTorch's Python packages.
nccl=$(python3 -c 'import nvidia.nccl as n; print(list(n.__path__)[0])' 2>/dev/null)
[ -f "$nccl/include/nccl.h" ] || nccl=
nccl_flags=${nccl:+-DGPU_HAS_NCCL -isystem $nccl/include}
nccl_link=${nccl:+-L$nccl/lib -l:libnccl.so.2 -Xlinker -rpath=$nccl/lib}
[ -z "$nccl" ] && [ -f /usr/include/nccl.h ] && nccl_flags=-DGPU_HAS_NCCL && nccl_link=-lnccl

build() {
    say build
    local jobs=() p
    for p in examples/gpu/fuse_to_gpu examples/gpu/replicate_to_gpus tests/benchmark/gpu/gpu_load
    do
        "$nvcc" $flags $nccl_flags -c $p.cpp -o "$work/$(basename $p).o" & jobs+=($!)
    done
    "$nvcc" $flags -Xcompiler -fPIC -shared examples/gpu/torch_tensors.cpp -o \
        "$work/torch_tensors.so" & jobs+=($!)
    "$compiler" -std=c++20 -O2 -Iinclude examples/programs/make_checkpoint.cpp -o \
        "$work/make_checkpoint" -pthread & jobs+=($!)
    "$nvcc" -std=c++20 -O2 -arch="$architecture" -c examples/gpu/checksum.cu -o "$work/checksum.o" \
        & jobs+=($!)
    for p in "${jobs[@]}"; do wait "$p" || { say "build failed"; return 1; }; done
    for p in fuse_to_gpu gpu_load; do
        "$nvcc" -Xcompiler -pthread "$work/$p.o" "$work/checksum.o" -o "$work/$p" || return 1
    done
    "$nvcc" -Xcompiler -pthread "$work/replicate_to_gpus.o" "$work/checksum.o" $nccl_link -o \
        "$work/replicate_to_gpus" ||
        echo "replicate_to_gpus cannot be linked"
    say built
}

# Compiles every header and example as CUDA source with this machine's nvcc.
nvcc_row() {
    say "nvcc compiles every header"
    cmake -DWORK="$work/nvcc" -DPYTHON=python3 -P tests/contracts/nvcc/run.cmake
}

# Adds what transformers needs to the output of make_checkpoint.
for_transformers() {
    python3 - "$1" <<'PYTHON'
import json, sys
with open(sys.argv[1]) as file:
    config = json.load(file)
heads = config["hidden_size"] // 64
config.update(num_attention_heads=heads, num_key_value_heads=heads, head_dim=64,
    num_experts_per_tok=8, tie_word_embeddings=False,
              decoder_sparse_step=1, mlp_only_layers=[], intermediate_size=768)
with open(sys.argv[1], "w") as file:
    json.dump(config, file, indent=1)
PYTHON
}

check() {
    say check
    local small="$work/small" f8="$work/small8" failed=0
    rm -rf "$small" "$f8"
    "$work/make_checkpoint" "$small" --layers 2 --experts 16 --hidden 512 --intermediate 384 \
        --max-shard-size 20MB
    "$work/make_checkpoint" "$f8" --layers 2 --experts 8 --hidden 512 --intermediate 256 --dtype \
        F8_E4M3
    for options in "" "--source positional" "--engine cutedsl" \
        "--engine onnxruntime_genai --source positional" "--engine automodel" \
        "--engine vllm --slab-size 100000 --slabs 7 --threads 3 --streams 1" "--rank 1 --ranks 3" \
        "--threads 16 --streams 8"; do
        echo "fuse_to_gpu $options"
        "$work/fuse_to_gpu" "$small" --verify $options | tail -1 | grep -q verified ||
            { echo FAILED; failed=1; }
    done
    "$work/fuse_to_gpu" "$f8" --verify | tail -2
    if command -v compute-sanitizer >/dev/null; then
        for options in "" "--engine cutedsl --source positional"; do
            timeout 120 compute-sanitizer --tool memcheck --leak-check full --error-exitcode 9 \
                "$work/fuse_to_gpu" "$small" --verify $options \
                >"$work/sanitizer.txt" 2>&1; echo \
                "compute-sanitizer memcheck $options: $? $(tail -1 "$work/sanitizer.txt")"
        done
        timeout 120 compute-sanitizer --tool initcheck --error-exitcode 9 "$work/fuse_to_gpu" \
            "$f8" --verify \
            >"$work/sanitizer.txt" 2>&1; echo \
            "compute-sanitizer initcheck: $? $(tail -1 "$work/sanitizer.txt")"
    else
        echo "no compute-sanitizer"
    fi
    for_transformers "$small/config.json"
    timeout 120 python3 examples/gpu/torch_tensors.py "$work/torch_tensors.so" "$small" --compare \
        2>&1 | tail -4
    for mode in slices gather; do
        "$work/replicate_to_gpus" "$small" --mode $mode --rounds 1 2>&1 | tail -1
    done
    say "checked: $([ $failed = 0 ] && echo all right || echo FAILED)"
}

checkpoints() {
    say "checkpoints of $LAYERS layers of Qwen3-30B-A3B's shapes"
    local jobs=() p
    if [ ! -f "$work/data/config.json" ]; then
        rm -rf "$work/data"
        "$work/make_checkpoint" "$work/data" --layers "$LAYERS" --experts 128 --hidden 2048 \
            --intermediate 768 & jobs+=($!)
    fi
    if [ ! -f "$work/fp8/config.json" ]; then
        rm -rf "$work/fp8"
        "$work/make_checkpoint" "$work/fp8" --layers "$LAYERS" --experts 128 --hidden 2048 \
            --intermediate 768 --dtype F8_E4M3 & jobs+=($!)
    fi
    for p in "${jobs[@]}"; do wait "$p" || return 1; done
    for_transformers "$work/data/config.json"
}

measure() {
    checkpoints || { say "no checkpoints"; return 1; }
    local sites=()
    if [ -n "${WHEELS:-}" ]; then
        say wheels
        python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
            --target "$work/rc1" "$WHEELS"/safetensors-*.whl &&
            sites+=(--site "rc1_prefetch=$work/rc1")
        others=$(ls "$WHEELS"/*.whl | grep -v /safetensors-)
        [ -n "$others" ] && python3 -m pip install -q --no-index --no-deps --no-compile \
            --no-cache-dir --upgrade --target "$work/others" $others &&
            sites+=(--site "others=$work/others")
    fi
    say measure
    python3 tests/benchmark/gpu/run.py --bin "$work" --data "$work/data" --fp8 "$work/fp8" --out \
        "$out" --rounds "$ROUNDS" \
        --seconds "$SECONDS_MOST" ${PEERS:+--peers "$PEERS"} ${QUICK:+--quick} "${sites[@]}"
    rm -f "$out"/*.sums
}

# One process, with one loader per GPU.
gpus() {
    checkpoints || { say "no checkpoints"; return 1; }
    cat "$work"/data/*.safetensors >/dev/null
    local count; count=$(nvidia-smi -L | wc -l)
    say "$count GPUs"
    nvidia-smi topo -m | head -12
    for mode in slices replicate gather; do
        for threads in 4 8 16; do
            echo "-- $mode, $threads readers for each GPU"
            timeout 120 "$work/replicate_to_gpus" "$work/data" --mode $mode --threads $threads \
                --rounds 3
        done
    done
}

wants build && { build || exit 1; }
wants nvcc && nvcc_row
wants check && check
wants measure && measure
wants gpus && gpus
say done
