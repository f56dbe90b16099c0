"""Infinite-width recursions of a network at initialization: lengths, correlations, gradients, fixed points, depth scales.

`sigma_w2` is fan_in times the variance of a weight, `sigma_b2` the variance of a bias, q the mean square of a
pre-activation, c the correlation of two inputs.
Source: Poole et al. 2016, Schoenholz et al. 2017; residual branches Yang & Schoenholz 2017; PDLT = Roberts et al. 2022.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from math import exp, inf, log, sqrt

from initbench.errors import ConfigError
from initbench.theory.activations import Activation, activation
from initbench.theory.functions import Array

Phi = str | Activation | Callable[[Array], Array] | None
"""An activation: its name, itself, or a Python function of a numpy array."""

MARGINAL = 1e-6
"""A slope this near 1 counts as 1."""
SMALLEST, LARGEST = 1e-12, 1e12
"""Fixed points of q are looked for between these."""
STEPS = 241
"""Points on the logarithmic grid on which a sign change of q' - q is looked for."""


class Phase(StrEnum):
    """What a perturbation of the input does with depth: it shrinks, grows, or keeps its size."""

    ORDERED = "ordered"
    CRITICAL = "critical"
    CHAOTIC = "chaotic"


@dataclass(frozen=True)
class FixedPoint:
    """A length q* that a layer keeps, with chi_1 and chi_parallel there; stable where chi_parallel < 1."""

    q: float
    chi_1: float
    chi_parallel: float

    @property
    def stable(self) -> bool:
        """Whether lengths near q* come nearer with depth."""
        return self.chi_parallel < 1 - MARGINAL

    @property
    def phase(self) -> Phase:
        """By chi_1, which is the growth of the gradient's variance a layer as well."""
        return phase_of(self.chi_1)


def next_q(phi: Phi, q: float, sigma_w2: float, sigma_b2: float = 0.0, *, keep: float = 1.0) -> float:
    """The length one layer on; `keep` is the share that dropout keeps (inverted dropout)."""
    return sigma_w2 * activation(phi).moments(q).second / keep + sigma_b2


def next_correlation(phi: Phi, c: float, q: float, sigma_w2: float, sigma_b2: float = 0.0, *, keep: float = 1.0) -> float:
    """The correlation of two inputs of length q one layer on; dropout masks are independent."""
    return (sigma_w2 * activation(phi).pair(q, q, c) + sigma_b2) / next_q(phi, q, sigma_w2, sigma_b2, keep=keep)


def next_covariance(phi: Phi, q1: float, q2: float, c: float, sigma_w2: float, sigma_b2: float = 0.0) -> float:
    """The covariance of the pre-activations of two inputs of different lengths one layer on."""
    return sigma_w2 * activation(phi).pair(q1, q2, c) + sigma_b2


def chi_1(phi: Phi, q: float, sigma_w2: float) -> float:
    """sigma_w^2 E[phi'^2]: growth a layer of a small difference between inputs, and of the gradient's variance."""
    return sigma_w2 * activation(phi).moments(q).slope_second


def chi_parallel(phi: Phi, q: float, sigma_w2: float) -> float:
    """sigma_w^2 d/dq E[phi^2]: growth a layer of a small change of the length."""
    return sigma_w2 * activation(phi).moments(q).second_by_q


def chi_c(phi: Phi, q: float, c: float, sigma_w2: float) -> float:
    """sigma_w^2 E[phi'(u1) phi'(u2)]: the slope of the correlation map at c."""
    return sigma_w2 * activation(phi).slope_pair(q, q, c)


def lengths(phi: Phi, q1: float, depth: int, sigma_w2: float, sigma_b2: float = 0.0, *, keep: float = 1.0) -> tuple[float, ...]:
    """The lengths of layers 1 to `depth`, the first being q1."""
    qs = [q1]
    while len(qs) < depth:
        qs.append(next_q(phi, qs[-1], sigma_w2, sigma_b2, keep=keep))
    return tuple(qs)


def gradient_factors(phi: Phi, qs: tuple[float, ...], sigma_w2: float) -> tuple[float, ...]:
    """Var(dL/dh_l) over that of the last layer, at constant width, for layers of the lengths `qs`."""
    factors = [1.0]
    for q in reversed(qs[:-1]):
        factors.append(factors[-1] * chi_1(phi, q, sigma_w2))
    return tuple(reversed(factors))


def residual_next_q(q: float, branch_q: float, alpha: float = 1.0) -> float:
    """The length of a residual stream after adding alpha times a branch that is independent of it."""
    return q + alpha * alpha * branch_q


def batch_norm_growth(phi: Phi) -> float:
    """Growth of the gradient's variance a layer of linear, batch norm, activation; pi/(pi - 1) for ReLU.

    For large batches of unrelated inputs. Source: Yang et al. 2019.
    """
    moments = activation(phi).moments(1.0)
    return moments.slope_second / moments.variance


def fixed_points(phi: Phi, sigma_w2: float, sigma_b2: float = 0.0, *, keep: float = 1.0) -> tuple[FixedPoint, ...]:
    """All lengths that a layer keeps, ascending, with q* = 0 where zero is mapped to zero.

    For ReLU-like functions at sigma_b^2 = 0 only zero is listed, although at criticality every length is kept.
    """
    f = activation(phi)
    sigma_w2 = sigma_w2 / keep

    def excess(t: float) -> float:
        q = exp(t)
        return (sigma_w2 * f.moments(q).second + sigma_b2) / q - 1

    points = []
    if sigma_b2 == 0 and f.moments(1e-24).second < 1e-20:
        points.append(_point(f, 1e-16, sigma_w2, keep))
    grid = [log(SMALLEST) + (log(LARGEST) - log(SMALLEST)) * i / (STEPS - 1) for i in range(STEPS)]
    values = [excess(t) for t in grid]
    for low, high, at_low, at_high in zip(grid, grid[1:], values, values[1:], strict=False):
        if at_low * at_high < 0 and max(abs(at_low), abs(at_high)) > 1e-9:
            points.append(_point(f, exp(_root(excess, low, high)), sigma_w2, keep))
    return tuple(points)


def fixed_point(phi: Phi, sigma_w2: float, sigma_b2: float = 0.0, *, start: float = 1.0, keep: float = 1.0) -> FixedPoint | None:
    """The stable length that depth leads to from `start`; None where lengths grow without bound."""
    points = fixed_points(phi, sigma_w2, sigma_b2, keep=keep)
    growing = next_q(phi, start, sigma_w2, sigma_b2, keep=keep) > start
    if growing:
        return next((point for point in points if point.q >= start), None)
    return next((point for point in reversed(points) if point.q <= start), None)


def correlation_fixed_point(phi: Phi, q: float, sigma_w2: float, sigma_b2: float = 0.0) -> float:
    """The stable correlation c* at the fixed length q: 1 in the ordered phase, below 1 in the chaotic one."""
    if chi_1(phi, q, sigma_w2) <= 1 + MARGINAL:
        return 1.0

    def excess(c: float) -> float:
        return (sigma_w2 * activation(phi).pair(q, q, c) + sigma_b2) / q - c

    return _root(excess, -0.999, 1 - 1e-9) if excess(-0.999) > 0 else -1.0


def depth_scale_q(phi: Phi, q: float, sigma_w2: float) -> float:
    """xi_q: layers in which a deviation from the fixed length q shrinks e-fold; infinite where it does not."""
    return _scale(chi_parallel(phi, q, sigma_w2))


def depth_scale_c(phi: Phi, q: float, sigma_w2: float, sigma_b2: float = 0.0) -> float:
    """xi_c: layers in which a deviation from the fixed correlation shrinks e-fold; networks train to about 6 xi_c."""
    c = correlation_fixed_point(phi, q, sigma_w2, sigma_b2)
    return _scale(chi_c(phi, q, c, sigma_w2))


def edge_of_chaos(phi: Phi, q: float) -> tuple[float, float]:
    """(sigma_w^2, sigma_b^2) for which q is a fixed length with chi_1 = 1.

    Raises: ConfigError where sigma_b^2 would be negative, or where the function is flat at this length.
    """
    f = activation(phi)
    moments = f.moments(q)
    if moments.slope_second <= 0:
        raise ConfigError(f"The activation '{f.name}' is flat at q = {q:g}: no weights make it critical. Give another q.")
    sigma_w2 = 1 / moments.slope_second
    sigma_b2 = q - sigma_w2 * moments.second
    if sigma_b2 < -1e-9 * q:
        raise ConfigError(
            f"'{f.name}' has no edge of chaos at q = {q:g}: the biases would need a variance of {sigma_b2:.3g}. Give another q."
        )
    return sigma_w2, max(sigma_b2, 0.0)


def critical_point(phi: Phi, sigma_b2: float, *, low: float = 1e-8, high: float = 1e4) -> tuple[float, float]:
    """(sigma_w^2, q*) on the edge of chaos for a given bias variance: the smallest such q*.

    Raises: ConfigError where the line does not reach this bias variance.
    """
    f = activation(phi)

    def excess(t: float) -> float:
        m = f.moments(exp(t))
        return exp(t) - m.second / m.slope_second - sigma_b2

    grid = [log(low) + (log(high) - log(low)) * i / 80 for i in range(81)]
    for a, b in pairwise(grid):
        if excess(a) < 0 <= excess(b):
            q = exp(_root(excess, a, b))
            return 1 / f.moments(q).slope_second, q
    raise ConfigError(f"The edge of chaos of '{f.name}' has no point with a bias variance of {sigma_b2:g}.")


def doubly_critical_points(phi: Phi, *, low: float = 1e-3, high: float = 1e3) -> tuple[tuple[float, float, float], ...]:
    """All (sigma_w^2, sigma_b^2, q*) with chi_1 = chi_parallel = 1 and sigma_b^2 >= 0: PDLT's half-stable points."""
    f = activation(phi)

    def excess(t: float) -> float:
        m = f.moments(exp(t))
        return m.second_by_q / m.slope_second - 1

    grid = [log(low) + (log(high) - log(low)) * i / 160 for i in range(161)]
    points = []
    for a, b in pairwise(grid):
        if excess(a) * excess(b) < 0 and max(abs(excess(a)), abs(excess(b))) > 1e-9:
            q = exp(_root(excess, a, b))
            m = f.moments(q)
            if q - m.second / m.slope_second > 0:
                points.append((1 / m.slope_second, q - m.second / m.slope_second, q))
    return tuple(points)


def phase_of(chi: float) -> Phase:
    """The phase of a chi_1."""
    if abs(chi - 1) < MARGINAL:
        return Phase.CRITICAL
    return Phase.CHAOTIC if chi > 1 else Phase.ORDERED


def vertex(phi: Phi, qs: tuple[float, ...], sigma_w2: float, width: int) -> tuple[float, ...]:
    """The four-point vertex V of each layer: variance over networks of the length of one input, to first order in 1/width.

    The mean square of the `width` pre-activations of a layer varies by V + 2 (q^2 + V)/width. Source: PDLT, chapter 4.
    """
    vertices = [0.0]
    for q in qs[:-1]:
        m = activation(phi).moments(q)
        vertices.append((sigma_w2 * m.second_by_q) ** 2 * vertices[-1] + sigma_w2**2 * (m.fourth - m.second**2) / width)
    return tuple(vertices)


def relu_length_spread(width: int, depth: int) -> tuple[float, float]:
    """For Gaussian He-ReLU: E[M^2]/E[M]^2 of the squared output length M, and the standard deviation of log M.

    Source: Hanin 2018; Hanin & Rolnick 2018.
    """
    return exp(depth * log(1 + 5 / width)), sqrt(5 * depth / width)


def _point(f: Activation, q: float, sigma_w2: float, keep: float) -> FixedPoint:
    m = f.moments(q)
    zero = q <= 1e-15
    return FixedPoint(0.0 if zero else q, sigma_w2 * keep * m.slope_second, sigma_w2 * m.second_by_q)


def _scale(slope: float) -> float:
    if slope <= 0:
        return 0.0
    return -1 / log(slope) if slope < 1 - 1e-12 else inf


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq

    return float(brentq(function, low, high, xtol=1e-14, rtol=1e-14))
