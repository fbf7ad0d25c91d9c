"""Writes half a second of one sound in the compressed formats that the tests cannot write themselves.

    pip install soundfile
    python tests/golden/sounds.py

Writes sound.flac, sound.aiff, sound.ogg, sound.mp3 and sound_adpcm.wav (IMA ADPCM) beside itself: mono, 22,050 Hz, 11,025 samples of
0.5 sin(2 pi 440 t) sin(2 pi t), which tests/audio.rs makes by the same formula. And three seconds of it as long.flac
(22,050 Hz), long.ogg (44,100 Hz) and long.mp3 (32,000 Hz), to look for a part in.
"""

import pathlib

import numpy as np
import soundfile

HERE = pathlib.Path(__file__).parent
SR = 22_050

t = np.arange(SR // 2) / SR
y = 0.5 * np.sin(2 * np.pi * 440 * t) * np.sin(2 * np.pi * t)
for name, subtype in [
    ("sound.flac", "PCM_16"),
    ("sound.aiff", "PCM_16"),
    ("sound.ogg", "VORBIS"),
    ("sound.mp3", None),
    ("sound_adpcm.wav", "IMA_ADPCM"),
]:
    soundfile.write(HERE / name, y, SR, subtype=subtype)
for name, sr in [("long.flac", 22_050), ("long.ogg", 44_100), ("long.mp3", 32_000)]:
    t = np.arange(3 * sr) / sr
    y = 0.5 * np.sin(2 * np.pi * 440 * t) * np.sin(2 * np.pi * t)
    options = {"subtype": "PCM_S8"} if name == "long.flac" else {"compression_level": 0.9}
    soundfile.write(HERE / name, y, sr, **options)
print(soundfile.__version__, soundfile.__libsndfile_version__)
