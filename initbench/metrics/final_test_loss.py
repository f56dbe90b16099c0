"""The metric `final_test_loss`."""

import math
from functools import partial

from initbench.metrics import Metric
from initbench.results.outcome import final, was_evaluated

FAMILY = "loss"
EVERY = (-math.inf, math.inf)
"""A loss of somebody's own may be below zero."""


def build() -> Metric:
    """Loss on the evaluated images after the last step."""
    return Metric(
        "{split} loss",
        partial(final, "test_loss"),
        was_evaluated,
        place=30,
        better="lower",
        amount="in {label}",
        bounds=(-math.inf, math.inf),
    )
