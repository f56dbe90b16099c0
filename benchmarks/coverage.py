"""Do the intervals cover and do the tests err as often as they say? `python benchmarks/coverage.py [--sets 2000]`.

Simulates data sets whose truth is known and counts. Intervals of a median over seeds: coverage of a 95 % interval, from 93
to 97 % wanted, beside scipy's bootstraps on the same data. Intervals of a paired difference: coverage, at least 94 % wanted, length, and
how often they contradict the test, never wanted. Comparisons: share of null data sets with at least one false verdict in
the family, at most 6 % wanted. Everything is seeded. Exit code 1 when a figure of the default number of seeds is out of range.
"""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.optimize import brentq
from scipy.stats import bootstrap, mstats

from initbench.statistics.inference import ALPHA, Interval, difference_interval, median_interval, signed_ranks
from initbench.statistics.known_metrics import find_metric
from initbench.statistics.verdicts import Side, Verdict, compare_family

Draw = Callable[[np.random.Generator, int], np.ndarray]
NORMAL = NormalDist()
WANTED = (93.0, 97.0)
LEAST_OF_DIFFERENCES = 94.0
WORST_FAMILY_ERROR = 6.0


@dataclass(frozen=True)
class Case:
    """A distribution of results over seeds and its true median."""

    name: str
    draw: Draw
    truth: float


def mixture(share: float, distance: float) -> Case:
    """Two groups of seeds, `share` of them around 0 and the rest `distance` standard deviations above."""

    def draw(generator: np.random.Generator, n: int) -> np.ndarray:
        return np.where(generator.random(n) < share, generator.normal(0, 1, n), generator.normal(distance, 1, n))

    def excess(x: float) -> float:
        return share * NORMAL.cdf(x) + (1 - share) * NORMAL.cdf(x - distance) - 0.5

    return Case(f"two groups, {share:.0%} lower, {distance:g} sd apart", draw, brentq(excess, -10, distance + 10))


def diverging(share: float) -> Case:
    """Normal results of which a share diverges: below every number."""

    def draw(generator: np.random.Generator, n: int) -> np.ndarray:
        return np.where(generator.random(n) < share, -math.inf, generator.normal(0, 1, n))

    return Case(f"{share:.0%} diverge", draw, NORMAL.inv_cdf((0.5 - share) / (1 - share)))


CASES = (
    Case("normal", lambda generator, n: generator.normal(0, 1, n), 0.0),
    Case("skewed (lognormal)", lambda generator, n: np.exp(generator.normal(0, 1, n)), 1.0),
    Case("skewed to the left", lambda generator, n: -np.exp(generator.normal(0, 1, n)), -1.0),
    Case("heavy tails (t, 2 df)", lambda generator, n: generator.standard_t(2, n), 0.0),
    Case("accuracies of 1,000 images", lambda generator, n: generator.binomial(1000, generator.beta(180, 20, n)) / 1000, math.nan),
    mixture(0.3, 4),
    mixture(0.4, 8),
    mixture(0.5, 4),
    diverging(0.1),
    diverging(0.3),
)


SPLIT = mixture(0.5, 20)
"""The worst case there is: any number between the two groups is a median, and only the exact levels of order statistics remain
(93.0 and 99.2 % with 8 seeds); shown, not part of the gate."""


def truth_of(case: Case) -> float:
    """The true median; that of the rounded accuracies from a million draws."""
    return float(np.median(case.draw(np.random.default_rng(7), 1_000_001))) if math.isnan(case.truth) else case.truth


def interval_coverage(case: Case, n: int, sets: int) -> float:
    """The percentage of data sets whose interval holds the true median."""
    generator, truth, covered = np.random.default_rng([n, len(case.name)]), truth_of(case), 0
    for _ in range(sets):
        interval = median_interval(case.draw(generator, n).tolist())
        covered += interval is not None and interval.low <= truth <= interval.high
    return 100 * covered / sets


def bootstrap_coverage(case: Case, n: int, sets: int, method: str) -> float | None:
    """The same for scipy's bootstrap of the median; None where runs without a number make it impossible."""
    generator, truth = np.random.default_rng([n, len(case.name)]), truth_of(case)
    samples = np.stack([case.draw(generator, n) for _ in range(sets)])
    if not np.isfinite(samples).all():
        return None
    with np.errstate(all="ignore"):
        found = bootstrap(
            (samples,), np.median, axis=1, method=method, n_resamples=999, rng=np.random.default_rng(1), vectorized=True, batch=50
        )
    low, high = found.confidence_interval
    return 100 * float(np.mean((low <= truth) & (truth <= high)))


def mean_coverage(case: Case, n: int, sets: int) -> float | None:
    """The same for the interquartile mean and its t interval (Tukey and McLaughlin); the truth comes from two million draws."""
    many = np.sort(case.draw(np.random.default_rng(7), 2_000_000))
    truth = float(np.mean(many[500_000:1_500_000]))
    if not math.isfinite(many[0]):
        return None
    generator, covered = np.random.default_rng([n, len(case.name)]), 0
    for _ in range(sets):
        low, high = mstats.trimmed_mean_ci(case.draw(generator, n), limits=(0.25, 0.25), alpha=0.05)
        covered += low <= truth <= high
    return 100 * covered / sets


@dataclass(frozen=True)
class Differences:
    """Of intervals of a difference that is known: the percentages that hold it and that contradict the test, and the mean length."""

    coverage: float
    contradictions: float
    length: float


SYMMETRIC = (
    Case("normal", lambda generator, n: generator.normal(0, 1, n), 0.0),
    Case("heavy tails (t, 2 df)", lambda generator, n: generator.standard_t(2, n), 0.0),
    Case("uniform", lambda generator, n: generator.uniform(-1.7, 1.7, n), 0.0),
    Case("tenths, with ties and zeros", lambda generator, n: np.round(generator.normal(0, 0.3, n), 1), 0.0),
    Case("two groups, 6 sd apart", lambda generator, n: generator.normal(0, 1, n) + generator.choice([-3.0, 3.0], n), 0.0),
)
"""Differences around their centre: symmetric, as under the hypothesis that two schemes differ by a constant."""


def differences(case: Case, n: int, sets: int, interval: Callable[[list[float]], Interval | None]) -> Differences:
    """What an interval says about differences of which half have no centre of their own and half one of up to 1.5."""
    generator = np.random.default_rng([n, len(case.name)])
    covered, contradictions, lengths = 0, 0, []
    for index in range(sets):
        centre = 0.0 if index % 2 else round(float(generator.uniform(0, 1.5)), 1)
        values = [round(float(value) + centre, 12) for value in case.draw(generator, n)]
        found = interval(values)
        assert found is not None
        covered += found.low <= centre <= found.high
        contradictions += (found.low <= 0 <= found.high) == (signed_ranks(values).p <= ALPHA)
        lengths.append(found.high - found.low)
    return Differences(100 * covered / sets, 100 * contradictions / sets, float(np.mean(lengths)))


def differences_table(sets: int) -> list[Differences]:
    """Prints coverage, contradictions and length, beside those of the interval of the median difference; gives ours."""
    print(f"\nIntervals of a paired difference, {sets} data sets: coverage (%), length over that of the median difference's interval,")
    print("contradictions between interval and test: ours, the median difference's (%)\n")
    sizes = (6, 7, 8, 10, 12, 20)
    print("| differences | " + " | ".join(f"{n} seeds" for n in sizes) + " |\n|---|" + "---:|" * len(sizes))
    found: list[Differences] = []
    for case in SYMMETRIC:
        cells = []
        for n in sizes:
            ours, others = (differences(case, n, sets, interval) for interval in (difference_interval, median_interval))
            found.append(ours)
            cells.append(f"{ours.coverage:.1f}, {ours.length / others.length:.2f}, {ours.contradictions:.1f} / {others.contradictions:.1f}")
        print(f"| {case.name} | " + " | ".join(cells) + " |")
    return found


def family_error(case: Case, schemes: int, seeds: int, sets: int, *, all_pairs: bool) -> float:
    """The percentage of data sets without any true difference in which some scheme is said to beat another."""
    metric, generator, wrong = find_metric("final_test_accuracy"), np.random.default_rng([schemes, len(case.name)]), 0
    for _ in range(sets):
        shared = generator.normal(0, 1, seeds)
        values = [np.where(np.isinf(own := case.draw(generator, seeds)), own, own + shared) for _ in range(schemes)]
        sides = [Side(str(index), dict(enumerate(own.tolist()))) for index, own in enumerate(values)]
        pairs = [(b, a) for index, a in enumerate(sides) for b in sides[index + 1 :] if all_pairs or index == 0]
        wrong += any(found.verdict in {Verdict.BETTER, Verdict.WORSE} for found in compare_family(metric, pairs))
    return 100 * wrong / sets


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--sets", type=int, default=2000, help="simulated data sets a figure")
    arguments.add_argument("--quick", action="store_true", help="without scipy's bootstraps and the table of other numbers of seeds")
    given = arguments.parse_args()
    cases = (*CASES, SPLIT)
    ours = [interval_coverage(case, 8, given.sets) for case in cases]
    print(f"Coverage of 95 % intervals, 8 seeds, {given.sets} data sets (%, wanted {WANTED[0]:g} to {WANTED[1]:g})\n")
    print(
        "| results over seeds | ours | percentile bootstrap | BCa bootstrap | interquartile mean, t interval |\n|---|---:|---:|---:|---:|"
    )
    for case, value in zip(cases, ours, strict=True):
        others = [None] * 3
        if not given.quick:
            others = [
                *(bootstrap_coverage(case, 8, given.sets, method) for method in ("percentile", "BCa")),
                mean_coverage(case, 8, given.sets),
            ]
        print(f"| {case.name} | {value:.1f} | " + " | ".join("-" if other is None else f"{other:.1f}" for other in others) + " |")
    if not given.quick:
        sizes = (6, 7, 8, 9, 10, 12, 16, 20, 30)
        print("\nThe median's interval by the number of seeds\n\n| results over seeds | " + " | ".join(map(str, sizes)) + " |")
        print("|---|" + "---:|" * len(sizes))
        for case in cases:
            print(f"| {case.name} | " + " | ".join(f"{interval_coverage(case, n, given.sets):.1f}" for n in sizes) + " |")
    paired = differences_table(given.sets)
    print(f"\nFalse verdicts per family at {ALPHA:.0%}, {given.sets} null data sets (%, at most {WORST_FAMILY_ERROR:g} wanted)\n")
    print("| results over seeds | 3 schemes against a reference, 8 seeds | all pairs of 3, 8 seeds | 6 against a reference, 12 seeds |")
    print("|---|---:|---:|---:|")
    errors: list[float] = []
    for case in (CASES[0], CASES[1], CASES[4], mixture(0.3, 4), diverging(0.3)):
        of_case = [family_error(case, k, n, given.sets, all_pairs=every) for k, n, every in ((3, 8, False), (3, 8, True), (6, 12, False))]
        errors += of_case
        print(f"| {case.name} | " + " | ".join(f"{error:.1f}" for error in of_case) + " |")
    of_differences = all(each.coverage >= LEAST_OF_DIFFERENCES and each.contradictions == 0 for each in paired)
    good = of_differences and all(WANTED[0] <= value <= WANTED[1] for value in ours[: len(CASES)]) and max(errors) <= WORST_FAMILY_ERROR
    print(f"\n{'All within the range wanted.' if good else 'OUT OF RANGE.'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
