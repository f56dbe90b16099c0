"""How well each scheme keeps the signal of an untrained network: a rank, and one verdict a scheme, first as data, then in words."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum, auto
from typing import Literal

from initbench.probing.health import (
    KEPT_DECADES,
    UNDERFLOW,
    LayerHealth,
    SchemeHealth,
    SignalPath,
    head_begins_at_zero,
    health,
    inside,
    ways,
)
from initbench.results.probe_run import ProbeRun
from initbench.results.record import RunStatus

NOTHING_DECADES = 6.0
"""A millionth of a variance counts as nothing."""
ALIKE = 0.999
"""Two inputs of this correlation are one to the network."""
UNTRUSTWORTHY_LOSS = 2.0
"""A first loss of so many times ln(classes) is worth a word."""
NEARLY_ALL = 0.9
"""A layer is dead when this share of its units is."""
STRAYING = 0.25
"""From this relative standard deviation on it is said how far theory expects single networks to stray."""
PACE = 1.05
"""A signal that is lost at a slower pace is lost by something else."""
HALF_BAND = 1.96
"""Standard deviations of half a 95 % band."""

Way = Literal["activations", "gradients"]


class Ending(StrEnum):
    """What becomes of the signal of a scheme."""

    SKIPPED = auto()
    FAILED = auto()
    OVERFLOWS = auto()
    VANISHES = auto()
    KEPT = auto()
    RETURNS = auto()
    """It leaves its range on the way, and comes back."""
    CHANGES = auto()


@dataclass(frozen=True)
class Pace:
    """A signal grows or shrinks by a factor of at least 1 a layer."""

    grows: bool
    factor: float


@dataclass(frozen=True)
class Remark:
    """What else is worth a word: something about a layer, a share or number, and what it is compared with."""

    about: Literal["straying", "zero head", "zero branches", "leaves", "alike", "dead", "first loss"]
    layer: str = ""
    value: float = 0.0
    chance: float = 0.0


@dataclass(frozen=True)
class SignalVerdict:
    """What becomes of a scheme's signal.

    `way`, `pace`: which signal changes, and how fast; `layer`: where it ends. `total`: the factor by which it changes in all, or
    goes away before it comes back. `lasts`: the layers after which nothing is left (or a million times as much), where the
    network has so many. `ratios`: of a signal that is kept, from end to end. `remedy`: a scheme that would keep it.
    """

    ending: Ending
    reason: str = ""
    way: Way = "activations"
    layer: str = ""
    pace: Pace | None = None
    total: float = 1.0
    lasts: int | None = None
    ratios: tuple[tuple[Way, float], ...] = ()
    remedy: str | None = None
    remarks: tuple[Remark, ...] = ()


def assess(runs: Iterable[ProbeRun], others: Iterable[ProbeRun] = ()) -> tuple[SchemeHealth, ...]:
    """Every scheme, the one that keeps the signal best first; `others` were only probed to have something to recommend."""
    ranked, spare = (sorted((health(*each) for each in _by_scheme(some)), key=_rank) for some in (runs, others))
    return tuple(replace(each, verdict=in_words(judge(each, [*ranked, *spare]))) for each in ranked)


def _by_scheme(runs: Iterable[ProbeRun]) -> Iterable[tuple[str, list[ProbeRun]]]:
    by_scheme: dict[str, list[ProbeRun]] = {}
    for run in runs:
        by_scheme.setdefault(run.scheme, []).append(run)
    return by_scheme.items()


def _rank(scheme: SchemeHealth) -> tuple[bool, float, float]:
    loss = math.inf if scheme.first_loss is None or scheme.chance_loss is None else abs(scheme.first_loss - scheme.chance_loss)
    return scheme.status is not RunStatus.COMPLETED, round(scheme.decades, 3), loss


def judge(scheme: SchemeHealth, every: Sequence[SchemeHealth]) -> SignalVerdict:
    """The verdict on a scheme; `every`: all that could be recommended instead, the best first."""
    if scheme.status is not RunStatus.COMPLETED:
        ending = Ending.SKIPPED if scheme.status is RunStatus.SKIPPED else Ending.FAILED
        return SignalVerdict(ending, reason=(scheme.reason or "").rstrip("."))
    best = next((other.scheme for other in every if other.keeps and other.scheme != scheme.scheme), None)
    verdict = _gone(scheme.layers) or _changed(scheme)
    return replace(verdict, remedy=None if scheme.keeps else best, remarks=tuple(_remarks(scheme)))


def _gone(layers: Sequence[LayerHealth]) -> SignalVerdict | None:
    """Where a signal is zero or overflows."""
    forward, backward = ways(layers)
    signals: tuple[tuple[Way, SignalPath], ...] = (("activations", forward), ("gradients", backward))
    for way, steps in signals:
        for index, (layer, value) in enumerate(steps):
            if not value:
                ending = Ending.OVERFLOWS if value is None else Ending.VANISHES
                return SignalVerdict(ending, way=way, layer=layer, pace=_pace([before or 0.0 for _, before in steps[:index]]))
    return None


def _pace(values: Sequence[float]) -> Pace | None:
    """How fast a signal goes; None where that is no matter of pace."""
    if len(values) < 2:
        return None
    factor = (values[-1] / values[0]) ** (1 / (len(values) - 1))
    faster = max(factor, 1 / factor)
    return Pace(factor > 1, faster) if faster >= PACE else None


def _changed(scheme: SchemeHealth) -> SignalVerdict:
    """What becomes of a signal that is there in all layers."""
    steps = len(scheme.hidden) - 1
    if scheme.keeps or steps < 1:
        ratios: tuple[tuple[Way, float | None], ...] = (("activations", scheme.activations), ("gradients", scheme.gradients))
        return SignalVerdict(Ending.KEPT, ratios=tuple((way, ratio) for way, ratio in ratios if ratio))
    forward, backward = _decades(scheme.activations), _decades(scheme.gradients)
    backwards = abs(backward) >= abs(forward) - 0.5
    decades = backward if backwards else forward
    if abs(decades) <= KEPT_DECADES:
        return SignalVerdict(Ending.RETURNS, total=10**scheme.decades)
    factor = 10 ** (abs(decades) / steps)
    lasts = math.ceil(NOTHING_DECADES / math.log10(factor))
    return SignalVerdict(
        Ending.CHANGES,
        way="gradients" if backwards else "activations",
        pace=Pace(decades >= 0, factor),
        total=10 ** abs(decades),
        lasts=lasts if lasts <= steps else None,
    )


def _decades(ratio: float | None) -> float:
    return math.log10(ratio) if ratio else 0.0


def _remarks(scheme: SchemeHealth) -> Iterable[Remark]:
    layers, hidden = scheme.layers, scheme.hidden
    if straying := _straying(scheme):
        yield straying
    if head_begins_at_zero(layers):
        yield Remark("zero head", layers[-1].layer)
    shut = sum(layer.gradient_energy == 0 for layer in layers[:-1])
    if shut and layers[0].gradient_energy:
        yield Remark("zero branches", value=shut)
    if scheme.leaves_at is not None and len(layers) > 2:
        yield Remark("leaves", scheme.leaves_at)
    alike = next((layer for layer in hidden if layer.correlation is not None and layer.correlation > ALIKE), None)
    if alike is not None:
        yield Remark("alike", alike.layer)
    dead = next(((layer.layer, share) for layer in hidden if (share := layer.dead_fraction) is not None and share > NEARLY_ALL), None)
    if dead is not None:
        yield Remark("dead", *dead)
    if scheme.first_loss is not None and scheme.chance_loss and scheme.first_loss > UNTRUSTWORTHY_LOSS * scheme.chance_loss:
        yield Remark("first loss", value=scheme.first_loss, chance=scheme.chance_loss)


def _straying(scheme: SchemeHealth) -> Remark | None:
    """How far networks of this width stray at the last hidden layer, where that is far; None where these stray even farther."""
    last = scheme.hidden[-1]
    _, low, high = last.expected.prediction("pre_activation_variance")
    if low is None or high is None or low < UNDERFLOW or not inside(last.pre_activation_variance, low, high):
        return None
    deviation = math.log(high / low) / (2 * HALF_BAND)
    return Remark("straying", last.layer, deviation) if deviation >= STRAYING else None


def in_words(verdict: SignalVerdict) -> str:
    """The verdict as one sentence without a full stop."""
    if verdict.ending is Ending.SKIPPED:
        return f"does not apply: {verdict.reason}"
    if verdict.ending is Ending.FAILED:
        return f"failed: {verdict.reason}"
    pronoun = "it" if verdict.ending is Ending.RETURNS else "them"
    remedy = [f"{verdict.remedy} would keep {pronoun}"] if verdict.remedy is not None else []
    return "; ".join([_ending_words(verdict), *remedy, *map(_remark_words, verdict.remarks)])


def _ending_words(verdict: SignalVerdict) -> str:
    pace = f"{_pace_words(verdict.pace)} a layer" if verdict.pace is not None else ""
    match verdict.ending:
        case Ending.KEPT:
            ratios = ", ".join(f"{way} {_times(ratio)}" for way, ratio in verdict.ratios)
            return "keeps the signal" + (f": {ratios} from end to end" if ratios else "")
        case Ending.RETURNS:
            return f"the signal leaves its range on the way, {verdict.total:.3g}x, and comes back"
        case Ending.OVERFLOWS | Ending.VANISHES:
            gone = "are constant" if verdict.way == "activations" else "are zero"
            end = "overflow" if verdict.ending is Ending.OVERFLOWS else gone
            return f"{verdict.way} {pace + ' until they ' if pace else ''}{end} at {verdict.layer}"
    if verdict.lasts is None:
        return f"{verdict.way} {pace}, {_large(verdict.total)}x in all"
    shrinks = verdict.pace is not None and not verdict.pace.grows
    nothing = f"nothing reaches the {'first' if verdict.way == 'gradients' else 'last'} one"
    return f"{verdict.way} {pace}: after {verdict.lasts} layers {nothing if shrinks else 'they are a million times as large'}"


def _pace_words(pace: Pace) -> str:
    return f"{'grow' if pace.grows else 'shrink'} {pace.factor:.{1 if pace.factor >= 1.95 else 2}f}x"


def _remark_words(remark: Remark) -> str:
    layer, value = remark.layer, remark.value
    match remark.about:
        case "straying":
            far = f"some {value:.0%}" if value < 1 else f"a factor of {_large(math.exp(value))}"
            return f"single networks of this width stray by {far} at {layer}, as theory expects"
        case "zero head":
            return f"{layer} begins at zero and alone learns at first"
        case "zero branches":
            return f"{value:.0f} layers in branches that begin at zero get no gradient at first"
        case "leaves":
            return f"the signal leaves the healthy range at {layer}"
        case "alike":
            return f"from {layer} on all inputs look alike (correlation above {ALIKE})"
        case "dead":
            return f"{value:.0%} of the units of {layer} are dead"
        case "first loss":
            return f"the first loss is {_large(value)}, where equal logits give {remark.chance:.2f}"


def _times(ratio: float) -> str:
    return f"{ratio:.2g}x" if ratio < 100 else f"{_large(ratio)}x"


def _large(value: float) -> str:
    return f"{float(f'{value:.3g}'):,.0f}" if 100 <= value < 1e6 else f"{value:.3g}"
