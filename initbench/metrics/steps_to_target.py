"""The metric `steps_to_target`."""

from functools import partial

from initbench.metrics import Metric
from initbench.results.outcome import evaluated, has_accuracy
from initbench.results.record import RunResult

FAMILY = "speed"


def build(*, target: float) -> Metric:
    """Steps until an evaluation reaches the target accuracy (a fraction)."""
    return Metric(
        f"steps to {100 * target:g} % {{split}} accuracy",
        partial(_steps_to, target),
        has_accuracy,
        place=70,
        better="lower",
        amount="{label}",
        style="count",
        unit="steps",
        absent="never got there",
    )


def _steps_to(target: float, result: RunResult) -> float | None:
    return next((float(step) for step, accuracy in evaluated("test_accuracy", result) if accuracy >= target), None)
