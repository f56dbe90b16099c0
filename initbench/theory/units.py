"""What one unit adds to a layer's batch averages: means and covariances over the unit's weights, as fast tables.

A batch is taken as exchangeable inputs of one length q and one correlation c: the pre-activations of a unit are
sqrt(q) (sqrt(c) g + sqrt(1 - c) e) with g of the unit and e of the unit and the input. Averaged over a large batch, a unit
then adds functions of g alone: t = g^2, m2 = E_e[phi^2], m11 = E_e[phi]^2 (pairs of inputs), s2 = E_e[phi'^2] and
s11 = E_e[phi']^2. A layer averages them over its units, so their covariance over g, divided by the width, is all the
noise of finite width that the layer adds.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import exp, inf, log, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from initbench.theory.activations import Activation
from initbench.theory.closed_forms import negative_slope, rectifier_pair, rectifier_slope_pair
from initbench.theory.functions import Array

STEP = 0.3
"""Grid step of log q."""
COARSER = ((10.0, 4), (40.0, 16))
"""So far in log q from where the activation bends all of this is nearly a power of q, and the step is so many times as long."""
ANGLES = np.linspace(0.0, pi / 2, 13)
"""Grid of arccos c: in the angle all of this is smooth, down to c = 1."""
COMMON, OWN, SPAN = 48, 32, 5.0
"""Midpoint nodes for g and e, and how many standard deviations they reach."""
SMALLEST, LARGEST = 1e-78, 1e78
"""Mean squares of numbers that float32 can hold; beyond, they count as these."""
NOISES = 5
"""t, m2 / E m2, (m11 - r m2) / E m2, s2 / E s2, (s11 - r s2) / E s2: in this order."""
COLUMNS = 17 + NOISES * (NOISES + 1)
"""Numbers at one q and c: those of `UnitStatistics` that are one number, then `odd`, then `factor`."""


@dataclass(frozen=True)
class UnitStatistics:
    """Of a layer, one value a replicate: shape (R,), but `odd` (R, 5) and `factor` (R, 5, 5), the Cholesky factor of the noise of one unit.

    `second` = E[phi^2], `pair` = E[phi phi] / E[phi^2], `slope` = E[phi'^2], `slope_pair` its pair over itself,
    `slope_square` = E[s2^2] / E[s2]^2; `apart` = (E[m2^2] - E[m11^2]) / E[phi^2]^2: the noise of one pair of inputs that
    other pairs do not share. `fourth` and `slope_fourth`: E[phi^2 He4(z)] / E[phi^2], and the same of phi'.
    `linear` = E[z phi]^2 / E[phi^2]. Of one input: `turn` = E[u phi phi']^2 / (E[phi^2] q E[phi'^2]),
    `stretch` = E[u^2 phi'^2] / (q E[phi'^2]), `meet` = E[phi^2 phi'^2] / (E[phi^2] E[phi'^2]).
    `spread` = E[phi^4] / E[phi^2]^2 - 1, `lean`^2 the part of it that follows from the length of the input;
    `slope_alone` = E[phi'^4] / E[phi'^2]^2. What follows from the mean over units: `tilt` = E[z phi^2] / E[phi^2],
    `slope_tilt` the same of phi', `odd` the covariance of the noise with g.
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
    lean: Array
    slope_alone: Array
    tilt: Array
    slope_tilt: Array
    odd: Array
    factor: Array

    def of_signs(self, share: Array) -> "UnitStatistics":
        """The same where correlations have either sign: what is odd in g adds up by `share` (R,), their mean over c, alone."""
        covariance = np.matmul(self.factor, self.factor.transpose(0, 2, 1))
        odd = self.odd[:, :, None] * self.odd[:, None, :] * (1 - share)[:, None, None]
        return replace(self, factor=_cholesky(covariance - odd), odd=self.odd * np.sqrt(share)[:, None])

    def level(self) -> "UnitStatistics":
        """The same after a layer norm: neither the length of an input, its mean square over units, nor its mean is noise any more."""
        covariance = np.matmul(self.factor, self.factor.transpose(0, 2, 1)) - self.odd[:, :, None] * self.odd[:, None, :]
        of_length = self.factor[:, :, 0]
        factor = _cholesky(covariance - of_length[:, :, None] * of_length[:, None, :])
        value, slope = self.odd[:, 1], self.odd[:, 3]
        return replace(
            self,
            factor=factor,
            odd=np.zeros_like(self.odd),
            spread=self.spread - self.tilt**2 + value**2,
            meet=self.meet - self.tilt * self.slope_tilt + value * slope,
            slope_alone=self.slope_alone - self.slope_tilt**2 + slope**2,
        )

    def alone(self, samples: int) -> Array:
        """The noise that the batch average of one unit gets from each input with itself, beside what `factor` has: (R, 2, 2).

        The lower factor for m2 / E m2 and s2 / E s2. What follows from lengths is in `factor`, as c counts each input with itself.
        """
        bend = (self.stretch - 1) / sqrt(2)
        value, slope = self.factor[:, 1, 1:], self.factor[:, 3, 1:]
        own = self.spread - self.lean**2 - (value * value).sum(axis=1)
        both = self.meet - 1 - self.lean * bend - (value * slope).sum(axis=1)
        other = self.slope_alone - 1 - bend**2 - (slope * slope).sum(axis=1)
        first = np.sqrt(np.maximum(own, 1e-12) / samples)
        across = both / samples / first
        rest = np.sqrt(np.maximum(other / samples - across**2, 0.0))
        return np.stack([np.stack([first, np.zeros_like(first)], axis=1), np.stack([across, rest], axis=1)], axis=1)


def straight(c: Array) -> UnitStatistics:
    """The statistics where nothing is applied, at q = 1 and correlations c of shape (R,): all noise is that of t."""
    ones = np.ones_like(c)
    factor = np.zeros((len(c), NOISES, NOISES))
    factor[:, 0, 0], factor[:, 1, 0], factor[:, 2, 0] = sqrt(2), sqrt(2) * c, sqrt(2) * c * (1 - c)
    return UnitStatistics(
        second=ones,
        pair=c,
        slope=ones,
        slope_pair=ones,
        slope_square=ones,
        apart=1 - c * c,
        fourth=0 * ones,
        slope_fourth=0 * ones,
        linear=ones,
        turn=ones,
        stretch=ones,
        meet=ones,
        spread=2 * ones,
        lean=sqrt(2) * ones,
        slope_alone=ones,
        tilt=0 * ones,
        slope_tilt=0 * ones,
        odd=np.zeros((len(c), NOISES)),
        factor=factor,
    )


@dataclass(frozen=True)
class UnitTable:
    """The statistics of an activation as a function of q and c, interpolated; rows are computed when first needed."""

    phi: Activation
    shift: float = 0.0
    homogeneous: bool = False
    near: tuple[float, float] = (-inf, inf)
    rows: dict[int, Array] = field(default_factory=dict, repr=False, compare=False)

    def at(self, q: Array, c: Array) -> UnitStatistics:
        """Statistics for arrays q, c of one shape (R,); c below 0 counts as 0."""
        angle = np.arccos(np.clip(c, 0.0, 1.0))
        place = (angle - ANGLES[0]) / (ANGLES[1] - ANGLES[0])
        column = np.clip(np.floor(place).astype(int) - 1, 0, len(ANGLES) - 4)
        across = _cubic(place - column)
        some = slice(int(column.min()), int(column.max()) + 4)
        column = column - some.start
        if self.homogeneous:
            cells = self._row(0, some)[column[:, None] + np.arange(4)]
            columns = np.matmul(across[:, None, :], cells)[:, 0]
            return _unpack(columns, q)
        needed, which, along = self._stencil(q)
        grid = np.stack([self._row(index, some) for index in needed])
        cells = grid[which[:, :, None], (column[:, None] + np.arange(4))[:, None, :]]
        weights = along[:, :, None] * across[:, None, :]
        columns = np.matmul(weights.reshape(len(q), 1, 16), cells.reshape(len(q), 16, -1))[:, 0]
        return _unpack(columns, None)

    def lengths(self, q: Array) -> tuple[Array, Array]:
        """(E[phi^2], E[phi'^2]) for an array q of any shape."""
        if self.homogeneous:
            row = np.exp(_logs(self.phi, 1.0, self.shift))
            return row[0] * q, np.full_like(q, row[1])
        needed, which, along = self._stencil(q)
        grid = np.array([_logs(self.phi, exp(index * STEP), self.shift) for index in needed])
        moments = np.exp((along[..., None] * grid[which]).sum(axis=-2))
        return moments[..., 0], moments[..., 1]

    def _stencil(self, q: Array) -> tuple[list[int], NDArray[np.intp], Array]:
        """The rows that are needed, and for each q four of them (..., 4) with their weights (..., 4)."""
        place = np.log(np.clip(q, SMALLEST, LARGEST)) / STEP
        away = np.maximum(self.near[0] - place * STEP, place * STEP - self.near[1])
        stride = np.ones_like(place)
        for far, times in COARSER:
            stride[away > far] = times
        place = place / stride
        first = np.floor(place) - 1
        index = ((first[..., None] + np.arange(4)) * stride[..., None]).astype(int)
        needed = np.unique(index)
        return needed.tolist(), np.searchsorted(needed, index), _cubic(place - first)

    def _row(self, index: int, some: slice) -> Array:
        """The columns `some` of a row, computed when first asked for."""
        row = self.rows.get(index)
        if row is None:
            row = self.rows[index] = np.full((len(ANGLES), COLUMNS), np.nan)
        missing = np.flatnonzero(np.isnan(row[some, 0])) + some.start
        if len(missing):
            row[missing] = _cells(self.phi, exp(index * STEP), self.shift, ANGLES[missing])
        return row[some]


@lru_cache(maxsize=64)
def unit_table(phi: Activation, shift: float = 0.0) -> UnitTable:
    """The table of phi(u + shift)."""
    straight = shift == 0 and phi.key is not None and negative_slope(phi.key) is not None
    return UnitTable(phi, shift, homogeneous=straight, near=_bends(phi, shift))


def _bends(phi: Activation, shift: float) -> tuple[float, float]:
    """The range of log q below which inputs are within the finest bend of an activation, and above which beyond the last."""
    points = np.abs(np.asarray(phi.breaks) - shift)
    gaps = np.diff(np.sort(np.asarray(phi.breaks)))
    finest = min(1.0, gaps[gaps > 0].min(initial=1.0), points[points > 0].min(initial=1.0))
    return 2 * log(finest), 2 * log(max(1.0, points.max(initial=1.0)))


def _cubic(t: Array) -> Array:
    """Lagrange weights of the points 0, 1, 2, 3 at t."""
    a, b, c, d = t, t - 1, t - 2, t - 3
    return np.stack([-b * c * d / 6, a * c * d / 2, -a * b * d / 2, a * b * c / 6], axis=-1)


def _unpack(columns: Array, q: Array | None) -> UnitStatistics:
    second = np.exp(columns[:, 0])
    return UnitStatistics(
        second=second if q is None else second * q,
        slope=np.exp(columns[:, 1]),
        pair=np.clip(columns[:, 2], 0.0, 1.0),
        slope_pair=np.clip(columns[:, 3], 0.0, 1.0),
        slope_square=np.maximum(columns[:, 4], 1.0),
        apart=np.maximum(columns[:, 5], 0.0),
        fourth=columns[:, 6],
        slope_fourth=columns[:, 7],
        linear=np.clip(columns[:, 8], 0.0, 1.0),
        turn=np.clip(columns[:, 9], 0.0, None),
        stretch=np.clip(columns[:, 10], 0.0, None),
        meet=np.clip(columns[:, 11], 0.0, None),
        spread=np.maximum(columns[:, 12], 0.0),
        lean=columns[:, 13],
        slope_alone=np.maximum(columns[:, 14], 1.0),
        tilt=columns[:, 15],
        slope_tilt=columns[:, 16],
        odd=columns[:, 17 : 17 + NOISES],
        factor=columns[:, 17 + NOISES :].reshape(-1, NOISES, NOISES),
    )


@lru_cache(maxsize=1)
def _nodes() -> tuple[Array, Array, Array, Array]:
    def midpoints(count: int) -> tuple[Array, Array]:
        x = (np.arange(count) + 0.5) / count * 2 * SPAN - SPAN
        weight = np.exp(-x * x / 2)
        return x, weight / weight.sum()

    return *midpoints(COMMON), *midpoints(OWN)


def _logs(phi: Activation, q: float, shift: float) -> tuple[float, float]:
    """The logarithms of E[phi^2] and E[phi'^2]."""
    exact = phi.moments(q, shift)
    return log(max(exact.second, 1e-280)), log(max(exact.slope_second, 1e-280))


def _cells(phi: Activation, q: float, shift: float, angles: Array) -> Array:
    """All that is known at one q and some angles: shape (angles, `COLUMNS`)."""
    g, weight_g, e, weight_e = _nodes()
    c = np.cos(angles)
    cosine = np.sqrt(np.clip(c, 0.0, 1.0))
    sine = np.sqrt(np.clip(1 - c, 0.0, 1.0))
    u = sqrt(q) * (cosine[:, None, None] * g[:, None] + sine[:, None, None] * e)
    value, slope = phi.value(u + shift), phi.slope(u + shift)
    m1, m2, s1, s2 = value @ weight_e, np.square(value) @ weight_e, slope @ weight_e, np.square(slope) @ weight_e
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
    odd = parts @ (weight_g * g)
    factor = _cholesky(covariance)
    ones = np.ones_like(pair)
    logs = [ones * moment for moment in _logs(phi, q, shift)]
    squares = [np.square(s2) @ weight_g, (np.square(m2) - np.square(m11)) @ weight_g]
    head = np.stack([*logs, pair, slope_pair, *squares, *(ones * number for number in _of_one_input(phi, q, shift))], axis=1)
    return np.concatenate([head, odd, factor.reshape(len(c), -1)], axis=1)


def _of_one_input(phi: Activation, q: float, shift: float) -> tuple[float, ...]:
    """fourth, slope_fourth, linear, turn, stretch, meet, spread, lean, slope_alone, tilt, slope_tilt of `UnitStatistics`."""
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
        mean(value**4) / second / second - 1,
        (mean((z * value) ** 2) / second - 1) / sqrt(2),
        mean(slope**4) / bend / bend,
        mean(z * value**2) / second,
        mean(z * slope**2) / bend,
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
