"""Writes Ogg Vorbis files of 1 to 8 channels and what libvorbis decodes of them.

    apt-get install ffmpeg vorbis-tools
    python3 tests/golden/vorbis.py

Writes vorbis_*.ogg beside itself: 0.25 s at 22,050 Hz, another sweep in each channel. vorbis.json holds the mean of the
channels as libvorbis decodes them to 16 bits, every 41st sample. vorbis_2_uncoupled.ogg has its channels apart. pages.ogg is
one sweep of 3 s with a page per packet.
"""

import array, json, math, pathlib, struct, subprocess

HERE = pathlib.Path(__file__).parent
SR = 22_050
STEP = 41


def wav(path, channels, seconds):
    n = round(seconds * SR)
    sweep = lambda c, t: 0.5 * math.sin(2 * math.pi * (200 + 130 * c + (900 + 70 * c) * t / seconds) * t)
    data = array.array("h", (round(32767 * sweep(c, i / SR)) for i in range(n) for c in range(channels))).tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, channels, SR,
                       SR * 2 * channels, 2 * channels, 16, b"data", len(data))
    path.write_bytes(head + data)


def run(*command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True).stdout


truth = {}
source = HERE / "vorbis.wav"
for channels, name, quality in [(1, "1", 3), (2, "2", 3), (2, "2_uncoupled", 3), (3, "3", 1), (4, "4", 3), (5, "5", 3),
                                (6, "6", 0), (7, "7", 1), (8, "8", 2)]:
    wav(source, channels, 0.25)
    ogg = HERE / f"vorbis_{name}.ogg"
    apart = ["--advanced-encode-option", "disable_coupling"] if name.endswith("uncoupled") else []
    run("oggenc", "-Q", "-q", quality, "-s", 1, *apart, "-o", ogg, source)
    decoded = array.array("h", run("oggdec", "-Q", "-R", "-o", "-", ogg))
    frames = [sum(decoded[i:i + channels]) / channels / 32768 for i in range(0, len(decoded), channels)]
    truth[f"vorbis_{name}.ogg"] = {"samples": len(frames), "step": STEP, "values": [round(x, 5) for x in frames[::STEP]]}
(HERE / "vorbis.json").write_text(json.dumps(truth) + "\n")
wav(source, 1, 3.0)
run("ffmpeg", "-y", "-v", "error", "-bitexact", "-i", source, "-c:a", "libvorbis", "-q:a", 0, "-page_duration", 1,
    HERE / "pages.ogg")
source.unlink()
print(run("oggenc", "--version").decode().strip())
print(run("ffmpeg", "-version").decode().splitlines()[0])
