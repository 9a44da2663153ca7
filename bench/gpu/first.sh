#!/usr/bin/env bash
# The first ten minutes on a GPU, in the order in which a fault would mislead what comes after it.
#
#   OUT=results bash bench/gpu/first.sh [seconds in all, by default 600]
#
# Each part has a limit of its own and writes OUT/PART.txt as it goes; OUT/summary.txt has a line a part with its exit
# status and seconds. What does not fit the time that is left is skipped and said to be. docs/gpu.md says what each
# figure should be. PYTHON names the interpreter (default python); nothing is downloaded.
#
# The benches need torch with CUDA, numpy, pyarrow, safetensors and tiktoken; the tests also pytest, pytest-timeout,
# hypothesis, typer, rich and tomli_w. Ray, DuckDB and an installed reelmill are not needed, but for two files of tests
# of curation: they are counted as errors where its packages are not, and the others run. DEVICE=cpu runs every part in
# miniature, to try the script itself.
set -u
cd "$(dirname "$0")/../.."
OUT=${OUT:-build/gpu}
PYTHON=${PYTHON:-python}
DEVICE=${DEVICE:-cuda}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
ENDS=$((SECONDS + ${1:-600}))
mkdir -p "$OUT"
: > "$OUT/summary.txt"

part() { # part NAME LIMIT COMMAND...
    local name=$1 limit=$2 left=$((ENDS - SECONDS)) began=$SECONDS status
    shift 2
    if [ "$left" -lt 20 ]; then
        echo "$name: skipped, no time left" | tee -a "$OUT/summary.txt"
        return
    fi
    [ "$limit" -lt "$left" ] || limit=$left
    timeout -k 5 "$limit" "$@" > "$OUT/$name.txt" 2>&1
    status=$?
    echo "$name: exit $status after $((SECONDS - began)) s" | tee -a "$OUT/summary.txt"
    tail -n 3 "$OUT/$name.txt"
}

python() { # python NAME LIMIT ARGUMENTS...
    part "$1" "$2" "$PYTHON" "${@:3}"
}

GPU_TESTS=$(grep -rl "pytest.mark.gpu" tests/train tests/eval tests/tokenize tests/curation)
if [ "$DEVICE" = cpu ]; then
    python machine 60 -c 'import torch; print(torch.__version__, "CPU")'
    python tests 120 -m pytest -q -m gpu -p no:cacheprovider --collect-only $GPU_TESTS
    python attention 60 bench/gpu/attention.py --device cpu --rows 300
    python lengths 60 bench/gpu/lengths.py --device cpu --batches 2 --row 64
    python cache 60 bench/gpu/cache.py --device cpu --lengths 1023
    python loss 60 bench/gpu/loss.py --device cpu --vocabulary 500 --width 32 --tokens 64
    python step_tiny 60 bench/gpu/train_step.py --device cpu --recipe tiny --steps 1 --lengths varied \
        --set model.vocab_size=600
    python generate 120 bench/gpu/generate.py --device cpu --images 1 --height 2 --width 2 --skip-peer --skip-large \
        --skip-compile
    exit
fi
python machine 20 -c '
import torch
print(torch.__version__, torch.version.cuda, torch.cuda.get_device_name(), torch.cuda.get_device_capability())
print(torch.cuda.get_device_properties(0))'
python tests 150 -m pytest -q -m gpu -p no:cacheprovider --continue-on-collection-errors $GPU_TESTS
python attention 60 bench/gpu/attention.py --repeat 5
python lengths 60 bench/gpu/lengths.py
python cache 30 bench/gpu/cache.py
python loss 45 bench/gpu/loss.py --tokens 5120 16384
python step_1b_plain 60 bench/gpu/train_step.py --recipe 1b --lengths varied --set parallel.compile=false --skip-baseline
python step_1b 75 bench/gpu/train_step.py --recipe 1b --lengths varied
python step_8_layers 75 bench/gpu/train_step.py --recipe emu3_stage1 --lengths varied --skip-baseline \
    --set model.layers=8 parallel.recompute=selective
python generate 150 bench/gpu/generate.py --images 2 --skip-peer --side 45
