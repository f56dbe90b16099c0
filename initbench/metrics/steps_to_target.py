"""The metric `steps_to_target`."""

import math
from functools import partial

from initbench.metrics import Metric
from initbench.results.outcome import evaluated, was_evaluated
from initbench.results.record import RunResult

FAMILY = "speed"


def build(*, target: float) -> Metric:
    """Steps until an evaluation reaches the target accuracy (a fraction)."""
    return Metric(
        label=f"steps to {100 * target:g} % {{split}} accuracy",
        value=partial(_steps_to, target),
        measured=was_evaluated,
        better="lower",
        amount="{label}",
        style="count",
        unit="steps",
        absent="never got there",
        bounds=(0, math.inf),
        place=70,
    )


def _steps_to(target: float, result: RunResult) -> float | None:
    return next((float(step) for step, accuracy in evaluated("test_accuracy", result) if accuracy >= target), None)
