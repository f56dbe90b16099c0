"""The metric `best_test_accuracy`."""

from functools import partial

from initbench.metrics import Metric
from initbench.results.outcome import best, has_accuracy

FAMILY = "accuracy"


def build() -> Metric:
    """The highest accuracy on the evaluated examples at any evaluation."""
    return Metric(
        "best {split} accuracy",
        partial(best, "test_accuracy", max),
        has_accuracy,
        place=20,
        better="higher",
        amount="points of {label}",
        style="percent",
        unit="%",
        scale=100,
        bounds=(0, 1),
    )
