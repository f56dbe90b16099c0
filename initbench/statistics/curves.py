"""Curves of a few heights for a terminal: the training loss, and the signal from layer to layer, of each scheme on one scale."""

import math
from collections.abc import Callable, Mapping, Sequence

from initbench.results.columns import at_step
from initbench.results.propagation import layer_value
from initbench.results.record import Place, RunResult
from initbench.statistics.inference import median

HEIGHTS = "01234567"
"""The heights of a curve, a digit each."""
LETTERS = 10
"""Heights of a curve, at most."""
LOST = "x"
"""Where most runs had diverged."""
DECADES = 9.0
"""A logarithmic scale has at most so many powers of ten on each side of the middle; what lies beyond is at its edge."""

Curve = list[float | None]
"""Values in their order; None where most runs had diverged, or nothing was measured."""


def of_losses(runs: Mapping[str, Sequence[RunResult]]) -> dict[str, str]:
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
    return heights(curves)


def of_signals(runs: Mapping[str, Sequence[RunResult]]) -> dict[str, str]:
    """The median variance of the activations of each scheme before training, from the first layer to the last."""
    curves: dict[str, Curve] = {}
    for scheme, own in runs.items():
        by_position: dict[int, list[float]] = {}
        for run in own:
            for stats in at_step(run.layers, 0):
                value = layer_value(run, stats, "activation_variance") if stats.place is not Place.HEAD else None
                if value is not None:
                    by_position.setdefault(stats.position, []).append(value)
        values = [median(by_position[position]) for position in sorted(by_position)]
        size = max(1, -(-len(values) // LETTERS))
        curves[scheme] = list(values[::size])
    return heights(curves)


def heights(curves: Mapping[str, Curve]) -> dict[str, str]:
    """The curves as digits of `HEIGHTS`, all on one scale: a logarithmic one, where no value is below zero."""
    whole = [curve for curve in curves.values() if None not in curve] or list(curves.values())  # those that diverged may leave the scale
    below = any(value < 0 for curve in whole for value in curve if value is not None)
    scaled: Callable[[float], float] = (lambda value: value) if below else math.log10
    known = [scaled(value) for curve in whole for value in curve if value and math.isfinite(value)]
    starts = sorted(scaled(curve[0]) for curve in whole if curve and curve[0] and math.isfinite(curve[0]))
    if not known or not starts:
        return {name: LOST * any(value is None for value in curve) for name, curve in curves.items()}
    middle = starts[len(starts) // 2]
    reach = math.inf if below else DECADES
    low, high = max(min(known), middle - reach), min(max(known), middle + reach)

    def height(value: float | None) -> str:
        if value is None:
            return LOST
        place = -math.inf if value <= 0 and not below else scaled(value) if math.isfinite(value) else math.inf
        share = 0.5 if high - low < 1e-9 else (min(high, max(low, place)) - low) / (high - low)
        return HEIGHTS[min(len(HEIGHTS) - 1, int(share * len(HEIGHTS)))]

    return {name: "".join(map(height, curve)) for name, curve in curves.items()}


def thinned(losses: Sequence[float], stretch: int) -> tuple[tuple[float, float], ...]:
    """The means over so many steps each, with the step in the middle of each."""
    parts = [losses[start : start + stretch] for start in range(0, len(losses), stretch)]
    return tuple((index * stretch + (len(part) + 1) / 2, sum(part) / len(part)) for index, part in enumerate(parts))


def _middle(values: Sequence[float], of: int) -> float | None:
    """The median over `of` runs; those that are not among the values had diverged."""
    middle = median([*values, *[math.inf] * (of - len(values))]) if of else math.inf
    return middle if math.isfinite(middle) else None
