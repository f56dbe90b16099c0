"""Evidence that stays valid however often one looks at it and whenever one stops: betting on the signs of paired differences.

Of two schemes that do not differ, each paired difference could as well have had the other sign, whatever its size and whatever came
before. Somebody who bets on the next sign then wins and loses in the same measure: the wealth is a martingale of mean 1, and the
chance that it ever reaches 1/alpha is at most alpha. Wealth is evidence (an e-process); nothing about the distribution is assumed.

Sources: Ville 1939; Ramdas, Gruenwald, Vovk & Shafer 2023, Statistical Science 38, 576-601 (e-processes, betting); Waudby-Smith &
Ramdas 2024, JRSS B 86, 1-27 (means of bounded numbers); of `Family` those named there. The stakes by ranks are ours.
"""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from initbench.errors import ConfigError
from initbench.statistics.inference import ALPHA, Interval

STAKES = (0.5, 1.3, 3.5, 10.0)
"""How bold the bettors are, with a quarter of the wealth each; the best for shifts of about 0.5, 1, 2 and more standard deviations."""
LISTENING = 7 / 8
"""The share of the wealth that is bet on differences to a run without a number, too: enough for 6 of one sign to decide."""
BIASES = (0.2, 0.5, 0.8, 0.98)
"""The same for bets on which side of a number the differences are: the share of wealth that is put on one side."""
BOLDEST = 0.98
"""Nobody stakes more than this share, so that no single difference ends a bettor."""


@dataclass(frozen=True)
class Evidence:
    """What paired differences say after each of them: `wealth` against no difference, `leaning` to which side (1, -1, 0)."""

    wealth: tuple[float, ...]
    leaning: tuple[int, ...]

    @property
    def p(self) -> float:
        """One over the most that the wealth has ever been: at most alpha with a chance of at most alpha, however often one looks."""
        return min(1.0, 1 / max(self.wealth, default=1.0))

    def decided(self, target: float) -> tuple[int, int] | None:
        """After how many differences the wealth first was `target`, and the side in favour then: 1 above zero, -1 below; None: never."""
        return next(
            ((count, side) for count, (won, side) in enumerate(zip(self.wealth, self.leaning, strict=True), 1) if won >= target), None
        )


class Signs:
    """Bets that paired differences are not as likely above zero as below, taken one after another.

    The stake on a sign grows with the rank of the difference's size among those so far, which says nothing about the sign where
    there is no difference, and much where there is one. An infinite difference (one of the two has no number) has the largest
    rank, and no other infinite one shares it; some bettors leave these out, for where runs diverge at random they are bold bets on a
    coin. Of zero there is no sign to bet on.
    """

    def __init__(self) -> None:
        self.all, self.finite = _Bettors(), _Bettors()

    def take(self, value: float) -> None:
        """Bets on the next difference."""
        self.all.take(value)
        if math.isfinite(value):
            self.finite.take(value)

    @property
    def count(self) -> int:
        """How many differences there were that are not zero."""
        return len(self.all.sizes)

    @property
    def sides(self) -> tuple[float, float]:
        """What those have who bet on differences above zero, and below."""
        above, below = (LISTENING * a + (1 - LISTENING) * f for a, f in zip(self.all.sides, self.finite.sides, strict=True))
        return above, below

    @property
    def wealth(self) -> float:
        """What all bettors have together, 1 at first."""
        return sum(self.sides)

    @property
    def leaning(self) -> int:
        """The side in favour: 1 above zero, -1 below."""
        above, below = self.sides
        return (above > below) - (above < below)


class _Bettors:
    """One bettor a boldness on either side of zero, with as much to begin with."""

    def __init__(self) -> None:
        self.sizes: list[float] = []
        self.up, self.down = [1.0] * len(STAKES), [1.0] * len(STAKES)

    def take(self, value: float) -> None:
        if not value:
            return
        score = _score(self.sizes, abs(value))
        for index, boldness in enumerate(STAKES):
            stake = min(BOLDEST, math.tanh(boldness * score)) * (1 if value > 0 else -1)
            self.up[index] *= 1 + stake
            self.down[index] *= 1 - stake

    @property
    def sides(self) -> tuple[float, float]:
        """What those above zero have, and those below; 1 together at first."""
        return sum(self.up) / (2 * len(STAKES)), sum(self.down) / (2 * len(STAKES))


def evidence(differences: Sequence[float]) -> Evidence:
    """The evidence that paired differences, in the order in which they came, are not as likely above zero as below."""
    bets = Signs()
    wealth, leaning = [], []
    for value in differences:
        bets.take(value)
        wealth.append(bets.wealth)
        leaning.append(bets.leaning)
    return Evidence(tuple(wealth), tuple(leaning))


def _score(sizes: list[float], size: float) -> float:
    """Puts a size among the others; its rank as that of the size of a normal number."""
    insort(sizes, size)
    highest = bisect_right(sizes, size)
    lowest = highest - 1 if math.isinf(size) else bisect_left(sizes, size)
    return NormalDist().inv_cdf((1 + (lowest + highest) / 2 / len(sizes)) / 2)


def median_sequence(differences: Sequence[float], alpha: float = ALPHA) -> tuple[Interval, ...]:
    """After each difference an interval for their median; all of them hold it at once with a chance of at least 1 - alpha.

    A number is left out once bets that most differences are above it, or below it, have won 2/alpha. What equals it counts against
    the bet, so the distribution may be any, with ties. Limits are differences that were seen; infinite where there is none yet.
    """
    ordered: list[float] = []
    low, high = -math.inf, math.inf
    intervals = []
    for value in differences:
        insort(ordered, value)
        left_out = _left_out(len(ordered), alpha)
        narrower = (max(low, ordered[left_out - 1]), min(high, ordered[-left_out])) if left_out else (low, high)
        if narrower[0] <= narrower[1]:  # where the median itself moves, no number is left
            low, high = narrower
        intervals.append(Interval(low, high, 1 - alpha))
    return tuple(intervals)


def _left_out(count: int, alpha: float) -> int:
    """How many order statistics from an end the limit is: the most of `count` that may be on the other side for a bet to have won."""
    wrong = -1
    while wrong + 1 <= count // 2 and _won(count - wrong - 1, count) >= 2 / alpha:
        wrong += 1
    return wrong + 1


def _won(above: int, count: int) -> float:
    """What bets on `above` have become where so many of `count` were."""
    return sum((1 + bias) ** above * (1 - bias) ** (count - above) for bias in BIASES) / len(BIASES)


class Within:
    """Bets that paired differences are below `margin`, and that they are above -margin, taken one after another."""

    def __init__(self, margin: float) -> None:
        self.margin = margin
        self.count, self.inside = 0, [0, 0]

    def take(self, value: float) -> None:
        """Bets on the next difference."""
        self.count += 1
        self.inside[0] += value < self.margin
        self.inside[1] += value > -self.margin

    @property
    def wealth(self) -> tuple[float, float]:
        """What both have: against a median difference of the margin or more, and against one of -margin or less."""
        return _won(self.inside[0], self.count), _won(self.inside[1], self.count)


def equivalence(differences: Sequence[float], margin: float) -> tuple[float, ...]:
    """After each difference an anytime-valid p against a median difference of `margin` or more; small once it is shown to be within.

    Both one-sided claims must be refuted, so the larger of their p counts.
    """
    bets = Within(margin)
    best = [1.0, 1.0]
    found = []
    for value in differences:
        bets.take(value)
        best = [max(most, won) for most, won in zip(best, bets.wealth, strict=True)]
        found.append(min(1.0, 1 / min(best)))
    return tuple(found)


def mean_sequence(values: Sequence[float], low: float, high: float, alpha: float = ALPHA) -> tuple[Interval, ...]:
    """After each value an interval for the mean of numbers between `low` and `high`; all hold it at once with a chance of 1 - alpha.

    Hedged betting with predictable plug-in stakes; wide until some twenty values are there, as nothing but the bounds is assumed.
    Source: Waudby-Smith & Ramdas 2024, section 4.2 and theorem 3, on a grid of possible means.
    Raises: ConfigError where there are no two bounds, or a number is not between them.
    """
    import numpy as np

    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"The bounds are {low:g} and {high:g}; an interval for a mean needs two finite ones, the lower first.")
    outside = [value for value in values if not low <= value <= high]
    if outside:
        raise ConfigError(f"{outside[0]:g} is not between {low:g} and {high:g}. Give bounds that hold every number.")
    grid = np.linspace(0.0, 1.0, GRID + 1)
    above, below = np.zeros(GRID + 1), np.zeros(GRID + 1)
    still = np.ones(GRID + 1, dtype=bool)
    total, squares = 0.5, 0.25
    intervals = []
    for count, value in enumerate(values, 1):
        share = (value - low) / (high - low)
        stake = math.sqrt(2 * math.log(2 / alpha) / (squares / count * count * math.log(1 + count)))
        with np.errstate(divide="ignore"):
            above += np.log1p(np.minimum(stake, 0.5 / np.maximum(grid, 1e-12)) * (share - grid))
            below += np.log1p(-np.minimum(stake, 0.5 / np.maximum(1 - grid, 1e-12)) * (share - grid))
        still &= np.maximum(above, below) < math.log(2 / alpha)
        mean = (total + share) / (count + 1)
        squares += (share - mean) ** 2
        total += share
        kept = grid[still]
        step = 1 / GRID
        ends = (max(0.0, kept[0] - step), min(1.0, kept[-1] + step)) if len(kept) else (mean, mean)
        intervals.append(Interval(low + (high - low) * ends[0], low + (high - low) * ends[1], 1 - alpha))
    return tuple(intervals)


GRID = 2000
"""Means that `mean_sequence` looks at."""


def fewest(alpha: float = ALPHA) -> int:
    """The fewest seeds after which anything can be decided: all differences have one sign.

    Of several comparisons no fewer: where all of them have won as much, that is what each of them has to have won.
    """
    count = 1
    while evidence([1.0 + place for place in range(count)]).p > alpha:
        count += 1
    return count


def seeds_left(wealth: Sequence[float], target: float) -> int | None:
    """About how many more seeds until the wealth is `target`, if it goes on growing as in its second half; None where it does not grow.

    A guess: growth is uneven.
    """
    count = len(wealth)
    if count and wealth[-1] >= target:
        return 0
    if count < 2:
        return None
    pace = (math.log(wealth[-1]) - math.log(wealth[count // 2 - 1])) / (count - count // 2)
    overall = math.log(wealth[-1]) / count
    growth = max(pace, overall)
    return math.ceil((math.log(target) - math.log(wealth[-1])) / growth) if growth > 0 else None


class Family:
    """Claims that are tested together, look by look, so that the chance of ever refuting a true one is at most `alpha`: closed testing.

    Claims come in groups of which at most one is true. Some claims, one at most of a group, are refuted together once the mean of their
    wealths has been 1/alpha, for that mean is a fair game too where all of them are true; and a claim is refuted once every set of
    claims with it in is. The least mean is that with the smallest wealths of the other groups, so it takes no list of all sets.
    A claim that is refuted is in no set that still counts, so its group asks for no more than its other claims do. Never weaker than
    Bonferroni: of m groups no mean is below an m-th of any wealth in it.

    Sources: Marcus, Peritz & Gabriel 1976 (closed testing); Vovk & Wang 2021, Annals of Statistics 49, 1736-1754 (means of wealths);
    Hartog & Lei 2025, arXiv:2501.09015 (the same look by look).
    """

    def __init__(self, alpha: float = ALPHA) -> None:
        self.alpha = alpha
        self.p: list[list[float]] = []
        """Of each claim in its group the corrected p, which never grows."""
        self.worth: Sequence[Sequence[float]] = ()
        """The wealths of the last look."""

    def look(self, worth: Sequence[Sequence[float]]) -> None:
        """The wealth against each claim, by group; groups that were not there before stand last."""
        self.p += [[1.0] * len(group) for group in worth[len(self.p) :]]
        self.worth = worth
        if not any(won * p > 1 for group, own in zip(worth, self.p, strict=True) for won, p in zip(group, own, strict=True)):
            return
        every = sorted((min(group), place) for place, group in enumerate(worth))
        changed = True
        while changed:
            changed = False
            standing, refuted = self._standing()
            for place, group in enumerate(worth):
                gone = max((p for other, p in refuted if other != place), default=0.0)
                for claim, won in enumerate(group):
                    before = self.p[place][claim]
                    if won * before <= 1:
                        continue
                    without = 1 / _least_mean(won, place, every)
                    now = min(before, without, max(gone, 1 / _least_mean(won, place, standing)))
                    changed |= now <= self.alpha < before
                    self.p[place][claim] = now

    def needed(self, own: int) -> float:
        """The wealth with which a claim of this group would be refuted now."""
        target = 1 / self.alpha
        most, total, count = target, 0.0, 1
        for value, place in self._standing()[0]:
            if place != own:
                total, count = total + value, count + 1
                most = max(most, target * count - total)
        return most

    def _standing(self) -> tuple[list[tuple[float, int]], list[tuple[int, float]]]:
        """The smallest wealth of each group whose claims are not all refuted, in order; and each refuted claim's group and p."""
        least, refuted = [], []
        for place, (group, own) in enumerate(zip(self.worth, self.p, strict=True)):
            still = [won for won, p in zip(group, own, strict=True) if p > self.alpha]
            least += [(min(still), place)] if still else []
            refuted += [(place, p) for p in own if p <= self.alpha]
        return sorted(least), refuted


def _least_mean(won: float, own: int, others: Sequence[tuple[float, int]]) -> float:
    """The least mean of a wealth with some of other groups."""
    total, count = won, 1
    for value, place in others:
        if place == own:
            continue
        if value * count >= total:
            break
        total, count = total + value, count + 1
    return total / count
