"""Golden loss traces: PyTorch takes 20 Adam steps with each net and preset, and torch_traces.json keeps what it saw.

    pip install torch numpy && python torch_traces.py

Per trace: `losses` (float32) and `losses_f64` of the 20 steps, `logits` of the first batch before step 1 (float32),
checksums of the `gradients` of step 1 (float64, L1's included, whose derivative at zero is zero) and of the `final`
parameters (float32).

No weights or inputs are stored: both come from the counter hash of src/rng.rs, bit for bit the same in numpy and in
Rust. check_trace.py imports the nets from here.
"""

import json
import platform
import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SEED, STEPS, BATCH, CLASSES = 2016, 20, 15, 10
ADAM = dict(lr=5e-5, betas=(0.9, 0.999), eps=1e-8)
L1 = 1e-4

# Per block: filters, kernel and pool, both (frequency, time).
BLOCKS = {
    "shallow": {
        "spectral": [(16, (10, 23), (1, 20))],
        "temporal": [(16, (21, 20), (20, 1))],
    },
    "deep": {
        "spectral": [(16, (10, 23), (2, 2)), (32, (5, 11), (2, 2)), (64, (3, 5), (2, 2)), (128, (2, 4), (1, 5))],
        "temporal": [(16, (21, 10), (2, 2)), (32, (10, 5), (2, 2)), (64, (5, 3), (2, 2)), (128, (4, 2), (5, 1))],
    },
}
MERGED = {"shallow": 10240, "deep": 5120}
PARAMETERS = {
    "shallow/paper": 2_060_642,
    "shallow/report": 2_060_610,
    "deep/paper": 1_280_002,
    "deep/report": 1_279_522,
}


class Net(nn.Module):
    """[N, 1, 80, 80] -> logits [N, classes], without dropout. Parameter names are those of genregrad's checkpoints."""

    def __init__(self, model, preset, classes=CLASSES):
        super().__init__()
        self.model, self.preset = model, preset
        for pipeline, blocks in BLOCKS[model].items():
            channels = [1] + [filters for filters, _, _ in blocks]
            convs = [nn.Conv2d(c, f, kernel, bias=preset == "paper") for c, (f, kernel, _) in zip(channels, blocks)]
            setattr(self, pipeline, nn.ModuleList(convs))
        self.fc1 = nn.Linear(MERGED[model], 200)
        self.fc2 = nn.Linear(200, classes)

    def activate(self, x):
        return F.leaky_relu(x, 0.3) if self.preset == "paper" else F.relu(x)

    def pipeline(self, name, x):
        for conv, (_, kernel, pool) in zip(getattr(self, name), BLOCKS[self.model][name]):
            # "same": floor((k - 1) / 2) zeros before, the rest after
            high, wide = (((k - 1) // 2, k - 1 - (k - 1) // 2) for k in kernel)
            x = F.max_pool2d(self.activate(conv(F.pad(x, (*wide, *high)))), pool)
        return x

    def forward(self, x):
        x = self.fc1(torch.cat([self.pipeline(name, x).flatten(1) for name in ("spectral", "temporal")], dim=1))
        if (self.model, self.preset) != ("shallow", "report"):
            x = self.activate(x)
        return self.fc2(x)


def train_step(net, adam, x, labels):
    """One Adam step; the loss before it (mean cross entropy + L1 on every parameter) and the logits [N, classes]."""
    logits = net(x)
    loss = F.cross_entropy(logits, labels) + L1 * sum(p.abs().sum() for p in net.parameters())
    adam.zero_grad()
    loss.backward()
    adam.step()
    return loss.item(), logits.detach()


def pcg(value):
    state = value * np.uint32(747_796_405) + np.uint32(2_891_336_453)
    word = ((state >> ((state >> np.uint32(28)) + np.uint32(4))) ^ state) * np.uint32(277_803_737)
    return (word >> np.uint32(22)) ^ word


def hash_bits(step, node, count):
    """`rng::hash(SEED, step, node, i)` for i in 0..count, as uint32 (arrays, not scalars: they wrap without a warning)."""
    state = pcg(np.array([SEED], np.uint32))
    for counter in (step, node):
        state = pcg(state + np.uint32(counter))
    return pcg(state + np.arange(count, dtype=np.uint32))


def uniform(step, node, count):
    """Float32 in [-1, 1): (hash >> 8) * 2^-23 - 1, exact."""
    return (hash_bits(step, node, count) >> np.uint32(8)).astype(np.float32) * np.float32(2**-23) - np.float32(1)


def initial(net):
    """Glorot-uniform weights from the hash (step 0, node = the parameter's place in the net), zero biases; float32."""
    state = {}
    for node, (name, p) in enumerate(net.named_parameters()):
        values = np.zeros(p.numel(), np.float32)
        if p.dim() > 1:
            fan_out, fan_in = p.shape[0] * p[0, 0].numel(), p[0].numel()
            values = np.float32(np.sqrt(6 / (fan_in + fan_out))) * uniform(0, node, p.numel())
        state[name] = torch.from_numpy(values.reshape(p.shape))
    return state


def batch(step):
    """Spectrograms [BATCH, 1, 80, 80] in [-0.25, 0.25) and labels [BATCH] of `step`, from the hash.

    Small and without an offset, so that rounding stays small: Adam's first steps are nearly lr * sign(gradient), and a
    ReLU or a pool that falls the other way feeds back through them. With log-mel-like values (-4 + 3u) the deep net in
    float32 is 3e-3 from itself in float64 within 20 steps; with these, 7e-6 (preset report) or 2e-5 (paper).
    """
    x = np.float32(0.25) * uniform(step, 1000, BATCH * 80 * 80)
    labels = hash_bits(step, 1001, BATCH) % np.uint32(CLASSES)
    return torch.from_numpy(x.reshape(BATCH, 1, 80, 80)), torch.from_numpy(labels.astype(np.int64))


def run(model, preset, dtype):
    """The losses of all steps, the logits and the gradients of the first step, and the net after the last one."""
    net = Net(model, preset)
    net.load_state_dict(initial(net))
    net.to(dtype)
    adam = torch.optim.Adam(net.parameters(), **ADAM)
    losses = []
    for step in range(1, STEPS + 1):
        x, labels = batch(step)
        loss, logits = train_step(net, adam, x.to(dtype), labels)
        losses.append(loss)
        if step == 1:
            first_logits, gradients = logits, {name: p.grad.clone() for name, p in net.named_parameters()}
    return losses, first_logits, gradients, net


def digits(values):
    """Nine significant digits: enough to give back every float32."""
    return [float(f"{v:.9g}") for v in values]


def checksums(p):
    """Sum, sum of magnitudes (both added up in float64) and five values of a tensor, with their flat indices."""
    flat = p.detach().double().flatten()
    at = [k * (len(flat) - 1) // 4 for k in range(5)]
    return {"sum": flat.sum().item(), "sum_abs": flat.abs().sum().item(), "indices": at, "values": digits(flat[at])}


def main():
    torch.set_num_threads(1)
    made_with = {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()}
    traces = {}
    for name, parameters in PARAMETERS.items():
        losses, logits, _, net = run(*name.split("/"), torch.float32)
        losses_f64, _, gradients, net_f64 = run(*name.split("/"), torch.float64)
        assert sum(p.numel() for p in net.parameters()) == parameters, name
        drift = max(abs(a - b) / b for a, b in zip(losses, losses_f64))
        apart = max((p - q).abs().max().item() for p, q in zip(net.parameters(), net_f64.parameters()))
        print(f"{name}: loss {losses[0]:.6f} to {losses[-1]:.6f}; float32 from float64: loss {drift:.1e}, "
              f"a parameter after {STEPS} steps {apart:.1e}")
        traces[name] = {
            "parameters": parameters,
            "losses": digits(losses),
            "losses_f64": losses_f64,
            "logits": [digits(row) for row in logits],
            "gradients": {key: checksums(g) for key, g in gradients.items()},
            "final": {key: checksums(p) for key, p in net.named_parameters()},
        }
    text = json.dumps({"made_with": made_with, "traces": traces}, indent=1)
    text = re.sub(r"\[[^\[\]]*\]", lambda row: " ".join(row[0].split()), text)  # a list of numbers on one line
    Path(__file__).with_suffix(".json").write_text(text + "\n")


if __name__ == "__main__":
    main()
