"""Writes the log-mel golden files: librosa's values for a signal that tests/audio.rs makes by the same formula.

    pip install librosa==0.11.0
    python tests/golden/librosa_mel.py

Writes librosa_mel.npy (the study's settings, [80, 80]), librosa_mel_odd.npy (others, [40, 41]), librosa_mel_low.npy (the
study's, of a sound whose top bands are empty) and librosa_mel.json (settings and versions) beside itself.
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


def signal():
    """A chirp from 50 Hz to 10 kHz, a decaying 440 Hz tone, and integer-hash noise; float32."""
    n = np.arange(SAMPLES, dtype=np.float64)
    t = n / SR
    chirp = 0.4 * np.sin(2 * np.pi * (50 * t + 0.5 * (10_000 - 50) / (SAMPLES / SR) * t * t))
    tone = 0.3 * np.exp(-5 * t) * np.sin(2 * np.pi * 440 * t)
    noise = 0.02 * (pcg(np.arange(SAMPLES, dtype=np.uint32)) / 2.0**31 - 1)
    return (chirp + tone + noise).astype(np.float32)


def low_signal():
    """Two loud low tones: near the Nyquist frequency there is little but the rounding of the samples; float32."""
    t = np.arange(SAMPLES, dtype=np.float64) / SR
    return (0.6 * np.sin(2 * np.pi * 110 * t) + 0.3 * np.sin(2 * np.pi * 163 * t)).astype(np.float32)


def log_mel(y, n_fft, hop_length, n_mels, fmin, fmax):
    mel = librosa.feature.melspectrogram(
        y=y, sr=SR, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels, fmin=fmin, fmax=fmax,
        power=1.0, window="hann", center=True, pad_mode="constant", htk=False, norm="slaney",
    )
    return np.log(mel + 1e-6).astype(np.float32)


def main():
    about = {"librosa": librosa.__version__, "numpy": np.__version__, "sr": SR, "samples": SAMPLES}
    settings = {
        "librosa_mel.npy": dict(n_fft=512, hop_length=256, n_mels=80, fmin=0.0, fmax=11_025.0),
        "librosa_mel_odd.npy": dict(n_fft=1200, hop_length=500, n_mels=40, fmin=60.0, fmax=7_600.0),
        "librosa_mel_low.npy": dict(n_fft=512, hop_length=256, n_mels=80, fmin=0.0, fmax=11_025.0),
    }
    for name, s in settings.items():
        values = log_mel(low_signal() if "low" in name else signal(), **s)
        np.save(HERE / name, values)
        about[name] = s | {"shape": list(values.shape)}
    (HERE / "librosa_mel.json").write_text(json.dumps(about, indent=2) + "\n")
    print(json.dumps(about))


main()
