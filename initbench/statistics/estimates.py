"""One figure over seeds: its median, its interval, n, and how they are written in words."""

import math
from collections.abc import Sequence

from pydantic import Field

from initbench.metrics import Metric
from initbench.question.config import Frozen
from initbench.results.record import Number
from initbench.statistics.inference import LEVEL, Interval, difference_interval, hodges_lehmann, median, median_interval, wilson
from initbench.statistics.sequential import median_sequence


class Estimate(Frozen):
    """The median of a figure over `n` seeds, or the Hodges-Lehmann estimate of paired differences (their median, where seeds were added).

    A run without a number (it diverged) counts as worse than every number. `value` is null where such a run is the median itself;
    `low` or `high` is null where the interval reaches into such runs; `level` is null where there is no interval because the seeds are
    too few (6 are needed at 95 %); `lowest` and `highest` are the range of the seeds.
    """

    metric: str
    value: Number = None
    low: Number = None
    high: Number = None
    level: float | None = None
    n: int
    without_number: int = Field(default=0, description="runs among the n that have no number")
    lowest: Number = None
    highest: Number = None


class Share(Frozen):
    """A share of runs, `successes` of `n`, with its 95 % Wilson interval."""

    successes: int
    n: int
    value: Number = None
    low: Number = None
    high: Number = None


def estimate(metric: Metric, values: Sequence[float], level: float = LEVEL) -> Estimate:
    """The median from one value a seed; infinite values are runs without a number."""
    if not values:
        return Estimate(metric=metric.name, n=0)
    return _estimate(metric, values, median(values), median_interval(values, level))


def difference_estimate(metric: Metric, differences: Sequence[float], *, anytime: bool = False) -> Estimate:
    """The Hodges-Lehmann estimate of paired differences, with the interval of the signed-rank test that decides about them.

    `anytime`: their median, with an interval that holds however often it is looked at.
    """
    if not differences:
        return Estimate(metric=metric.name, n=0)
    if anytime:
        (*_, interval) = median_sequence(differences)
        return _estimate(
            metric, differences, median(differences), interval if interval.low > -math.inf or interval.high < math.inf else None
        )
    return _estimate(metric, differences, hodges_lehmann(differences), difference_interval(differences))


def _estimate(metric: Metric, values: Sequence[float], middle: float, interval: Interval | None) -> Estimate:
    return Estimate(
        metric=metric.name,
        value=middle,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        level=interval.level if interval else None,
        n=len(values),
        without_number=sum(not math.isfinite(value) for value in values),
        lowest=min(values),
        highest=max(values),
    )


def share(successes: int, n: int) -> Share:
    """A share and its interval; null for no runs."""
    if n == 0:
        return Share(successes=successes, n=n)
    interval = wilson(successes, n)
    return Share(successes=successes, n=n, value=successes / n, low=interval.low, high=interval.high)


def number_text(metric: Metric, value: float, like: float | None = None) -> str:
    """A number in the unit that is shown, without the unit; `like` lends its number of decimals."""
    shown, pattern = value * metric.scale, (value if like is None else like) * metric.scale
    size = abs(pattern)
    if metric.style == "count":
        return f"{shown:.0f}"
    if metric.style == "percent":
        text = f"{shown:.{1 if size >= 0.095 or size == 0 else 2}f}"
    elif size and (size < 1e-3 or size >= 1e6):
        text = f"{shown:.1e}"
    else:
        text = f"{shown:.{0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def estimate_text(metric: Metric, figure: Estimate) -> str:
    """As `97.1 % [96.9, 97.4]`, or with the range of seeds too few for an interval: `97.1 % (96.9 to 97.4)`, or `diverged`."""
    if figure.n == 0:
        return ""
    if figure.value is None:
        return metric.absent
    unit = f" {metric.unit}" if metric.style == "percent" else ""
    return number_text(metric, figure.value) + unit + interval_text(metric, figure)


def interval_text(metric: Metric, figure: Estimate, absent: str | None = None) -> str:
    """The interval in square brackets, or the range in round ones, or nothing for one seed; begins with a space.

    `absent` stands where a limit has no number. A limit that is not zero is never written as zero.
    """
    ends = (figure.low, figure.high) if figure.level is not None else (figure.lowest, figure.highest)
    if figure.n < 2 or (ends == (None, None) and (figure.level is None or figure.value is None)):
        return ""
    low, high = ((absent or metric.absent) if end is None else _limit_text(metric, end, figure.value) for end in ends)
    return f" [{low}, {high}]" if figure.level is not None else f" ({low} to {high})"


def _limit_text(metric: Metric, end: float, like: float | None) -> str:
    text = number_text(metric, end, like)
    return f"{end * metric.scale:.1g}" if end and float(text) == 0 else text


def share_text(part: Share) -> str:
    """`7 of 8 [53 %, 98 %]`, with the Wilson interval from two runs on; empty for no runs."""
    if part.n == 0:
        return ""
    limits = f" [{100 * part.low:.0f} %, {100 * part.high:.0f} %]" if part.n > 1 and part.low is not None and part.high is not None else ""
    return f"{part.successes} of {part.n}{limits}"


def seconds_text(seconds: float) -> str:
    """`40 seconds`, `12 minutes`, `1.5 hours`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} second" + "s" * (round(seconds) > 1)
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def counted(n: int, noun: str) -> str:
    """`1 step`, `1,000 steps`."""
    return f"{n:,} {noun}" + "s" * (n != 1)


def seeds_text(n: int) -> str:
    """`1 seed`, `8 seeds`."""
    return counted(n, "seed")
