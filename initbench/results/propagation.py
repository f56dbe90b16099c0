"""How the signal passes the layers of an untrained network: read from the layer statistics of step 0."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from initbench.quantities import BY_NAME
from initbench.results.record import LayerStats, RunResult, RunStatus

LOST_DECADES = 4.0
"""A signal is lost at the first layer where its variance is so many powers of ten away from where it entered."""


class LossKind(StrEnum):
    """In which way a signal is lost; the value is the verb of a sentence."""

    OVERFLOWS = "overflow"
    CONSTANT = "are constant"
    EXPLODES = "explode"
    VANISHES = "vanish"


@dataclass(frozen=True)
class SignalLoss:
    """The first layer on the way of the activations, or of the gradients, where these are lost."""

    what: Literal["activations", "gradients"]
    how: LossKind
    layer: str

    def __str__(self) -> str:
        """Gives, for example, `gradients vanish at layers.3`."""
        return f"{self.what} {self.how.value} at {self.layer}"


@dataclass(frozen=True)
class Propagation:
    """How the signal passes the layers of an untrained network.

    `activation_ratio` is the variance after the last hidden layer over that after the first, `gradient_ratio` that of the
    gradient at the first hidden layer over that at the last; None where a variance overflowed or the base is zero.
    """

    activation_ratio: float | None
    gradient_ratio: float | None
    loss: SignalLoss | None

    @property
    def decades(self) -> float | None:
        """The larger of the two distances from 1, in powers of ten; 0 is a perfect signal, None a signal that is gone."""
        ratios = (self.activation_ratio, self.gradient_ratio)
        return max(abs(math.log10(ratio)) for ratio in ratios if ratio) if all(ratios) else None

    def __str__(self) -> str:
        """Gives what becomes of the signal in words."""
        return str(self.loss) if self.loss else "the signal passes"


def layer_value(result: RunResult, stats: LayerStats, quantity: str) -> float | None:
    """A measurement of one layer of a run: infinite where it overflowed, None where there is no such signal.

    Sums are in float64, so that a null of a run that trained to its end is no overflow: a frozen layer has no gradient, a
    layer that the model does not use has neither, and the products inside a recurrent module are hidden.
    """
    value: float | None = getattr(stats, quantity)
    trained = result.status is RunStatus.COMPLETED and bool(result.train_losses)
    return math.inf if value is None and not trained and not BY_NAME[quantity].optional else value


def signal_at_start(result: RunResult) -> Propagation | None:
    """How the signal passes at step 0; None when fewer than two hidden layers were measured."""
    quantities = ("activation_variance", "gradient_variance")
    layers = [
        stats
        for stats in result.layers
        if stats.step == 0 and all(layer_value(result, stats, quantity) is not None for quantity in quantities)
    ]
    return signal_through(sorted(layers, key=lambda stats: stats.position))


def has_signal(result: RunResult) -> bool:
    """Whether the signal at step 0 was measured."""
    return signal_at_start(result) is not None


def signal_through(layers: Sequence[LayerStats]) -> Propagation | None:
    """How the signal passes `layers`, in execution order, the last of which is the head."""
    hidden = layers[:-1]
    if len(hidden) < 2:
        return None
    forward = _loss("activations", [(stats.layer, stats.activation_variance) for stats in hidden])
    backward = _loss("gradients", [(stats.layer, stats.gradient_variance) for stats in reversed(hidden)])
    return Propagation(
        activation_ratio=_ratio(hidden[-1].activation_variance, hidden[0].activation_variance),
        gradient_ratio=_ratio(hidden[0].gradient_variance, hidden[-1].gradient_variance),
        loss=forward or backward,
    )


def _loss(what: Literal["activations", "gradients"], path: Sequence[tuple[str, float | None]]) -> SignalLoss | None:
    """The first layer on a path where the variance is zero, not finite, or too far from where it entered."""
    entered = path[0][1]
    for layer, variance in path:
        if variance is None:
            return SignalLoss(what, LossKind.OVERFLOWS, layer)
        if variance == 0 or not entered:
            return SignalLoss(what, LossKind.CONSTANT, layer)
        if abs(math.log10(variance / entered)) > LOST_DECADES:
            return SignalLoss(what, LossKind.EXPLODES if variance > entered else LossKind.VANISHES, layer)
    return None


def _ratio(value: float | None, base: float | None) -> float | None:
    if value is None or not base:
        return None
    return value / base if math.isfinite(value / base) else None
