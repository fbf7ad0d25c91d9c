#!/usr/bin/env bash
# A GPU's check and benchmark in one call: gradcheck, then steps beside PyTorch's on the same card, then time per kernel.
#
#   benches/gpu.sh [FOLDER]     writes everything to FOLDER [gpu-results] and the tables to the terminal
#
# GENREGRAD names a binary that was built elsewhere (any Linux with a Vulkan loader and driver runs it), DEVICE an adapter
# [gpu], PYTHON a Python with torch [python3]; without torch, genregrad is measured alone. Ten minutes or so.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu-results}
device=${DEVICE:-gpu}
python=${PYTHON:-python3}
mkdir -p "$out"

if [ -z "${GENREGRAD:-}" ]; then
    cargo build --release
    GENREGRAD=${CARGO_TARGET_DIR:-target}/release/genregrad
fi
section() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

section "devices"
"$GENREGRAD" devices | tee "$out/devices.txt"

section "gradcheck"
# What does not agree is part of the result; the benchmark runs all the same.
"$GENREGRAD" gradcheck --device "$device" --quiet | tee "$out/gradcheck.txt" || echo "gradcheck: not passed"

if "$python" -c 'import torch; raise SystemExit(not torch.cuda.is_available())' 2>/dev/null; then
    section "beside PyTorch: interleaved rounds, float32 and TF32"
    "$python" benches/peers/run.py --binary "$GENREGRAD" --device "$device" --batch 15 150 --what step forward \
        --threads 1 --rounds 5 --steps 100 --warmup 20 --json "$out/peers.json" | tee "$out/peers.txt"
else
    section "no PyTorch with CUDA in $python: genregrad alone"
fi

for kernels in "" --naive; do
    for model in shallow deep; do
        for batch in 15 150; do
            section "bench $model $batch $kernels"
            # The naive kernels are slow: a few steps say how slow.
            steps=$([ -z "$kernels" ] && echo 200 || echo 10)
            "$GENREGRAD" bench --device "$device" --model "$model" --batch "$batch" --steps "$steps" --floor --profile \
                --quiet $kernels | tee "$out/bench-$model-$batch${kernels:+-naive}.txt"
        done
    done
done
for model in shallow deep; do
    for nets in 1 2 4 8 16; do
        section "bench $model: $nets nets side by side"
        "$GENREGRAD" bench --device "$device" --model "$model" --nets "$nets" --steps 200 --quiet \
            | tee "$out/bench-$model-nets$nets.txt" || echo "not measured" # so many may not fit
    done
done
section "done: $out"
