"""The metric `final_test_loss`."""

from functools import partial

from initbench.metrics import ANY_NUMBER, Metric
from initbench.results.outcome import final, was_evaluated

FAMILY = "loss"


def build() -> Metric:
    """Loss on the evaluated examples after the last step."""
    return Metric(
        "{split} loss",
        partial(final, "test_loss"),
        was_evaluated,
        place=30,
        better="lower",
        amount="in {label}",
        bounds=ANY_NUMBER,
    )
