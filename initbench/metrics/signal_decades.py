"""The metric `signal_decades`."""

import math

from initbench.metrics import Metric
from initbench.results.propagation import signal_at_start
from initbench.results.record import RunResult

FAMILY = "signal"


def build() -> Metric:
    """How far the signal at the start is from passing unchanged, in powers of ten: the worse of activations and gradients."""
    return Metric(
        label="signal lost at start",
        value=_decades,
        measured=lambda result: signal_at_start(result) is not None,
        better="lower",
        amount="decades of signal at start",
        unit="decades",
        absent="lost the signal",
        bounds=(0, math.inf),
        place=60,
    )


def _decades(result: RunResult) -> float | None:
    signal = signal_at_start(result)
    return signal.decades if signal else None
