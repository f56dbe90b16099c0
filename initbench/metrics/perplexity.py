"""The metric `perplexity`."""

import math

from initbench.metrics import Metric
from initbench.results.outcome import final, was_evaluated
from initbench.results.record import RunResult

FAMILY = "loss"
LARGEST = 700.0
"""A loss whose exponential is a number."""


def build() -> Metric:
    """Of language models: e to the loss on the evaluated text, as if so many tokens were equally likely at each place."""
    return Metric("{split} perplexity", _perplexity, _measured, place=35, better="lower", amount="in {label}", bounds=(0, math.inf))


def _measured(result: RunResult) -> bool:
    return result.job.task.name == "language" and was_evaluated(result)


def _perplexity(result: RunResult) -> float | None:
    loss = final("test_loss", result) if _measured(result) else None
    return None if loss is None or loss > LARGEST else math.exp(loss)
