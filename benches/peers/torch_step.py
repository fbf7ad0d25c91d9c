"""The study's training step in PyTorch, on request: what run.py times genregrad against.

    python torch_step.py --threads 2                      the shallow net's step, batch 15, every mode
    python torch_step.py --model deep --forward --batch 150 --modes compile --steps 50
    python torch_step.py --device cuda --modes graph compile graph-tf32 compile-tf32
    python torch_step.py --serve                          one JSON request a line on standard input

A request is {"model", "preset", "batch", "what": "step" or "forward", "mode", "steps", "warmup"}; the answer is
{"ms": [one time a step; on CUDA one a block of steps, per step]}.

The work: dropout, cross-entropy plus L1 penalty of every parameter, gradients, Adam, float32, random data of 80x80 and
ten classes; forward only: the logits without dropout, under inference_mode. The nets are those of
tests/golden/torch_traces.py with dropout added. PyTorch is given what helps it: Adam as a fused or a multi-tensor
kernel, whichever is faster here; the L1 penalty as one multi-tensor norm; denormals flushed; and a malloc that keeps
its memory (run.py and this file set MALLOC_* for glibc), which saves thousands of page faults a step. Data stay on the
device.

Modes on a CPU: eager, channels-last, compile (channels-last, torch.compile of net and loss). On CUDA also graph (the
whole step captured once, channels-last), and any of them with -tf32 at its end.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

MALLOC = {"MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_MMAP_MAX_": "0", "MALLOC_TOP_PAD_": "67108864"}
if __name__ == "__main__" and any(name not in os.environ for name in MALLOC):
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **MALLOC})  # malloc reads them once, at its start

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "golden"))
import torch_traces  # noqa: E402

DROPOUT = {"shallow": 0.1, "deep": 0.25}
CPU_MODES = ["eager", "channels-last", "compile"]
CUDA_MODES = ["eager", "channels-last", "compile", "graph", "compile-tf32", "graph-tf32"]
BLOCKS = 10


class Net(torch_traces.Net):
    """The net with dropout: on the merged pipelines (report) or after dense 200 (paper); for other sizes than 80x80 too."""

    def __init__(self, model, preset, classes=torch_traces.CLASSES, dropout=None, size=(80, 80)):
        super().__init__(model, preset, classes)
        if size != (80, 80):
            with torch.no_grad():
                merged = sum(self.pipeline(name, torch.zeros(1, 1, *size)).numel() for name in ("spectral", "temporal"))
            self.fc1 = torch.nn.Linear(merged, self.fc1.out_features)
        share = DROPOUT[model] if dropout is None else dropout
        dense = self.fc1 if preset == "report" else self.fc2
        dense.register_forward_pre_hook(lambda module, inputs: F.dropout(inputs[0], share, module.training))


def penalised_loss(net, logits, labels, l1=torch_traces.L1):
    return F.cross_entropy(logits, labels) + l1 * torch.stack(torch._foreach_norm(list(net.parameters()), 1)).sum()


def fastest_adam(net, device, capturable=False):
    """Adam as PyTorch runs it fastest here: the fused kernel or multi-tensor operations, each tried in turn."""
    kinds = {}
    for kind in ("fused", "foreach"):
        values = [torch.zeros_like(p).requires_grad_() for p in net.parameters()]
        for value in values:
            value.grad = torch.ones_like(value)
        kinds[kind] = torch.optim.Adam(values, capturable=capturable, **{kind: True}, **torch_traces.ADAM)
    best = dict.fromkeys(kinds, float("inf"))
    for _ in range(10):
        for kind, adam in kinds.items():
            synchronise(device)
            started = time.perf_counter()
            adam.step()
            synchronise(device)
            best[kind] = min(best[kind], time.perf_counter() - started)
    kind = min(best, key=best.get)
    return torch.optim.Adam(net.parameters(), capturable=capturable, **{kind: True}, **torch_traces.ADAM)


def synchronise(device):
    if device == "cuda":
        torch.cuda.synchronize()


class Case:
    """One net in one mode, with its data: `step` trains, `forward` gives logits."""

    def __init__(self, model, preset, batch, mode, device):
        self.device = device
        kind, _, tf32 = mode.partition("-tf32")
        self.tf32 = mode.endswith("-tf32")
        known = CUDA_MODES if device == "cuda" else CPU_MODES
        if kind not in known:
            raise SystemExit(f"--modes: expected some of {', '.join(known)}, got {mode}")
        torch.manual_seed(1)
        layout = torch.contiguous_format if kind == "eager" else torch.channels_last
        self.net = Net(model, preset).to(device, memory_format=layout)
        self.x = (6 * torch.rand(batch, 1, 80, 80) - 7).to(device).contiguous(memory_format=layout)
        self.labels = torch.randint(0, torch_traces.CLASSES, (batch,)).to(device)
        self.set_tf32()
        self.adam = fastest_adam(self.net, device, capturable=kind == "graph")
        loss = lambda x, labels: penalised_loss(self.net, self.net(x), labels)  # noqa: E731
        self.loss = torch.compile(loss) if kind == "compile" else loss
        self.logits = torch.compile(self.net) if kind == "compile" else self.net
        self.graphs = {"step": self.capture(self.train), "forward": self.capture(self.infer)} if kind == "graph" else {}

    def set_tf32(self):
        if self.device == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
            torch.backends.cudnn.benchmark = True

    def train(self):
        self.net.train()
        loss = self.loss(self.x, self.labels)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()

    def infer(self):
        self.net.eval()
        with torch.inference_mode():
            self.logits(self.x)

    def capture(self, work):
        """`work` as a CUDA graph: recorded once, replayed with one call."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph.replay

    def time(self, what, steps, warmup):
        """Milliseconds of each of `steps` steps; on CUDA of each of at most ten blocks of them, per step."""
        self.set_tf32()
        work = self.graphs.get(what) or {"step": self.train, "forward": self.infer}[what]
        for _ in range(warmup):
            work()
        synchronise(self.device)
        block = max(1, -(-steps // BLOCKS)) if self.device == "cuda" else 1
        times = []
        while steps > 0:
            count = min(block, steps)
            started = time.perf_counter()
            for _ in range(count):
                work()
            synchronise(self.device)
            times.append((time.perf_counter() - started) * 1e3 / count)
            steps -= count
        return times


def serve(device):
    """Answers requests until standard input ends; nets are kept, so that later rounds start warm."""
    cases = {}
    for line in sys.stdin:
        request = json.loads(line)
        key = tuple(request[name] for name in ("model", "preset", "batch", "mode"))
        if key not in cases:
            cases[key] = Case(*key, device)
        ms = cases[key].time(request["what"], request["steps"], request["warmup"])
        print(json.dumps({"ms": ms}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=["shallow", "deep"], default="shallow")
    parser.add_argument("--preset", choices=["report", "paper"], default="report")
    parser.add_argument("--batch", type=int, default=15)
    parser.add_argument("--forward", action="store_true", help="the logits only")
    parser.add_argument("--modes", nargs="+", help="see above [default: all of the device's]")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: PyTorch's own choice")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--serve", action="store_true", help="answer requests on standard input")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch_step.py: this PyTorch sees no CUDA device")
    if args.serve:
        return serve(args.device)
    what = "forward" if args.forward else "step"
    for mode in args.modes or (CUDA_MODES if args.device == "cuda" else CPU_MODES):
        ms = sorted(Case(args.model, args.preset, args.batch, mode, args.device).time(what, args.steps, args.warmup))
        print(json.dumps({
            "model": args.model, "preset": args.preset, "what": what, "batch": args.batch, "mode": mode,
            "threads": torch.get_num_threads(), "device": args.device, "torch": torch.__version__,
            "median_ms": ms[len(ms) // 2], "min_ms": ms[0], "max_ms": ms[-1],
        }), flush=True)


if __name__ == "__main__":
    main()
