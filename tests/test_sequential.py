"""Evidence that holds at every look: bets on signs, sequences of intervals, equivalence."""

import math
from fractions import Fraction
from itertools import pairwise, product
from statistics import NormalDist

import numpy as np
import pytest

from initbench.statistics.inference import ALPHA
from initbench.statistics.sequential import (
    BIASES,
    LISTENING,
    equivalence,
    evidence,
    fewest,
    mean_sequence,
    median_sequence,
    seeds_left,
)

SIZES = (0.3, 1.0, 0.2, 5.0, math.inf, 1.0)


def test_over_all_signs_the_wealth_is_one_on_average_after_every_seed():
    """What makes it evidence: of given sizes all 2^n signs are alike likely where there is no difference."""
    wealths = [evidence([sign * size for sign, size in zip(signs, SIZES, strict=True)]).wealth for signs in product((1, -1), repeat=6)]
    for looks in zip(*wealths, strict=True):
        assert math.fsum(looks) / len(looks) == pytest.approx(1.0, abs=1e-12)


def test_the_stake_on_a_sign_knows_nothing_of_it_nor_of_what_comes_later():
    one = evidence([1.0, -2.0, 0.5, 3.0])
    other = evidence([1.0, -2.0, 0.5, -3.0])
    assert one.wealth[:3] == other.wealth[:3]
    assert one.wealth[3] != other.wealth[3]


def test_the_share_of_null_sets_that_are_ever_called_different_is_at_most_five_percent():
    generator = np.random.default_rng(3)
    false = sum(evidence(list(map(float, generator.standard_t(2, 64)))).p <= ALPHA for _ in range(600))
    assert false <= 600 * ALPHA + 3 * math.sqrt(600 * ALPHA * (1 - ALPHA))


def test_evidence_is_two_sided_and_blind_to_scale():
    gaps = [0.4, 1.2, -0.1, 0.8, 2.0, 0.9, 1.1, 0.3]
    plain, turned, scaled = evidence(gaps), evidence([-gap for gap in gaps]), evidence([1000 * gap for gap in gaps])
    assert plain.wealth == pytest.approx(turned.wealth)
    assert plain.wealth == pytest.approx(scaled.wealth)
    assert plain.decided(2.0)[1] == 1
    assert turned.decided(2.0) == (plain.decided(2.0)[0], -1)


def test_ties_say_nothing_and_runs_without_a_number_rank_highest():
    assert evidence([0.0] * 9).p == 1.0
    assert evidence([1.0, 0.0, 2.0]).wealth[-1] == pytest.approx(evidence([1.0, 2.0]).wealth[-1])
    highest, before = evidence([1.0, 2.0, 9.0]).wealth[-1], evidence([1.0, 2.0]).wealth[-1]
    assert evidence([1.0, 2.0, math.inf]).wealth[-1] == pytest.approx(LISTENING * highest + (1 - LISTENING) * before)
    assert evidence([]).p == 1.0
    assert evidence([]).decided(1.5) is None


def test_runs_that_diverge_at_random_do_not_drown_a_difference():
    """Where either scheme loses a fifth of its runs, whatever the seed, a third of the signs are a coin's, with the largest of stakes."""
    generator = np.random.default_rng(5)
    decided = 0
    for _ in range(100):
        one, other = generator.normal(1, 1, 64), np.zeros(64)
        lost = generator.random((2, 64)) < 0.2
        gaps = np.where(lost[0] & lost[1], 0.0, np.where(lost[0], -math.inf, np.where(lost[1], math.inf, one - other)))
        decided += evidence(gaps.tolist()).p <= ALPHA
    assert decided >= 80


def test_what_was_decided_first_stays_though_what_comes_after_is_the_other_way_round():
    first = [1.0 + place for place in range(10)]
    found = evidence([*first, *(-value for value in first * 6)])
    count, side = found.decided(20.0)
    assert side == 1
    assert count <= 10
    assert found.leaning[-1] == -1


@pytest.mark.parametrize("size", [1.0, math.inf], ids=["growing", "diverging"])
def test_fewer_seeds_than_the_fewest_can_decide_nothing(size):
    """Also where a scheme always diverges, so that all differences are infinite."""
    count = fewest()
    growing = [size + place for place in range(count)]
    assert evidence(growing).p <= ALPHA < evidence(growing[:-1]).p
    generator = np.random.default_rng(0)
    for _ in range(200):
        assert evidence(list(map(float, generator.lognormal(size=count - 1)))).p > ALPHA


def test_the_interval_is_the_bets_turned_around():
    """A number is left out where bets that most are above it have won 2/alpha: recomputed in fractions, from the definition."""
    gaps = [0.5, 1.5, -0.25, 2.0, 0.75, 1.0, 0.25, 1.25, 3.0, 0.5]

    def won(above, count):
        return sum((1 + Fraction(str(bias))) ** above * (1 - Fraction(str(bias))) ** (count - above) for bias in BIASES) / len(BIASES)

    for count, interval in enumerate(median_sequence(gaps), 1):
        for number in (-1.0, -0.25, 0.0, 0.25, 0.4, 0.5, 0.6, 1.0, 1.4, 1.5, 2.0, 2.5, 3.0, 4.0):
            refuted = any(
                max(won(sum(gap > number for gap in gaps[:looked]), looked), won(sum(gap < number for gap in gaps[:looked]), looked))
                >= 2 / Fraction(str(ALPHA))
                for looked in range(1, count + 1)
            )
            assert refuted != (interval.low <= number <= interval.high), (count, number)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda generator: generator.exponential(size=64), math.log(2)),
        (lambda generator: np.round(generator.exponential(size=64)), 1.0),
        (lambda generator: np.where(generator.random(64) < 0.3, -math.inf, generator.normal(size=64)), None),
    ],
    ids=["skewed", "ties", "diverging"],
)
def test_all_intervals_hold_the_median_at_once(draw, truth):
    truth = NormalDist().inv_cdf((0.5 - 0.3) / 0.7) if truth is None else truth
    generator, missed = np.random.default_rng(5), 0
    for _ in range(400):
        missed += any(not each.low <= truth <= each.high for each in median_sequence(list(map(float, draw(generator)))))
    assert missed <= 400 * ALPHA + 3 * math.sqrt(400 * ALPHA * (1 - ALPHA))


def test_intervals_only_narrow():
    generator = np.random.default_rng(1)
    intervals = median_sequence(list(map(float, generator.normal(size=64))))
    assert all(before.low <= after.low <= after.high <= before.high for before, after in pairwise(intervals))
    assert math.isinf(intervals[0].low)
    assert intervals[-1].high - intervals[-1].low < 1.3


def test_equivalence_is_shown_within_the_margin_and_seldom_at_it():
    generator = np.random.default_rng(2)
    assert equivalence(list(map(float, generator.normal(0, 0.1, 20))), 0.5)[-1] < 0.01
    assert equivalence(list(map(float, generator.normal(0, 0.1, 20))), 0.001)[-1] == 1.0
    false = sum(equivalence(list(map(float, generator.normal(0.5, 1.0, 64))), 0.5)[-1] <= ALPHA for _ in range(400))
    assert false <= 400 * ALPHA + 3 * math.sqrt(400 * ALPHA * (1 - ALPHA))


def test_means_of_bounded_numbers_are_held_and_the_interval_narrows_with_the_spread():
    generator, missed, widths = np.random.default_rng(4), 0, []
    for _ in range(60):
        intervals = mean_sequence(list(map(float, generator.beta(8, 2, 64))), 0.0, 1.0)
        missed += any(not each.low <= 0.8 <= each.high for each in intervals)
        widths.append(intervals[-1].high - intervals[-1].low)
    assert missed <= 60 * ALPHA + 3 * math.sqrt(60 * ALPHA * (1 - ALPHA))
    assert np.median(widths) < 0.2
    shifted = mean_sequence([10 + 10 * value for value in (0.2, 0.9, 0.4, 0.7)], 10.0, 20.0)
    plain = mean_sequence([0.2, 0.9, 0.4, 0.7], 0.0, 1.0)
    assert shifted[-1].low == pytest.approx(10 + 10 * plain[-1].low)


def test_the_guess_of_seeds_left_is_the_growth_so_far():
    growing = evidence([1.0 + 0.01 * place for place in range(6)])
    assert seeds_left(growing.wealth, growing.wealth[-1]) == 0
    assert seeds_left(growing.wealth, growing.wealth[-1] * 4) in {1, 2, 3}
    assert seeds_left(evidence([1.0, -1.0, 1.0, -1.0]).wealth, 20.0) is None
