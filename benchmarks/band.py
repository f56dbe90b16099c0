"""How honest the 95 % band is: the share of measured layer variances inside it, cell by cell.

    python benchmarks/band.py --out band.jsonl                   # quick grid: widths 64 and 256, depths 5 and 20 (minutes)
    python benchmarks/band.py --full --out band.jsonl            # and width 1024, depth 50 (an hour of one core)
    python benchmarks/band.py -a relu -s kaiming -w 64 -d 20
    python benchmarks/band.py --models --out models.jsonl        # networks of other kinds than plain chains (some minutes)
    python benchmarks/band.py --show band.jsonl                  # the tables of docs/theory.md
    python benchmarks/band.py --missed-in band.jsonl --seed 2 -n 1000 --wide-networks 400    # was it chance?

Each cell is one activation, width, depth and scheme; with `--models` one kind of `band_models.py` in place of the activation.
The scheme initializes a real model through initbench; its report gives the laws that theory predicts from. Then many networks
are drawn from the same laws (`band_networks.py`) and measured on the same probe images of mnist5k; of plain chains the first
one is the model itself, measured by initbench's own probes. A cell holds when the share of its layers and networks inside
the band is between 92 and 98 %, for activations and for gradients. The layers of one network stray together, so the
standard error of a share is that of its networks' own shares. With `--out` each cell is written as soon as it is done, and
the cells that are there are not measured again.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from band_models import CELLS, build_kind, measured_model
from band_networks import measured
from torch import Tensor, nn

from initbench.errors import DoesNotApply
from initbench.init.initialize import initialize
from initbench.measure import probes
from initbench.measure.predict import input_stats, layer_specs, predictions, theory_network
from initbench.nn.activation import activation_function
from initbench.question.config import Ref, parse_ref
from initbench.question.data_folder import data_folder
from initbench.theory.network import LayerSpec, NetworkSpec, Weight
from initbench.theory.prediction import LayerPrediction, predict
from initbench.training.job import load_data

ACTIVATIONS = ("relu", "leaky_relu", "tanh", "gelu", "silu", "elu", "selu", "erf", "sin", "sigmoid")
SCHEMES = ("kaiming", "xavier", "lecun", "edge_of_chaos", "orthogonal", "torch_default")
LOW, HIGH = 0.92, 0.98
WIDE, WIDE_MODEL = 1024, 300
MEMORY = 40_000_000
"""Numbers in the weights and signals of the networks that are measured together."""
BY_CHANCE = 2.0
"""A share within so many standard errors of the limit may have crossed it by chance."""


@dataclass(frozen=True)
class Cell:
    scheme: str
    activation: str
    width: int
    depth: int
    kind: str = field(default="", repr=False)
    """A kind of `band_models.py`; empty for a plain chain."""

    def __str__(self) -> str:
        return f"{self.kind or self.activation}, {self.scheme}, width {self.width}, depth {self.depth}"


@dataclass(frozen=True)
class Share:
    """How much lies inside the band: in all, its standard error, and layer by layer; and how much lies below and above."""

    inside: float
    error: float
    below: float
    above: float
    layers: list[float]

    @property
    def off(self) -> float:
        """How far it is outside the limits, in standard errors; 0 inside."""
        distance = max(LOW - self.inside, self.inside - HIGH, 0.0)
        return distance / self.error if self.error else math.inf * distance if distance else 0.0


@dataclass(frozen=True)
class Outcome:
    cell: Cell
    networks: int
    activations: Share | None
    gradients: Share | None
    seconds: float
    why_not: str = ""

    @property
    def shares(self) -> dict[str, Share]:
        return {name: share for name, share in (("activations", self.activations), ("gradients", self.gradients)) if share}

    @property
    def holds(self) -> bool:
        return all(LOW <= share.inside <= HIGH for share in self.shares.values())


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


def predicted(cell: Cell, x: Tensor, y: Tensor, classes: int, seed: int) -> tuple[list[LayerSpec], tuple[LayerPrediction, ...], np.ndarray]:
    """The laws, the predictions, and what initbench's probes find in the model itself, (2, layers)."""
    torch.manual_seed(seed)
    model = build(cell, x[0].numel(), classes)
    ref = Ref(name=cell.scheme, params={"nonlinearity": cell.activation} if cell.scheme == "edge_of_chaos" else {})
    report, layers = initialize(model, ref, seed=seed, inputs=x[:4])
    seen = theory_network(model, layer_specs(layers, report), x)
    stats = probes.to_stats(layers, [probes.ProbeAtStep(0, probes.measure(model, layers, x, y))])
    own = np.array([[s.pre_activation_variance for s in stats], [s.gradient_variance for s in stats]], dtype=float)
    network: NetworkSpec = seen.network
    specs = [node.spec for node in network.nodes if isinstance(node, Weight)]
    assert seen.entering is not None
    return specs, predict(network, input_stats(x.reshape(len(x), *seen.entering), y, specs[0])), own


def run(cell: Cell, networks: int, x: Tensor, y: Tensor, classes: int, seed: int, device: str) -> Outcome:
    if cell.kind:
        return run_model(cell, networks, x, y, classes, seed)
    started = time.process_time()
    try:
        specs, bands, own = predicted(cell, x, y, classes, seed)
    except DoesNotApply as error:
        return Outcome(cell, 0, None, None, 0.0, str(error))
    source = torch.Generator(device).manual_seed(crc32(f"{seed} {cell!r}".encode()))
    images, labels = x.flatten(1).to(device), y.to(device)
    together = max(1, MEMORY // (cell.depth * cell.width * min(cell.width + 2 * x.shape[0], 6 * x.shape[0])))
    found = [(torch.tensor(own[0])[:, None], torch.tensor(own[1])[:, None])]
    while (left := networks - sum(part[0].shape[1] for part in found)) > 0:
        found.append(measured(specs, cell.activation, min(together, left), images, labels, source))
    pre, gradient = (torch.cat(part, dim=1).numpy() for part in zip(*found, strict=True))
    seconds = round(time.process_time() - started, 2)
    return Outcome(
        cell,
        networks,
        share(pre, [(band.pre_activation.low, band.pre_activation.high) for band in bands if band.pre_activation]),
        share(gradient, [(band.gradient.low, band.gradient.high) for band in bands if band.gradient]),
        seconds,
    )


def run_model(cell: Cell, networks: int, x: Tensor, y: Tensor, classes: int, seed: int) -> Outcome:
    """A network of another kind: predicted and measured as the tool does, drawn anew from the laws that its scheme gave."""
    started = time.process_time()
    torch.manual_seed(seed)
    model = build_kind(cell.kind, tuple(x.shape[1:]), classes, cell.width, cell.depth)
    report, layers = initialize(model, parse_ref(cell.scheme), seed=seed, inputs=x[:4])
    expected = predictions(model, layers, report, x, y)
    source = torch.Generator().manual_seed(crc32(f"{seed} {cell}".encode()))
    found = measured_model(model, layers, layer_specs(layers, report), networks, x, y, source)
    shares = []
    for values, quantity in zip(found, ("pre_activation", "gradient"), strict=True):
        ranges = {index: getattr(expected[layer.name], quantity) for index, layer in enumerate(layers)}
        known = [index for index, band in ranges.items() if band is not None]
        shares.append(share(values.numpy()[known], [(ranges[index].low, ranges[index].high) for index in known]))
    return Outcome(cell, networks, *shares, round(time.process_time() - started, 2))


def share(values: np.ndarray, bands: list[tuple[float, float]]) -> Share:
    """What lies inside; `values` is (layers, networks)."""
    low, high = np.array(bands).T[:, :, None]
    below, above = values < low, values > high
    inside = ~below & ~above
    of_networks = inside.mean(0)
    return Share(
        inside=float(inside.mean()),
        error=float(of_networks.std(ddof=1) / math.sqrt(len(of_networks))),
        below=float(below.mean()),
        above=float(above.mean()),
        layers=[round(float(of_layer), 4) for of_layer in inside.mean(1)],
    )


def reason(outcome: Outcome) -> str:
    """Why a cell misses, in words."""
    said = []
    for name, found in outcome.shares.items():
        if LOW <= found.inside <= HIGH:
            continue
        worst = max(range(len(found.layers)), key=lambda index: abs(found.layers[index] - 0.95))
        what = f"{name} {text(found)}, {found.below:.1%} below and {found.above:.1%} above, layer {worst + 1} {found.layers[worst]:.0%}"
        chance = "by chance, perhaps: within two standard errors of the limit" if found.off <= BY_CHANCE else ""
        said.append(f"{what}: " + (chance or ("the band is too narrow" if found.inside < LOW else "the band is too wide")))
    return "; ".join(said)


def text(found: Share) -> str:
    near = min(abs(found.inside - LOW), abs(found.inside - HIGH)) < 0.0005
    return f"{100 * found.inside:.{2 if near else 1}f} +- {100 * found.error:.1f} %"


def row(outcome: Outcome) -> str:
    cell = outcome.cell
    start = f"| {cell.scheme} | {cell.kind or cell.activation} | {cell.width} | {cell.depth} | "
    if outcome.activations is None or outcome.gradients is None:
        return start + f"- | does not apply: {outcome.why_not} | - | - |"
    mark = "" if outcome.holds else " **missed**"
    return start + f"{outcome.networks} | {text(outcome.activations)} | {text(outcome.gradients)}{mark} | {outcome.seconds:.1f} |"


def read(path: Path) -> dict[Cell, Outcome]:
    """The cells that a file holds."""
    found = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        entry = json.loads(line)
        shares = [None if entry[name] is None else Share(**entry[name]) for name in ("activations", "gradients")]
        cell = Cell(**entry["cell"])
        found[cell] = Outcome(cell, entry["networks"], *shares, entry["seconds"], entry["why_not"])
    return found


def summary(outcomes: list[Outcome]) -> Iterator[str]:
    """The tables of the docs, in Markdown: one row a scheme, width and depth, or one a kind; then the cells that miss."""
    yield "| scheme | width | depth | networks | cells | hold | activations inside | gradients inside |"
    yield "|---|---:|---:|---:|---:|---:|---|---|"
    counted = [outcome for outcome in outcomes if not outcome.why_not]
    groups: dict[tuple[int, str, int], list[Outcome]] = {}
    for outcome in sorted(counted, key=lambda one: (one.cell.width, SCHEMES.index(one.cell.scheme), one.cell.depth)):
        groups.setdefault((outcome.cell.width, outcome.cell.scheme, outcome.cell.depth), []).append(outcome)
    for (width, scheme, depth), group in groups.items():
        held = sum(one.holds for one in group)
        ranges = f"{spread(group, 'activations')} | {spread(group, 'gradients')}"
        yield f"| {scheme} | {width} | {depth} | {group[0].networks} | {len(group)} | {held} | {ranges} |"
    yield from closing(outcomes)


def summary_of_models(outcomes: list[Outcome]) -> Iterator[str]:
    """The same of networks of other kinds: one row a kind and scheme."""
    yield "| network | scheme | widths | depths | cells | hold | activations inside | gradients inside |"
    yield "|---|---|---|---|---:|---:|---|---|"
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.cell.kind, outcome.cell.scheme), []).append(outcome)
    for (kind, scheme), group in groups.items():
        widths, depths = (", ".join(map(str, sorted({getattr(one.cell, side) for one in group}))) for side in ("width", "depth"))
        held = sum(one.holds for one in group)
        ranges = f"{spread(group, 'activations')} | {spread(group, 'gradients')}"
        yield f"| {kind} | {scheme} | {widths} | {depths} | {len(group)} | {held} | {ranges} |"
    yield from closing(outcomes)


def spread(group: list[Outcome], name: str) -> str:
    """From the least to the largest share of a group of cells."""
    inside = [one.shares[name].inside for one in group]
    low, high = (f"{limit:.1%}"[:-1] for limit in (min(inside), max(inside)))
    return f"{low} %" if low == high else f"{low} to {high} %"


def closing(outcomes: list[Outcome]) -> Iterator[str]:
    """How many cells hold, what all have together, and which miss."""
    counted = [outcome for outcome in outcomes if not outcome.why_not]
    missed = [outcome for outcome in counted if not outcome.holds]
    yield f"\n{len(counted) - len(missed)} of {len(counted)} cells hold (between {LOW:.0%} and {HIGH:.0%} inside, both)."
    for name in ("activations", "gradients"):
        yield f"All cells together, {name}: {np.mean([one.shares[name].inside for one in counted]):.1%} inside."
    yield from (f"- {outcome.cell}: {reason(outcome)}." for outcome in missed)
    yield from (f"- {outcome.cell}: does not apply: {outcome.why_not}" for outcome in outcomes if outcome.why_not)


def tables(outcomes: list[Outcome]) -> str:
    """The summary of whatever kinds there are."""
    plain, models = ([one for one in outcomes if bool(one.cell.kind) == other] for other in (False, True))
    return "\n".join([*(summary(plain) if plain else ()), *(summary_of_models(models) if models else ())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-a", "--activations", nargs="+", default=ACTIVATIONS)
    parser.add_argument("-s", "--schemes", nargs="+", default=SCHEMES)
    parser.add_argument("-w", "--widths", nargs="+", type=int)
    parser.add_argument("-d", "--depths", nargs="+", type=int)
    parser.add_argument("-n", "--networks", type=int, default=200)
    parser.add_argument("--wide-networks", type=int, default=100, help="networks a cell of width 1024 (300 with --models)")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", type=Path)
    parser.add_argument("--missed-in", type=Path, help="measure only the cells that miss in this file; with a new seed and more networks")
    parser.add_argument("--models", action="store_true", help="networks of other kinds than plain chains")
    parser.add_argument("--kinds", nargs="+", help="of --models, these alone")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.show:
        print(tables(list(read(arguments.show).values())))
        return
    widths = arguments.widths or ([64, 256, 1024] if arguments.full else [64, 256])
    depths = arguments.depths or ([5, 20, 50] if arguments.full else [5, 20])
    data = load_data(parse_ref("mnist5k"), data_folder(None), torch.device("cpu"))
    x, y = data.probe_batch(arguments.images, torch.contiguous_format)
    there = read(arguments.out) if arguments.out else {}
    outcomes = list(there.values())
    print("| scheme | activation | width | depth | networks | activations inside | gradients inside | CPU seconds |")
    print("|---|---|---|---|---|---|---|---|")
    cells = [Cell(s, a, w, d) for w in widths for d in depths for s in arguments.schemes for a in arguments.activations]
    if arguments.models:
        asked = [each for each in CELLS if each[0] in (arguments.kinds or [each[0]])]
        cells = [Cell(scheme, "", width, depth, kind) for kind, scheme, width, depth in asked]
    before = read(arguments.missed_in) if arguments.missed_in else {}
    if arguments.missed_in:
        cells = [cell for cell, outcome in before.items() if not outcome.holds]
    for cell in cells:
        if cell in there:
            continue
        networks = arguments.wide_networks if cell.width >= (WIDE_MODEL if cell.kind else WIDE) else arguments.networks
        outcome = run(cell, networks, x, y, data.classes, arguments.seed, arguments.device)
        outcomes.append(outcome)
        if arguments.out:
            with arguments.out.open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
        print(row(outcome), flush=True)
    print()
    print("\n".join(measured_again(before, outcomes)) if before else tables(outcomes))


def measured_again(before: dict[Cell, Outcome], outcomes: list[Outcome]) -> Iterator[str]:
    """Cells that missed, beside what was found when they were measured again."""
    yield "| cell that missed | activations | gradients | again: activations | again: gradients |\n|---|---|---|---|---|"
    for again in outcomes:
        cell = again.cell
        shares = [text(one.shares[name]) for one in (before[cell], again) for name in ("activations", "gradients")]
        yield f"| {cell.scheme}, {cell.kind or cell.activation}, width {cell.width}, depth {cell.depth} | {' | '.join(shares)} |"


if __name__ == "__main__":
    main()
