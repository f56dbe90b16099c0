import itertools
import math
import random
import statistics

import numpy as np
import pytest
import scipy.stats as oracle

from initbench.statistics import inference
from initbench.statistics.inference import (
    Interval,
    difference,
    difference_interval,
    hodges_lehmann,
    holm,
    median,
    median_interval,
    probability_of_improvement,
    seeds_needed,
    signed_ranks,
    wilson,
)

INF = math.inf


def some(n, seed=0):
    noise = random.Random(seed)
    return [noise.gauss(0, 1) for _ in range(n)]


def test_the_median_of_an_even_number_lies_between_the_middle_two():
    assert median([4, 1, 3, 2]) == 2.5
    assert median([5, 1, 3]) == 3


def test_the_median_has_no_number_when_half_of_the_runs_have_none():
    assert median([-INF, -INF, 0.8, 0.9]) == -INF
    assert median([-INF, 0.7, 0.8, 0.9]) == pytest.approx(0.75)


def test_the_interval_of_eight_values_is_the_one_computed_by_hand():
    # levels 1 - 2/256 and 1 - 18/256; 0.675 of the way; weight 7 * 0.675 / (1 + 6 * 0.675) = 0.935644
    interval = median_interval([8, 6, 7, 5, 3, 1, 2, 4])
    assert interval == Interval(pytest.approx(1.935644, abs=1e-6), pytest.approx(7.064356, abs=1e-6))


@pytest.mark.parametrize("n", [6, 7, 8, 9, 12, 20, 51])
def test_the_interval_lies_within_the_exact_conservative_one(n):
    values = some(n)
    wide = oracle.quantile_test(values, q=0, p=0.5).confidence_interval(0.95)
    narrow = median_interval(values)
    assert wide.low <= narrow.low < narrow.high <= wide.high


@pytest.mark.parametrize("n", range(1, 6))
def test_five_values_have_no_95_percent_interval(n):
    assert median_interval(some(n)) is None


def test_five_values_have_a_90_percent_interval():
    assert median_interval([1, 2, 3, 4, 5], 0.9) is not None


def test_one_diverged_run_of_eight_leaves_a_finite_lower_limit_and_two_do_not():
    assert median_interval([-INF, 2, 3, 4, 5, 6, 7, 8]).low == 2
    assert median_interval([-INF, -INF, 3, 4, 5, 6, 7, 8]).low == -INF
    assert median_interval([-INF, -INF, 3, 4, 5, 6, 7, 8]).high == pytest.approx(7.064356, abs=1e-6)


def test_the_interval_does_not_interpolate_across_a_gap_between_two_clusters():
    values = [0.1, 0.11, 0.95, 0.951, 0.952, 0.953, 0.954, 0.955, 0.956, 0.957]
    assert median_interval(values).low == 0.11  # level 97.9 % is nearer to 95 % than the 89.1 % of the third value


def test_identical_values_have_an_interval_of_no_width():
    assert median_interval([0.9] * 8) == Interval(0.9, 0.9)


@pytest.mark.parametrize(("successes", "n"), [(0, 8), (3, 8), (8, 8), (1, 1), (50, 80)])
def test_the_wilson_interval_agrees_with_scipy(successes, n):
    expected = oracle.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert (wilson(successes, n).low, wilson(successes, n).high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("n", [1, 5, 8, 13])
def test_signed_ranks_without_ties_agree_with_scipys_exact_test(n):
    values = some(n, n)
    assert signed_ranks(values).p == pytest.approx(oracle.wilcoxon(values, method="exact").pvalue)


@pytest.mark.parametrize("values", [[1, 1, -1, 2, 2, 0, 3], [0.5, 0.5, 0.5, -0.5, 0, 0, 1, 1], [INF, INF, 2, -1, 3, 1, 1, -2]])
def test_signed_ranks_with_ties_zeros_and_infinities_agree_with_all_sign_flips(values):
    ranks = oracle.rankdata(np.abs(values))
    signed = np.sign(values) * ranks
    flips = oracle.permutation_test((signed,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert signed_ranks(values).p == pytest.approx(flips.pvalue)


@pytest.mark.parametrize("digits", [1, 3])
@pytest.mark.parametrize("n", [5, 61, 90])
def test_many_signed_ranks_are_the_same_by_counting_and_by_numpy(n, digits):
    source = random.Random(n)
    values = [round(source.gauss(0.3, 1), digits) for _ in range(n)]
    ranks = inference._doubled_ranks([abs(value) for value in values])
    for distance in (0, 1, n, sum(ranks) // 2, sum(ranks)):
        exact = inference._extreme_share(ranks, distance)
        assert inference._extreme_share_by_numpy(ranks, distance) == pytest.approx(exact, rel=1e-12, abs=0)


def test_a_thousand_signed_ranks_agree_with_the_normal_approximation():
    source = random.Random(1)
    values = [source.gauss(0.06, 1) for _ in range(1000)]
    assert signed_ranks(values).p == pytest.approx(oracle.wilcoxon(values, method="approx").pvalue, rel=0.01)
    assert signed_ranks([1.0] * 1000).p == pytest.approx(2.0**-999)


def test_signed_ranks_by_hand():
    found = signed_ranks([3, 2, 1, -0.5])  # rank sum 9 of 10; 9 and 10 and their mirror images: 4 of 16 flips
    assert (found.p, found.wins, found.losses, found.ties) == (0.25, 3, 1, 0)
    assert found.effect == pytest.approx(0.8)


def test_the_smallest_p_halves_with_each_seed():
    assert [signed_ranks([1.0 + index for index in range(n)]).p for n in (5, 6, 8)] == [2 / 32, 2 / 64, 2 / 256]


def test_no_difference_at_all_has_p_one():
    assert signed_ranks([0.0] * 8).p == 1
    assert signed_ranks([0.0] * 8).ties == 8


def test_equal_differences_stay_equal_in_floating_point():
    assert difference(0.3, 0.2) == difference(0.2, 0.1)
    assert difference(-INF, -INF) == 0
    assert difference(0.9, -INF) == INF


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.5, 0.6]) == pytest.approx((1.0, 1.0))
    assert holm([]) == ()


def test_the_probability_of_improvement_is_the_mann_whitney_statistic():
    left, right = [round(value, 1) for value in some(8, 1)], [round(value, 1) for value in some(7, 2)]
    expected = oracle.mannwhitneyu(left, right).statistic / 56
    assert probability_of_improvement(left, right) == pytest.approx(expected)


def test_the_seeds_needed_grow_with_the_family():
    assert [seeds_needed(family) for family in (1, 2, 3, 6, 7)] == [6, 7, 7, 8, 9]


def brute_critical(n, alpha):
    """The largest rank sum whose two-sided p is at most alpha, by listing every sign of every rank."""
    sums = sorted(sum(rank for rank, sign in enumerate(signs, 1) if sign) for signs in itertools.product((0, 1), repeat=n))
    return max((value for value in range(n * (n + 1) // 2 + 1) if 2 * sum(s <= value for s in sums) / 2**n <= alpha), default=-1)


@pytest.mark.parametrize("n", range(1, 13))
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.01])
def test_the_critical_rank_sum_is_that_of_all_signs(n, alpha):
    assert inference.critical_rank_sum(n, alpha) == brute_critical(n, alpha)


def test_the_critical_rank_sums_of_the_printed_tables():
    # two-sided 5 %: Wilcoxon's table as in Hollander & Wolfe, A.4
    table = {5: -1, 6: 0, 7: 2, 8: 3, 9: 5, 10: 8, 12: 13, 15: 25, 20: 52, 25: 89, 30: 137}
    assert {n: inference.critical_rank_sum(n, 0.05) for n in table} == table


def test_many_critical_rank_sums_agree_with_the_normal_approximation():
    n = 100
    expected = n * (n + 1) / 4 - 1.959964 * math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    assert inference.critical_rank_sum(n, 0.05) == pytest.approx(expected, abs=3)


def test_walsh_averages_and_their_median_by_hand():
    averages, undefined = inference.walsh_averages([1.0, 3.0, 8.0])
    assert (list(averages), undefined) == ([1.0, 2.0, 3.0, 4.5, 5.5, 8.0], 0)
    assert inference.hodges_lehmann([1.0, 3.0, 8.0]) == 3.75
    averages, undefined = inference.walsh_averages([INF, -INF, 1.0])
    assert (list(averages), undefined) == ([-INF, -INF, 1.0, INF, INF], 1)


@pytest.mark.parametrize("n", [inference.WHOLE_NUMBERS, inference.WHOLE_NUMBERS + 1, 101])
def test_walsh_averages_of_many_are_those_of_the_definition(n):
    values = [*some(n - 3, n), INF, INF, -INF]
    sums = [one + other for index, one in enumerate(values) for other in values[index:]]
    expected = sorted(round(total / 2, 12) for total in sums if not math.isnan(total))
    averages, undefined = inference.walsh_averages(values)
    assert (list(averages), undefined) == (expected, 2)
    assert inference.hodges_lehmann(values) == statistics.median(expected)


@pytest.mark.parametrize("n", [6, 8, 11, 20, 30])
def test_scipys_test_rejects_exactly_what_is_outside_the_interval(n):
    values = some(n, n)
    found = difference_interval(values)
    inside, outside = (found.low + 1e-9, found.high - 1e-9), (found.low - 1e-9, found.high + 1e-9)
    assert all(oracle.wilcoxon([value - shift for value in values], method="exact").pvalue > 0.05 for shift in inside)
    assert all(oracle.wilcoxon([value - shift for value in values], method="exact").pvalue <= 0.05 for shift in outside)
    assert found.low < hodges_lehmann(values) < found.high


def drawn(kind, n, source):
    """Differences as runs give them: smooth, rounded, with zeros, with runs that diverged, of three values only."""
    shift = source.choice([0.0, 0.3, 0.7, 1.2])
    values = [source.gauss(shift, 1) for _ in range(n)]
    if kind == "rounded":
        return [difference(round(value, source.choice([0, 1])), 0.0) for value in values]
    if kind == "zeros":
        return [value if source.random() < 0.6 else 0.0 for value in values]
    if kind == "diverged":
        return [source.choice([INF, INF, INF, -INF]) if source.random() < 0.3 else value for value in values]
    if kind == "three values":
        return [float(source.choice([-1, 0, 1, 1])) for _ in values]
    return values


@pytest.mark.parametrize("kind", ["smooth", "rounded", "zeros", "diverged", "three values"])
def test_the_interval_leaves_out_zero_exactly_when_the_difference_is_significant(kind):
    source, significant = random.Random(kind), 0
    for n in [*range(2, 31)] * (6 if kind == "three values" else 12):
        values = drawn(kind, n, source)
        found, p = difference_interval(values), signed_ranks(values).p
        if n < 6:
            assert found is None
            continue
        assert (found.low > 0 or found.high < 0) == (p <= 0.05), values
        assert found.low <= found.high
        significant += p <= 0.05
    assert significant > 20


@pytest.mark.parametrize("values", [[1.0] * 6 + [0.0] * 3, [1.0] * 6 + [0.0] * 24, [-2.0] * 7 + [0.0] * 5])
def test_zeros_that_leave_a_difference_significant_do_not_draw_the_interval_to_zero(values):
    found = difference_interval(values)
    assert signed_ranks(values).p <= 0.05
    assert found.low > 0 or found.high < 0


def test_the_interval_of_a_difference_covers_it():
    # exact level at 8 seeds: 1 - 10 / 256 = 96.1 %
    source = random.Random(8)
    covered = 0
    for _ in range(2000):
        found = difference_interval([source.gauss(0.5, 1) for _ in range(8)])
        covered += found.low <= 0.5 <= found.high
    assert covered / 2000 == pytest.approx(1 - 10 / 256, abs=0.015)
