"""The phase diagram of an activation: at each (sigma_w, sigma_b) where lengths and correlations lead to, and how fast."""

from dataclasses import dataclass

import numpy as np

from initbench.theory.activations import activation
from initbench.theory.functions import Array
from initbench.theory.meanfield import Phi
from initbench.theory.units import unit_table

LENGTH_STEPS, CORRELATION_STEPS = 400, 150
"""Layers that are followed until lengths and correlations count as settled."""
SMALLEST, LARGEST = 1e-8, 1e6
"""Lengths stay between these: beyond, nothing changes any more for the activations that get there."""
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


def phase_grid(phi: Phi, sigma_w: Array, sigma_b: Array) -> PhaseGrid:
    """The phase diagram on arrays of one shape.

    Source: Poole et al. 2016, eqs. 3 to 6; Schoenholz et al. 2017, eq. 9. Interpolated in the tables of `units.py`.
    """
    table = unit_table(activation(phi))
    w2, b2 = np.square(sigma_w).ravel(), np.square(sigma_b).ravel()
    q = np.ones_like(w2)
    for _ in range(LENGTH_STEPS):
        q = np.clip(w2 * table.lengths(q)[0] + b2, SMALLEST, LARGEST)
    c = np.full_like(w2, START)
    for _ in range(CORRELATION_STEPS):
        found = table.at(q, c)
        mixed = w2 * found.second * found.pair
        c = np.clip((mixed + b2) / np.maximum(w2 * found.second + b2, 1e-300), 0.0, 1.0)
    found = table.at(q, c)
    slope = np.clip(w2 * found.slope * found.slope_pair, 1e-12, 1 - 1e-9)
    shape = np.shape(sigma_w)
    parts = (q, c, w2 * table.lengths(q)[1], -1 / np.log(slope))
    return PhaseGrid(*(np.asarray(part).reshape(shape) for part in parts))
