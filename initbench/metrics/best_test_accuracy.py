"""The metric `best_test_accuracy`."""

from initbench.metrics import Metric
from initbench.results.outcome import evaluated, was_evaluated
from initbench.results.record import RunResult

FAMILY = "accuracy"


def build() -> Metric:
    """The highest accuracy on the evaluated images at any evaluation."""
    return Metric(
        label="best {split} accuracy",
        value=_highest,
        measured=was_evaluated,
        better="higher",
        amount="points of {label}",
        style="percent",
        unit="%",
        scale=100,
        bounds=(0, 1),
        place=20,
    )


def _highest(result: RunResult) -> float | None:
    return max((value for _, value in evaluated("test_accuracy", result)), default=None)
