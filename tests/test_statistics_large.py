"""The law of rank sums and the means of pairs for many seeds, against the exact ones."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initbench.statistics import inference, large


def exact(ranks, distance):
    return inference._extreme_share_by_numpy(ranks, distance)


@pytest.mark.parametrize("n", [200, 400, 700])
@pytest.mark.parametrize("far", [0.001, 0.01, 0.5, 1, 1.96, 3, 5, 8, 12])
def test_the_tail_is_right_to_a_thousandth(n, far):
    ranks = list(range(1, n + 1))
    spread = math.sqrt(sum(rank * rank for rank in ranks))
    distance = int(far * spread)
    distance += (distance - sum(ranks)) % 2
    assert large.extreme_share(ranks, distance) == pytest.approx(exact(ranks, distance), rel=1e-3)


def test_ties_and_zeros_are_allowed_for():
    noise = random.Random(3)
    for _ in range(5):
        values = [round(noise.gauss(0.05, 1), 1) for _ in range(410)]
        ranks = inference._doubled_ranks([abs(value) for value in values])
        used = [rank for rank, value in zip(ranks, values, strict=True) if value]
        unit = math.gcd(*used)
        positive = sum(rank for rank, value in zip(ranks, values, strict=True) if value > 0)
        distance = abs(2 * positive - sum(used)) // unit
        assert large.extreme_share([rank // unit for rank in used], distance) == pytest.approx(
            exact([rank // unit for rank in used], distance), rel=1e-3
        )


def test_the_ends_are_exact():
    ranks = list(range(1, 501))
    assert large.extreme_share(ranks, sum(ranks)) == 2.0**-499
    assert large.extreme_share(ranks, 0) == 1.0


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("n", [200, 401, 600])
def test_the_critical_rank_sum_is_the_exact_one_or_its_neighbour(n, alpha):
    shares = inference._shares_by_numpy(range(1, n + 1))
    tail, counted = 0.0, -1
    for place, share in enumerate(shares):
        tail += share
        if 2 * tail > alpha:
            break
        counted = place
    assert abs(large.critical_rank_sum(n, alpha) - counted) <= 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3).map(lambda value: round(value, 3)) | st.sampled_from([math.inf, -math.inf]), min_size=1, max_size=40))
def test_the_means_of_pairs_are_those_that_are_listed(values):
    listed, undefined = inference.walsh_averages(values)
    found = large.Searched(sorted(values))
    assert (len(found), found.undefined) == (len(listed), undefined)
    for place in range(len(listed)):
        assert found[place] == pytest.approx(listed[place], abs=2e-12 * 1e3)


def test_an_interval_of_many_seeds_belongs_to_its_test():
    noise = random.Random(5)
    for shift in (0.0, 0.03, 0.08, 0.5):
        values = [noise.gauss(shift, 1) for _ in range(1600)]
        interval, test = inference.difference_interval(values), inference.signed_ranks(values)
        assert (interval.low <= 0 <= interval.high) is (test.p > 0.05)
        assert interval.low <= inference.hodges_lehmann(values) <= interval.high
        assert interval.high - interval.low == pytest.approx(2 * 1.96 / math.sqrt(1600) * 1.023, rel=0.1)


def test_the_level_of_an_order_statistic_is_the_counted_one(monkeypatch):
    counted = [inference._order_level(1500, rank) for rank in range(700, 751) if inference._fewer_than(1500)]
    monkeypatch.setattr(inference, "COINS", 2000)
    assert counted == pytest.approx([inference._order_level(1500, rank) for rank in range(700, 751)], abs=1e-9)
    ranked = [k for k in range(1, 101) if inference._order_level(200, k) >= 0.95]
    assert inference.median_interval([float(value) for value in range(200)]).low == pytest.approx(ranked[-1] - 1, abs=1)
