"""Curves of a few letters for a terminal: the training loss, and the signal from layer to layer, of each scheme on one scale."""

import math
from collections.abc import Mapping, Sequence

from initbench.reporting.figures import thinned
from initbench.reporting.scales import DECADES
from initbench.results.propagation import layer_value
from initbench.results.record import Place
from initbench.statistics.inference import median
from initbench.statistics.summary import Runs

BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.-=+*#@"
"""Eight heights, and what stands for them where a terminal has no such letters."""
LETTERS = 10
"""Letters of a curve, at most."""
LOST = "x"
"""Where most runs had diverged."""

Curve = list[float | None]
"""Values in their order; None where most runs had diverged, or nothing was measured."""


def of_losses(runs: Runs, letters: str = BLOCKS) -> dict[str, str]:
    """The median training loss of each scheme, from the first step to the last."""
    longest = max((len(run.train_losses) for own in runs.values() for run in own), default=0)
    size = max(1, -(-longest // LETTERS))
    curves: dict[str, Curve] = {}
    for scheme, own in runs.items():
        parts: list[list[float]] = [[] for _ in range(-(-longest // size))]
        for run in own:
            for place, (_, loss) in enumerate(thinned(run.train_losses, size)):
                parts[place].append(loss)
        curves[scheme] = [_middle(values, len(own)) for values in parts]
    return drawn(curves, letters)


def of_signals(runs: Runs, letters: str = BLOCKS) -> dict[str, str]:
    """The median variance of the activations of each scheme before training, from the first layer to the last."""
    curves: dict[str, Curve] = {}
    for scheme, own in runs.items():
        by_position: dict[int, list[float]] = {}
        for run in own:
            for stats in run.layers:
                value = layer_value(run, stats, "activation_variance") if stats.step == 0 and stats.place is not Place.HEAD else None
                if value is not None:
                    by_position.setdefault(stats.position, []).append(value)
        values = [median(by_position[position]) for position in sorted(by_position)]
        size = max(1, -(-len(values) // LETTERS))
        curves[scheme] = list(values[::size])
    return drawn(curves, letters)


def drawn(curves: Mapping[str, Curve], letters: str = BLOCKS) -> dict[str, str]:
    """The curves as letters, all on one logarithmic scale."""
    whole = [curve for curve in curves.values() if None not in curve] or list(curves.values())  # those that diverged may leave the scale
    known = [math.log10(value) for curve in whole for value in curve if value and math.isfinite(value)]
    starts = sorted(math.log10(curve[0]) for curve in whole if curve and curve[0] and math.isfinite(curve[0]))
    if not known or not starts:
        return {name: LOST * any(value is None for value in curve) for name, curve in curves.items()}
    middle = starts[len(starts) // 2]
    low, high = max(min(known), middle - DECADES), min(max(known), middle + DECADES)

    def letter(value: float | None) -> str:
        if value is None:
            return LOST
        place = -math.inf if value <= 0 else math.log10(value) if math.isfinite(value) else math.inf
        share = 0.5 if high - low < 1e-9 else (min(high, max(low, place)) - low) / (high - low)
        return letters[min(len(letters) - 1, int(share * len(letters)))]

    return {name: "".join(map(letter, curve)) for name, curve in curves.items()}


def _middle(values: Sequence[float], of: int) -> float | None:
    """The median over `of` runs; those that are not among the values had diverged."""
    middle = median([*values, *[math.inf] * (of - len(values))]) if of else math.inf
    return middle if math.isfinite(middle) else None
