"""How a size grows with the width of a network: the slope of a straight line in logarithms, with its interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from initbench.statistics.inference import LEVEL


@dataclass(frozen=True)
class Slope:
    """The exponent of a power law, with its interval: the size goes as width^value."""

    value: float
    low: float
    high: float


def slope(widths: Sequence[int], sizes: Sequence[Sequence[float]], level: float = LEVEL) -> Slope:
    """The least-squares slope of log2(size) over log2(width); a row of sizes (positive, finite) a seed, one a width, at least three widths.

    All seeds share the slope, each has a level of its own, since its batches are the same at every width. What is left varies
    independently, so the interval is Student's with seeds * widths - seeds - 1 degrees of freedom; a line that is bent makes it wider.
    """
    from scipy.special import stdtrit

    xs = [math.log2(width) for width in widths]
    middle = sum(xs) / len(xs)
    spread = len(sizes) * sum((x - middle) ** 2 for x in xs)
    rows = [[math.log2(size) for size in row] for row in sizes]
    value = sum((x - middle) * y for row in rows for x, y in zip(xs, row, strict=True)) / spread
    left = 0.0
    for row in rows:
        level_of_seed = sum(row) / len(row)
        left += sum((y - level_of_seed - value * (x - middle)) ** 2 for x, y in zip(xs, row, strict=True))
    freedom = len(rows) * len(xs) - len(rows) - 1
    half = float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(left / freedom / spread)
    return Slope(value, value - half, value + half)
