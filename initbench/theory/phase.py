"""The phase diagram of an activation: at each (sigma_w, sigma_b) where lengths and correlations lead to, and how fast."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log10, sqrt

import numpy as np

from initbench.theory.activations import activation
from initbench.theory.functions import Array
from initbench.theory.meanfield import Phi
from initbench.theory.network import Apply, InputStats, LayerSpec, NetworkSpec, Node, Weight
from initbench.theory.prediction import predict
from initbench.theory.units import unit_table

LENGTH_STEPS, LEAPS, CORRELATION_STEPS = 200, 60, 150
"""Layers that are followed until lengths, with leaps at the end, and correlations count as settled."""
SMALLEST, LARGEST = 1e-8, 1e6
"""Lengths stay between these: beyond, nothing changes any more for the activations that get there."""
HALF_BAND = 1.96
"""Standard deviations of half a 95 % band."""
MANY_REPLICAS, MOST_LAYERS = 2000, 75
"""For a smooth line, where that does not take long."""
TRAINS_TO = 6.0
"""Correlation lengths to which networks train, about. Source: Schoenholz et al. 2017, section 5."""
START = 0.6
"""The correlation of two inputs at the first layer."""


@dataclass(frozen=True)
class PhaseGrid:
    """At each point of a grid, all arrays of one shape: the settled length q, correlation c, chi_1, and the depth scale xi_c.

    chi_1 is 1 on the critical line, below in the ordered phase, above in the chaotic one; it is also the growth of the
    gradient's variance a layer. xi_c counts the layers in which the difference of two inputs changes e-fold.
    """

    q: Array
    c: Array
    chi_1: Array
    xi_c: Array


def gradient_decades(phi: Phi, sigma_w: Array, sigma_b: Array, depth: Array) -> Array:
    """log10 of the gradient's squared length at the first hidden layer over that at the last of `depth`, on arrays of one shape.

    Infinite width, from inputs of mean square 1: lengths need not have settled. Between whole depths it goes straight.
    """
    table = unit_table(activation(phi))
    w2, b2 = np.square(sigma_w), np.square(sigma_b)
    q = np.clip(w2 + b2, SMALLEST, LARGEST)
    decades = np.zeros_like(q)
    for layer in range(1, ceil(np.max(depth))):
        second, slope = table.lengths(q)
        decades += np.clip(depth - layer, 0.0, 1.0) * np.log10(np.maximum(w2 * slope, 1e-300))
        q = np.clip(w2 * second + b2, SMALLEST, LARGEST)
    return np.asarray(decades)


def straying(phi: Phi, sigma_w: float, depth: int, width: int) -> Array:
    """How far single networks stray: entry L is the standard deviation of log10 of that ratio over L layers, (depth,).

    Variances are proportional to 1 / width, nearly. Ten balanced classes, and inputs of mean square 1 that are half alike.
    """
    inputs = InputStats(np.ones(16), 0.5, 0.4, 0.5, samples=64, class_shares=(0.1,) * 10, channels=width)
    layers = tuple(
        LayerSpec(name=str(index), fan_in=width, units=units, law="normal", std=sigma_w / sqrt(width))
        for index, units in enumerate([width] * depth + [10])
    )
    applied = activation(phi)
    nodes: list[Node] = []
    for layer in layers:
        nodes.append(Weight(len(nodes) - 1, layer))
        if layer is not layers[-1]:
            nodes.append(Apply(len(nodes) - 1, applied))
    predictions = predict(NetworkSpec(tuple(nodes)), inputs, replicas=MANY_REPLICAS if depth <= MOST_LAYERS else None)[-2::-1]
    widths = [log10(each.gradient.high / each.gradient.low) / (2 * HALF_BAND) if each.gradient else 0.0 for each in predictions]
    return np.asarray(np.sqrt(np.maximum(np.square(widths) - widths[0] ** 2, 0.0)))


def _leapt(q: Array, after: Callable[[Array], Array]) -> Array:
    """Lengths farther on: near the critical line they settle ever more slowly, and Aitken's extrapolation goes where three of them lead.

    It is taken only where it goes on the same way and leaves a smaller step.
    """
    one = after(q)
    two = after(one)
    bend = two - 2 * one + q
    with np.errstate(divide="ignore", invalid="ignore"):
        far = np.clip(np.where(bend == 0, two, q - np.square(one - q) / bend), SMALLEST, LARGEST)
    on = (np.sign(far - two) == np.sign(two - one)) & (np.abs(after(far) - far) <= np.abs(after(two) - two))
    return np.asarray(np.where(on, far, two))


def phase_grid(phi: Phi, sigma_w: Array, sigma_b: Array) -> PhaseGrid:
    """The phase diagram on arrays of one shape.

    Source: Poole et al. 2016, eqs. 3 to 6; Schoenholz et al. 2017, eq. 9. Interpolated in the tables of `units.py`.
    """
    table = unit_table(activation(phi))
    w2, b2 = np.square(sigma_w).ravel(), np.square(sigma_b).ravel()

    def next_length(q: Array) -> Array:
        return np.asarray(np.clip(w2 * table.lengths(q)[0] + b2, SMALLEST, LARGEST))

    q = np.ones_like(w2)
    for _ in range(LENGTH_STEPS):
        q = next_length(q)
    for _ in range(LEAPS):
        q = _leapt(q, next_length)
    c = np.full_like(w2, START)
    for _ in range(CORRELATION_STEPS):
        statistics = table.at(q, c)
        mixed = w2 * statistics.second * statistics.pair
        c = np.clip((mixed + b2) / np.maximum(w2 * statistics.second + b2, 1e-300), 0.0, 1.0)
    statistics = table.at(q, c)
    slope = np.clip(w2 * statistics.slope * statistics.slope_pair, 1e-12, 1 - 1e-9)
    shape = np.shape(sigma_w)
    parts = (q, c, w2 * table.lengths(q)[1], -1 / np.log(slope))
    return PhaseGrid(*(np.asarray(part).reshape(shape) for part in parts))
