"""The metric `best_test_loss`."""

import math

from initbench.metrics import Metric
from initbench.results.outcome import evaluated, was_evaluated
from initbench.results.record import RunResult

FAMILY = "loss"


def build() -> Metric:
    """The lowest loss on the evaluated images at any evaluation."""
    return Metric(
        label="best {split} loss",
        value=_lowest,
        measured=was_evaluated,
        better="lower",
        amount="in {label}",
        bounds=(0, math.inf),
        place=40,
    )


def _lowest(result: RunResult) -> float | None:
    return min((value for _, value in evaluated("test_loss", result)), default=None)
