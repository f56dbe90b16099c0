"""How far a number may be off by chance: one error rate for all that is said about one model."""

import math
from statistics import NormalDist

ERROR_RATE = 1e-3
"""The chance that a rule says of a model whose weights follow their law that one of them does not, over all its parameters."""


def deviations(tests: int) -> float:
    """Standard errors beyond which one of so many tests, of each parameter or each pair, speaks against a law; two-sided."""
    return NormalDist().inv_cdf(1 - ERROR_RATE / (2 * max(1, tests)))


def error_of_std(count: int) -> float:
    """The relative standard error of the standard deviation of so many normal numbers; of flatter laws it is smaller."""
    return 1 / math.sqrt(2 * count)
