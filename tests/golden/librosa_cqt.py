"""Writes the constant-Q golden files: librosa's values for signals that tests/cqt.rs makes by the same formulas.

    pip install librosa==0.11.0
    python tests/golden/librosa_cqt.py

Writes librosa_cqt.npy ([4, 80, 80]: one segment each of the signals below, the study's settings), librosa_cqt_84.npy (the
first of them, 84 bins) and librosa_cqt.json (settings and versions) beside itself. Values are log(|C| + 1e-6), float32.
"""

import json
import pathlib

import librosa
import numpy as np

HERE = pathlib.Path(__file__).parent
SR, SAMPLES = 22_050, 20_462


def pcg(value):
    """genregrad's rng::pcg: PCG-RXS-M-XS 32/32."""
    state = value * np.uint32(747_796_405) + np.uint32(2_891_336_453)
    word = ((state >> ((state >> np.uint32(28)) + np.uint32(4))) ^ state) * np.uint32(277_803_737)
    return (word >> np.uint32(22)) ^ word


def noise(first):
    return pcg(np.arange(first, first + SAMPLES, dtype=np.uint32)) / 2.0**31 - 1


def signals():
    """Four kinds of sound, float32: chords over noise, noise, drums, and a loud chord; tests/cqt.rs has the same."""
    t = np.arange(SAMPLES, dtype=np.float64) / SR

    def chord(root, decay):
        # five harmonics of root, third and fifth
        total = np.zeros(SAMPLES)
        for interval in (1.0, 1.25, 1.5):
            for harmonic in range(1, 6):
                hz = root * interval * harmonic
                total += np.exp(-decay * t) * np.sin(2 * np.pi * hz * t) / harmonic
        return total

    clicks = np.zeros(SAMPLES)
    for beat in range(4):
        since = t - 0.11 - 0.22 * beat
        clicks += np.where(since >= 0, np.exp(-40 * np.maximum(since, 0)), 0) * noise(100_000 * beat)
    return np.stack([
        0.1 * chord(110.0, 1.0) + 0.01 * noise(0),
        0.3 * noise(40_000),
        0.5 * clicks + 0.2 * np.sin(2 * np.pi * 55 * t) * np.exp(-6 * t) + 0.001 * noise(80_000),
        0.2 * chord(87.31, 0.0) + 0.02 * noise(120_000),
    ]).astype(np.float32)


def log_cqt(y, n_bins):
    c = librosa.cqt(
        y=y, sr=SR, hop_length=256, fmin=librosa.note_to_hz("C1"), n_bins=n_bins, bins_per_octave=12, tuning=0.0,
        filter_scale=1, norm=1, window="hann", scale=True, pad_mode="constant",
    )
    return np.log(np.abs(c) + 1e-6).astype(np.float32)


def main():
    y = signals()
    np.save(HERE / "librosa_cqt.npy", log_cqt(y, 80))
    np.save(HERE / "librosa_cqt_84.npy", log_cqt(y[0], 84))
    about = {"librosa": librosa.__version__, "numpy": np.__version__, "sr": SR, "samples": SAMPLES, "hop_length": 256,
             "bins_per_octave": 12, "fmin": "C1", "librosa_cqt.npy": [4, 80, 80], "librosa_cqt_84.npy": [84, 80]}
    (HERE / "librosa_cqt.json").write_text(json.dumps(about, indent=2) + "\n")
    print(json.dumps(about))


main()
