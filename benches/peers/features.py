"""The front ends of genregrad, librosa and torchaudio on this machine: the same work, interleaved, segments per second.

    pip install librosa torch torchaudio numpy
    cargo build --release
    python benches/peers/features.py --json features.json
    python benches/peers/features.py --front-ends mel --workers 1 2 --rounds 7

The work: 1,000 segments of 20,462 samples of white noise at 22,050 Hz, each to 80 x 80 values as the study has them
(natural logarithm of amplitude + 1e-6). All peers get the same segments; genregrad makes its own, of the same kind.
`workers` are threads for genregrad and single-threaded processes for the peers, each with its share of the segments;
the time is that until the last has finished. Peers that are not installed, and front ends that the program does not
have, are left out and named. `ratio` is genregrad over the fastest peer, the median over rounds.

- librosa: every segment in a call of its own
- librosa, batch: all segments in one call
- torchaudio, batch: all segments in one call (it has no constant-Q transform)
"""

import argparse
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import run

SEGMENTS, SAMPLES, SR, HOP, BINS, FLOOR = 1000, 20_462, 22_050, 256, 80, 1e-6
PEERS = {
    "mel": ["librosa", "librosa, batch", "torchaudio, batch"],
    "cqt": ["librosa", "librosa, batch"],
    "linear": ["librosa", "librosa, batch"],
    "cwt": [],
}
ONE_THREAD = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"]


def transform(peer, front_end):
    """What turns segments [N, samples] into [N, bins, frames]."""
    import numpy as np

    if peer.startswith("torchaudio"):
        import torch
        import torchaudio

        torch.set_num_threads(1)
        mel = torchaudio.transforms.MelSpectrogram(
            SR, n_fft=512, hop_length=HOP, n_mels=BINS, power=1.0, norm="slaney", mel_scale="slaney", pad_mode="constant")
        return lambda y: torch.log(mel(torch.from_numpy(y)) + FLOOR).numpy()

    import librosa

    if front_end == "mel":
        compute = lambda y: librosa.feature.melspectrogram(  # noqa: E731
            y=y, sr=SR, n_fft=512, hop_length=HOP, n_mels=BINS, power=1.0, pad_mode="constant")
    elif front_end == "cqt":
        compute = lambda y: np.abs(  # noqa: E731
            librosa.cqt(y=y, sr=SR, hop_length=HOP, n_bins=BINS, bins_per_octave=12, pad_mode="constant"))
    else:
        compute = lambda y: np.abs(librosa.stft(y, n_fft=512, hop_length=HOP, pad_mode="constant"))  # noqa: E731
    log = lambda y: np.log(compute(y) + FLOOR)  # noqa: E731
    return log if peer.endswith("batch") else lambda y: np.stack([log(segment) for segment in y])


def work(peer, front_end, first, last):
    """A worker: makes its segments, warms up, and computes them once for every line of standard input."""
    import warnings

    import numpy as np

    warnings.filterwarnings("ignore")  # librosa: a segment is shorter than the longest constant-Q filter
    segments = np.random.default_rng(1).random((last, SAMPLES), dtype=np.float32)[first:] - np.float32(0.5)
    compute = transform(peer, front_end)
    shape = compute(segments[:2]).shape
    assert shape[-1] == 1 + SAMPLES // HOP and (front_end == "linear" or shape[1] == BINS), shape
    print("ready", flush=True)
    for _ in sys.stdin:
        assert np.isfinite(compute(segments)).all()
        print("done", flush=True)


class Workers:
    """Processes that share the segments of one peer."""

    def __init__(self, peer, front_end, count, segments):
        bounds = [segments * i // count for i in range(count + 1)]
        environment = {**os.environ, **dict.fromkeys(ONE_THREAD, "1")}
        self.name = peer
        self.processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--work", peer, front_end, str(first), str(last)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
            for first, last in itertools.pairwise(bounds)]
        self.hear()
        if peer.endswith("batch"):
            self.seconds()  # the first call on whole arrays also finds their memory

    def hear(self):
        for process in self.processes:
            if not process.stdout.readline():
                sys.exit(f"features.py: {self.name} ended with code {process.wait()}")

    def seconds(self):
        started = time.perf_counter()
        for process in self.processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        self.hear()
        return time.perf_counter() - started

    def close(self):
        for process in self.processes:
            process.stdin.close()
            process.wait()


def genregrad(args, front_end, threads, passes):
    """Segments per second in the best and the median pass of one `genregrad bench`."""
    report = run.answer([
        args.binary, "bench", "--json", "--quiet", "--front-end", front_end, "--threads", str(threads),
        "--segments", str(args.segments), "--steps", str(passes), "--warmup", "1"])
    return 1e3 * args.segments / report["min_ms"], report["segments_per_s"]


def has(args, front_end):
    """Whether this genregrad knows the front end."""
    command = [args.binary, "bench", "--json", "--quiet", "--front-end", front_end]
    command += ["--segments", "1", "--steps", "1", "--warmup", "0"]
    return subprocess.run(command, capture_output=True).returncode == 0


def compare(args, front_end, workers, peers):
    """Interleaved rounds: every program's segments per second."""
    rates, best = {name: [] for name in ["genregrad", *peers]}, {}
    kept = {peer: Workers(peer, front_end, workers, args.segments) for peer in peers}
    for _, name in itertools.product(range(args.rounds), rates):
        if name == "genregrad":
            quickest, rate = genregrad(args, front_end, workers, 5)
        else:
            quickest = rate = args.segments / kept[name].seconds()
        rates[name].append(rate)
        best[name] = max(best.get(name, 0), quickest)
    for peer in kept.values():
        peer.close()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    result = {"front_end": front_end, "workers": workers, "median": medians, "best": best, "rounds": rates}
    if peers:
        fastest = max(peers, key=medians.get)
        ratios = [ours / theirs for ours, theirs in zip(rates["genregrad"], rates[fastest])]
        result |= {"fastest_peer": fastest, "ratio": statistics.median(ratios)}
        result["ratio_of_best"] = best["genregrad"] / best[fastest]
    return result


def table(results):
    """One row a front end and program: median (best) for each number of workers, and genregrad's lead over it."""
    workers = sorted({r["workers"] for r in results})
    rows = [["front end", "program", *itertools.chain(*((f"{w} worker{'s' * (w > 1)}", "genregrad is") for w in workers))]]
    for front_end in dict.fromkeys(r["front_end"] for r in results):
        found = {r["workers"]: r for r in results if r["front_end"] == front_end}
        for name in next(iter(found.values()))["median"]:
            row = [front_end, name]
            for w in workers:
                r = found[w]
                lead = statistics.median(ours / theirs for ours, theirs in zip(r["rounds"]["genregrad"], r["rounds"][name]))
                row += [f"{r['median'][name]:,.0f} ({r['best'][name]:,.0f})", "" if name == "genregrad" else f"{lead:.1f} x"]
            rows.append(row)
    return run.markdown(rows, left=2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--front-ends", nargs="+", choices=list(PEERS), default=["mel", "cqt"])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2], help="threads or processes [default: 1 2]")
    parser.add_argument("--segments", type=int, default=SEGMENTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="+", help="some of those above [default: all]")
    parser.add_argument("--binary", help="genregrad [default: target/release/genregrad]")
    parser.add_argument("--json", type=Path, help="write everything here")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        peer, front_end, first, last = args.work
        return work(peer, front_end, int(first), int(last))
    if args.rounds < 1 or min(args.workers) < 1 or args.segments < max(args.workers):
        parser.error("--rounds, --workers and --segments count from 1, and every worker needs a segment")
    args.binary = run.find_binary(args.binary)
    here = run.machine()
    for package in ("librosa", "torchaudio"):
        here[package] = None
        if importlib.util.find_spec(package):
            from importlib.metadata import version
            here[package] = version(package)
    print("\n".join(f"{name}: {value or 'not installed: left out'}" for name, value in here.items()), flush=True)
    results = []
    for front_end in args.front_ends:
        if not has(args, front_end):
            print(f"{front_end}: not among this genregrad's front ends, left out", flush=True)
            continue
        installed = [p for p in PEERS[front_end] if here[p.split(",")[0]] and (not args.peers or p in args.peers)]
        for workers in args.workers:
            results.append(compare(args, front_end, workers, installed))
    print(f"\nsegments per second: median over {args.rounds} interleaved rounds (best)\n\n{table(results)}")
    for r in results:
        if "ratio" in r:
            print(f"\n{r['front_end']}, {r['workers']} workers: {r['ratio']:.1f} times the fastest peer "
                  f"({r['fastest_peer']}); {r['ratio_of_best']:.1f} by the best times", end="")
    print()
    if args.json:
        args.json.write_text(json.dumps({"machine": here, "segments": args.segments, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
