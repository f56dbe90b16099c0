"""What one run says: did it train, its metrics, the health of its signal at the start."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import pairwise
from typing import Literal

from initbench.errors import ConfigError, unknown_name
from initbench.results.record import LayerStats, RunResult, RunStatus

TRAINED_ABOVE_CHANCE = 0.1
"""A run trained when its final test accuracy covers at least this share of the way from chance to 1 (19 % with 10 classes)."""

SIGNAL_DECADES = 4.0
"""A signal is lost at the first layer where its variance is so many powers of ten away from where it entered."""


class Outcome(StrEnum):
    """How a run ended, for people; `probed` is a run of zero steps."""

    TRAINED = "trained"
    STUCK = "stuck"
    DIVERGED = "diverged"
    FAILED = "failed"
    SKIPPED = "skipped"
    PROBED = "probed"


@dataclass(frozen=True)
class Metric:
    """A number that each run has, or cannot have: `value` gives None where a run has none, though `measured` says that it was looked for.

    `scale` turns the number into the unit that is shown; `amount` is how a difference is named, `absent`
    what the lack of a number means.
    """

    name: str
    label: str
    value: Callable[[RunResult], float | None]
    measured: Callable[[RunResult], bool]
    better: Literal["higher", "lower"] = "lower"
    unit: str = ""
    scale: float = 1
    amount: str = ""
    absent: str = "diverged"

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value is the better one."""
        return self.better == "higher"

    @property
    def worst(self) -> float:
        """What a run without a number counts as: an infinity, of which only the order is used."""
        return -math.inf if self.higher_is_better else math.inf


@dataclass(frozen=True)
class Signal:
    """How the signal passes the layers of an untrained network.

    `activation_ratio` is the variance after the last hidden layer over that after the first, `gradient_ratio` that of the
    gradient at the first hidden layer over that at the last; None where a variance overflowed or the base is zero. `lost_at` names
    the layer where the forward or backward signal is lost, in `words`.
    """

    activation_ratio: float | None
    gradient_ratio: float | None
    lost_at: str | None
    words: str

    @property
    def decades(self) -> float | None:
        """The larger of the two distances from 1, in powers of ten; 0 is a perfect signal, None a signal that is gone."""
        ratios = (self.activation_ratio, self.gradient_ratio)
        return max(abs(math.log10(ratio)) for ratio in ratios if ratio) if all(ratios) else None


def chance(result: RunResult) -> float:
    """The accuracy of guessing: one over the number of classes."""
    return 1 / result.classes if result.classes else 0.0


def outcome(result: RunResult) -> Outcome:
    """Diverged, failed and skipped as the status says; a completed run trained or is stuck at chance."""
    if result.status is not RunStatus.COMPLETED:
        return Outcome(result.status.value)
    if not result.train_losses:
        return Outcome.PROBED
    accuracy = _final("test_accuracy", result)
    floor = chance(result) + TRAINED_ABOVE_CHANCE * (1 - chance(result))
    return Outcome.TRAINED if accuracy is not None and accuracy >= floor else Outcome.STUCK


def is_outcome_of_scheme(result: RunResult) -> bool:
    """Whether the run says something about its scheme; a failed run (a bug, no memory) and a skipped one do not."""
    return result.status in {RunStatus.COMPLETED, RunStatus.DIVERGED}


def layer_value(result: RunResult, stats: LayerStats, quantity: str) -> float | None:
    """A measurement of one layer of a run: infinite where it overflowed, None where there is no such signal.

    Sums are in float64, so that a null of a run that trained to its end is no overflow: a frozen layer has no gradient, a
    layer that the model does not use has neither, and the products inside a recurrent module are hidden.
    """
    value: float | None = getattr(stats, quantity)
    trained = result.status is RunStatus.COMPLETED and bool(result.train_losses)
    return math.inf if value is None and not trained else value


def first_signal(result: RunResult) -> Signal | None:
    """The health of the signal at step 0; None when fewer than two hidden layers were measured."""
    quantities = ("activation_variance", "gradient_variance")
    layers = [
        stats
        for stats in result.layers
        if stats.step == 0 and all(layer_value(result, stats, quantity) is not None for quantity in quantities)
    ]
    return signal(sorted(layers, key=lambda stats: stats.position))


def signal(layers: Sequence[LayerStats]) -> Signal | None:
    """The health of the signal through `layers`, in execution order, the last of which is the head."""
    hidden = layers[:-1]
    if len(hidden) < 2:
        return None
    forward = _lost([(stats.layer, stats.activation_variance) for stats in hidden], "activations")
    backward = _lost([(stats.layer, stats.gradient_variance) for stats in reversed(hidden)], "gradients")
    lost = forward or backward
    return Signal(
        activation_ratio=_ratio(hidden[-1].activation_variance, hidden[0].activation_variance),
        gradient_ratio=_ratio(hidden[0].gradient_variance, hidden[-1].gradient_variance),
        lost_at=lost[0] if lost else None,
        words=lost[1] if lost else "the signal passes",
    )


def _lost(path: Sequence[tuple[str, float | None]], what: str) -> tuple[str, str] | None:
    """The first layer on a path where the variance is zero, not finite, or too far from where it entered."""
    entered = path[0][1]
    for layer, variance in path:
        if variance is None:
            return layer, f"{what} overflow at {layer}"
        if variance == 0 or not entered:
            return layer, f"{what} are constant at {layer}"
        if abs(math.log10(variance / entered)) > SIGNAL_DECADES:
            return layer, f"{what} {'explode' if variance > entered else 'vanish'} at {layer}"
    return None


def _ratio(value: float | None, base: float | None) -> float | None:
    if value is None or not base:
        return None
    return value / base if math.isfinite(value / base) else None


def _final(field: str, result: RunResult) -> float | None:
    numbers = _numbers(field, result)
    return numbers[-1][1] if numbers and numbers[-1][0] == result.evaluations[-1].step else None


def _best(field: str, result: RunResult) -> float | None:
    values = [value for _, value in _numbers(field, result)]
    return (max if field == "test_accuracy" else min)(values, default=None)


def _steps_to(target: float, result: RunResult) -> float | None:
    return next((float(step) for step, accuracy in _numbers("test_accuracy", result) if accuracy >= target), None)


def _numbers(field: str, result: RunResult) -> list[tuple[int, float]]:
    """Step and value of each evaluation of a completed run; what a run reached before it diverged is no result to keep."""
    if result.status is not RunStatus.COMPLETED:
        return []
    found = [(item.step, getattr(item, field)) for item in result.evaluations]
    return [(step, value) for step, value in found if value is not None]


def _loss_area(result: RunResult) -> float | None:
    """The trapezoidal area under the training losses, divided by its width: the mean loss on the way."""
    losses = result.train_losses
    if result.status is not RunStatus.COMPLETED or not losses:
        return None
    return losses[0] if len(losses) == 1 else sum((a + b) / 2 for a, b in pairwise(losses)) / (len(losses) - 1)


def _signal_decades(result: RunResult) -> float | None:
    found = first_signal(result)
    return found.decades if found else None


def _was_evaluated(result: RunResult) -> bool:
    return bool(result.evaluations) or result.status is RunStatus.DIVERGED


def _was_trained(result: RunResult) -> bool:
    return bool(result.train_losses) or result.status is RunStatus.DIVERGED


def _has_signal(result: RunResult) -> bool:
    return first_signal(result) is not None


def _signal_ratio(field: str, result: RunResult) -> float | None:
    found = first_signal(result)
    value: float | None = getattr(found, field) if found else None
    return value


SIGNAL_RATIOS = tuple(
    Metric(f"{which}_ratio", f"{which} variance, {over} hidden layer", partial(_signal_ratio, f"{which}_ratio"), _has_signal, absent="gone")
    for which, over in (("activation", "last over first"), ("gradient", "first over last"))
)
"""Figures of the signal that have no better or worse: both are best near 1."""


def _accuracy(name: str, label: str, value: Callable[[RunResult], float | None]) -> Metric:
    return Metric(name, label, value, _was_evaluated, better="higher", unit="%", scale=100, amount=f"points of {label}")


def metrics(target: float | None = None) -> tuple[Metric, ...]:
    """All metrics; the steps to a test accuracy are among them when a `target` (a fraction) is given."""
    found = [
        _accuracy("final_test_accuracy", "test accuracy", partial(_final, "test_accuracy")),
        _accuracy("best_test_accuracy", "best test accuracy", partial(_best, "test_accuracy")),
        Metric("final_test_loss", "test loss", partial(_final, "test_loss"), _was_evaluated, amount="in test loss"),
        Metric("best_test_loss", "best test loss", partial(_best, "test_loss"), _was_evaluated, amount="in best test loss"),
        Metric("loss_curve_area", "mean training loss", _loss_area, _was_trained, amount="in mean training loss"),
        Metric(
            "signal_decades",
            "signal lost at start",
            _signal_decades,
            _has_signal,
            unit="decades",
            amount="decades of signal at start",
            absent="lost the signal",
        ),
    ]
    if target is not None:
        label = f"steps to {100 * target:g} % test accuracy"
        found.append(
            Metric(
                "steps_to_target", label, partial(_steps_to, target), _was_evaluated, unit="steps", amount=label, absent="never got there"
            )
        )
    return tuple(found)


def find_metric(name: str, target: float | None = None) -> Metric:
    """The metric of a name.

    Raises: ConfigError for an unknown name, or for the steps to a target when there is no target.
    """
    known = {metric.name: metric for metric in metrics(target)}
    if name not in known:
        if name == "steps_to_target":
            raise ConfigError("The metric steps_to_target needs a target accuracy, such as --target 0.95.")
        raise unknown_name("metric", name, known, f"Known: {', '.join(known)}; steps_to_target needs a target.")
    return known[name]
