"""The study's training in PyTorch on a file of `genregrad prepare`: are its accuracies those of genregrad?

    pip install torch numpy safetensors
    genregrad prepare path/to/genres --seed 1 --out genres.safetensors
    python torch_train.py genres.safetensors --model shallow --epochs 100 --seeds 1 2 3 > torch.json
    genregrad reproduce --data genres.safetensors --models shallow --epochs 100 --seeds 1,2,3 --json > ours.json

Same spectrograms, same split, same settings: the preset's net, Glorot-uniform weights and zero biases, dropout,
cross-entropy plus L1 penalty of every parameter, Adam, batches reshuffled in each epoch, the weights of the last epoch.
Seeds mean other weights, shuffles and dropout than in genregrad: compare means over seeds, not runs.

Printed as JSON, in percent, for each seed and as the mean: `raw` (segments), and of tracks `max` (largest sum of logits),
`max_probabilities` (of probabilities) and `maj` (majority vote; ties go to the lowest class).
"""

import argparse
import json
import sys
import time

import torch
from safetensors import safe_open

import torch_step
import torch_traces  # torch_step put its folder on the path


def read(path):
    """Training and test set, each (spectrograms [N, 1, bins, frames], labels [N], tracks [N]), and the classes' number."""
    try:
        with safe_open(path, framework="pt") as file:
            names = [f"{side}.{what}" for side in ("train", "test") for what in ("spectrograms", "labels", "tracks")]
            tensors = [file.get_tensor(name) for name in names]
            classes = (file.metadata() or {}).get("classes")
    except Exception as error:  # safetensors has an exception of its own besides the system's
        sys.exit(f"{path}: not a prepared file: {error}")
    train, test = tensors[:3], tensors[3:]
    count = len(json.loads(classes)) if classes else 1 + max(int(labels.max()) for _, labels, _ in (train, test))
    return *((x.unsqueeze(1), labels.long(), tracks.long()) for x, labels, tracks in (train, test)), count


def initialise(net):
    """Glorot-uniform weights, zero biases."""
    for p in net.parameters():
        torch.nn.init.xavier_uniform_(p) if p.dim() > 1 else torch.nn.init.zeros_(p)


def accuracies(logits, labels, tracks):
    """Percent of right segments, and of tracks by three ways of asking their segments."""
    classes = logits.shape[1]
    votes = torch.nn.functional.one_hot(logits.argmax(1), classes).double()
    rows = {"max": logits.double(), "max_probabilities": logits.double().softmax(1), "maj": votes}
    names, place = tracks.unique(return_inverse=True)
    truth = torch.zeros(len(names), dtype=torch.long).scatter_(0, place, labels)
    right = {"raw": (logits.argmax(1) == labels).double().mean()}
    for name, values in rows.items():
        sums = torch.zeros(len(names), classes, dtype=torch.double).index_add_(0, place, values)
        right[name] = (sums.argmax(1) == truth).double().mean()  # argmax gives the first of equals
    return {name: round(100 * share.item(), 4) for name, share in right.items()}


def train(args, seed, data):
    (x, labels, _), (test_x, test_labels, test_tracks), classes = data
    torch.manual_seed(seed)
    net = torch_step.Net(args.model, args.preset, classes, args.dropout, tuple(x.shape[2:]))
    initialise(net)
    net.to(args.device, memory_format=torch.channels_last)
    adam = torch.optim.Adam(net.parameters(), **{**torch_traces.ADAM, "lr": args.learning_rate}, fused=True)
    x, labels, inputs = x.to(args.device), labels.to(args.device), test_x.to(args.device)
    started, step, losses = time.perf_counter(), 0, []
    for epoch in range(1, args.epochs + 1):
        net.train()
        total = torch.zeros((), device=args.device)
        for rows in torch.randperm(len(labels)).to(args.device).split(args.batch):
            if args.schedule == "exp":
                adam.param_groups[0]["lr"] = args.learning_rate * 0.9 ** (step / 3000)
            loss = torch_step.penalised_loss(net, net(x[rows]), labels[rows], args.l1)
            adam.zero_grad()
            loss.backward()
            adam.step()
            total += loss.detach()
            step += 1
        losses.append(total.item())
        print(f"{args.model}, seed {seed}, epoch {epoch}/{args.epochs}: loss {losses[-1]:.2f}, "
              f"{time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    net.eval()
    with torch.inference_mode():
        logits = torch.cat([net(part) for part in inputs.split(150)]).cpu()
    seconds = time.perf_counter() - started
    return {"seed": seed, **accuracies(logits, test_labels, test_tracks), "loss": losses[-1], "seconds": round(seconds, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="a file of `genregrad prepare`")
    parser.add_argument("--model", choices=["shallow", "deep"], default="shallow")
    parser.add_argument("--preset", choices=["report", "paper"], default="report")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--batch", type=int, default=15)
    parser.add_argument("--learning-rate", type=float, default=torch_traces.ADAM["lr"])
    parser.add_argument("--schedule", choices=["constant", "exp"], default="constant", help="exp: 0.9 every 3,000 batches")
    parser.add_argument("--l1", type=float, default=torch_traces.L1)
    parser.add_argument("--dropout", type=float, help="[default: 0.1 shallow, 0.25 deep]")
    parser.add_argument("--threads", type=int, default=0, help="0: PyTorch's own choice")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    args = parser.parse_args()
    if min(args.epochs, args.batch) < 1:
        parser.error("--epochs and --batch count from 1")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    data = read(args.data)
    runs = [train(args, seed, data) for seed in args.seeds]
    mean = {name: round(sum(run[name] for run in runs) / len(runs), 4) for name in ("raw", "max", "max_probabilities", "maj")}
    settings = {name: value for name, value in vars(args).items() if name != "seeds"}
    segments = {"train_segments": len(data[0][1]), "test_segments": len(data[1][1])}
    print(json.dumps({"torch": torch.__version__, **settings, **segments, "runs": runs, "mean": mean}, indent=1))


if __name__ == "__main__":
    main()
