"""How honest the 95 % band is: the share of measured layer variances inside it, cell by cell.

    python benchmarks/band.py                     # quick grid: widths 64 and 256, depths 5 and 20 (minutes)
    python benchmarks/band.py --full              # and width 1024, depth 50 (hours on two cores; --device cuda: minutes)
    python benchmarks/band.py -a relu -s kaiming -w 64 -d 20

Each cell is one activation, width, depth and scheme. The scheme initializes a real model through initbench; its report gives
the laws that theory predicts from. Then many networks are drawn from the same laws, a batch of them at a time, and measured
on the 256 probe images of mnist5k; the first one is the model itself, measured by initbench's own probes. A cell holds when
the share of its layers and networks inside the band is between 92 and 98 %, for activations and for gradients.
"""

import argparse
import math
import time
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from initbench.config import Ref, parse_ref
from initbench.datasets.files import data_folder
from initbench.errors import DoesNotApply
from initbench.nn.activation import activation_function
from initbench.theory.network import LayerSpec, NetworkSpec, Weight
from initbench.theory.prediction import LayerPrediction, predict
from initbench.training import probes
from initbench.training.batches import probe_batch
from initbench.training.graph import trace_network
from initbench.training.initialize import initialize
from initbench.training.predict import input_stats, layer_specs
from initbench.training.worker import load_data

ACTIVATIONS = ("relu", "leaky_relu", "tanh", "gelu", "silu", "elu", "selu", "erf", "sin", "sigmoid")
SCHEMES = ("kaiming", "xavier", "lecun", "edge_of_chaos", "torch_default", "orthogonal")
LOW, HIGH = 0.92, 0.98
MEMORY = 40_000_000
"""Numbers in the weights and signals of the networks that are measured together."""


@dataclass(frozen=True)
class Cell:
    scheme: str
    activation: str
    width: int
    depth: int


@dataclass(frozen=True)
class Outcome:
    cell: Cell
    networks: int
    activations: float
    gradients: float
    worst: str
    seconds: float
    reason: str = ""

    @property
    def holds(self) -> bool:
        return LOW <= self.activations <= HIGH and LOW <= self.gradients <= HIGH


class Elementwise(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = activation_function(name)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def build(cell: Cell, features: int, classes: int) -> nn.Sequential:
    parts: list[nn.Module] = [nn.Flatten()]
    for size in (features, *[cell.width] * (cell.depth - 1)):
        parts += [nn.Linear(size, cell.width), Elementwise(cell.activation)]
    return nn.Sequential(*parts, nn.Linear(cell.width, classes))


def draw(law: str, std: float, shape: tuple[int, int, int], source: torch.Generator) -> Tensor:
    """`shape[0]` independent matrices (out, in) from a law with this standard deviation of an entry."""
    many, out, into = shape
    if law == "orthogonal":
        tall = torch.randn(many, max(out, into), min(out, into), generator=source, device=source.device)
        q, r = torch.linalg.qr(tall)
        q = q * torch.sign(torch.diagonal(r, dim1=1, dim2=2))[:, None]
        return (q if out >= into else q.transpose(1, 2)) * (std * math.sqrt(max(out, into)))
    if law == "uniform":
        return (torch.rand(shape, generator=source, device=source.device) * 2 - 1) * (std * math.sqrt(3))
    if law in {"normal", "constant", "trunc_normal"}:
        return torch.randn(shape, generator=source, device=source.device) * std
    raise SystemExit(f"The benchmark cannot draw from the law '{law}'.")


@torch.no_grad()
def measured(
    specs: list[LayerSpec], activation: str, networks: int, x: Tensor, y: Tensor, source: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Pre-activation and gradient variances, each (layers, networks), of networks drawn from the specs."""
    function = activation_function(activation)
    signal, pre, weights, forward = x.expand(networks, -1, -1), [], [], []
    for spec in specs:
        weight = draw(spec.law, spec.std, (networks, spec.units, spec.fan_in), source)
        h = torch.bmm(signal, weight.transpose(1, 2))
        if spec.bias_std:
            law = "uniform" if spec.law == "uniform" else "normal"
            h += draw(law, spec.bias_std, (networks, 1, spec.units), source)
        weights.append(weight)
        pre.append(h)
        forward.append(variance(h))
        signal = function(h)
    logits = pre.pop()
    delta = torch.softmax(logits, -1) - nn.functional.one_hot(y, logits.shape[-1])
    backward = [variance(delta)]
    for index in range(len(specs) - 2, -1, -1):
        h = pre.pop().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(function(h).sum(), h)
        delta = torch.bmm(delta, weights[index + 1]) * slope
        backward.append(variance(delta))
    return torch.stack(forward).cpu(), torch.stack(backward[::-1]).cpu()


def variance(values: Tensor) -> Tensor:
    return values.double().flatten(1).var(1, correction=0)


def predicted(cell: Cell, x: Tensor, y: Tensor, classes: int) -> tuple[list[LayerSpec], tuple[LayerPrediction, ...], np.ndarray]:
    """The laws, the predictions, and what initbench's probes find in the model itself, (2, layers)."""
    torch.manual_seed(0)
    model = build(cell, x[0].numel(), classes)
    ref = Ref(name=cell.scheme, params={"nonlinearity": cell.activation} if cell.scheme == "edge_of_chaos" else {})
    report, layers = initialize(model, ref, seed=0, inputs=x[:4])
    traced = trace_network(model, layers, layer_specs(layers, report), x)
    stats = probes.to_stats(layers, [probes.ProbeRecord(0, probes.measure(model, layers, x, y))])
    own = np.array([[s.pre_activation_variance for s in stats], [s.gradient_variance for s in stats]], dtype=float)
    network: NetworkSpec = traced.network
    specs = [node.spec for node in network.nodes if isinstance(node, Weight)]
    assert traced.entering is not None
    return specs, predict(network, input_stats(traced.entering, y, specs[0])), own


def run(cell: Cell, networks: int, x: Tensor, y: Tensor, classes: int, device: str) -> Outcome:
    started = time.perf_counter()
    try:
        specs, bands, own = predicted(cell, x, y, classes)
    except DoesNotApply as error:
        return Outcome(cell, 0, math.nan, math.nan, "", 0.0, str(error))
    source = torch.Generator(device).manual_seed(crc32(repr(cell).encode()))
    images, labels = x.flatten(1).to(device)[None], y.to(device)
    together = max(1, MEMORY // (cell.depth * cell.width * (cell.width + 2 * x.shape[0])))
    found = [(torch.tensor(own[0])[:, None], torch.tensor(own[1])[:, None])]
    while sum(part[0].shape[1] for part in found) < networks:
        left = networks - sum(part[0].shape[1] for part in found)
        found.append(measured(specs, cell.activation, min(together, left), images, labels, source))
    inside = []
    for which, key in enumerate(("pre_activation", "gradient")):
        values = torch.cat([part[which] for part in found], dim=1).numpy()
        low, high = (np.array([getattr(getattr(band, key), end) for band in bands])[:, None] for end in ("low", "high"))
        inside.append(((values >= low) & (values <= high)).mean(axis=1))
    name, layer = max(
        ((name, int(np.abs(shares - 0.95).argmax())) for name, shares in zip(("activations", "gradients"), inside, strict=True)),
        key=lambda pair: abs(inside[("activations", "gradients").index(pair[0])][pair[1]] - 0.95),
    )
    worst = f"{name} of layer {layer + 1}: {inside[('activations', 'gradients').index(name)][layer]:.1%}"
    seconds = time.perf_counter() - started
    return Outcome(cell, networks, float(inside[0].mean()), float(inside[1].mean()), worst, seconds)


def reason(outcome: Outcome) -> str:
    """Why a cell misses, in words; a single layer far off is no accident of sampling."""
    cell, sampling = outcome.cell, math.sqrt(0.95 * 0.05 / outcome.networks)
    share = float(outcome.worst.rpartition(": ")[2].rstrip("%")) / 100
    if abs(share - 0.95) <= 3 * sampling:
        return f"no layer is off by more than the sampling error of {outcome.networks} networks"
    which = "too wide" if share > 0.95 else "too narrow"
    if cell.scheme == "orthogonal":
        return (
            f"the band is {which} ({outcome.worst}): orthogonal weights leave so little spread that neglected terms of order 1/width show"
        )
    if cell.width <= 64 and cell.depth >= 20:
        return f"the band is {which} ({outcome.worst}): narrow and deep, where second moments do not tell all"
    return f"the band is {which} ({outcome.worst}): not explained"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-a", "--activations", nargs="+", default=ACTIVATIONS)
    parser.add_argument("-s", "--schemes", nargs="+", default=SCHEMES)
    parser.add_argument("-w", "--widths", nargs="+", type=int)
    parser.add_argument("-d", "--depths", nargs="+", type=int)
    parser.add_argument("-n", "--networks", type=int, default=200)
    parser.add_argument("--wide-networks", type=int, default=40, help="networks a cell of width 1024")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    widths = arguments.widths or ([64, 256, 1024] if arguments.full else [64, 256])
    depths = arguments.depths or ([5, 20, 50] if arguments.full else [5, 20])
    data = load_data(parse_ref("mnist5k"), data_folder(None), torch.device("cpu"))
    x, y = probe_batch(data, 256, torch.contiguous_format)
    outcomes = []
    print("| scheme | activation | width | depth | networks | activations inside | gradients inside | farthest off | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for cell in (Cell(s, a, w, d) for s in arguments.schemes for a in arguments.activations for w in widths for d in depths):
        count = arguments.wide_networks if cell.width >= 1024 else arguments.networks
        outcome = run(cell, count, x, y, data.classes, arguments.device)
        outcomes.append(outcome)
        row = f"| {cell.scheme} | {cell.activation} | {cell.width} | {cell.depth} | "
        if outcome.reason:
            print(row + f"- | - | - | does not apply: {outcome.reason} | - |", flush=True)
            continue
        mark = "" if outcome.holds else " **missed**"
        print(
            row
            + f"{outcome.networks} | {outcome.activations:.1%} | {outcome.gradients:.1%}{mark} | {outcome.worst} | {outcome.seconds:.1f} |",
            flush=True,
        )
    counted = [outcome for outcome in outcomes if not outcome.reason]
    missed = [outcome for outcome in counted if not outcome.holds]
    print(f"\n{len(counted) - len(missed)} of {len(counted)} cells hold (between {LOW:.0%} and {HIGH:.0%} inside, both).")
    for outcome in missed:
        cell = outcome.cell
        print(f"- {cell.scheme}, {cell.activation}, width {cell.width}, depth {cell.depth}: {reason(outcome)}.")


if __name__ == "__main__":
    main()
