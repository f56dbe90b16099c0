"""Two schemes on the same seeds: the paired difference, the test, and the verdict in words, made in one place for everyone."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from initbench.metrics import Metric
from initbench.question.config import Frozen
from initbench.results.record import Number
from initbench.statistics.deciding import APART, Deciding, Pair
from initbench.statistics.estimates import Estimate, difference_estimate, interval_text, number_text, seeds_text
from initbench.statistics.inference import (
    ALPHA,
    difference,
    difference_interval,
    holm,
    probability_of_improvement,
    seeds_needed,
    signed_ranks,
)
from initbench.statistics.sequential import mean_sequence


class Verdict(StrEnum):
    """What a comparison allows to say.

    `not shown to differ`: the difference cannot be told from zero; `not decided`: the same where seeds may be added;
    `both without`: neither has a number on any seed.
    """

    BETTER = "better"
    WORSE = "worse"
    TIE = "not shown to differ"
    NOT_DECIDED = "not decided"
    IDENTICAL = "identical"
    BOTH_WITHOUT = "both without"
    EQUIVALENT = "equivalent"
    TOO_FEW_SEEDS = "too few seeds"
    NOT_COMPARABLE = "not comparable"


SAME = frozenset({Verdict.IDENTICAL, Verdict.BOTH_WITHOUT})
"""Those that say what these seeds show, and no more."""
TIES = frozenset({Verdict.TIE, Verdict.NOT_DECIDED, Verdict.IDENTICAL, Verdict.EQUIVALENT, Verdict.BOTH_WITHOUT})
"""The verdicts that leave one scheme as good as the other."""


class Comparison(Frozen):
    """`scheme` against `other` on the seeds that both have, the same seed with the same noise and data order.

    `difference` is scheme - other: the Hodges-Lehmann estimate, with the interval that leaves out zero exactly when `p` is at most
    5 %. Wins, losses and the effect (matched-pairs rank-biserial correlation) are positive where `scheme` is better. `both_without`:
    those of the ties on which neither has a number. `improvement` is the chance that a run of `scheme` beats a run of `other`. `p` is
    the exact sign-flip test on signed ranks, `p_holm` the same after Holm (e-Holm at any time) over the `family` comparisons made together.

    `anytime`: seeds were added while results were looked at. `p` is then one over the most that bets on the signs have won
    (`wealth` is what they are worth now), `difference` the median with an interval, and all of it holds whenever one looks and stops.
    `decided_after`: the seeds after which the verdict was first reached, which stays; None where it is none that stays.
    `seeds_left`: about how many more seeds it takes, a guess. `mean`: the mean difference of a bounded figure such as an accuracy, where a
    run without a number has the worst of the bounds, with an interval that assumes nothing else and holds at every look.
    """

    metric: str
    scheme: str
    other: str
    n: int
    difference: Estimate
    wins: int = 0
    losses: int = 0
    ties: int = 0
    both_without: int = 0
    effect: Number = None
    improvement: Number = None
    p: Number = None
    p_holm: Number = None
    family: int = 0
    anytime: bool = False
    wealth: Number = None
    decided_after: int | None = None
    seeds_left: int | None = None
    mean: Estimate | None = None
    verdict: Verdict = Verdict.NOT_COMPARABLE
    sentence: str = ""

    @property
    def names(self) -> tuple[str, str]:
        """Both schemes."""
        return self.scheme, self.other

    def rival_of(self, name: str) -> str:
        """The one of the two that is not `name`."""
        return self.other if self.scheme == name else self.scheme

    def beats(self, name: str) -> bool:
        """Whether `name` is shown to be better than the other."""
        return self.verdict is (Verdict.BETTER if self.scheme == name else Verdict.WORSE)


@dataclass(frozen=True)
class Side:
    """The values of one scheme by seed (infinite: no number), and why there are none."""

    scheme: str
    values: Mapping[int, float]
    why_none: str = "has no runs"


def compare_family(
    metric: Metric, pairs: Sequence[tuple[Side, Side]], *, margin: float | None = None, anytime: bool = False
) -> tuple[Comparison, ...]:
    """All comparisons that are made together, with a correction over those that have seeds in common.

    `margin` is the difference that does not matter, in the unit that is shown (points of accuracy). `anytime`: seeds were added
    while results were looked at; the correction is then that of `sequential.Family`, else Holm's.
    """
    measured = [_measure(metric, left, right, anytime=anytime) for left, right in pairs]
    judged = _at_any_time(metric, measured, pairs, margin) if anytime else _of_fixed_number(metric, measured, pairs, margin)
    return tuple(
        comparison.model_copy(update={"sentence": sentence(metric, comparison, left, right, margin)})
        for comparison, (left, right) in zip(judged, pairs, strict=True)
    )


def _of_fixed_number(
    metric: Metric, measured: Sequence[Comparison], pairs: Sequence[tuple[Side, Side]], margin: float | None
) -> Iterator[Comparison]:
    """The comparisons with their verdicts, where the number of seeds was fixed beforehand."""
    tested = [index for index, comparison in enumerate(measured) if comparison.p is not None]
    adjusted = dict(zip(tested, holm([measured[index].p or 0.0 for index in tested]), strict=True))
    for index, (comparison, (left, right)) in enumerate(zip(measured, pairs, strict=True)):
        corrected = comparison.model_copy(update={"p_holm": adjusted.get(index), "family": len(tested)})
        yield corrected.model_copy(update={"verdict": _decide(metric, corrected, left, right, margin)})


def _at_any_time(
    metric: Metric, measured: Sequence[Comparison], pairs: Sequence[tuple[Side, Side]], margin: float | None
) -> Iterator[Comparison]:
    """The same where seeds were added while results were looked at."""
    sides = {side.scheme: side for pair in pairs for side in pair}
    found = deciding(metric, [(left.scheme, right.scheme) for left, right in pairs], margin)
    for seed in sorted({seed for side in sides.values() for seed in side.values}):
        found.take({name: side.values[seed] for name, side in sides.items() if seed in side.values})
    for comparison, pair in zip(measured, found.pairs, strict=True):
        known: dict[str, object] = {"family": len(found.members)}
        if pair.path:
            wealth = [each[APART] for each in pair.path]
            known |= {"p": min(1.0, 1 / max(wealth)), "p_holm": pair.p, "wealth": wealth[-1], "verdict": _decided(comparison, pair)}
            known |= {"seeds_left": found.seeds_left(pair)} if pair.is_open else {"decided_after": pair.ended_after}
        yield comparison.model_copy(update=known)


def deciding(metric: Metric, pairs: Sequence[tuple[str, str]], margin: float | None) -> Deciding:
    """What decides about pairs of schemes, seed by seed; `margin` in the unit that is shown."""
    return Deciding(pairs, higher_is_better=metric.higher_is_better, margin=None if margin is None else margin / metric.scale)


def with_means(metric: Metric, comparisons: Sequence[Comparison], pairs: Sequence[tuple[Side, Side]]) -> tuple[Comparison, ...]:
    """The comparisons with the mean difference and its interval at every look; as they are where the metric has no two bounds."""
    if not all(map(math.isfinite, metric.bounds)):
        return tuple(comparisons)
    return tuple(each.model_copy(update={"mean": _mean(metric, *sides)}) for each, sides in zip(comparisons, pairs, strict=True))


def _mean(metric: Metric, left: Side, right: Side) -> Estimate | None:
    low, high = metric.bounds
    gaps = [min(max(left.values[seed], low), high) - min(max(right.values[seed], low), high) for seed in _common(left, right)]
    if not gaps:
        return None
    interval = mean_sequence(gaps, low - high, high - low)[-1]
    mean = sum(gaps) / len(gaps)
    return Estimate(metric=metric.name, value=mean, low=interval.low, high=interval.high, level=interval.level, n=len(gaps))


def _common(left: Side, right: Side) -> list[int]:
    return [seed for seed in sorted(left.values) if seed in right.values]


def _paired(left: Side, right: Side) -> list[float]:
    return [difference(left.values[seed], right.values[seed]) for seed in _common(left, right)]


def _measure(metric: Metric, left: Side, right: Side, *, anytime: bool) -> Comparison:
    differences = _paired(left, right)
    both_without = sum(left.values[seed] == metric.worst == right.values[seed] for seed in _common(left, right))
    nothing = both_without == len(differences)
    comparison = Comparison(
        metric=metric.name,
        scheme=left.scheme,
        other=right.scheme,
        n=len(differences),
        both_without=both_without,
        difference=Estimate(metric=metric.name, n=len(differences))
        if nothing
        else difference_estimate(metric, differences, anytime=anytime),
        anytime=anytime,
    )
    if not differences:
        return comparison
    better = 1 if metric.higher_is_better else -1
    test = signed_ranks([better * value for value in differences])
    improvement = probability_of_improvement(
        [better * value for value in left.values.values()], [better * value for value in right.values.values()]
    )
    counts = {"wins": test.wins, "losses": test.losses, "ties": test.ties, "effect": test.effect, "improvement": improvement}
    return comparison.model_copy(update=counts if anytime else {**counts, "p": test.p})


def _decide(metric: Metric, comparison: Comparison, left: Side, right: Side, margin: float | None) -> Verdict:
    if comparison.p is None or comparison.p_holm is None:
        return Verdict.NOT_COMPARABLE
    if comparison.both_without == comparison.n:
        return Verdict.BOTH_WITHOUT
    if comparison.ties == comparison.n:
        return Verdict.IDENTICAL
    if margin is not None:
        interval = difference_interval(_paired(left, right), min(ALPHA, 2 * ALPHA / comparison.family))
        if interval and max(abs(interval.low), abs(interval.high)) * metric.scale <= margin:
            return Verdict.EQUIVALENT
    if comparison.p_holm <= ALPHA:
        return Verdict.BETTER if (comparison.effect or 0) > 0 else Verdict.WORSE
    return Verdict.TOO_FEW_SEEDS if seeds_needed(comparison.family) > comparison.n else Verdict.TIE


def _decided(comparison: Comparison, pair: Pair) -> Verdict:
    """The verdict where seeds are added until there is one. Without any difference it says no more than what these seeds show."""
    if pair.ended is not None:
        return {0: Verdict.EQUIVALENT, 1: Verdict.BETTER, -1: Verdict.WORSE}[pair.ended]
    if not pair.same:
        return Verdict.NOT_DECIDED
    return Verdict.BOTH_WITHOUT if comparison.both_without == comparison.n else Verdict.IDENTICAL


def sentence(metric: Metric, comparison: Comparison, left: Side, right: Side, margin: float | None = None) -> str:
    """The verdict in words; the console, summary.md, summary.json and the page all show this text.

    For example: `kaiming beats xavier by 2.1 points of test accuracy [1.4, 2.9], 8 seeds, p = 0.016 after Holm`.
    """
    if comparison.verdict is Verdict.NOT_COMPARABLE:
        reasons = [f"{side.scheme} {side.why_none}" for side in (left, right) if not side.values]
        return f"{left.scheme} and {right.scheme} cannot be compared: {'; '.join(reasons) or 'they have no seed in common'}"
    seeds = seeds_text(comparison.n)
    names = f"{left.scheme} and {right.scheme}"
    if comparison.verdict is Verdict.BOTH_WITHOUT:
        return f"{names} are not shown to differ: both {metric.absent} on all {seeds}"
    both = f", both {metric.absent} on {comparison.both_without}" if comparison.both_without else ""
    if comparison.verdict is Verdict.IDENTICAL:
        where = f"on any of {seeds}" if comparison.n > 1 else "with the one seed"
        shows = "are not decided" if comparison.anytime else "do not differ"
        return f"{names} {shows}: no difference in {metric.label} {where}{both}"
    shown = {Verdict.BETTER: True, Verdict.WORSE: False, Verdict.NOT_DECIDED: True}
    ahead = shown.get(comparison.verdict, (comparison.effect or 0) >= 0)
    first, second = (left, right) if ahead else (right, left)
    names = f"{first.scheme} and {second.scheme}"
    correction = "e-Holm" if comparison.anytime else "Holm"
    proof = f"{'anytime ' * comparison.anytime}{_p_text(comparison.p_holm or 0.0)}{f' after {correction}' * (comparison.family > 1)}"
    in_words = _without_size(metric, comparison, first, second)
    amount = in_words or _amount(metric, comparison, flipped=first is right)
    link, on_seeds = (": ", "") if in_words else (" by ", f", {seeds}")
    if comparison.decided_after is not None:
        told = bool(on_seeds) and comparison.decided_after != comparison.n
        on_seeds = f"{on_seeds * told}, decided after {comparison.decided_after if told else seeds_text(comparison.decided_after)}"
    if comparison.verdict is Verdict.EQUIVALENT:
        return f"{names} are equivalent within {margin:g} {_unit(metric)}: {amount}{on_seeds}"
    parted = _parted(comparison, "it alone is significant" if in_words else "the interval alone excludes zero")
    if comparison.verdict is Verdict.TOO_FEW_SEEDS:
        remedy = f"use --seeds {seeds_needed(comparison.family)} or more"
        if comparison.wins and comparison.losses:
            return f"{names} cannot be told apart: {amount}{on_seeds}{parted}; {remedy}"
        doubt = "one seed shows nothing" if comparison.n == 1 else f"{comparison.n} seeds are too few to show it"
        after = f" after correction for {comparison.family} comparisons" if parted else ""
        return f"{first.scheme} is ahead of {second.scheme}{link}{amount}, but {doubt}{after}: {remedy}"
    if comparison.verdict is Verdict.NOT_DECIDED:
        more = f"; about {seeds_text(comparison.seeds_left)} more, at this pace" if comparison.seeds_left else ""
        equal = "" if margin is None else f", nor equivalent within {margin:g} {_unit(metric)}"
        return f"{names} are not decided{equal}{link.replace(' by ', ': ')}{amount}{on_seeds}{more}"
    if comparison.verdict is Verdict.TIE:
        unsure = "; the difference cannot be told from zero" if in_words else " cannot be told from zero"
        equal = "" if margin is None else f"; that they are equivalent within {margin:g} {_unit(metric)} is not shown either"
        return f"{names} are not shown to differ: {amount}{parted or unsure + both}{on_seeds}, {proof}{equal}"
    return f"{first.scheme} beats {second.scheme}{link}{amount}{on_seeds}, {proof}"


def seeds_of_verdict(comparison: Comparison) -> int:
    """After how many seeds the verdict was reached; of one that is none that stays, those that there are."""
    return comparison.n if comparison.decided_after is None else comparison.decided_after


def standing_text(metric: Metric, comparison: Comparison) -> str:
    """How a comparison stands that is not decided: `xavier - kaiming: 0.2 points of test accuracy [-0.4, 0.9] after 12 seeds; ...`."""
    gap = comparison.difference
    size = (
        number_text(metric, gap.value) + f" {metric.amount}{interval_text(metric, gap, 'no limit')}"
        if gap.value is not None
        else (f"no size, as most often one of them {metric.absent}: better on {comparison.wins}, worse on {comparison.losses},")
    )
    more = f"; about {comparison.seeds_left} more at this pace" if comparison.seeds_left else ""
    return f"{comparison.scheme} - {comparison.other}: {size} after {seeds_text(comparison.n)}{more}."


def _unit(metric: Metric) -> str:
    return metric.amount if metric.scale != 1 else f"in {metric.label}"


def _parted(comparison: Comparison, what: str) -> str:
    """The words for a difference that is significant by itself, where the verdict is about all comparisons made together."""
    if (comparison.p or 0.0) > ALPHA:
        return ""
    return f"; {what}, but not after correction for {comparison.family} comparisons"


def _without_size(metric: Metric, comparison: Comparison, first: Side, second: Side) -> str:
    """The difference in words where its estimate is no number, or zero though the test tells it from zero; else empty."""
    seeds = seeds_text(comparison.n)
    if comparison.difference.value is None:
        lost = {side.scheme: sum(side.values[seed] == metric.worst for seed in _common(first, second)) for side in (second, first)}
        return " and ".join(f"{scheme} {metric.absent} on {count} of {seeds}" for scheme, count in lost.items() if count)
    if comparison.difference.value == 0 and (comparison.p or 0.0) <= ALPHA:
        more, fewer = sorted((comparison.wins, comparison.losses), reverse=True)
        return f"better on {more}, worse on {fewer} and equal on {comparison.ties} of {seeds}"
    return ""


def _p_text(p: float) -> str:
    if p > ALPHA >= round(p, 3):
        return f"p = {p:.4f}" if round(p, 4) > ALPHA else f"p > {ALPHA:g}"
    return "p < 0.001" if p < 0.0005 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _amount(metric: Metric, comparison: Comparison, *, flipped: bool) -> str:
    """By how much the better scheme is better, with the interval of the paired differences."""
    gap = comparison.difference
    if flipped is metric.higher_is_better:
        turned = {"value": gap.value, "low": gap.high, "high": gap.low, "lowest": gap.highest, "highest": gap.lowest}
        gap = gap.model_copy(update={name: None if number is None else -number for name, number in turned.items()})
    return f"{number_text(metric, gap.value or 0.0)} {metric.amount}{interval_text(metric, gap, 'no limit')}"
