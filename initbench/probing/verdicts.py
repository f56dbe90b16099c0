"""How well each scheme keeps the signal of an untrained network: a rank, and one verdict a scheme, first as data, then in words."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum, auto
from itertools import pairwise
from typing import Literal

from initbench.errors import enumerated
from initbench.probing.health import UNDERFLOW, SchemeHealth, health, inside
from initbench.results.probe_run import ProbeRun
from initbench.results.propagation import INSIDE, KEPT_DECADES, LOST_DECADES, Point, Signal, Way, head_begins_at_zero, logarithm, strays
from initbench.results.record import RunStatus

ALIKE = 0.999
"""Two inputs of this correlation are one to the network."""
TOGETHER = 0.01
"""Tokens of which less than this share of the squared length is not common to all of an input are one to the network."""
ONE_HOT = 0.3
"""Attention with an entropy below this share of that of equal weights has chosen before it has learned anything."""
JUMP = 0.8
"""The share of a change at one layer from which on that layer is told, and no pace."""
MANY_TRIED = 5
"""Schemes that must have been tried before it is said that none keeps the signal."""
FEWEST_STEPS = 3
"""Steps of a way of which one can be told from the others."""
UNTRUSTWORTHY_LOSS = 2.0
"""A first loss of so many times ln(classes) is worth a word."""
LARGEST = 300
"""Powers of ten that a factor is given to."""
MANY = 1e4
"""Factors from which three digits are given."""
NAMED = 2
"""Layers that a remark names; the others are counted."""
NEARLY_ALL = 0.9
"""A layer is dead when this share of its units is."""
MOSTLY = 0.5
"""A layer is saturated when this share of its activations is; the rule `saturated_units` of the linter has the same."""
AT_START = frozenset({"straying", "zero head", "zero branches", "first loss", "attention"})
"""Remarks that are about a network before its first step."""
STRAYING = 0.25
"""From this relative standard deviation on it is said how far theory expects single networks to stray."""
PACE = 1.05
"""A signal that is lost at a slower pace is lost by something else."""
HALF_BAND = 1.96
"""Standard deviations of half a 95 % band."""


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
    SHORT = auto()
    """Too few hidden layers for a signal to change between them."""
    UNKNOWN = auto()
    """No layer's signal could be measured."""


@dataclass(frozen=True)
class Pace:
    """A signal grows or shrinks by a factor of at least 1 a layer, or a residual block."""

    grows: bool
    factor: float
    unit: Literal["layer", "block"] = "layer"


@dataclass(frozen=True)
class Remark:
    """What else is worth a word: something about a layer (or several), a share or number, what it is compared with, and why."""

    about: (
        Literal["straying", "zero head", "zero branches", "lost", "alike", "dead", "saturated", "first loss", "not measured", "not set"]
        | Literal["attention", "one-hot", "tokens alike", "embeddings"]
    )
    layer: str = ""
    value: float = 0.0
    chance: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class SignalVerdict:
    """What becomes of a scheme's signal.

    `way`, `pace`: which signal changes, and how fast; `layer`: where it ends. `total`: the factor by which it changes in all, or
    goes away before it comes back. `lasts`: the layers (or blocks) after which nothing is left (or a million times as much), where
    the network has so many.
    `ratios`: of a signal that is kept, from end to end, with its pace along a residual stream. `remedy`: a scheme that would keep it, as
    was measured; where none does, `nearest`: of so many that were tried, the best and its powers of ten. `jump`: the one layer at which
    nearly all of the change happens, and its factor.
    """

    ending: Ending
    reason: str = ""
    way: Signal = "activations"
    layer: str = ""
    pace: Pace | None = None
    total: float = 1.0
    lasts: int | None = None
    ratios: tuple[tuple[Signal, float, Pace | None], ...] = ()
    remedy: str | None = None
    nearest: tuple[int, str, float] | None = None
    jump: tuple[str, float] | None = None
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


def while_trained(scheme: SchemeHealth) -> SchemeHealth:
    """A network at one of its steps, with the verdict on it: without what only holds before the first, and with saturated layers."""
    verdict = judge(scheme, ())
    remarks = (*(each for each in verdict.remarks if each.about not in AT_START), *_saturated(scheme))
    return replace(scheme, verdict=in_words(replace(verdict, remarks=remarks)))


def _saturated(scheme: SchemeHealth) -> Iterable[Remark]:
    """The layer with the most at an end; zeros do not count, at which ReLU6 is for half of its inputs."""
    shares = [(layer.layer, share) for layer in scheme.hidden if (share := layer.saturated_fraction) is not None]
    zeros = {layer.layer: layer.zero_fraction or 0.0 for layer in scheme.hidden}
    many = [(name, share) for name, share in shares if share - zeros[name] > MOSTLY]
    return [Remark("saturated", *max(many, key=lambda each: each[1]))] if many else []


def distance(scheme: SchemeHealth) -> str:
    """How far the signal is at the layer where it is lost from where it entered, as a clause; empty where it is not lost, or gone."""
    if scheme.lost is None:
        return ""
    way = scheme.forward if scheme.lost.what == "activations" else scheme.back
    there = next(point for point in way if point.layer == scheme.lost.layer)
    decades = logarithm(there.value, way[0].value)
    if math.isinf(decades) or abs(decades) > LARGEST:
        return ""
    what = "the variance of the activations" if scheme.lost.what == "activations" else "the squared length of the gradient"
    return (
        f"{what} at {there.layer} is {_large(10 ** abs(decades))} times {'smaller' if decades < 0 else 'as large'}{_than(decades, way[0])}"
    )


def _than(decades: float, entry: Point) -> str:
    return f" {'than' if decades < 0 else 'as'} at {entry.layer}, where it enters"


def _rank(scheme: SchemeHealth) -> tuple[bool, float, float]:
    loss = math.inf if scheme.first_loss is None or scheme.chance_loss is None else abs(scheme.first_loss - scheme.chance_loss)
    return scheme.status is not RunStatus.COMPLETED, round(scheme.decades, 3), loss


def judge(scheme: SchemeHealth, every: Sequence[SchemeHealth]) -> SignalVerdict:
    """The verdict on a scheme; `every`: all that could be recommended instead, the best first."""
    if scheme.status is not RunStatus.COMPLETED:
        ending = Ending.SKIPPED if scheme.status is RunStatus.SKIPPED else Ending.FAILED
        return SignalVerdict(ending, reason=(scheme.reason or "").rstrip("."))
    best = next((other.scheme for other in every if other.keeps and other.scheme != scheme.scheme), None)
    gone = _gone(scheme)
    if gone is None and (scheme.is_short or (not scheme.forward and not scheme.back)):
        return SignalVerdict(Ending.SHORT if scheme.is_short else Ending.UNKNOWN, remarks=tuple(_remarks(scheme)))
    verdict = gone or _changed(scheme)
    if scheme.keeps:
        return replace(verdict, remarks=tuple(_remarks(scheme)))
    return replace(verdict, remedy=best, nearest=_nearest(every) if best is None else None, remarks=tuple(_remarks(scheme)))


def _nearest(every: Sequence[SchemeHealth]) -> tuple[int, str, float] | None:
    """Of many schemes that do not keep the signal, their number, the one that comes nearest and how far that strays; None of few."""
    tried = [each for each in every if each.status is RunStatus.COMPLETED and (each.forward or each.back)]
    if len(tried) < MANY_TRIED:
        return None
    best = min(tried, key=lambda each: each.decades)
    return len(tried), best.scheme, best.decades


def _gone(scheme: SchemeHealth) -> SignalVerdict | None:
    """Where a signal is zero or overflows."""
    signals: tuple[tuple[Signal, Way], ...] = (("activations", scheme.forward), ("gradients", scheme.back))
    for signal, way in signals:
        for index, point in enumerate(way):
            if not point.value or math.isinf(point.value):
                ending = Ending.OVERFLOWS if point.value else Ending.VANISHES
                pace = _pace(way[:index])
                return SignalVerdict(ending, way=signal, layer=point.layer, pace=pace if pace and pace.factor >= PACE else None)
    return None


def _pace(way: Way) -> Pace | None:
    """How fast a signal goes: a block along a residual stream, else a layer; None for fewer than two points."""
    stream = tuple(point for point in way if point.stream)
    along = 2 * len(stream) >= len(way) and len(stream) > 1
    steps = len(way) - 1
    if steps < 1:
        return None
    decades = logarithm(way[-1].value, way[0].value) / steps
    if along:
        within = logarithm(stream[-1].value, stream[0].value) / (len(stream) - 1)
        decades = within if within * decades > 0 else decades
    return Pace(decades > 0, 10 ** abs(decades), "block" if along else "layer")


def _changed(scheme: SchemeHealth) -> SignalVerdict:
    """What becomes of a signal that is there in all layers."""
    if scheme.keeps:
        ends: tuple[tuple[Signal, Way, float | None], ...] = (
            ("activations", scheme.forward, scheme.activations),
            ("gradients", scheme.back, scheme.gradients),
        )
        ratios = ((signal, ratio, _pace(way)) for signal, way, ratio in ends if ratio)
        return SignalVerdict(Ending.KEPT, ratios=tuple(ratios))
    forward, back = _strayed(scheme.forward), _strayed(scheme.back)
    backwards = back >= forward - 0.5 and len(scheme.back) > 1
    way = scheme.back if backwards else scheme.forward
    if _strayed(way) <= KEPT_DECADES:
        return SignalVerdict(Ending.RETURNS, total=10 ** _farthest(scheme))
    pace = _pace(way)
    lasts = math.ceil(LOST_DECADES / math.log10(pace.factor)) if pace else 0
    return SignalVerdict(
        Ending.CHANGES,
        way="gradients" if backwards else "activations",
        pace=pace,
        total=10 ** min(LARGEST, abs(logarithm(way[-1].value, way[0].value))),
        lasts=lasts if pace and lasts <= _steps(way, pace) else None,
        jump=_jump(way),
    )


def _jump(way: Way) -> tuple[str, float] | None:
    """The layer at which nearly all of the change happens, and the factor there, above 1 where the signal grows; None of a steady one."""
    steps = [(after.layer, logarithm(after.value, before.value)) for before, after in pairwise(way)]
    total = logarithm(way[-1].value, way[0].value)
    if len(steps) < FEWEST_STEPS or not all(math.isfinite(decades) for _, decades in steps):
        return None
    layer, decades = max(steps, key=lambda step: abs(step[1]))
    return (layer, 10 ** max(-LARGEST, min(LARGEST, decades))) if decades / total >= JUMP else None


def _strayed(way: Way) -> float:
    """How far a signal has strayed at the end of its way, in powers of ten."""
    return strays(way)[-1] if way else 0.0


def _farthest(scheme: SchemeHealth) -> float:
    """The farthest that the signal is from where it entered, in powers of ten, growth along a residual stream included."""
    return max(min(LARGEST, abs(logarithm(point.value, way[0].value))) for way in (scheme.forward, scheme.back) for point in way)


def _steps(way: Way, pace: Pace) -> int:
    return sum(point.stream for point in way) if pace.unit == "block" else len(way) - 1


def _remarks(scheme: SchemeHealth) -> Iterable[Remark]:
    layers, hidden = scheme.layers, scheme.hidden
    if scheme.lost is not None and len(layers) > 2:
        yield Remark("lost", scheme.lost.layer, reason=str(scheme.lost))
    elif straying := _straying(scheme):
        yield straying
    if head_begins_at_zero(layers):
        yield Remark("zero head", layers[-1].layer)
    shut = sum(layer.gradient_energy == 0 for layer in layers[:-1])
    if shut and layers[0].gradient_energy:
        yield Remark("zero branches", value=shut)
    passed = [layer for layer in hidden if layer.place not in INSIDE]
    alike = next((layer for layer in passed if layer.correlation is not None and layer.correlation > ALIKE), None)
    if alike is not None:
        yield Remark("alike", alike.layer)
    yield from _attention(scheme)
    if scheme.embeddings:
        yield Remark("embeddings", reason=_embeddings(scheme))
    dead = next(((layer.layer, share) for layer in hidden if (share := layer.dead_fraction) is not None and share > NEARLY_ALL), None)
    if dead is not None:
        yield Remark("dead", *dead)
    if scheme.first_loss is not None and scheme.chance_loss and scheme.first_loss > UNTRUSTWORTHY_LOSS * scheme.chance_loss:
        yield Remark("first loss", value=scheme.first_loss, chance=scheme.chance_loss)
    yield from _grouped("not measured", [(layer.layer, layer.not_measured) for layer in layers if layer.not_measured])
    yield from _grouped("not set", scheme.left_alone)


def _attention(scheme: SchemeHealth) -> Iterable[Remark]:
    """What attention does at the start: where it has chosen already, where tokens have become one; else that it is as it should be."""
    layers = scheme.attention
    hot = next((each for each in layers if each.entropy is not None and each.entropy < ONE_HOT), None)
    one = next((each for each in layers if each.apart is not None and each.apart < TOGETHER), None)
    if hot is not None:
        yield Remark("one-hot", hot.module, hot.entropy or 0.0)
    if one is not None:
        yield Remark("tokens alike", one.module, one.apart or 0.0)
    entropies = [each.entropy for each in layers if each.entropy is not None]
    if entropies and hot is None and one is None:
        last = layers[-1].apart
        yield Remark("attention", layers[-1].module if last is not None else "", min(entropies), last or 0.0)


def _embeddings(scheme: SchemeHealth) -> str:
    """The scale of what embeddings give, the first few of them."""
    known = [f"{math.sqrt(each.variance):.2g} ({each.module})" for each in scheme.embeddings if each.variance is not None]
    more = len(known) - NAMED
    return f"{enumerated(known[:NAMED], 'and')}{f', and {more} more' if more > 0 else ''}" if known else "overflow"


def _grouped(about: Literal["not measured", "not set"], layers: Sequence[tuple[str, str]]) -> Iterable[Remark]:
    """A remark for each reason, with the layers that it holds for."""
    by_reason: dict[str, list[str]] = {}
    for layer, reason in layers:
        by_reason.setdefault(reason, []).append(layer)
    for reason, names in by_reason.items():
        more = len(names) - NAMED
        few = ", ".join(names) if more <= 0 else f"{', '.join(names[:NAMED])} and {more} more"
        yield Remark(about, few, len(names), reason=reason)


def _straying(scheme: SchemeHealth) -> Remark | None:
    """How far networks of this width stray at the last hidden layer, where that is far; None where these stray even farther."""
    if not scheme.hidden:
        return None
    last = scheme.hidden[-1]
    _, low, high = last.expected.prediction("pre_activation_variance")
    if low is None or high is None or low < UNDERFLOW or not inside(last.pre_activation_variance, low, high):
        return None
    deviation = math.log(high / low) / (2 * HALF_BAND)
    return Remark("straying", last.layer, deviation) if deviation >= STRAYING else None


def in_words(verdict: SignalVerdict) -> str:
    """The verdict as one sentence without a full stop, which says nothing twice."""
    if verdict.ending is Ending.SKIPPED:
        return f"does not apply: {verdict.reason}"
    if verdict.ending is Ending.FAILED:
        return f"failed: {verdict.reason}"
    pronoun = "it" if verdict.ending is Ending.RETURNS else "them"
    remedy = [f"{verdict.remedy} would keep {pronoun}"] if verdict.remedy is not None else []
    if verdict.nearest is not None:
        count, scheme, decades = verdict.nearest
        far = f"strays {_large(10**decades)}x" if decades <= LARGEST else "loses it altogether"
        remedy = [
            f"none of {count} schemes tried keeps {pronoun}, the nearest, {scheme}, {far}: change the activation, or add norms or skips"
        ]
    return "; ".join(dict.fromkeys([_ending_words(verdict), *remedy, *map(_remark_words, verdict.remarks)]))


def _ending_words(verdict: SignalVerdict) -> str:
    pace, unit = (f"{_pace_words(verdict.pace)} a {verdict.pace.unit}", verdict.pace.unit) if verdict.pace is not None else ("", "layer")
    match verdict.ending:
        case Ending.UNKNOWN:
            return "cannot be told: no layer's signal was measured"
        case Ending.SHORT:
            return "the signal passes too few hidden layers to change between them"
        case Ending.KEPT:
            ratios = ", ".join(f"{way} {_times(ratio)}{_kept_pace(each)}" for way, ratio, each in verdict.ratios)
            by_blocks = any(each is not None and each.unit == "block" for _, _, each in verdict.ratios)
            where = "from end to end of the residual stream" if by_blocks else "from end to end"
            grown = any(logarithm(ratio, 1) > KEPT_DECADES for _, ratio, _ in verdict.ratios)
            allowed = ", which grows no more than blocks with norms make it" if grown and by_blocks else ""
            return f"keeps the signal{allowed}" + (f": {ratios} {where}" if ratios else "")
        case Ending.RETURNS:
            return f"the signal changes {verdict.total:.3g}x between layers and is back to its size at the end"
        case Ending.OVERFLOWS | Ending.VANISHES:
            gone = "are constant" if verdict.way == "activations" else "are zero"
            end = "overflow" if verdict.ending is Ending.OVERFLOWS else gone
            return f"{verdict.way} {pace + ' until they ' if pace else ''}{end} at {verdict.layer}"
    if verdict.jump is not None:
        layer, factor = verdict.jump
        times = f"grow {_large(factor)}x" if factor > 1 else f"shrink {_large(1 / factor)}x"
        return f"{verdict.way} {times} at {layer} alone, {_large(verdict.total)}x in all"
    if verdict.lasts is None:
        return f"{verdict.way} {pace}, {_large(verdict.total)}x in all"
    shrinks = verdict.pace is not None and not verdict.pace.grows
    times = f"{10**LOST_DECADES:,.0f} times {'smaller' if shrinks else 'as large'}"
    return f"{verdict.way} {pace}: after {verdict.lasts} {unit}s they are {times}"


def _pace_words(pace: Pace) -> str:
    return f"{'grow' if pace.grows else 'shrink'} {_factor(pace)}x"


def _factor(pace: Pace) -> str:
    return _large(pace.factor) if pace.factor >= MANY else f"{pace.factor:.{1 if pace.factor >= 1.95 else 2}f}"


def _kept_pace(pace: Pace | None) -> str:
    """The pace of what grows along a residual stream, where it is worth a word."""
    return f" ({_factor(pace)}x a block)" if pace is not None and pace.unit == "block" and pace.grows and pace.factor >= PACE else ""


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
        case "lost":
            return remark.reason
        case "not measured":
            return f"not measured: {layer} ({remark.reason})"
        case "not set":
            return f"left as it was: {layer} ({remark.reason})"
        case "alike":
            return f"from {layer} on the network cannot tell inputs apart (correlation above {ALIKE})"
        case "dead":
            return f"{value:.0%} of the units of {layer} are dead"
        case "saturated":
            return f"{value:.0%} of the activations of {layer} are saturated"
        case "attention":
            tokens = f", and of the tokens before {layer} {remark.chance:.0%} is their own" if layer else ""
            return f"attention looks at all keys (entropy at least {value:.0%} of that of equal weights{tokens})"
        case "embeddings":
            return f"embeddings give numbers of a standard deviation of {remark.reason}"
        case "one-hot":
            return f"attention in {layer} has chosen before it has learned (entropy {value:.0%} of that of equal weights)"
        case "tokens alike":
            return f"at {layer} all tokens of an input have become one: {value:.1g} of their squared length is their own"
        case "first loss":
            return f"the first loss is {_large(value)}, where equal logits give {remark.chance:.2f}"


def _times(ratio: float) -> str:
    return f"{ratio:.2g}x" if ratio < 100 else f"{_large(ratio)}x"


def _large(value: float) -> str:
    return f"{float(f'{value:.3g}'):,.0f}" if 100 <= value < 1e6 else f"{value:.3g}"
