"""How a run ended, and what its evaluations say: read from the record, nothing is averaged."""

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Literal

from initbench.question.config import USUAL_TASK
from initbench.results.record import RunResult, RunStatus

TRAINED_ABOVE_CHANCE = 0.1
"""A run trained when its final test accuracy covers at least this share of the way from chance to 1 (19 % with 10 classes), or, where
the loss decides, its final test loss this share of the way from that of guessing to 0."""

Measure = Literal["test_accuracy", "test_loss", "test_score"]
"""What an evaluation holds."""


class Outcome(StrEnum):
    """How a run ended, for people; `probed` is a run of zero steps."""

    TRAINED = "trained"
    STUCK = "stuck"
    DIVERGED = "diverged"
    FAILED = "failed"
    SKIPPED = "skipped"
    PROBED = "probed"


def chance(result: RunResult) -> float:
    """The accuracy of guessing: one over the number of classes."""
    return 1 / result.classes if result.classes else 0.0


def outcome(result: RunResult) -> Outcome:
    """Diverged, failed and skipped as the status says; a completed run trained or is stuck at chance.

    Where a task does not know the loss of guessing, that before the first step stands for it.
    """
    if result.status is not RunStatus.COMPLETED:
        return Outcome(result.status.value)
    if not result.train_losses:
        return Outcome.PROBED
    if result.job.task.name != USUAL_TASK:
        start = next((item.test_loss for item in result.evaluations if item.step == 0), None)
        loss, guessing = final("test_loss", result), start if result.chance_loss is None else result.chance_loss
        better = loss is not None and guessing is not None and loss <= guessing - TRAINED_ABOVE_CHANCE * abs(guessing)
        return Outcome.TRAINED if better else Outcome.STUCK
    accuracy = final("test_accuracy", result)
    floor = chance(result) + TRAINED_ABOVE_CHANCE * (1 - chance(result))
    return Outcome.TRAINED if accuracy is not None and accuracy >= floor else Outcome.STUCK


def loss_of_guessing(result: RunResult) -> float | None:
    """The loss of guessing: of equal logits where images are classified; None where a task does not know it."""
    if result.job.task.name != USUAL_TASK:
        return result.chance_loss
    return math.log(result.classes) if result.classes else None


def is_outcome_of_scheme(result: RunResult) -> bool:
    """Whether the run says something about its scheme; a failed run (a bug, no memory) and a skipped one do not."""
    return result.status in {RunStatus.COMPLETED, RunStatus.DIVERGED}


def was_evaluated(result: RunResult) -> bool:
    """Whether a test loss was looked for; a run that diverged would have had one."""
    return bool(result.evaluations) or result.status is RunStatus.DIVERGED


def has_accuracy(result: RunResult) -> bool:
    """Whether an accuracy was looked for; some tasks have none."""
    usual = result.job.task.name == USUAL_TASK
    return was_evaluated(result) and (usual or any(item.test_accuracy is not None for item in result.evaluations))


def was_trained(result: RunResult) -> bool:
    """Whether there was a step at all."""
    return bool(result.train_losses) or result.status is RunStatus.DIVERGED


def evaluated(measure: Measure, result: RunResult) -> list[tuple[int, float]]:
    """Step and value of each evaluation of a completed run; what a run reached before it diverged is no result to keep."""
    if result.status is not RunStatus.COMPLETED:
        return []
    values = [(evaluation.step, getattr(evaluation, measure)) for evaluation in result.evaluations]
    return [(step, value) for step, value in values if value is not None]


def best(measure: Measure, choose: Callable[[list[float]], float], result: RunResult) -> float | None:
    """The value of the best evaluation, chosen by `max` or `min`."""
    values = [value for _, value in evaluated(measure, result)]
    return choose(values) if values else None


def final(measure: Measure, result: RunResult) -> float | None:
    """The value of the last evaluation; None where that one has none."""
    numbers = evaluated(measure, result)
    return numbers[-1][1] if numbers and numbers[-1][0] == result.evaluations[-1].step else None
