"""Expectations under a Gaussian by composite Gauss-Legendre panels, split where a function bends or jumps.

Panels are laid in units of the standard deviation and, on top, at a function's own break points; a break point beyond
the range makes a panel of width zero. So one fixed set of panels serves any variance, in arrays as well, and a kink is
never inside a panel. Ten to twelve digits for all functions in `functions.py`.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

NODES = 20
"""Gauss-Legendre nodes a panel."""
REACH = 13.0
"""Standard deviations that are looked at: the mass outside is 1e-38."""
GAUSSIAN_BREAKS = np.array([-REACH, -9.0, -6.5, -4.5, -3.0, -1.5, 0.0, 1.5, 3.0, 4.5, 6.5, 9.0, REACH])
BEND_BREAKS = np.array([-20.0, -8.0, -3.0, -1.0, 0.0, 1.0, 3.0, 8.0, 20.0])
"""Around a point where a function bends, in units of its length."""
SMOOTH_DIGITS = 1e-11
"""A function is smooth on a panel when the last Legendre coefficients are below this share of the largest."""

KINK_WIDTH = 1e-8
"""A panel this narrow that is still not smooth holds a kink or a jump."""


@cache
def legendre() -> tuple[Array, Array]:
    """Nodes and weights of Gauss-Legendre quadrature on [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return nodes, weights


def panels(edges: Array) -> tuple[Array, Array]:
    """Nodes and weights, shape (..., panels * NODES), for sorted edges of shape (..., panels + 1)."""
    nodes, weights = legendre()
    half = (edges[..., 1:] - edges[..., :-1]) / 2
    middle = (edges[..., 1:] + edges[..., :-1]) / 2
    x = middle[..., None] + half[..., None] * nodes
    w = half[..., None] * weights
    shape = (*edges.shape[:-1], -1)
    return x.reshape(shape), w.reshape(shape)


def gaussian(breaks: ArrayLike, mean: ArrayLike = 0.0, std: ArrayLike = 1.0) -> tuple[Array, Array]:
    """Standard normal nodes z and their weights for functions of mean + std z with these break points.

    `mean` and `std` may be arrays of one shape; z has that shape and one more axis.
    """
    std = np.maximum(np.asarray(std, dtype=np.float64), 1e-150)[..., None]
    own = (np.asarray(breaks, dtype=np.float64) - np.asarray(mean, dtype=np.float64)[..., None]) / std
    common = np.broadcast_to(GAUSSIAN_BREAKS, (*own.shape[:-1], len(GAUSSIAN_BREAKS)))
    edges = np.sort(np.concatenate([common, np.clip(own, -REACH, REACH)], axis=-1), axis=-1)
    z, weight = panels(edges)
    return z, weight * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


def break_points(kinks: tuple[float, ...], length: float) -> tuple[float, ...]:
    """Where to split: at the kinks, and in growing steps around each of them and around zero."""
    around = {float(kink + length * step) for kink in (0.0, *kinks) for step in BEND_BREAKS}
    return tuple(sorted(around))


def find_breaks(function: Callable[[Array], Array], reach: float = 40.0, most: int = 600) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Break points on which the function is a polynomial to eleven digits, and those among them where it is not smooth.

    Kinks and jumps are found by halving; the second pass leaves a gap of 2 KINK_WIDTH around each and few panels elsewhere.
    Raises: ValueError when more than `most` panels would be needed.
    """
    start = np.arange(-reach - np.pi / 10, reach + 2, 2.0)
    edges = np.array(_split(function, start, np.zeros(0), most))
    narrow = np.flatnonzero(np.diff(edges) < KINK_WIDTH)
    if not len(narrow):
        return tuple(edges.tolist()), ()
    places = (edges[narrow] + edges[narrow + 1]) / 2
    kinks = np.array([group.mean() for group in np.split(places, np.flatnonzero(np.diff(places) > 10 * KINK_WIDTH) + 1)])
    fenced = np.sort(np.concatenate([start, kinks - 2 * KINK_WIDTH, kinks + 2 * KINK_WIDTH]))
    again = _split(function, fenced, kinks, most)
    return tuple(again), tuple(kinks.tolist())


def _split(function: Callable[[Array], Array], start: Array, kinks: Array, most: int) -> list[float]:
    """Halves the panels between `start` edges until each is smooth, narrower than a kink or holds a known one."""
    nodes, _ = legendre()
    to_coefficients = np.linalg.inv(np.polynomial.legendre.legvander(nodes, NODES - 1))
    edges = set(start.tolist())
    waiting = np.stack([start[:-1], start[1:]], axis=1)
    while len(waiting):
        if len(edges) > most:
            raise ValueError("it is too rough to integrate")
        x, _ = panels(waiting)
        coefficients = np.abs(function(x.ravel()).reshape(x.shape) @ to_coefficients.T)
        rough = coefficients[:, -4:].max(axis=1) > SMOOTH_DIGITS * np.maximum(coefficients.max(axis=1), 1e-3)
        held = ((waiting[:, :1] < kinks) & (kinks < waiting[:, 1:])).any(axis=1)
        splitting = waiting[rough & ~held & (waiting[:, 1] - waiting[:, 0] > KINK_WIDTH)]
        middle = splitting.mean(axis=1, keepdims=True)
        edges.update(middle.ravel().tolist())
        waiting = np.concatenate([np.hstack([splitting[:, :1], middle]), np.hstack([middle, splitting[:, 1:]])])
    return sorted(edges)
