"""Writes an MP3 whose frames have checksums, and what another decoder makes of it.

    apt-get install lame mpg123
    python tests/golden/mp3.py

Writes crc.mp3 (LAME 3.100: 0.4 s of stereo at 22,050 Hz, joint stereo, 64 kbit/s) and crc.npy beside itself: the mean of
both channels as mpg123 1.31.2 decodes them, float32.
"""

import pathlib
import subprocess
import tempfile
import wave

import numpy as np

HERE = pathlib.Path(__file__).parent
SR = 22_050

t = np.arange(int(0.4 * SR)) / SR
sweep = 0.4 * np.sin(2 * np.pi * (200 * t + 2_000 * t * t))
tone = 0.3 * np.sin(2 * np.pi * 700 * t)
both = np.stack([sweep + tone, sweep - tone], axis=1)
with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    with wave.open(str(folder / "in.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SR)
        file.writeframes((both * 32_767).astype("<i2").tobytes())
    subprocess.run(["lame", "--quiet", "-p", "-b", "64", "-m", "j", folder / "in.wav", HERE / "crc.mp3"], check=True)
    raw = subprocess.run(["mpg123", "-q", "-e", "f32", "-s", HERE / "crc.mp3"], check=True, capture_output=True).stdout
channels = np.frombuffer(raw, "<f4").reshape(-1, 2)
assert len(channels) == len(t), len(channels)
np.save(HERE / "crc.npy", channels.mean(axis=1, dtype="f4"))
