"""The metric `best_test_loss`."""

import math
from functools import partial

from initbench.metrics import Metric
from initbench.results.outcome import best, was_evaluated

FAMILY = "loss"
EVERY = (-math.inf, math.inf)
"""A loss of somebody's own may be below zero."""


def build() -> Metric:
    """The lowest loss on the evaluated images at any evaluation."""
    return Metric(
        "best {split} loss",
        partial(best, "test_loss", min),
        was_evaluated,
        place=40,
        better="lower",
        amount="in {label}",
        bounds=(-math.inf, math.inf),
    )
