"""Times the study's sixteen deformations of one 30 s track on one core: librosa's, then genregrad's, in turn.

    pip install librosa==0.11.0
    python benches/peers/augment.py [ROUNDS]

librosa makes each deformation with effects.time_stretch and effects.pitch_shift, one after the other, as a user would; and as
one stretch and one resampling, which is what genregrad does.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[name] = "1"

import librosa
import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
SR, SAMPLES = 22_050, 661_500
DEFORMATIONS = [(rate, steps) for rate in (0.2, 0.5, 1.2, 1.5) for steps in (-5, -2, 2, 5)]


def two_steps(y):
    for rate, steps in DEFORMATIONS:
        librosa.effects.pitch_shift(librosa.effects.time_stretch(y, rate=rate), sr=SR, n_steps=steps)


def one_step(y):
    for rate, steps in DEFORMATIONS:
        ratio = 2.0 ** (-steps / 12)
        librosa.resample(librosa.effects.time_stretch(y, rate=rate * ratio), orig_sr=SR / ratio, target_sr=SR)


def timed(work, *arguments):
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def ours():
    """Seconds of the two criterion benchmarks: (48 segments, 16 whole tracks)."""
    subprocess.run(["cargo", "bench", "--bench", "augment"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

    def median(name):
        report = target / "criterion" / "augment" / name / "new" / "estimates.json"
        return json.loads(report.read_text())["median"]["point_estimate"] / 1e9

    return median("48 segments"), median("16 whole tracks")


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    t = np.arange(SAMPLES) / SR
    chord = sum(0.1 * np.sin(2 * np.pi * hz * t) for hz in (220.0, 277.2, 329.6, 440.0))
    y = (chord + 0.05 * np.random.default_rng(1).uniform(-1, 1, SAMPLES)).astype(np.float32)
    librosa.effects.pitch_shift(y[:SR], sr=SR, n_steps=2)  # compile what librosa compiles
    times = {"librosa, one after the other": [], "librosa, at once": [], "48 segments": [], "16 whole tracks": []}
    for _ in range(rounds):
        times["librosa, one after the other"].append(timed(two_steps, y))
        times["librosa, at once"].append(timed(one_step, y))
        segments, whole = ours()
        times["48 segments"].append(segments)
        times["16 whole tracks"].append(whole)
    for name, values in times.items():
        print(f"{name:30} {statistics.median(values):8.3f} s  (min {min(values):.3f})")


main()
