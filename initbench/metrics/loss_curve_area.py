"""The metric `loss_curve_area`."""

from itertools import pairwise

from initbench.metrics import ANY_NUMBER, Metric
from initbench.results.outcome import was_trained
from initbench.results.record import RunResult, RunStatus

FAMILY = "loss"


def build() -> Metric:
    """The mean training loss on the way: the area under the loss curve (trapezoids) divided by its width."""
    return Metric("mean training loss", _area, was_trained, place=50, better="lower", amount="in {label}", bounds=ANY_NUMBER)


def _area(result: RunResult) -> float | None:
    losses = result.train_losses
    if result.status is not RunStatus.COMPLETED or not losses:
        return None
    return losses[0] if len(losses) == 1 else sum((a + b) / 2 for a, b in pairwise(losses)) / (len(losses) - 1)
