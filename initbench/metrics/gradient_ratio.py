"""The metric `gradient_ratio`."""

import math

from initbench.metrics import Metric
from initbench.results.propagation import signal_at_start
from initbench.results.record import RunResult

FAMILY = "signal"


def build() -> Metric:
    """Variance of the gradient through the untrained network, first over last hidden layer; best near 1."""
    return Metric(
        label="gradient variance, first over last hidden layer",
        value=_ratio,
        measured=lambda result: signal_at_start(result) is not None,
        better=None,
        absent="gone",
        bounds=(0, math.inf),
        place=90,
    )


def _ratio(result: RunResult) -> float | None:
    signal = signal_at_start(result)
    return signal.gradient_ratio if signal else None
