"""The metric `activation_ratio`."""

from initbench.metrics import Metric
from initbench.results.propagation import has_signal, signal_at_start
from initbench.results.record import RunResult

FAMILY = "signal"


def build() -> Metric:
    """Variance of the activations through the untrained network, last over first hidden layer; best near 1."""
    return Metric("activation variance, last over first hidden layer", _ratio, has_signal, place=80, better=None, absent="lost the signal")


def _ratio(result: RunResult) -> float | None:
    signal = signal_at_start(result)
    return signal.activation_ratio if signal else None
