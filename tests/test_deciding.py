"""Comparisons that are decided together at every look: closed testing, its error over all looks, how many seeds are left."""

import math
from itertools import combinations, product

import numpy as np
import pytest

from initbench.statistics.deciding import Deciding
from initbench.statistics.inference import ALPHA
from initbench.statistics.known_metrics import find_metric
from initbench.statistics.sequential import Family, evidence
from initbench.statistics.verdicts import Side, Verdict, compare_family

METRIC = find_metric("final_test_accuracy")


def sets_with(place, claim, worth):
    """Every set of claims, one at most of a group, with this one in."""
    others = [[None, *group] for at, group in enumerate(worth) if at != place]
    for chosen in product(*others):
        yield [worth[place][claim], *(won for won in chosen if won is not None)]


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (3, 3, 3)])
def test_one_look_is_closed_testing_over_every_set_by_its_mean(sizes):
    generator = np.random.default_rng(1)
    for _ in range(200):
        worth = [list(map(float, generator.lognormal(2, 2, size))) for size in sizes]
        family = Family(alpha=1e-9)  # so that nothing is refuted, and the corrected p is that of one pass
        family.look(worth)
        for place, group in enumerate(worth):
            for claim in range(len(group)):
                least = min(sum(each) / len(each) for each in sets_with(place, claim, worth))
                assert family.p[place][claim] == pytest.approx(min(1.0, 1 / least))


def test_no_comparison_is_decided_later_than_by_bonferroni_and_some_sooner():
    generator, sooner = np.random.default_rng(2), 0
    for _ in range(60):
        results = generator.normal(size=(4, 40)) + np.array([0, 0.8, 1.6, 1.6])[:, None]
        pairs = list(combinations(range(4), 2))
        decided = Deciding([(str(one), str(other)) for one, other in pairs], higher_is_better=True, margin=None)
        ends = {}
        for count, row in enumerate(results.T, 1):
            decided.take({str(place): float(value) for place, value in enumerate(row)})
            ends |= {pair.names: count for pair in decided.pairs if pair.ended is not None and pair.names not in ends}
        for one, other in pairs:
            alone = evidence(list(map(float, results[one] - results[other]))).decided(len(pairs) / ALPHA)
            mine = ends.get((str(one), str(other)), math.inf)
            assert mine <= (alone[0] if alone else math.inf)
            sooner += mine < (alone[0] if alone else math.inf)
    assert sooner > 60


def test_what_is_decided_leaves_the_others_as_if_they_were_alone():
    """A scheme that always diverges is in two of three comparisons; the third then takes what a single one takes."""
    generator = np.random.default_rng(3)
    gaps = generator.normal(0.8, 1.0, 64)
    values = {"one": dict(enumerate(map(float, gaps))), "other": dict.fromkeys(range(64), 0.0), "lost": dict.fromkeys(range(64), -math.inf)}
    decided = Deciding(combinations(values, 2), higher_is_better=True, margin=None)
    (alone, _) = evidence(list(map(float, gaps))).decided(1 / ALPHA)
    (bonferroni, _) = evidence(list(map(float, gaps))).decided(3 / ALPHA)
    for seed in range(alone):
        decided.take({name: own[seed] for name, own in values.items()})
    assert alone < bonferroni
    assert [pair.ended for pair in decided.pairs] == [1, 1, 1]


@pytest.mark.heavy
@pytest.mark.parametrize("margin", [None, 0.6])
def test_the_share_of_families_with_any_false_verdict_ever_is_at_most_five_percent(margin):
    """Two schemes do not differ, a third is far off; with the margin another pair differs by just that. Looked at after every seed."""
    generator, false, sets = np.random.default_rng(4), 0, 400
    pairs = list(combinations("abcd", 2))
    for _ in range(sets):
        noise = generator.normal(size=(4, 40))
        results = dict(zip("abcd", noise + np.array([0, 0, 3.0, 0 if margin is None else 3.0 + margin])[:, None], strict=True))
        decided = Deciding(pairs, higher_is_better=True, margin=margin)
        for seed in range(40):
            decided.take({name: float(row[seed]) for name, row in results.items()})
        ends = {pair.names: pair.ended for pair in decided.pairs}
        wrong = ends["a", "b"] in {1, -1} or (ends["a", "d"] in {1, -1} if margin is None else ends["c", "d"] in {0, 1})
        false += wrong or any(end == 0 for names, end in ends.items() if "c" in names and "d" not in names)
    assert false <= sets * ALPHA + 3 * math.sqrt(sets * ALPHA * (1 - ALPHA))


def test_a_decided_pair_with_a_margin_still_counts_as_what_is_not_refuted_of_it():
    """It is better, so it can no longer be called equivalent; but that it might have been has cost its part of the error."""
    family = Family()
    family.look([(1e6, 1e-6, 1e6), (30.0, 30.0, 30.0)])
    assert family.p[0][0] <= ALPHA
    assert family.p[1][0] == pytest.approx(1 / 15, rel=1e-3)
    alone = Family()
    alone.look([(1e6,), (30.0,)])
    assert alone.p[1][0] == pytest.approx(1 / 30)


def test_a_corrected_p_never_grows_and_is_never_below_the_plain_one():
    generator = np.random.default_rng(5)
    family, best, before = Family(), [1.0] * 3, [1.0] * 3
    for worth in generator.lognormal(1, 2, (30, 3)):
        family.look([(float(won),) for won in worth])
        best = [max(most, float(won)) for most, won in zip(best, worth, strict=True)]
        now = [p for (p,) in family.p]
        assert all(new <= old for new, old in zip(now, before, strict=True))
        assert all(p >= 1 / most - 1e-12 for p, most in zip(now, best, strict=True))
        before = now


def test_with_a_margin_the_guess_of_seeds_left_is_of_the_end_that_comes_first():
    """Two schemes that hardly differ end by equivalence; that there is no difference to be shown says nothing about when."""
    gaps = [0.002 * (-1) ** place for place in range(5)]
    sides = Side("one", dict(enumerate(0.5 + gap for gap in gaps))), Side("other", dict.fromkeys(range(len(gaps)), 0.5))
    (without,) = compare_family(METRIC, [sides], anytime=True)
    assert without.verdict is Verdict.NOT_DECIDED
    assert without.seeds_left is None
    (within,) = compare_family(METRIC, [sides], margin=1.0, anytime=True)
    assert within.seeds_left in {1, 2}
    longer = Side("one", dict(enumerate(0.5 + 0.002 * (-1) ** place for place in range(len(gaps) + within.seeds_left))))
    other = Side("other", dict.fromkeys(longer.values, 0.5))
    assert compare_family(METRIC, [(longer, other)], margin=1.0, anytime=True)[0].verdict is Verdict.EQUIVALENT


def test_the_guess_of_seeds_left_knows_how_much_the_family_asks_for():
    gaps = [0.01, 0.012, -0.002, 0.014, 0.011]
    values = {"one": [0.5 + gap for gap in gaps], "other": [0.5] * 5, "third": [0.5, 0.4, 0.6, 0.5, 0.5]}
    sides = {name: Side(name, dict(enumerate(own))) for name, own in values.items()}
    (alone,) = compare_family(METRIC, [(sides["one"], sides["other"])], anytime=True)
    among, *_ = compare_family(METRIC, [(sides[one], sides[other]) for one, other in combinations(sides, 2)], anytime=True)
    assert among.seeds_left > alone.seeds_left


def test_a_verdict_says_after_how_many_seeds_it_was_reached_whatever_comes_later():
    gaps = [0.010 + 0.001 * place for place in range(12)]
    values = {"one": dict(enumerate(0.5 + gap for gap in gaps)), "other": dict.fromkeys(range(12), 0.5)}

    def judged(count, margin=None):
        sides = (Side(name, {seed: own[seed] for seed in range(count)}) for name, own in values.items())
        return compare_family(METRIC, [tuple(sides)], margin=margin, anytime=True)[0]

    first = next(count for count in range(1, 13) if judged(count).verdict is Verdict.BETTER)
    assert judged(first - 1).decided_after is None
    assert f"), decided after {first} seeds, anytime p" in judged(first).sentence
    assert judged(12).decided_after == first
    assert f", 12 seeds, decided after {first}, anytime p" in judged(12).sentence
    within = judged(12, margin=5.0)
    assert within.verdict is Verdict.EQUIVALENT
    assert within.sentence.endswith(f", 12 seeds, decided after {within.decided_after}")
    lost = Side("one", dict.fromkeys(range(12), 0.5)), Side("other", dict.fromkeys(range(12), -math.inf))
    (found,) = compare_family(METRIC, [lost], anytime=True)
    assert f"diverged on 12 of 12 seeds, decided after {found.decided_after} seeds, anytime p" in found.sentence
    assert compare_family(METRIC, [lost])[0].decided_after is None
