"""The metric `best_test_loss`."""

from functools import partial

from initbench.metrics import ANY_NUMBER, Metric
from initbench.results.outcome import best, was_evaluated

FAMILY = "loss"


def build() -> Metric:
    """The lowest loss on the evaluated examples at any evaluation."""
    return Metric(
        "best {split} loss",
        partial(best, "test_loss", min),
        was_evaluated,
        place=40,
        better="lower",
        amount="in {label}",
        bounds=ANY_NUMBER,
    )
