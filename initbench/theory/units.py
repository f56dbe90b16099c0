"""What one unit adds to a layer's batch averages: means and covariances over the unit's weights, as fast tables.

A batch is taken as exchangeable inputs of one length q and one correlation c: the pre-activations of a unit are
sqrt(q) (sqrt(c) g + sqrt(1 - c) e) with g of the unit and e of the unit and the input. Averaged over a large batch, a unit
then adds functions of g alone: t = g^2, m2 = E_e[phi^2], m11 = E_e[phi]^2 (pairs of inputs), s2 = E_e[phi'^2] and
s11 = E_e[phi']^2. A layer averages them over its units, so their covariance over g, divided by the width, is all the
noise of finite width that the layer adds.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from math import exp, log, pi, sqrt

import numpy as np

from initbench.theory.activations import Activation
from initbench.theory.closed_forms import negative_slope, rectifier_pair, rectifier_slope_pair
from initbench.theory.functions import Array

STEP = 0.3
"""Grid step of log q."""
ANGLES = np.linspace(0.0, pi / 2, 13)
"""Grid of arccos c: in the angle all of this is smooth, down to c = 1."""
COMMON, OWN, SPAN = 48, 32, 5.0
"""Midpoint nodes for g and e, and how many standard deviations they reach."""
SMALLEST, LARGEST = 1e-30, 1e30
NOISES = 5
"""t, m2 / E m2, (m11 - r m2) / E m2, s2 / E s2, (s11 - r s2) / E s2: in this order."""


@dataclass(frozen=True)
class UnitStatistics:
    """Of a layer, one value a replicate: shape (R,), but `factor` (R, 5, 5), the Cholesky factor of the noise of one unit.

    `second` = E[phi^2], `pair` = E[phi phi] / E[phi^2], `slope` = E[phi'^2], `slope_pair` its pair over itself,
    `slope_square` = E[s2^2] / E[s2]^2; `apart` = (E[m2^2] - E[m11^2]) / E[phi^2]^2: the noise of one pair of inputs that
    other pairs do not share. `fourth` and `slope_fourth`: E[phi^2 He4(z)] / E[phi^2], and the same of phi'.
    `linear` = E[z phi]^2 / E[phi^2]. Of one input: `turn` = E[u phi phi']^2 / (E[phi^2] q E[phi'^2]),
    `stretch` = E[u^2 phi'^2] / (q E[phi'^2]), `meet` = E[phi^2 phi'^2] / (E[phi^2] E[phi'^2]).
    `spread` = E[phi^4] / E[phi^2]^2 - 1, `length_share` the part of it that follows from the length of the input.
    """

    second: Array
    pair: Array
    slope: Array
    slope_pair: Array
    slope_square: Array
    apart: Array
    fourth: Array
    slope_fourth: Array
    linear: Array
    turn: Array
    stretch: Array
    meet: Array
    spread: Array
    length_share: Array
    factor: Array


@dataclass(frozen=True)
class UnitTable:
    """The statistics of an activation as a function of q and c, interpolated; rows are computed when first needed."""

    phi: Activation
    shift: float = 0.0
    homogeneous: bool = False
    rows: dict[int, Array] = field(default_factory=dict, repr=False, compare=False)

    def at(self, q: Array, c: Array) -> UnitStatistics:
        """Statistics for arrays q, c of one shape (R,); c below 0 counts as 0."""
        angle = np.arccos(np.clip(c, 0.0, 1.0))
        place = (angle - ANGLES[0]) / (ANGLES[1] - ANGLES[0])
        column = np.clip(np.floor(place).astype(int) - 1, 0, len(ANGLES) - 4)
        across = _cubic(place - column)
        if self.homogeneous:
            cells = self._row(0)[column[:, None] + np.arange(4)]
            found = np.matmul(across[:, None, :], cells)[:, 0]
            return _unpack(found, q)
        place = np.log(np.clip(q, SMALLEST, LARGEST)) / STEP
        first = np.floor(place).astype(int) - 1
        low, high = int(first.min()), int(first.max()) + 4
        grid = np.stack([self._row(index) for index in range(low, high)])
        along = _cubic(place - first)
        cells = grid[(first - low)[:, None, None] + np.arange(4)[:, None], column[:, None, None] + np.arange(4)]
        weights = along[:, :, None] * across[:, None, :]
        found = np.matmul(weights.reshape(len(q), 1, 16), cells.reshape(len(q), 16, -1))[:, 0]
        return _unpack(found, None)

    def lengths(self, q: Array) -> tuple[Array, Array]:
        """(E[phi^2], E[phi'^2]) for an array q of any shape."""
        if self.homogeneous:
            row = np.exp(self._row(0)[0, :2])
            return row[0] * q, np.full_like(q, row[1])
        place = np.log(np.clip(q, SMALLEST, LARGEST)) / STEP
        first = np.floor(place).astype(int) - 1
        low, high = int(first.min()), int(first.max()) + 4
        grid = np.stack([self._row(index)[0, :2] for index in range(low, high)])
        cells = grid[(first - low)[..., None] + np.arange(4)]
        found = np.exp((_cubic(place - first)[..., None] * cells).sum(axis=-2))
        return found[..., 0], found[..., 1]

    def _row(self, index: int) -> Array:
        if index not in self.rows:
            self.rows[index] = _row(self.phi, exp(index * STEP), self.shift)
        return self.rows[index]


@lru_cache(maxsize=64)
def unit_table(phi: Activation, shift: float = 0.0) -> UnitTable:
    """The table of phi(u + shift)."""
    return UnitTable(phi, shift, homogeneous=shift == 0 and phi.key is not None and negative_slope(phi.key) is not None)


def _cubic(t: Array) -> Array:
    """Lagrange weights of the points 0, 1, 2, 3 at t."""
    a, b, c, d = t, t - 1, t - 2, t - 3
    return np.stack([-b * c * d / 6, a * c * d / 2, -a * b * d / 2, a * b * c / 6], axis=-1)


def _unpack(found: Array, q: Array | None) -> UnitStatistics:
    second = np.exp(found[:, 0])
    return UnitStatistics(
        second=second if q is None else second * q,
        slope=np.exp(found[:, 1]),
        pair=np.clip(found[:, 2], 0.0, 1.0),
        slope_pair=np.clip(found[:, 3], 0.0, 1.0),
        slope_square=np.maximum(found[:, 4], 1.0),
        apart=np.maximum(found[:, 5], 0.0),
        fourth=found[:, 6],
        slope_fourth=found[:, 7],
        linear=np.clip(found[:, 8], 0.0, 1.0),
        turn=np.clip(found[:, 9], 0.0, None),
        stretch=np.clip(found[:, 10], 0.0, None),
        meet=np.clip(found[:, 11], 0.0, None),
        spread=np.maximum(found[:, 12], 0.0),
        length_share=np.maximum(found[:, 13], 0.0),
        factor=found[:, 14:].reshape(-1, NOISES, NOISES),
    )


@lru_cache(maxsize=1)
def _nodes() -> tuple[Array, Array, Array, Array]:
    def midpoints(count: int) -> tuple[Array, Array]:
        x = (np.arange(count) + 0.5) / count * 2 * SPAN - SPAN
        weight = np.exp(-x * x / 2)
        return x, weight / weight.sum()

    return *midpoints(COMMON), *midpoints(OWN)


def _row(phi: Activation, q: float, shift: float) -> Array:
    """All columns at one q: shape (angles, 14 + 25)."""
    g, weight_g, e, weight_e = _nodes()
    c = np.cos(ANGLES)
    cosine = np.sqrt(np.clip(c, 0.0, 1.0))
    sine = np.sqrt(np.clip(1 - c, 0.0, 1.0))
    u = sqrt(q) * (cosine[:, None, None] * g[:, None] + sine[:, None, None] * e)
    value, slope = phi.value(u + shift), phi.slope(u + shift)
    m1, m2, s1, s2 = value @ weight_e, np.square(value) @ weight_e, slope @ weight_e, np.square(slope) @ weight_e
    exact = phi.moments(q, shift)
    second, bend = np.maximum(m2 @ weight_g, 1e-280)[:, None], np.maximum(s2 @ weight_g, 1e-280)[:, None]
    m2, m11, s2, s11 = m2 / second, m1 * m1 / second, s2 / bend, s1 * s1 / bend
    pair, slope_pair = m11 @ weight_g, s11 @ weight_g
    bent = negative_slope(phi.key) if phi.key is not None and shift == 0 else None
    if bent is not None:
        half = (1 + bent * bent) / 2
        pair = np.array([rectifier_pair(bent, 1, 1, float(x)) for x in c]) / half
        slope_pair = np.array([rectifier_slope_pair(bent, float(x)) for x in c]) / half
    parts = np.stack([np.broadcast_to(g * g, m2.shape), m2, m11 - pair[:, None] * m2, s2, s11 - slope_pair[:, None] * s2], axis=1)
    parts = parts - (parts @ weight_g)[..., None]
    covariance = np.matmul(parts * weight_g, parts.transpose(0, 2, 1))
    factor = _cholesky(covariance)
    ones = np.ones_like(pair)
    logs = [ones * log(max(moment, 1e-280)) for moment in (exact.second, exact.slope_second)]
    squares = [np.square(s2) @ weight_g, (np.square(m2) - np.square(m11)) @ weight_g]
    head = np.stack([*logs, pair, slope_pair, *squares, *(ones * number for number in _of_one_input(phi, q, shift))], axis=1)
    return np.concatenate([head, factor.reshape(len(c), -1)], axis=1)


def _of_one_input(phi: Activation, q: float, shift: float) -> tuple[float, ...]:
    """fourth, slope_fourth, linear, turn, stretch, meet, spread and length_share of `UnitStatistics`."""
    z, weight, _, _ = _nodes()
    value, slope = phi.value(sqrt(q) * z + shift), phi.slope(sqrt(q) * z + shift)

    def mean(values: Array) -> float:
        return float(values @ weight)

    second, bend = max(mean(value**2), 1e-280), max(mean(slope**2), 1e-280)
    hermite = z**4 - 6 * z**2 + 3
    return (
        mean(value**2 * hermite) / second,
        mean(slope**2 * hermite) / bend,
        mean(z * value) ** 2 / second,
        mean(z * value * slope) ** 2 / (second * bend),
        mean((z * slope) ** 2) / bend,
        mean((value * slope) ** 2) / (second * bend),
        mean(value**4) / second**2 - 1,
        (mean((z * value) ** 2) / second - 1) ** 2 / 2,
    )


def _cholesky(covariance: Array) -> Array:
    """Lower factors of positive semi-definite matrices, shape (..., 5, 5); a pivot that vanishes gives a zero column."""
    factor = np.zeros_like(covariance)
    for j in range(NOISES):
        pivot = covariance[..., j, j] - np.square(factor[..., j, :j]).sum(axis=-1)
        small = pivot < 1e-10 * np.maximum(covariance[..., j, j], 1e-3)
        root = np.sqrt(np.where(small, 1.0, pivot))
        factor[..., j, j] = np.where(small, 0.0, root)
        for i in range(j + 1, NOISES):
            rest = covariance[..., i, j] - (factor[..., i, :j] * factor[..., j, :j]).sum(axis=-1)
            factor[..., i, j] = np.where(small, 0.0, rest / root)
    return factor
