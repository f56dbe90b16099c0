"""The metric `gradient_ratio`."""

from initbench.metrics import Metric
from initbench.results.propagation import signal_at_start
from initbench.results.record import RunResult

FAMILY = "signal"


def build() -> Metric:
    """Variance of the gradient through the untrained network, first over last hidden layer; best near 1."""
    return Metric("gradient variance, first over last hidden layer", _ratio, _has_way_back, place=90, better=None, absent="lost the signal")


def _ratio(result: RunResult) -> float | None:
    signal = signal_at_start(result)
    return signal.gradient_ratio if signal else None


def _has_way_back(result: RunResult) -> bool:
    signal = signal_at_start(result)
    return signal is not None and not signal.zero_head
