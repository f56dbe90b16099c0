"""The metric `final_test_accuracy`."""

from functools import partial

from initbench.metrics import Metric
from initbench.results.outcome import final, has_accuracy

FAMILY = "accuracy"


def build() -> Metric:
    """Accuracy on the evaluated examples after the last step."""
    return Metric(
        "{split} accuracy",
        partial(final, "test_accuracy"),
        has_accuracy,
        place=10,
        better="higher",
        amount="points of {label}",
        style="percent",
        unit="%",
        scale=100,
        bounds=(0, 1),
    )
