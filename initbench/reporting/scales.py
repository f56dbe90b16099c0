"""Where things stand on an axis: ranges, ticks, the scale of the error, labels pushed apart; no drawing."""

import math
from collections.abc import Sequence
from typing import Any

from initbench.reporting.panels import Curve, Panel
from initbench.statistics.curves import DECADES

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
WILD = 20.0
"""What is above so many times the usual is marked at the edge. That is the lowest of the first values of training curves, here and on the
page; over values of a key, the third quartile."""
LEAST_TICKS = 3
"""Numbers at a log axis."""
LEAST_DECADES = 2.0
"""A log axis over layers shows at least so many, so that mere noise does not look like a trend."""


def limits(panels: Sequence[Panel]) -> tuple[float, float]:
    """The y range of panels that are compared: all values with some room; on a log axis at most `DECADES` to each side of the middle.

    Runs that diverged may leave the range, so that those that train can be read; so may a head that is far from the other layers, and a
    training curve that starts wild.
    """
    panel = panels[0]
    inner = _values(panels, apart=False)
    least, most = (min(inner) / 10, 10 * max(inner)) if inner and panel.scale == "log" else (-math.inf, math.inf)
    values = sorted(value for value in _values(panels, apart=True) if least <= value <= most)
    if not values:
        return (0.1, 10.0) if panel.scale == "log" else (0.0, 1.0)
    if panel.scale == "number":
        room = 0.04 * (values[-1] - values[0]) or 0.5
        return values[0] - room, values[-1] + room
    if panel.scale != "log":
        room = 0.04 * (values[-1] - values[0]) or 0.005
        if panel.layers:
            return -0.004, max(values[-1] + room, 0.1)
        return values[0] - room, min(values[-1] + room, 1 - (1 - values[-1]) * 0.8 if stretched(values[0], values[-1], panel) else 1.004)
    exponents = sorted(math.log10(value) for value in values)
    starts = sorted(math.log10(y) for _, line in _counted(panels) if (y := next((y for _, y in line.points if y), None)))
    usual = math.inf if panel.layers or not starts else exponents[3 * len(exponents) // 4] if panel.ticks else starts[0]
    highest = min(exponents[-1], usual + math.log10(WILD))
    within = [start for start in starts if start <= highest] or exponents
    middle = within[len(within) // 2]
    low, high = max(exponents[0], middle - DECADES), min(highest, middle + DECADES)
    room = max(0.04 * (high - low), LEAST_DECADES / 2 - (high - low) / 2 if panel.layers else 0.02)
    return float(10 ** (low - room)), float(10 ** (high + room))


def _values(panels: Sequence[Panel], *, apart: bool) -> list[float]:
    """What can be drawn of the lines and bands that count, with the heads that stand apart or without."""
    lines = _counted(panels)
    seeds = [(panel, line) for panel, line in lines if line.weight == "seed" and not line.broken]
    found = [y for panel, line in seeds or lines for x, y in line.points if y is not None and (apart or x != panel.head)]
    kept = {line.scheme for _, line in lines}
    bands = [(panel, band) for panel in panels for band in panel.bands if band.scheme in kept]
    found += [edge for panel, band in bands for x, *edges in band.points for edge in edges if apart or x != panel.head]
    return [value for value in found if panels[0].scale != "log" or value > 0]


def _counted(panels: Sequence[Panel]) -> list[tuple[Panel, Curve]]:
    """The lines that set the range: those of schemes that always diverge where all do."""
    gone = frozenset[str]().union(*(panel.gone for panel in panels))
    every = [(panel, line) for panel in panels for line in panel.lines]
    return [(panel, line) for panel, line in every if line.scheme not in gone] or every


def stretched(low: float, high: float, panel: Panel) -> bool:
    """Whether all accuracies are near the top and their errors differ by so much that only the scale of the error shows it."""
    return panel.scale == "accuracy" and low >= 0.9 and 1 - low > 3 * (1 - high)


def power_of_ten(value: float) -> str:
    """The label of a tick on a log axis, such as 10⁻³; plain text, which every renderer draws at once."""
    return "10" + str(round(math.log10(value))).translate(RAISED)


def log_ticks(low: float, high: float, room: int = 12) -> list[tuple[float, str]]:
    """Round numbers on a log axis and their labels, at least three; none where powers of ten are enough.

    `room` is how many labels there is room for, if only for the powers of ten among them.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    plain, enough = low > 1e-4, sum(low <= 10.0**power <= high for power in powers) >= LEAST_TICKS
    if high / low >= 2e3 or (enough and not plain):
        return []
    ticks = [(float(f"{digit}e{power}"), power) for power in powers for digit in ((1, 2, 5) if plain else (1, 3))]
    ticks = [(tick, power) for tick, power in ticks if low <= tick <= high]
    if enough and len(ticks) > room:
        ticks = [(tick, power) for tick, power in ticks if tick == float(f"1e{power}")]
    if not plain and len(ticks) >= LEAST_TICKS:
        return [(tick, f"{tick / 10.0**power:.0f}·".removeprefix("1·") + power_of_ten(10.0**power)) for tick, power in ticks]
    found = [tick for tick, _ in ticks]
    largest = math.floor(math.log10(high - low))
    steps = (float(f"{digit}e{largest - tens}") for tens in range(3) for digit in (5, 2, 1))
    while len(found) < LEAST_TICKS:
        step = next(steps)
        found = [float(f"{index * step:.6g}") for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [(tick, f"{tick:g}") for tick in found]


def head_beyond(panel: Panel, low: float, high: float) -> str:
    """The least and the greatest value of a head that stands apart and leaves the range, as in `0.09 to 0.1`."""
    points = [point for line in panel.lines if line.named for point in line.points]
    beyond = [y for x, y in points if x == panel.head and y is not None and not low <= y <= high]
    return " to ".join(dict.fromkeys(f"{choose(beyond):.2g}" for choose in (min, max))) if beyond else ""


def spread_apart(places: list[float], distance: float) -> list[float]:
    """The places moved as little as possible so that neighbours are at least `distance` apart; inside 0..1 where that fits."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    groups: list[list[float]] = []
    for position, index in enumerate(order):
        groups.append([places[index] - position * distance])
        while len(groups) > 1 and sum(groups[-2]) / len(groups[-2]) > sum(groups[-1]) / len(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    top = 1 - (len(places) - 1) * distance
    bases = [min(max(sum(group) / len(group), 0.0), max(top, 0.0)) for group in groups for _ in group]
    moved = [0.0] * len(places)
    for position, index in enumerate(order):
        moved[index] = bases[position] + position * distance
    return moved


def error_scale(accuracy: Any) -> Any:
    """Even steps for each halving of the error; everything from 99.99 % on shares one place."""
    import numpy as np

    return -np.log10(np.maximum(1 - np.asarray(accuracy, dtype=float), 1e-4))


def error_unscale(place: Any) -> Any:
    """The accuracy at a place of `error_scale`."""
    return 1 - 10.0**-place


def ticks_between(low: float, high: float, distance: float, panel: Panel) -> list[float]:
    """Round accuracies between two; on the scale of the error those at least `distance` of the axis apart."""
    if not stretched(low, high, panel):
        most = min(7.0, 1 / distance)
        size = next(
            step for step in (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / step <= most or step == 0.2
        )
        return [round(index * size, 6) for index in range(math.ceil(low / size), math.floor(high / size) + 1) if 0 <= index * size <= 1]
    ticks: list[float] = []
    least = distance * float(error_scale(high) - error_scale(low))
    for tick in (0.9995, 0.999, 0.998, 0.995, 0.99, 0.98, 0.97, 0.96, 0.95, 0.94, 0.93, 0.92, 0.91, 0.9):
        if low <= tick <= high and (not ticks or error_scale(ticks[-1]) - error_scale(tick) >= least):
            ticks.append(tick)
    return ticks
