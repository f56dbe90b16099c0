"""The metric `activation_ratio`."""

import math

from initbench.metrics import Metric
from initbench.results.propagation import signal_at_start
from initbench.results.record import RunResult

FAMILY = "signal"


def build() -> Metric:
    """Variance of the activations through the untrained network, last over first hidden layer; best near 1."""
    return Metric(
        label="activation variance, last over first hidden layer",
        value=_ratio,
        measured=lambda result: signal_at_start(result) is not None,
        better=None,
        absent="gone",
        bounds=(0, math.inf),
        place=80,
    )


def _ratio(result: RunResult) -> float | None:
    signal = signal_at_start(result)
    return signal.activation_ratio if signal else None
