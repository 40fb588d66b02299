#!/usr/bin/env bash
# All that needs a GPU, in one command: benchmarks/on_gpu.sh OUT [SIZE], with SIZE of the twins "large" or, to try it out, "tiny".
# Each step leaves its output in OUT, and one that fails does not keep the others from running; STEPS="decode_speed twins" runs
# these alone.
set -u
cd "$(dirname "$0")/.."
out=${1:?folder for the results}
size=${2:-large}
python=${PYTHON:-python3}
device=$([ "$size" = tiny ] && echo cpu || echo cuda)
mkdir -p "$out"

step() { # NAME SECONDS COMMAND...
    local name=$1 seconds=$2 start=$SECONDS
    shift 2
    [[ " ${STEPS:-$name} " == *" $name "* ]] || return
    timeout "$seconds" "$@" >"$out/$name.txt" 2>"$out/$name.err"
    echo "$name: exit code $?, $((SECONDS - start)) s"
    tail -n 2 "$out/$name.err" | cut -c -300
}

if [ "$size" = tiny ]; then
    drafts=(--prompts 2 --thin 2 --repeats 2 --max-new-tokens 24)
    speed=(--random tiny --max-new-tokens 12 --repeats 2)
else
    drafts=(--prompts 4 --thin 2 --repeats 2 --max-new-tokens 48)
    speed=(--random 1b --dtype bfloat16 --device cuda --max-new-tokens 128 --repeats 5)
fi
step decode_speed 150 "$python" benchmarks/decode_speed.py "${speed[@]}"
step twins 300 "$python" studies/layerskip_twins.py --out "$out/twins" --size "$size" --device "$device"
step twins_speed 200 "$python" studies/layerskip_speed.py "$out/twins" --device "$device" "${drafts[@]}"
step twins_measure 60 "$python" studies/layerskip_measure.py "$out/twins" --device "$device" --prompts 12
for twin in layerskip plain; do
    cp "$out/twins/$twin/training.json" "$out/training_$twin.json"
done
if [ "$size" != tiny ]; then
    TRITON_INTERPRET=0 step triton_tests 100 "$python" -m pytest -q -x -p no:cacheprovider tests/signals/test_triton_readout.py
    step readout_gpu 100 "$python" benchmarks/readout_gpu.py
fi
