"""Writes the augmentation golden files: librosa's time_stretch and pitch_shift of a signal that tests/augment.rs makes by
the same formula.

    pip install librosa==0.11.0
    python tests/golden/librosa_augment.py

Writes librosa_augment.npy ([deformation, 4, 256]: four pieces of every deformed signal, evenly spread from its first to its
last sample) and librosa_augment.json (deformations, lengths, versions) beside itself, and prints how far librosa's own
float32 result lies from its float64 one, which is what is kept.
"""

import json
import pathlib

import librosa
import numpy as np
import soxr

HERE = pathlib.Path(__file__).parent
SR, SAMPLES, PIECES, PIECE = 22_050, 12_000, 4, 256
STRETCHES, SHIFTS = (0.2, 0.5, 1.2, 1.5), (-5, -2, 2, 5)


def pcg(value):
    """genregrad's rng::pcg: PCG-RXS-M-XS 32/32."""
    state = value * np.uint32(747_796_405) + np.uint32(2_891_336_453)
    word = ((state >> ((state >> np.uint32(28)) + np.uint32(4))) ^ state) * np.uint32(277_803_737)
    return (word >> np.uint32(22)) ^ word


def signal(soft):
    """Two tones and a click every 1,500 samples; float32 values.

    Sharp clicks are one sample long and stand in integer-hash noise, both full-band. Soft ones, without noise, are Gaussian,
    with next to nothing in the upper third of the band, where resamplers differ.
    """
    n = np.arange(SAMPLES, dtype=np.float64)
    t = n / SR
    tones = 0.2 * np.sin(2 * np.pi * 440 * t) + 0.1 * np.sin(2 * np.pi * 1_234.5 * t)
    if soft:
        return (tones + 0.9 * np.exp(-0.5 * ((n % 1_500 - 700) / 2) ** 2)).astype(np.float32)
    clicks = np.where(n % 1_500 == 700, 0.9, 0.0)
    noise = 0.01 * (pcg(np.arange(SAMPLES, dtype=np.uint32)) / 2.0**31 - 1)
    return (tones + clicks + noise).astype(np.float32)


def deform(y, rate, steps):
    """time_stretch alone, pitch_shift alone, or both as one stretch: librosa's own two steps of pitch_shift."""
    if steps == 0:
        return librosa.effects.time_stretch(y, rate=rate)
    if rate == 1:
        return librosa.effects.pitch_shift(y, sr=SR, n_steps=steps)
    ratio = 2.0 ** (-steps / 12)
    y_stretch = librosa.effects.time_stretch(y, rate=rate * ratio)
    shifted = librosa.resample(y_stretch, orig_sr=SR / ratio, target_sr=SR, res_type="soxr_hq")
    return librosa.util.fix_length(shifted, size=round(len(y) / rate))


def main():
    sharp = [(r, 0) for r in STRETCHES] + [(1, s) for s in SHIFTS] + [(r, s) for r in STRETCHES for s in SHIFTS]
    soft = [(1, s) for s in SHIFTS] + [(0.5, -5), (1.2, 5)]
    pieces, about = [], []
    for clicks, rate, steps in [("sharp", *d) for d in sharp] + [("soft", *d) for d in soft]:
        y = signal(clicks == "soft")
        double, single = deform(y.astype(np.float64), rate, steps), deform(y, rate, steps)
        starts = [i * (len(double) - PIECE) // (PIECES - 1) for i in range(PIECES)]
        pieces.append([double[s : s + PIECE] for s in starts])
        rms = float(np.sqrt(np.mean(double**2)))
        about.append({"clicks": clicks, "rate": rate, "steps": steps, "length": len(double), "starts": starts, "rms": rms})
        print(clicks, rate, steps, "float32 from float64: %.1e of the rms" % (np.sqrt(np.mean((single - double) ** 2)) / rms))
    np.save(HERE / "librosa_augment.npy", np.array(pieces, dtype=np.float32))
    versions = {"librosa": librosa.__version__, "numpy": np.__version__, "soxr": soxr.__version__}
    about = versions | {"sr": SR, "samples": SAMPLES, "deformations": about}
    (HERE / "librosa_augment.json").write_text(json.dumps(about, indent=1) + "\n")


main()
