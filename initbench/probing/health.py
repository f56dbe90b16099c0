"""How an untrained network's signal does, layer by layer and scheme by scheme: numbers, medians over the seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from initbench.quantities import OF_EVERY_RUN, OF_PROBES, QUANTITIES
from initbench.question.config import Frozen
from initbench.results.probe_run import AttentionLayer, EmbeddingLayer, ProbedLayer, ProbeRun
from initbench.results.propagation import (
    KEPT_DECADES,
    SignalLoss,
    Way,
    head_begins_at_zero,
    hidden,
    loss_on,
    ratio_of,
    strays,
    way_back,
    way_forward,
)
from initbench.results.record import PREDICTED, Number, Place, RunStatus, in_three_states, with_quantities
from initbench.statistics.inference import median

UNDERFLOW = 1e-76
"""The variance of numbers that are the smallest that float32 holds with all of its digits."""

if TYPE_CHECKING:

    class _Medians(Frozen):
        def __getattr__(self, quantity: str) -> float | None: ...

else:
    _Medians = with_quantities("_Medians", Frozen, QUANTITIES)


class LayerHealth(_Medians):
    """One weight layer: the median of each quantity over the seeds that measured it; None where there is no number.

    `overflowed` names those without a number whose median is that of a signal that overflowed; the others were not measured,
    for the reason in `not_measured`. `expected` is the layer of the first seed, for its predictions; `outside` of so many `bands`
    do not hold what was measured.
    """

    layer: str
    size: int
    place: Place | None
    overflowed: tuple[str, ...]
    not_measured: str | None
    gradient_energy: Number
    condition: Number
    expected: ProbedLayer
    outside: int
    bands: int

    def value(self, quantity: str) -> float | None:
        """A quantity in its three states: a finite number, infinite where it overflowed, None where it was not measured."""
        return in_three_states(getattr(self, quantity), quantity, self.overflowed)


@dataclass(frozen=True)
class SchemeHealth:
    """One scheme: its layers, and how far the signal strays.

    `forward` and `back` are the ways of the activations' variance and of the gradient's squared length, through hidden layers or
    along the residual stream. `decades` is the farthest that either strays, infinite where it is gone or could not be measured at
    all; `lost` says where it vanishes or explodes. `left_alone` are the layers that the scheme did not set, with why. `verdict` is
    all of it in words. `attention` are the medians of each softmax over keys, in the order in which they come, `embeddings` those of
    each embedding.
    """

    scheme: str
    status: RunStatus
    reason: str | None
    seeds: int
    layers: tuple[LayerHealth, ...] = ()
    forward: Way = ()
    back: Way = ()
    decades: float = math.inf
    lost: SignalLoss | None = None
    left_alone: tuple[tuple[str, str], ...] = ()
    first_loss: float | None = None
    chance_loss: float | None = None
    output_std: float | None = None
    attention: tuple[AttentionLayer, ...] = ()
    embeddings: tuple[EmbeddingLayer, ...] = ()
    verdict: str = ""

    @property
    def activations(self) -> float | None:
        """The variance at the end of the way forward over that at its beginning; None of one point, or where it overflowed or is zero."""
        return ratio_of(self.forward) or None if len(self.forward) > 1 else None

    @property
    def gradients(self) -> float | None:
        """The squared length of the gradient at the end of its way back over that at its beginning; None as above."""
        return ratio_of(self.back) or None if len(self.back) > 1 else None

    @property
    def leaves_at(self) -> str | None:
        """The layer at which the signal is lost, counted the way it goes."""
        return self.lost.layer if self.lost else None

    @property
    def keeps(self) -> bool:
        """Whether the signal stays within `KEPT_DECADES` on its way."""
        return self.status is RunStatus.COMPLETED and self.decades <= KEPT_DECADES

    @property
    def hidden(self) -> tuple[LayerHealth, ...]:
        """The layers without heads."""
        return hidden(self.layers)

    @property
    def is_short(self) -> bool:
        """Whether something was measured, but at fewer than two points of the signal's way, between which nothing can change."""
        measured = any(layer.value("activation_variance") is not None for layer in self.layers)
        return measured and max(len(self.forward), len(self.back)) < 2


def health(scheme: str, runs: Sequence[ProbeRun]) -> SchemeHealth:
    """How a scheme's signal does in its runs, one a seed; without a verdict yet."""
    done = [run for run in runs if run.status is RunStatus.COMPLETED]
    if not done:
        return SchemeHealth(scheme, runs[0].status, runs[0].reason, 0)
    layers = tuple(_over_seeds([run.layers[index] for run in done]) for index in range(len(done[0].layers)))
    forward, back = ways(layers)
    return SchemeHealth(
        scheme=scheme,
        status=RunStatus.COMPLETED,
        reason=None,
        seeds=len(done),
        layers=layers,
        forward=forward,
        back=back,
        decades=max((*strays(forward), *strays(back)), default=math.inf),
        lost=loss_on("activations", forward) or loss_on("gradients", back),
        left_alone=tuple(done[0].left_alone.items()),
        first_loss=_middle(run.first_loss for run in done),
        chance_loss=done[0].chance_loss,
        output_std=_middle(run.output_std for run in done),
        attention=tuple(_middle_attention([run.attention[index] for run in done]) for index in range(len(done[0].attention))),
        embeddings=tuple(
            first.model_copy(update={"variance": _middle(run.embeddings[index].variance for run in done)})
            for index, first in enumerate(done[0].embeddings)
        ),
    )


def _middle_attention(each: Sequence[AttentionLayer]) -> AttentionLayer:
    """The medians over the seeds."""
    figures = {name: _middle(getattr(one, name) for one in each) for name in ("entropy", "largest", "apart")}
    return each[0].model_copy(update=figures)


def _over_seeds(layers: Sequence[ProbedLayer]) -> LayerHealth:
    first = layers[0]
    inside = [verdict for layer in layers for verdict in _inside_bands(layer)]
    medians = {name: _middle(getattr(layer, name) for layer in layers) for name in (*(each.name for each in OF_PROBES), "condition")}
    measured = {each.name: [value for layer in layers if (value := layer.value(each.name)) is not None] for each in OF_EVERY_RUN}
    measured["gradient_energy"] = [
        value * max(1, layer.size) for layer in layers if (value := layer.value("gradient_variance")) is not None
    ]
    middles = {name: median(values) for name, values in measured.items() if values}
    return LayerHealth.model_validate(
        {
            "layer": first.layer,
            "size": first.size,
            "place": first.place,
            "overflowed": tuple(name for name, value in middles.items() if not math.isfinite(value)),
            "not_measured": next((layer.not_measured for layer in layers if layer.not_measured), None),
            "expected": first,
            "outside": inside.count(False),
            "bands": len(inside),
            **medians,
            "gradient_energy": None,
            **middles,
        }
    )


def _middle(values: Iterable[float | None]) -> float | None:
    """The median, with what is no number above every number; None where it is none itself."""
    middle = median([math.inf if value is None else value for value in values])
    return middle if math.isfinite(middle) else None


def _inside_bands(layer: ProbedLayer) -> list[bool]:
    """For each quantity that was measured and has a predicted band whether it is inside."""
    bands = [(layer.value(quantity), layer.prediction(quantity)) for quantity in PREDICTED]
    return [
        inside(value, band.low, band.high) for value, band in bands if value is not None and band.low is not None and band.high is not None
    ]


def inside(value: float | None, low: float, high: float) -> bool:
    """Whether a variance is in a band; below what float32 can hold all of them are one."""
    return value is not None and max(low, UNDERFLOW) <= max(value, UNDERFLOW) <= max(high, UNDERFLOW)


def ways(layers: Sequence[LayerHealth]) -> tuple[Way, Way]:
    """The signal's way forward and back through the hidden layers.

    The way back is empty where there is no loss, and where the head begins at zero, as those of Fixup do on purpose.
    """
    inner = hidden(layers)
    return way_forward(inner), () if head_begins_at_zero(layers) else way_back(inner)
