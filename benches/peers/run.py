"""genregrad beside PyTorch on this machine: the same work, interleaved, and the ratio of their times.

    pip install torch numpy
    cargo build --release
    python benches/peers/run.py                                   both nets, steps, batch 15, all cores
    python benches/peers/run.py --threads 1 2 --batch 15 150 --what step forward --rounds 7 --json peers.json
    python benches/peers/run.py --device gpu                      a GPU through wgpu against CUDA

In each round every program takes a few steps in turn, so that what disturbs the machine disturbs all of them. A round's
time is the median of its steps. `ratio` is PyTorch's fastest mode (that of the smallest median over rounds) over
genregrad: the median over rounds of the two times of one round; `of minima` divides the two best steps of all.
torch_step.py says what PyTorch runs, and what it is given to be fast.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Torch:
    """torch_step.py with its nets kept warm; one process for each number of threads."""

    def __init__(self, threads, device):
        command = [sys.executable, str(HERE / "torch_step.py"), "--serve", "--threads", str(threads), "--device", device]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ms(self, mode, case, steps, warmup):
        request = {"mode": mode, **case, "steps": steps, "warmup": warmup}
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            sys.exit(f"run.py: torch_step.py ended with code {self.process.wait()}")
        return json.loads(answer)["ms"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def genregrad(binary, threads, device, case, steps, warmup, more=()):
    """One `genregrad bench`: its JSON."""
    command = [binary, "bench", "--json", "--quiet", "--threads", str(threads), "--device", device, *more]
    command += ["--model", case["model"], "--preset", case["preset"], "--batch", str(case["batch"])]
    command += ["--steps", str(steps), "--warmup", str(warmup)] + ["--forward"] * (case["what"] == "forward")
    return answer(command)


def answer(command):
    """The JSON that a command prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"run.py: failed with code {done.returncode}: {' '.join(map(str, command))}")
    return json.loads(done.stdout)


def find_binary(given):
    """The program to time; where there is none, says how to build it."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    binary = Path(given) if given else target / "release" / ("genregrad.exe" if os.name == "nt" else "genregrad")
    if not binary.is_file():
        sys.exit(f"{binary}: not there; build it with `cargo build --release`, or name it with --binary")
    return str(binary)


def machine():
    """What numbers were taken on."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or None,
    }


def compare(case, threads, torch, args, modes):
    """Interleaved rounds of one piece of work: the times of each program."""
    steps = args.steps or max(5, 20 * 15 // max(15, case["batch"]))
    rounds = {name: [] for name in ["genregrad", *modes]}
    best = dict.fromkeys(rounds, float("inf"))
    for number, name in itertools.product(range(args.rounds), rounds):
        if name == "genregrad":
            report = genregrad(args.binary, threads, args.device, case, steps, args.warmup, args.bench_args)
            median, least = report["median_ms"], report["min_ms"]
            memory = report["peak_rss_mb"]
        else:
            # a mode is compiled and tuned in its first steps
            ms = torch.ms(name, case, steps, args.warmup + (10 if number == 0 else 0))
            median, least = statistics.median(ms), min(ms)
        rounds[name].append(median)
        best[name] = min(best[name], least)
        time.sleep(0.05)  # threads that spin while they wait go to sleep
    medians = {name: statistics.median(times) for name, times in rounds.items()}
    fastest = min(modes, key=medians.get)
    ratios = [theirs / ours for theirs, ours in zip(rounds[fastest], rounds["genregrad"])]
    return {
        **case,
        "threads": threads,
        "device": report["device"],
        "steps": steps,
        "median_ms": medians,
        "min_ms": best,
        "rounds_ms": rounds,
        "peak_rss_mb": memory,
        "fastest_peer": fastest,
        "ratio": statistics.median(ratios),
        "ratio_of_minima": best[fastest] / best["genregrad"],
    }


def table(results, modes):
    header = ["net", "what", "batch", "threads", "genregrad", *modes, "ratio", "of minima"]
    rows = [header]
    for r in results:
        cells = [f"{r['median_ms'][name]:.1f} ({r['min_ms'][name]:.1f})" for name in ["genregrad", *modes]]
        ratios = [f"{r['ratio']:.2f}", f"{r['ratio_of_minima']:.2f}"]
        rows.append([r["model"], r["what"], str(r["batch"]), str(r["threads"]), *cells, *ratios])
    return markdown(rows, left=2)


def markdown(rows, left):
    """A table with its columns aligned, `left` of them to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    line = lambda row: "| " + " | ".join(  # noqa: E731
        c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))
    ) + " |"
    rule = "|" + "|".join("-" * (w + 2) if i < left else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", choices=["shallow", "deep"], default=["shallow", "deep"])
    parser.add_argument("--what", nargs="+", choices=["step", "forward"], default=["step"])
    parser.add_argument("--batch", nargs="+", type=int, default=[15])
    parser.add_argument("--threads", nargs="+", type=int, default=[os.cpu_count()])
    parser.add_argument("--preset", choices=["report", "paper"], default="report")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, help="of each program in each round [default: 20, at least 5 of larger batches]")
    parser.add_argument("--warmup", type=int, default=3, help="steps before those, in every round")
    parser.add_argument("--modes", nargs="+", help="PyTorch's, see torch_step.py [default: all of the device's]")
    parser.add_argument("--device", default="cpu", help="genregrad's: cpu, gpu or an adapter's name [default: cpu]")
    parser.add_argument("--binary", help="genregrad [default: target/release/genregrad]")
    parser.add_argument("--bench-args", nargs="+", default=[], metavar="ARG", help="more for genregrad bench")
    parser.add_argument("--json", type=Path, help="write everything here")
    args = parser.parse_args()
    if args.rounds < 1 or args.warmup < 0 or min(args.batch) < 1 or min(args.threads) < 1:
        parser.error("--rounds, --batch and --threads count from 1")
    args.binary = find_binary(args.binary)
    on_cpu = args.device == "cpu"
    modes = args.modes or (
        ["eager", "channels-last", "compile"] if on_cpu else ["eager", "channels-last", "compile", "graph", "graph-tf32"]
    )
    try:
        from importlib.metadata import version
        here = {**machine(), "torch": version("torch")}
    except ModuleNotFoundError:
        sys.exit("run.py: PyTorch is not installed in this Python: pip install torch numpy")
    floors = []
    print("\n".join(f"{name}: {value}" for name, value in here.items()), flush=True)
    results = []
    for threads in args.threads:
        torch = Torch(threads, "cpu" if on_cpu else "cuda")
        for what, batch, model in itertools.product(args.what, args.batch, args.models):
            case = {"model": model, "preset": args.preset, "batch": batch, "what": what}
            results.append(compare(case, threads, torch, args, modes))
            r = results[-1]
            print(f"{model} {what}, batch {batch}, threads {threads}: genregrad {r['median_ms']['genregrad']:.1f} ms, "
                  f"PyTorch {r['fastest_peer']} {r['median_ms'][r['fastest_peer']]:.1f} ms, ratio {r['ratio']:.2f}",
                  file=sys.stderr, flush=True)
            floor = genregrad(args.binary, threads, args.device, case, 1, 0, ["--floor"])["floor"]
            floors.append({**case, "threads": threads, **floor})
        torch.close()
    print(f"\nms: median over {args.rounds} interleaved rounds (best step)\n\n{table(results, modes)}\n")
    for f in floors:
        print(f"floor, {f['model']} {f['what']}, batch {f['batch']}, threads {f['threads']}: arithmetic "
              f"{f['arithmetic_ms']:.1f} ms ({f['arithmetic_at_winners_ms']:.1f} with gradients at the pools' winners) at "
              f"{f['peak_gflops']:.0f} GFLOP/s, memory {f['memory_ms']:.1f} ms at {f['triad_gb_per_s']:.0f} GB/s")
    if args.json:
        text = json.dumps({"machine": here, "rounds": args.rounds, "results": results, "floors": floors}, indent=1)
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
