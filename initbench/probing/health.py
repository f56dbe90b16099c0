"""How an untrained network's signal does, layer by layer and scheme by scheme: numbers, medians over the seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from initbench.quantities import QUANTITIES
from initbench.question.config import Frozen
from initbench.results.probe_run import ProbedLayer, ProbeRun
from initbench.results.record import PREDICTED, Number, RunStatus, with_quantities
from initbench.statistics.inference import median

HEALTHY_DECADES = 2.0
"""A layer is outside of the healthy range where a variance is so many powers of ten away from where the signal entered."""
KEPT_DECADES = 1.0
"""A scheme keeps the signal that stays within so many powers of ten."""
UNDERFLOW = 1e-76
"""The variance of numbers that are the smallest that float32 holds with all of its digits."""

if TYPE_CHECKING:

    class _Medians(Frozen):
        def __getattr__(self, quantity: str) -> float | None: ...

else:
    _Medians = with_quantities("_Medians", Frozen, QUANTITIES)


class LayerHealth(_Medians):
    """One weight layer: the median of each quantity over the seeds; None where there is no number (or where it overflowed).

    `expected` is the layer of the first seed, for its predictions; `outside` of so many `bands` do not hold what was measured.
    """

    layer: str
    gradient_energy: Number
    condition: Number
    expected: ProbedLayer
    outside: int
    bands: int


@dataclass(frozen=True)
class SchemeHealth:
    """One scheme: its layers, and how far the signal strays.

    `activations` is the variance after the last hidden layer over that after the first; `gradients` the squared length of
    the gradient at the first hidden layer over that at the last; both None where something overflowed or is zero.
    `decades` is the farthest that either strays on its way, infinite where it is gone; `leaves_at` the first layer,
    counted the way the signal goes, that is outside of the healthy range. `verdict` is all of it in words.
    """

    scheme: str
    status: RunStatus
    reason: str | None
    seeds: int
    layers: tuple[LayerHealth, ...] = ()
    activations: float | None = None
    gradients: float | None = None
    decades: float = math.inf
    leaves_at: str | None = None
    first_loss: float | None = None
    chance_loss: float | None = None
    output_std: float | None = None
    verdict: str = ""

    @property
    def keeps(self) -> bool:
        """Whether the signal stays within `KEPT_DECADES` on its way."""
        return self.status is RunStatus.COMPLETED and self.decades <= KEPT_DECADES

    @property
    def hidden(self) -> tuple[LayerHealth, ...]:
        """The layers without the last one, where there are enough."""
        return self.layers[:-1] if len(self.layers) > 2 else self.layers


def health(scheme: str, runs: Sequence[ProbeRun]) -> SchemeHealth:
    """How a scheme's signal does in its runs, one a seed; without a verdict yet."""
    done = [run for run in runs if run.status is RunStatus.COMPLETED]
    if not done:
        return SchemeHealth(scheme, runs[0].status, runs[0].reason, 0)
    layers = tuple(_over_seeds([run.layers[index] for run in done]) for index in range(len(done[0].layers)))
    forward, backward = ways(layers)
    return SchemeHealth(
        scheme=scheme,
        status=RunStatus.COMPLETED,
        reason=None,
        seeds=len(done),
        layers=layers,
        activations=_ratio(forward),
        gradients=_ratio(backward),
        decades=max(_farthest(forward), _farthest(backward)),
        leaves_at=_leaves(forward) or _leaves(backward),
        first_loss=_middle(run.first_loss for run in done),
        chance_loss=done[0].chance_loss,
        output_std=_middle(run.output_std for run in done),
    )


def _over_seeds(layers: Sequence[ProbedLayer]) -> LayerHealth:
    inside = [verdict for layer in layers for verdict in _inside_bands(layer)]
    names = (*(quantity.name for quantity in QUANTITIES), "gradient_energy", "condition")
    medians = {name: _middle(getattr(layer, name) for layer in layers) for name in names}
    return LayerHealth.model_validate(
        {"layer": layers[0].layer, "expected": layers[0], "outside": inside.count(False), "bands": len(inside), **medians}
    )


def _middle(values: Iterable[float | None]) -> float | None:
    middle = median([math.inf if value is None else value for value in values])
    return middle if math.isfinite(middle) else None


def _inside_bands(layer: ProbedLayer) -> list[bool]:
    """For each quantity with a predicted band whether the measured one is inside."""
    bands = [(getattr(layer, quantity), layer.prediction(quantity)) for quantity in PREDICTED]
    return [inside(value, band.low, band.high) for value, band in bands if band.low is not None and band.high is not None]


def inside(value: float | None, low: float, high: float) -> bool:
    """Whether a variance is in a band; below what float32 can hold all of them are one."""
    return value is not None and max(low, UNDERFLOW) <= max(value, UNDERFLOW) <= max(high, UNDERFLOW)


SignalPath = list[tuple[str, float | None]]
"""Layers and their signal, in the order in which it goes."""


def ways(layers: Sequence[LayerHealth]) -> tuple[SignalPath, SignalPath]:
    """The signal's way forward and back through the hidden layers, without branches that begin at zero: it goes around them.

    The way back is empty where there is no loss, and where the last layer begins at zero, as the heads of Fixup do on purpose.
    """
    hidden = layers[:-1] if len(layers) > 2 else layers
    forward: SignalPath = [(layer.layer, layer.activation_variance) for layer in hidden]
    backward: SignalPath = [(layer.layer, layer.gradient_energy) for layer in reversed(hidden)]
    if all(value is None for _, value in backward) or head_begins_at_zero(layers):
        backward = []
    both = [[step for step in way if step[1] != 0] if way and way[-1][1] else way for way in (forward, backward)]
    return both[0], both[1]


def head_begins_at_zero(layers: Sequence[LayerHealth]) -> bool:
    """Whether the last layer is zero and alone gets a gradient, though a signal reaches it."""
    *hidden, last = layers
    alone = bool(last.gradient_energy) and all(layer.gradient_energy == 0 for layer in hidden)
    return alone and bool(hidden) and last.pre_activation_variance == 0 and bool(hidden[-1].activation_variance)


def _ratio(way: SignalPath) -> float | None:
    if not way:
        return None
    first, last = way[0][1], way[-1][1]
    return last / first if first and last and math.isfinite(last / first) else None


def _strays(way: SignalPath) -> list[tuple[str, float]]:
    """For each layer how many powers of ten its variance is away from where the signal entered."""
    entered = way[0][1] if way else None
    return [(layer, math.inf if not value or not entered else abs(math.log10(value) - math.log10(entered))) for layer, value in way]


def _farthest(way: SignalPath) -> float:
    return max((away for _, away in _strays(way)), default=0.0)


def _leaves(way: SignalPath) -> str | None:
    return next((layer for layer, away in _strays(way) if away > HEALTHY_DECADES), None)
