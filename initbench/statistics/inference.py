"""Statistics over a handful of seeds: intervals, paired tests, corrections; numbers in, numbers out.

A value may be infinite: a run that diverged has no number and ranks below (or, for a loss, above) every number. Medians,
order-statistic intervals and signed ranks use nothing but that order, so nothing is invented and nothing is left out.
The intervals' coverage and the tests' error rates are measured by `benchmarks/coverage.py`.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, groupby
from statistics import NormalDist

from initbench.statistics import large

LEVEL = 0.95
"""The level of every interval that is shown."""

ALPHA = 0.05
"""The family-wise error that a verdict may have."""

WHOLE_NUMBERS = 60
"""Differences up to which sign flips are counted in whole numbers, which takes a time that grows with their cube."""
COINS = 1000
"""Values up to which the level of an order statistic is counted in whole numbers."""
COUNTED, LISTED = 400, 1500
"""Up to so many differences the law of their rank sum is counted, and their Walsh averages are listed."""

WIDE_GAP = 3.0
"""A gap so many times as wide as the inner part of an interval separates two clusters of values."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval; an infinite limit reaches into the runs that have no number."""

    low: float
    high: float
    level: float = LEVEL


@dataclass(frozen=True)
class SignedRanks:
    """The exact sign-flip test on the ranks of paired differences: two-sided p, counts, rank-biserial correlation in [-1, 1]."""

    p: float
    wins: int
    losses: int
    ties: int
    effect: float


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the middle two; infinite or NaN where that is no number."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def median_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Interpolated order statistics, free of any assumption on the distribution; None below 6 values (at 95 %).

    The exact levels of neighbouring order statistics bracket the wanted one (fewer than 6 values never reach 95 %);
    the limit lies between them. Where that gap is infinite (a run without a number) or much wider than the rest of the
    interval (two clusters), interpolation makes no sense and the order statistic with the nearer level is the limit.

    Source: Hettmansperger & Sheather 1986, Statistics & Probability Letters 4, 75-79; Nyblom 1992. The rule for gaps is ours.
    """
    n, ordered = len(values), sorted(values)
    rank = bisect_right(range(1, n // 2 + 1), -level, key=lambda k: -_order_level(n, k))  # the level falls from rank to rank
    if rank == 0:
        return None
    outer_level, inner_level = _order_level(n, rank), _order_level(n, rank + 1)
    part = (outer_level - level) / (outer_level - inner_level)
    weight = (n - rank) * part / (rank + (n - 2 * rank) * part)
    inner_width = ordered[n - rank - 1] - ordered[rank]

    def limit(outer: float, inner: float) -> float:
        gap = abs(outer - inner)
        if math.isfinite(gap) and gap <= WIDE_GAP * inner_width:
            return inner + (1 - weight) * (outer - inner)
        return inner if part >= 0.5 else outer

    return Interval(limit(ordered[rank - 1], ordered[rank]), limit(ordered[n - rank], ordered[n - rank - 1]), level)


def _order_level(n: int, rank: int) -> float:
    """The exact level at which the interval from the rank-th smallest to the rank-th largest of n values covers the median."""
    share = _fewer_than(n)[rank] / (1 << n) if n <= COINS else _share_of_fewer(n)[rank]
    return max(0.0, 1 - 2 * share)


@cache
def _share_of_fewer(n: int) -> tuple[float, ...]:
    """The same as shares, of more coins than whole numbers can count in time."""
    whole = math.lgamma(n + 1) - n * math.log(2)
    chances = (math.exp(whole - math.lgamma(k + 1) - math.lgamma(n - k + 1)) for k in range(n + 1))
    return tuple(accumulate(chances, initial=0.0))


@cache
def _fewer_than(n: int) -> tuple[int, ...]:
    """In how many of the 2^n outcomes of n coins fewer than 0, 1, ... n + 1 show heads."""
    return (0, *accumulate(math.comb(n, heads) for heads in range(n + 1)))


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """The Wilson interval of a share; n > 0.

    Source: Wilson 1927, JASA 22, 209-212.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(max(0.0, centre - half), min(1.0, centre + half), level)


def difference(left: float, right: float) -> float:
    """The left value minus the right one; two runs without a number are a tie, and rounding errors of equal differences are removed."""
    return 0.0 if left == right else round(left - right, 12)


def signed_ranks(differences: Sequence[float]) -> SignedRanks:
    """The exact two-sided p of paired differences: the rank sum of the positive ones under all 2^n sign flips.

    Equal sizes share their mean rank, zeros keep their ranks but count for neither side (Pratt), an infinite difference
    has the largest rank. Exact by counting rank sums instead of listing flips (to 12 digits above 60 differences, where whole numbers
    would take seconds); above 400 differences a saddlepoint approximation, right to a thousandth of p. Smallest possible p: 2 / 2^n.

    Source: Wilcoxon 1945; Pratt 1959, JASA 54, 655-667; effect size: Kerby 2014, matched-pairs rank-biserial correlation.
    """
    ranks = _doubled_ranks([abs(value) for value in differences])
    used = [rank for rank, value in zip(ranks, differences, strict=True) if value != 0]
    positive = sum(rank for rank, value in zip(ranks, differences, strict=True) if value > 0)
    total = sum(used)
    unit = math.gcd(*used) or 1
    count = _extreme_share if len(used) <= WHOLE_NUMBERS else _extreme_share_by_numpy if len(used) <= COUNTED else large.extreme_share
    p = min(1.0, count([rank // unit for rank in used], abs(2 * positive - total) // unit))
    wins, losses = sum(value > 0 for value in differences), sum(value < 0 for value in differences)
    return SignedRanks(p, wins, losses, len(ranks) - wins - losses, (2 * positive - total) / total if total else 0.0)


def _extreme_share(ranks: Sequence[int], distance: int) -> float:
    """The share of sign flips after which the doubled sum of the positive ranks is at least so far from the middle; exact."""
    total, reach = sum(ranks), 0
    ways = [1] + [0] * total
    for rank in ranks:
        reach += rank
        for place in range(reach, rank - 1, -1):
            ways[place] += ways[place - rank]
    extreme = sum(count for place, count in enumerate(ways) if abs(2 * place - total) >= distance)
    return extreme / (1 << len(ranks))


def _extreme_share_by_numpy(ranks: Sequence[int], distance: int) -> float:
    """The same with shares instead of counts, each of which is a sum of positive numbers and so right to the last digits."""
    import numpy as np

    total = sum(ranks)
    return float(np.array(_shares_by_numpy(ranks))[np.abs(2 * np.arange(total + 1) - total) >= distance].sum())


def _shares_by_numpy(ranks: Sequence[int]) -> list[float]:
    """The share of sign flips after which the sum of the positive ranks is 0, 1, ... up to all of them."""
    import numpy as np

    reach, shares = 0, np.zeros(sum(ranks) + 1)
    shares[0] = 1.0
    for rank in ranks:
        reach += rank
        shares[: reach + 1] *= 0.5
        shares[rank : reach + 1] += shares[: reach + 1 - rank].copy()
    found: list[float] = shares.tolist()
    return found


def difference_interval(differences: Sequence[float], alpha: float = ALPHA) -> Interval | None:
    """The interval that belongs to `signed_ranks`: it leaves out zero exactly when p is at most alpha; None where no p can be so small.

    Its limits are Walsh averages, at the exact critical value of the rank sum without ties. Ties and zeros change the p of the
    test a little; where that alone decides about zero, the limit goes to zero, or to the nearest Walsh average beyond.

    Source: Hodges & Lehmann 1963, Annals of Mathematical Statistics 34, 598-611; Hollander & Wolfe, section 3.3.
    """
    critical = critical_rank_sum(len(differences), alpha)
    if critical < 0:
        return None
    averages, undefined = walsh_averages(differences)
    place = math.floor(critical - undefined / 2)
    low, high = (averages[place], averages[-1 - place]) if 0 <= place < len(averages) else (-math.inf, math.inf)
    test = signed_ranks(differences)
    if test.p > alpha:
        return Interval(min(low, 0.0), max(high, 0.0), 1 - alpha)
    if test.effect > 0:
        low = low if low > 0 else averages[bisect_right(averages, 0.0)]
        return Interval(low, max(low, high), 1 - alpha)
    high = high if high < 0 else averages[bisect_left(averages, 0.0) - 1]
    return Interval(min(low, high), high, 1 - alpha)


def hodges_lehmann(differences: Sequence[float]) -> float:
    """The Hodges-Lehmann estimate: the median of the Walsh averages; infinite or NaN where that is no number."""
    averages, _ = walsh_averages(differences)
    middle = len(averages) // 2
    return median(averages[middle - 1 + len(averages) % 2 : middle + 1]) if averages else math.nan


def walsh_averages(differences: Sequence[float]) -> tuple[large.WalshAverages, int]:
    """The means of all pairs of values, each with itself too, in rising order; and how many are undefined (of opposite infinities)."""
    values = sorted(differences)
    if len(values) > LISTED:
        found = large.Searched(values)
        return found, found.undefined
    if len(values) > WHOLE_NUMBERS:
        return _walsh_by_numpy(values)
    sums = [one + other for index, one in enumerate(values) for other in values[index:]]
    known = sorted(total for total in sums if not math.isnan(total))
    return Listed(known), len(sums) - len(known)


def _walsh_by_numpy(values: Sequence[float]) -> tuple[large.WalshAverages, int]:
    import numpy as np

    array = np.array(values)
    with np.errstate(invalid="ignore"):
        sums = np.sort(np.concatenate([array[index] + array[index:] for index in range(len(array))]))
    undefined = int(np.isnan(sums).sum())  # they are the last
    return Listed(sums[: len(sums) - undefined].tolist()), undefined


class Listed(large.WalshAverages):
    """Halves of sums that are in rising order; each is rounded when it is asked for, since few of so many are."""

    def __init__(self, sums: Sequence[float]) -> None:
        self.sums = sums

    def __len__(self) -> int:
        return len(self.sums)

    def at(self, place: int) -> float:
        """The mean at a place from 0."""
        return round(self.sums[place] / 2, 12)


@cache
def critical_rank_sum(n: int, alpha: float) -> int:
    """The largest rank sum of the rarer sign of n differences without ties whose two-sided p is at most alpha; -1 where none is."""
    if n > COUNTED:
        return large.critical_rank_sum(n, alpha)
    total = n * (n + 1) // 2
    if n <= WHOLE_NUMBERS:
        ways = [1] + [0] * total
        for rank in range(1, n + 1):
            for place in range(total, rank - 1, -1):
                ways[place] += ways[place - rank]
        shares: list[float] = [count / 2**n for count in ways]
    else:
        shares = _shares_by_numpy(range(1, n + 1))
    return sum(2 * tail <= alpha for tail in accumulate(shares)) - 1


def _doubled_ranks(sizes: Sequence[float]) -> list[int]:
    """Twice the mean rank of each value, so that shared ranks stay whole."""
    doubled, below = {}, 0
    for size, group in groupby(sorted(sizes)):
        count = len(list(group))
        doubled[size] = 2 * below + count + 1
        below += count
    return [doubled[size] for size in sizes]


def holm(ps: Sequence[float]) -> tuple[float, ...]:
    """Each p adjusted for the whole family, in the order given.

    Source: Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    adjusted = [1.0] * len(ps)
    running = 0.0
    for place, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        running = max(running, min(1.0, (len(ps) - place) * ps[index]))
        adjusted[index] = running
    return tuple(adjusted)


def probability_of_improvement(left: Sequence[float], right: Sequence[float]) -> float:
    """The chance that a run of `left` is above a run of `right`, over all pairs of seeds; a tie counts half.

    Source: Agarwal et al. 2021, arXiv:2108.13264, section 4.3.
    """
    ordered = sorted(right)
    points = sum(bisect_left(ordered, value) + bisect_right(ordered, value) for value in left)
    return points / (2 * len(left) * len(right))


def seeds_needed(family: int, alpha: float = ALPHA) -> int:
    """The fewest seeds whose smallest possible p, 2 / 2^n, stays at or below alpha after Holm over `family` comparisons."""
    n = 1
    while family * 2 / 2**n > alpha:
        n += 1
    return n
