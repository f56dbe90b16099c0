"""How the signal passes the layers of an untrained network: its way forward and back, and by which rule it is lost on it.

One rule for every command. Of a network without residual blocks the way goes through its hidden layers. Of one with them it goes
along the residual stream: through the layers outside of blocks and the sums that end the blocks. What is inside a branch is not
compared with what comes before or after it, as the signal goes around it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol, TypeVar

from initbench.results.columns import at_step, column
from initbench.results.record import LayerStats, Place, RunResult, RunStatus, in_three_states

KEPT_DECADES = 1.0
"""A signal is kept that stays within so many powers of ten of where it entered."""
LOST_DECADES = 4.0
"""A signal is lost (it vanishes or explodes) at the first layer where it is so many powers of ten away from where it entered."""
ENDS = frozenset({Place.BRANCH_END, Place.NORMED_END})
"""Places with which the residual stream is kept."""
INSIDE = ENDS | {Place.BRANCH, Place.SHORTCUT}
"""Places within a residual block."""
BESIDE = INSIDE | {Place.ASIDE}
"""Places beside a residual stream."""

Signal = Literal["activations", "gradients"]


class MeasuredLayer(Protocol):
    """A layer of one run, or the medians of one over several; `value` knows three states, as that of `LayerStats`."""

    @property
    def layer(self) -> str:
        """Its name."""

    @property
    def place(self) -> Place | None:
        """Where it stands."""

    @property
    def size(self) -> int:
        """Numbers of its output for one input."""

    def value(self, quantity: str) -> float | None:
        """A quantity: finite, infinite where it overflowed, None where it was not measured."""


Layer = TypeVar("Layer", bound=MeasuredLayer)


class LossKind(StrEnum):
    """In which way a signal is lost; the value is the verb of a sentence."""

    OVERFLOWS = "overflow"
    CONSTANT = "are constant"
    EXPLODES = "explode"
    VANISHES = "vanish"


@dataclass(frozen=True)
class SignalLoss:
    """The first layer on the way of the activations, or of the gradients, where these are lost."""

    what: Signal
    how: LossKind
    layer: str

    def __str__(self) -> str:
        """Gives, for example, `gradients vanish at layers.3`."""
        zero = self.how is LossKind.CONSTANT and self.what == "gradients"
        return f"{self.what} {'are zero' if zero else self.how.value} at {self.layer}"


@dataclass(frozen=True)
class Propagation:
    """How the signal passes the layers of an untrained network.

    `activation_ratio` is the variance at the last hidden layer over that at the first, `gradient_ratio` that of the gradient at
    the first over that at the last, with the residual stream behind a block in the place of the layers inside; None where a
    variance overflowed or the base is zero. `zero_head`: the head begins at zero, so that nothing but it gets a gradient at
    first, on purpose; there is no way back to follow.
    """

    activation_ratio: float | None
    gradient_ratio: float | None
    loss: SignalLoss | None
    zero_head: bool = False

    @property
    def decades(self) -> float | None:
        """The larger of the two distances from 1, in powers of ten; 0 is a perfect signal, None a signal that is gone."""
        ratios = (self.activation_ratio,) if self.zero_head else (self.activation_ratio, self.gradient_ratio)
        return max(abs(math.log10(ratio)) for ratio in ratios if ratio) if all(ratios) else None

    def __str__(self) -> str:
        """Gives what becomes of the signal in words."""
        passes = "the signal passes from layer to layer" + ", to a head that begins at zero" * self.zero_head
        return str(self.loss) if self.loss else passes


@dataclass(frozen=True)
class Point:
    """The signal at one point of its way: behind a layer, or (`stream`) behind the residual block that the layer ends.

    `blocks` counts the residual blocks with norms between the model's input and this point.
    """

    layer: str
    value: float
    stream: bool = False
    blocks: int = 0


Way = tuple[Point, ...]
"""Points in the order in which the signal passes them; without those at which it was not measured."""


def hidden(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers without heads; where none is known, without the last one that was measured."""
    if any(layer.place is Place.HEAD for layer in layers):
        return tuple(layer for layer in layers if layer.place is not Place.HEAD)
    known = [layer for layer in layers if layer.value("activation_variance") is not None]
    return tuple(known if known and known[-1].place in INSIDE else known[:-1])


def way_forward(layers: Sequence[MeasuredLayer]) -> Way:
    """The variance of the activations on their way through `layers`."""
    along = has_stream(layers)
    return _around_zeros(_points(layers, [_activation(layer, along=along) for layer in layers], along=along))


def way_back(layers: Sequence[MeasuredLayer], *, energy: bool = True) -> Way:
    """The gradient on its way back: the squared length of one input's, which backpropagation keeps where layers differ in size.

    Without `energy`, its variance.
    """
    along = has_stream(layers)
    values = [_gradient(layer, along=along, energy=energy) for layer in layers]
    return _around_zeros(_points(layers, values, along=along)[::-1])


def has_stream(layers: Iterable[MeasuredLayer]) -> bool:
    """Whether a residual stream was measured: behind two blocks or more."""
    return sum(layer.place in ENDS and layer.value("stream_variance") is not None for layer in layers) > 1


def _activation(layer: MeasuredLayer, *, along: bool) -> float | None:
    """What the layer hands on: its activation; to a residual stream its output, as an activation behind that is in a branch."""
    if along and layer.place in ENDS:
        return layer.value("stream_variance")
    output = layer.value("pre_activation_variance") if along else None
    return layer.value("activation_variance") if output is None else output


def _gradient(layer: MeasuredLayer, *, along: bool, energy: bool) -> float | None:
    stream = along and layer.place in ENDS
    value = layer.value("stream_gradient_variance" if stream else "gradient_variance")
    size = layer.value("stream_size") if stream else layer.size
    return None if value is None else value * (max(1.0, size or 1) if energy else 1)


def _points(layers: Sequence[MeasuredLayer], values: Sequence[float | None], *, along: bool) -> Way:
    """A point for each layer that was measured; `along` a residual stream, for each layer on it and for each block."""
    points: list[Point] = []
    blocks = 0
    for layer, value in zip(layers, values, strict=True):
        stream = along and layer.place in ENDS
        if value is not None and (stream or not along or layer.place not in BESIDE):
            blocks += layer.place is Place.NORMED_END and stream
            points.append(Point(layer.layer, value, stream, blocks))
    return tuple(points)


def _around_zeros(way: Way) -> Way:
    """The way without branches that begin at zero, where the signal goes around them."""
    return tuple(point for point in way if point.value != 0) if way and way[-1].value else way


def strays(way: Way) -> list[float]:
    """At each point how many powers of ten the signal is away from where it entered; infinite where it is gone.

    Where norms hold what residual blocks add at its size, growth along the stream counts for nothing as far as n blocks cause it
    that are no stronger than their skip path: forward n + 1 times the variance, as the sum of as many signals of one size has,
    and on the way back, where the stream may be held as well, twice the gradient a block.
    """
    found: list[float] = []
    for point in way:
        decades = logarithm(point.value, way[0].value)
        if math.isfinite(decades) and decades > 0:
            passed = point.blocks - way[0].blocks
            decades = max(0.0, decades - (math.log10(1 + passed) if passed >= 0 else -passed * math.log10(2)))
        found.append(abs(decades))
    return found


def logarithm(value: float, base: float) -> float:
    """Powers of ten between two variances; infinite where one of them is zero or overflowed."""
    return math.log10(value) - math.log10(base) if 0 < value < math.inf and 0 < base < math.inf else math.inf


def ratio_of(way: Way) -> float | None:
    """The signal at the end of a way over that at its beginning; None where there is no such number."""
    if not way or not way[0].value or not math.isfinite(way[0].value):
        return None
    ratio = way[-1].value / way[0].value
    return ratio if math.isfinite(ratio) else None


def loss_on(what: Signal, way: Way) -> SignalLoss | None:
    """The first point of a way at which the signal is zero, no finite number, or too far from where it entered."""
    for point, decades in zip(way, strays(way), strict=True):
        if math.isinf(point.value):
            return SignalLoss(what, LossKind.OVERFLOWS, point.layer)
        if not point.value or not way[0].value:
            return SignalLoss(what, LossKind.CONSTANT, point.layer)
        if decades > LOST_DECADES:
            return SignalLoss(what, LossKind.EXPLODES if point.value > way[0].value else LossKind.VANISHES, point.layer)
    return None


def _overflowed(result: RunResult, stats: LayerStats) -> tuple[str, ...] | None:
    """The quantities of a layer that were no finite number, of an old file by what its nulls mean.

    Sums are in float64, so that a null of a run that trained to its end is no overflow: a frozen layer has no gradient, a
    layer that the model does not use has neither, and the products inside a recurrent module are hidden.
    """
    trained = result.status is RunStatus.COMPLETED and bool(result.train_losses)
    return () if stats.overflowed is None and trained else stats.overflowed


def with_states(result: RunResult, stats: LayerStats) -> LayerStats:
    """The measurements of a layer, of an old file with what its nulls mean."""
    overflowed = _overflowed(result, stats)
    return stats if overflowed == stats.overflowed else stats.model_copy(update={"overflowed": overflowed})


def layers_with_states(result: RunResult) -> Sequence[LayerStats]:
    """The same of all layers of a run."""
    old = None in column(result.layers, "overflowed")
    return tuple(with_states(result, stats) for stats in result.layers) if old else result.layers


def layer_value(result: RunResult, stats: LayerStats, quantity: str) -> float | None:
    """A measurement of one layer of a run: infinite where it overflowed, None where it was not measured."""
    return in_three_states(getattr(stats, quantity), quantity, _overflowed(result, stats))


def signal_at_start(result: RunResult) -> Propagation | None:
    """How the signal passes at step 0; None when fewer than two hidden layers were measured."""
    layers = [with_states(result, stats) for stats in at_step(result.layers, 0)]
    layers.sort(key=lambda stats: stats.position)
    return signal_through(layers)


def has_signal(result: RunResult) -> bool:
    """Whether the signal at step 0 was measured."""
    return signal_at_start(result) is not None


def head_begins_at_zero(layers: Sequence[MeasuredLayer]) -> bool:
    """Whether the last layer is zero and alone gets a gradient, though a signal reaches it, as in Fixup on purpose."""
    if len(layers) < 2:
        return False
    *before, last = layers
    others = [variance for layer in before if (variance := layer.value("gradient_variance")) is not None]
    alone = bool(last.value("gradient_variance")) and all(variance == 0 for variance in others)
    return alone and last.value("pre_activation_variance") == 0 and bool(before[-1].value("activation_variance"))


def signal_through(layers: Sequence[MeasuredLayer]) -> Propagation | None:
    """How the signal passes `layers`, in execution order; None where fewer than two points of its way were measured."""
    inner, zero_head = hidden(layers), head_begins_at_zero(layers)
    forward, back = way_forward(inner), () if zero_head else way_back(inner)
    if len(forward) < 2 or (len(back) < 2 and not zero_head):
        return None
    return Propagation(
        activation_ratio=ratio_of(forward),
        gradient_ratio=None if zero_head else ratio_of(way_back(inner, energy=False)),
        loss=loss_on("activations", forward) or loss_on("gradients", back),
        zero_head=zero_head,
    )
