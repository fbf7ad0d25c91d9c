"""Replays in PyTorch what `genregrad train --trace DIR --max-steps N --dropout 0` did, and compares the losses.

    pip install torch numpy safetensors
    python check_trace.py TRACE_DIR PREPARED.safetensors --model shallow --preset report

Exit status: 0 when every loss is within the tolerance, 1 when one is not, 2 when the arguments or files are no good.
"""

import argparse
import csv
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from torch_traces import ADAM, BLOCKS, Net, train_step


def fail(message):
    print(f"check_trace: {message}", file=sys.stderr)
    sys.exit(2)


def load(path, read):
    """`read(path)`, or one line that says what is wrong with the file."""
    try:
        return read(path)
    except (OSError, SafetensorError, UnicodeDecodeError, csv.Error) as error:
        fail(f"{path}: cannot be read: {error}")


def read_data(path):
    """Spectrograms [N, 80, 80] and labels [N] of the training set."""
    with safe_open(path, framework="pt") as file:
        return file.get_tensor("train.spectrograms"), file.get_tensor("train.labels").long()


def read_steps(path):
    """Rows (step, loss, learning rate, batch) of steps.csv."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        fail(f"{path}: no steps in it")
    steps = []
    for line, row in enumerate(rows, 2):
        try:
            batch = [int(number) for number in row["batch"].split()]
            steps.append((int(row["step"]), float(row["loss"]), float(row["learning_rate"]), batch))
        except (KeyError, ValueError, TypeError, AttributeError):
            fail(f"{path}: line {line}: not a row of step,loss,learning_rate,batch")
    if [step for step, *_ in steps] != list(range(steps[0][0], steps[0][0] + len(steps))) or steps[0][0] > 1:
        fail(f"{path}: the steps do not run on from the first; each of them is needed to replay the next")
    return steps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = fail
    parser.add_argument("trace", type=Path, help="folder with init.safetensors and steps.csv")
    parser.add_argument("data", type=Path, help="prepared data: train.spectrograms and train.labels")
    parser.add_argument("--model", required=True, choices=BLOCKS)
    parser.add_argument("--preset", required=True, choices=["paper", "report"])
    parser.add_argument("--tolerance", type=float, default=1e-4, help="relative, of the loss (default 1e-4)")
    parser.add_argument("--float64", action="store_true", help="replay in float64: how much of it is rounding?")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if not args.tolerance > 0:
        fail(f"--tolerance {args.tolerance}: must be above 0")
    if args.threads < 1:
        fail(f"--threads {args.threads}: must be at least 1")
    torch.set_num_threads(args.threads)

    weights = load(args.trace / "init.safetensors", load_file)
    steps = load(args.trace / "steps.csv", read_steps)
    x, labels = load(args.data, read_data)
    if not len(x) or x.shape[1:] != (80, 80) or labels.shape != x.shape[:1]:
        fail(f"{args.data}: spectrograms {list(x.shape)} and labels {list(labels.shape)}: need [N, 80, 80] and [N]")
    classes = len(weights.get("fc2.bias", ()))
    net = Net(args.model, args.preset, classes)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        fail(f"{args.trace / 'init.safetensors'}: not the weights of {args.model}/{args.preset}: {reason}")
    if labels.min() < 0 or labels.max() >= classes:
        fail(f"{args.data}: labels {labels.min()} to {labels.max()}, but the net has {classes} classes")
    dtype = torch.float64 if args.float64 else torch.float32
    net.to(dtype)
    adam = torch.optim.Adam(net.parameters(), **ADAM)

    worst = 0.0
    print("step        genregrad          pytorch  relative difference")
    for step, ours, learning_rate, batch in steps:
        if not batch or min(batch) < 0 or max(batch) >= len(x):
            fail(f"{args.trace / 'steps.csv'}: step {step}: its batch is empty or leaves the {len(x)} training rows")
        adam.param_groups[0]["lr"] = learning_rate
        theirs, _ = train_step(net, adam, x[batch, None].to(dtype), labels[batch])
        apart = abs(ours - theirs) / abs(theirs)
        worst = max(worst, apart) if apart == apart else float("inf")  # a NaN is never within the tolerance
        print(f"{step:4} {ours:16.8f} {theirs:16.8f}  {apart:.2e}", flush=True)
    verdict = "within" if worst <= args.tolerance else "ABOVE"
    print(f"{len(steps)} steps, largest relative difference {worst:.2e}: {verdict} the tolerance {args.tolerance:g}")
    sys.exit(worst > args.tolerance)


if __name__ == "__main__":
    main()
