"""The metric `signal_decades`."""

from initbench.metrics import Metric
from initbench.results.propagation import has_signal, signal_at_start
from initbench.results.record import RunResult

FAMILY = "signal"


def build() -> Metric:
    """How far the signal at the start is from passing unchanged, in powers of ten: the worse of activations and gradients."""
    return Metric(
        "signal lost at start",
        _decades,
        has_signal,
        place=60,
        better="lower",
        amount="powers of ten by which the untrained signal strays",
        unit="decades",
        absent="lost the signal",
    )


def _decades(result: RunResult) -> float | None:
    signal = signal_at_start(result)
    return signal.decades if signal else None
