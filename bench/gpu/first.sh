#!/usr/bin/env bash
# The first ten minutes on a GPU, in the order in which a fault would mislead what comes after it.
#
#   OUT=results bash bench/gpu/first.sh [seconds in all, by default 600]
#
# Each part has a limit of its own and writes OUT/PART.txt as it goes; OUT/summary.txt has a line a part with its exit
# status and seconds. What does not fit the time that is left is skipped and said to be. docs/gpu.md says what each
# figure should be. PYTHON names the interpreter (default python); nothing is downloaded.
set -u
cd "$(dirname "$0")/../.."
OUT=${OUT:-build/gpu}
PYTHON=${PYTHON:-python}
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

part machine 20 "$PYTHON" -c '
import torch
print(torch.__version__, torch.version.cuda, torch.cuda.get_device_name(), torch.cuda.get_device_capability())
print(torch.cuda.get_device_properties(0))'
part tests 150 "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider tests/train tests/eval tests/tokenize \
    tests/curation
part attention 60 "$PYTHON" bench/gpu/attention.py --repeat 5
part lengths 60 "$PYTHON" bench/gpu/lengths.py
part cache 30 "$PYTHON" bench/gpu/cache.py
part loss 45 "$PYTHON" bench/gpu/loss.py --tokens 5120 16384
part step_1b_plain 60 "$PYTHON" bench/gpu/train_step.py --recipe 1b --lengths varied --set parallel.compile=false \
    --skip-baseline
part step_1b 75 "$PYTHON" bench/gpu/train_step.py --recipe 1b --lengths varied
part step_8_layers 75 "$PYTHON" bench/gpu/train_step.py --recipe emu3_stage1 --lengths varied --skip-baseline \
    --set model.layers=8 parallel.recompute=selective
part generate 150 "$PYTHON" bench/gpu/generate.py --images 2 --skip-peer --side 45
