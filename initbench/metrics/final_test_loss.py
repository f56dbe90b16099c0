"""The metric `final_test_loss`."""

import math
from functools import partial

from initbench.metrics import Metric
from initbench.results.outcome import final, was_evaluated

FAMILY = "loss"


def build() -> Metric:
    """Loss on the evaluated images after the last step."""
    return Metric(
        label="{split} loss",
        value=partial(final, "test_loss"),
        measured=was_evaluated,
        better="lower",
        amount="in {label}",
        bounds=(0, math.inf),
        place=30,
    )
