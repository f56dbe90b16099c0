"""Two schemes on the same seeds: the paired difference, the test, and the verdict in words, made in one place for everyone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from initbench.metrics import Metric
from initbench.question.config import Frozen
from initbench.results.record import Number
from initbench.statistics.estimates import Estimate, estimate, interval_text, number_text, seeds_text
from initbench.statistics.inference import ALPHA, difference, holm, median_interval, probability_of_improvement, seeds_needed, signed_ranks


class Verdict(StrEnum):
    """What a comparison allows to say; `tie` means that the difference cannot be told from zero."""

    BETTER = "better"
    WORSE = "worse"
    TIE = "tie"
    IDENTICAL = "identical"
    EQUIVALENT = "equivalent"
    TOO_FEW_SEEDS = "too few seeds"
    NOT_COMPARABLE = "not comparable"


class Comparison(Frozen):
    """`scheme` against `other` on the seeds that both have, the same seed with the same noise and data order.

    `difference` is scheme - other. Wins, losses and the effect (matched-pairs rank-biserial correlation) are positive where
    `scheme` is better. `improvement` is the chance that a run of `scheme` beats a run of `other`. `p` is the exact sign-flip
    test on signed ranks, `p_holm` the same after Holm over the `family` comparisons made together.
    """

    metric: str
    scheme: str
    other: str
    n: int
    difference: Estimate
    wins: int = 0
    losses: int = 0
    ties: int = 0
    effect: Number = None
    improvement: Number = None
    p: Number = None
    p_holm: Number = None
    family: int = 0
    verdict: Verdict = Verdict.NOT_COMPARABLE
    sentence: str = ""


@dataclass(frozen=True)
class Side:
    """The values of one scheme by seed (infinite: no number), and why there are none."""

    scheme: str
    values: Mapping[int, float]
    why_none: str = "has no runs"


def compare_family(metric: Metric, pairs: Sequence[tuple[Side, Side]], *, margin: float | None = None) -> tuple[Comparison, ...]:
    """All comparisons that are made together, with Holm over those that have seeds in common.

    `margin` is the difference that does not matter, in the unit that is shown (points of accuracy).
    """
    measured = [_measure(metric, left, right) for left, right in pairs]
    tested = [index for index, comparison in enumerate(measured) if comparison.p is not None]
    adjusted = dict(zip(tested, holm([measured[index].p or 0.0 for index in tested]), strict=True))
    comparisons = []
    for index, (comparison, (left, right)) in enumerate(zip(measured, pairs, strict=True)):
        comparison = comparison.model_copy(update={"p_holm": adjusted.get(index), "family": len(tested)})
        comparison = comparison.model_copy(update={"verdict": _decide(metric, comparison, left, right, margin)})
        comparisons.append(comparison.model_copy(update={"sentence": sentence(metric, comparison, left, right, margin)}))
    return tuple(comparisons)


def _paired(left: Side, right: Side) -> list[float]:
    return [difference(left.values[seed], right.values[seed]) for seed in sorted(left.values) if seed in right.values]


def _measure(metric: Metric, left: Side, right: Side) -> Comparison:
    differences = _paired(left, right)
    comparison = Comparison(
        metric=metric.name, scheme=left.scheme, other=right.scheme, n=len(differences), difference=estimate(metric, differences)
    )
    if not differences:
        return comparison
    better = 1 if metric.higher_is_better else -1
    test = signed_ranks([better * value for value in differences])
    improvement = probability_of_improvement(
        [better * value for value in left.values.values()], [better * value for value in right.values.values()]
    )
    return comparison.model_copy(
        update={"wins": test.wins, "losses": test.losses, "ties": test.ties, "effect": test.effect, "p": test.p, "improvement": improvement}
    )


def _decide(metric: Metric, comparison: Comparison, left: Side, right: Side, margin: float | None) -> Verdict:
    if comparison.p is None or comparison.p_holm is None:
        return Verdict.NOT_COMPARABLE
    if comparison.ties == comparison.n:
        return Verdict.IDENTICAL
    if margin is not None:
        interval = median_interval(_paired(left, right), 1 - 2 * ALPHA / comparison.family)
        if interval and max(abs(interval.low), abs(interval.high)) * metric.scale <= margin:
            return Verdict.EQUIVALENT
    if comparison.p_holm <= ALPHA:
        return Verdict.BETTER if (comparison.effect or 0) > 0 else Verdict.WORSE
    return Verdict.TOO_FEW_SEEDS if seeds_needed(comparison.family) > comparison.n else Verdict.TIE


def sentence(metric: Metric, comparison: Comparison, left: Side, right: Side, margin: float | None = None) -> str:
    """The verdict in words; the console, summary.md, summary.json and the page all show this text.

    For example: `kaiming beats xavier by 2.1 points of test accuracy [1.4, 2.9], 8 seeds, p = 0.016 after Holm`.
    """
    if comparison.verdict is Verdict.NOT_COMPARABLE:
        reasons = [f"{side.scheme} {side.why_none}" for side in (left, right) if not side.values]
        return f"{left.scheme} and {right.scheme} cannot be compared: {'; '.join(reasons) or 'they have no seed in common'}"
    seeds = seeds_text(comparison.n)
    common = [seed for seed in left.values if seed in right.values]
    if comparison.verdict is Verdict.IDENTICAL:
        nothing = all(side.values[seed] == metric.worst for side in (left, right) for seed in common)
        what = f"both {metric.absent} on all {seeds}" if nothing else f"no difference in {metric.label} on any of {seeds}"
        return f"{left.scheme} and {right.scheme} tie: {what}"
    first, second = (left, right) if (comparison.effect or 0) >= 0 else (right, left)
    names = f"{first.scheme} and {second.scheme}"
    if comparison.difference.value is None:
        missing = sum(second.values[seed] == metric.worst for seed in common)
        amount, link, on_seeds = f"{second.scheme} {metric.absent} on {missing} of {seeds}", ": ", ""
    else:
        amount, link, on_seeds = _amount(metric, comparison, flipped=first is right), " by ", f", {seeds}"
    proof = f"{_p_text(comparison.p_holm or 0.0)}{' after Holm' * (comparison.family > 1)}"
    if comparison.verdict is Verdict.EQUIVALENT:
        unit = metric.amount if metric.scale != 1 else f"in {metric.label}"
        return f"{names} are equivalent within {margin:g} {unit}: {amount}{on_seeds}"
    if comparison.verdict is Verdict.TOO_FEW_SEEDS and comparison.wins and comparison.losses:
        return f"{names} cannot be told apart: {amount}{on_seeds}; use --seeds {seeds_needed(comparison.family)}"
    if comparison.verdict is Verdict.TOO_FEW_SEEDS:
        doubt = "one seed shows nothing" if comparison.n == 1 else f"{comparison.n} seeds cannot show this at {100 * ALPHA:g} %"
        return f"{first.scheme} is ahead of {second.scheme}{link}{amount}, but {doubt}: use --seeds {seeds_needed(comparison.family)}"
    if comparison.verdict is Verdict.TIE:
        return f"{names} tie: {amount} {_why_a_tie(metric, comparison, left, right)}{on_seeds}, {proof}"
    return f"{first.scheme} beats {second.scheme}{link}{amount}{on_seeds}, {proof}"


def _why_a_tie(metric: Metric, comparison: Comparison, left: Side, right: Side) -> str:
    """Why a difference is not enough; its interval may exclude zero all the same, since it stands for one comparison alone."""
    gap = comparison.difference
    if (comparison.p or 0.0) <= ALPHA:
        return f"is not enough among {comparison.family} comparisons"
    without = {side.scheme: sum(value == metric.worst for value in side.values.values()) for side in (left, right)}
    reasons = [f"{scheme} {metric.absent} on {count}" for scheme, count in without.items() if count]
    excludes_zero = (gap.low is not None and gap.low > 0) or (gap.high is not None and gap.high < 0)
    return f"is not enough where {' and '.join(reasons)}" if excludes_zero and reasons else "cannot be told from zero"


def _p_text(p: float) -> str:
    return "p < 0.001" if p < 0.0005 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _amount(metric: Metric, comparison: Comparison, *, flipped: bool) -> str:
    """By how much the better scheme is better, with the interval of the paired differences."""
    gap = comparison.difference
    if flipped is metric.higher_is_better:
        turned = {"value": gap.value, "low": gap.high, "high": gap.low, "lowest": gap.highest, "highest": gap.lowest}
        gap = gap.model_copy(update={name: None if number is None else -number for name, number in turned.items()})
    return f"{number_text(metric, gap.value or 0.0)} {metric.amount}{interval_text(metric, gap, 'no limit')}"
