import itertools
import math
import random
import re
import statistics
from collections import Counter

import pytest

from initbench.statistics.known_metrics import find_metric
from initbench.statistics.verdicts import Side, Verdict, compare_family

ACCURACY, LOSS = find_metric("final_test_accuracy"), find_metric("final_test_loss")
LOWER = [0.95, 0.951, 0.952, 0.953, 0.954, 0.955, 0.956, 0.957]
GAINS = [0.014, 0.016, 0.018, 0.02, 0.022, 0.024, 0.026, 0.029]


def side(name, values):
    return Side(name, dict(enumerate(values)))


def pair(n=8):
    return side("kaiming", [low + gain for low, gain in zip(LOWER[:n], GAINS[:n], strict=True)]), side("xavier", LOWER[:n])


def sentences(metric, *pairs, **options):
    return [found.sentence for found in compare_family(metric, pairs, **options)]


def test_the_sentence_of_the_issue():
    tie = (side("lecun", LOWER), side("xavier", LOWER))
    first, second = compare_family(ACCURACY, [pair(), tie])
    assert first.sentence == "kaiming beats xavier by 2.1 points of test accuracy [1.6, 2.6], 8 seeds, p = 0.016 after Holm"
    assert (first.verdict, first.family, first.wins, first.effect, first.improvement) == (Verdict.BETTER, 2, 8, 1.0, 1.0)
    assert first.p == 2 / 256
    assert second.sentence == "lecun and xavier do not differ: no difference in test accuracy on any of 8 seeds"


def test_the_winner_comes_first_whoever_is_the_reference():
    kaiming, xavier = pair()
    found = compare_family(ACCURACY, [(xavier, kaiming)])[0]
    assert found.sentence == "kaiming beats xavier by 2.1 points of test accuracy [1.6, 2.6], 8 seeds, p = 0.008"
    assert found.verdict is Verdict.WORSE
    assert found.difference.value == pytest.approx(-0.021)


def test_a_lower_loss_wins():
    found = compare_family(LOSS, [(side("kaiming", LOWER), side("xavier", [value + 0.1 for value in LOWER]))])[0]
    assert found.sentence == "kaiming beats xavier by 0.100 in test loss [0.100, 0.100], 8 seeds, p = 0.008"
    assert (found.wins, found.difference.value) == (8, pytest.approx(-0.1))


def test_few_seeds_that_disagree_name_no_leader():
    left, right = side("kaiming", [0.90, 0.91, 0.90]), side("xavier", [0.91, 0.90, 0.89])
    assert sentences(ACCURACY, (left, right)) == [
        "kaiming and xavier cannot be told apart: 0.5 points of test accuracy (-1.0 to 1.0), 3 seeds; use --seeds 6 or more"
    ]


def test_five_seeds_cannot_show_it_and_the_remedy_is_named():
    two = [pair(5), (side("lecun", LOWER[:5]), side("xavier", LOWER[:5]))]
    assert sentences(ACCURACY, *two)[0] == (
        "kaiming is ahead of xavier by 1.8 points of test accuracy (1.4 to 2.2), but 5 seeds are too few to show it: use --seeds 7 or more"
    )


def test_one_seed_shows_nothing():
    assert sentences(ACCURACY, pair(1)) == [
        "kaiming is ahead of xavier by 1.4 points of test accuracy, but one seed shows nothing: use --seeds 6 or more"
    ]


def test_what_cannot_be_told_from_zero_is_a_tie():
    mixed = [value + (-1) ** index * 0.004 + 0.001 for index, value in enumerate(LOWER)]
    found = compare_family(ACCURACY, [(side("lecun", mixed), side("xavier", LOWER))])[0]
    assert found.verdict is Verdict.TIE
    assert (
        found.sentence
        == "lecun and xavier are not shown to differ: 0.1 points of test accuracy [-0.3, 0.5] cannot be told from zero, 8 seeds, p = 0.28"
    )  # 72 of 256 flips


def test_a_run_that_diverged_widens_the_interval_as_it_raises_p():
    gone = [-math.inf, *(value + 0.01 + index / 1000 for index, value in enumerate(LOWER[1:]))]
    found = compare_family(ACCURACY, [(side("lecun", gone), side("xavier", LOWER))])[0]
    assert (found.verdict, found.p) == (Verdict.TIE, 50 / 256)  # rank 8 is negative: 25 of the 256 rank sums are at most 8
    assert found.difference.low is None
    assert "[no limit, " in found.sentence
    assert "cannot be told from zero, 8 seeds" in found.sentence


def test_where_a_correction_parts_verdict_and_interval_it_is_said():
    shifted = [low + shift for low, shift in zip(LOWER, (0.01, -0.002, 0.001, 0.02, 0.03, 0.04, 0.05, 0.06), strict=True)]
    three = compare_family(ACCURACY, [(side("lecun", shifted), side("xavier", LOWER))] * 3)  # p = 6 / 256 each
    assert three[0].sentence == (
        "lecun and xavier are not shown to differ: 2.5 points of test accuracy [0.4, 5.0]; the interval alone excludes zero, "
        "but not after correction for 3 comparisons, 8 seeds, p = 0.070 after Holm"
    )
    assert three[0].difference.low > 0
    seven = compare_family(ACCURACY, [(side("lecun", shifted), side("xavier", LOWER))] * 8)
    assert seven[0].verdict is Verdict.TOO_FEW_SEEDS
    assert "the interval alone excludes zero, but not after correction for 8 comparisons; use --seeds 9 or more" in seven[0].sentence
    ahead = compare_family(ACCURACY, [pair()] * 8)[0]
    assert "but 8 seeds are too few to show it after correction for 8 comparisons: use --seeds 9 or more" in ahead.sentence


@pytest.mark.parametrize("kind", range(4))
def test_no_sentence_contradicts_its_interval(kind):
    source, said = random.Random(kind), Counter()
    for _ in range(300):
        n = source.randint(2, 16)
        base = [round(source.uniform(0.5, 0.6), 3) for _ in range(n)]
        gain = [round(source.gauss(source.choice([0, 0.004, 0.01, 0.03]), 0.01), (5, 3, 2, 4)[kind]) for _ in range(n)]
        values = [-math.inf if kind == 3 and source.random() < 0.1 else one + two for one, two in zip(base, gain, strict=True)]
        found = compare_family(ACCURACY, [(side("a", values), side("b", base))])[0]
        said[found.verdict] += 1
        shown = re.search(r"\[(.+), (.+)\]", found.sentence)
        if shown is None:
            continue
        low, high = (None if end == "no limit" else float(end) for end in shown.groups())
        excludes = (low is not None and low > 0) or (high is not None and high < 0)
        assert excludes == (found.verdict in {Verdict.BETTER, Verdict.WORSE}), found.sentence
    assert said[Verdict.TIE] > 10
    assert said[Verdict.BETTER] + said[Verdict.WORSE] > 10


def test_the_difference_is_the_hodges_lehmann_estimate():
    shifts = (0.001, 0.002, 0.003, 0.004, 0.02, 0.03, 0.04, 0.05)
    higher = [low + shift for low, shift in zip(LOWER, shifts, strict=True)]
    found = compare_family(ACCURACY, [(side("lecun", higher), side("xavier", LOWER))])[0]
    means = [(one + other) / 2 for one, other in itertools.combinations_with_replacement(shifts, 2)]
    assert found.difference.value == pytest.approx(statistics.median(means))
    assert found.difference.value != pytest.approx(statistics.median(shifts))


def test_a_limit_that_is_not_zero_is_not_written_as_zero():
    higher = [low + gain for low, gain in zip(LOWER[:6], [0.0002, *GAINS[1:6]], strict=True)]
    found = compare_family(ACCURACY, [(side("a", higher), side("b", LOWER[:6]))])[0]
    assert found.verdict is Verdict.BETTER
    assert "[0.02, " in found.sentence


def test_a_difference_on_few_seeds_among_many_equal_ones_is_told_by_its_seeds():
    base = [0.9] * 30
    better = [0.91] * 6 + base[6:]
    found = compare_family(ACCURACY, [(side("a", better), side("b", base))])[0]
    assert found.sentence == "a beats b: better on 6, worse on 0 and equal on 24 of 30 seeds, p = 0.031"


def test_a_margin_makes_small_differences_equivalent():
    close = [value + 0.001 for value in LOWER]
    pairs = (side("lecun", close), side("xavier", LOWER))
    assert sentences(ACCURACY, pairs, margin=0.5) == [
        "lecun and xavier are equivalent within 0.5 points of test accuracy: 0.1 points of test accuracy [0.1, 0.1], 8 seeds"
    ]
    assert compare_family(ACCURACY, [pairs], margin=0.05)[0].verdict is Verdict.BETTER


def test_a_scheme_that_diverged_loses_by_no_number():
    diverged = [-math.inf] * 6 + [0.1, 0.1]
    found = compare_family(ACCURACY, [(side("normal", diverged), side("xavier", LOWER))])[0]
    assert found.sentence == "xavier beats normal: normal diverged on 6 of 8 seeds, p = 0.008"
    assert found.difference.value is None
    assert (found.losses, found.effect) == (8, -1.0)


def test_some_diverged_runs_leave_the_difference_open_at_one_end():
    rarely = [-math.inf, -math.inf, *LOWER[2:]]
    found = compare_family(ACCURACY, [(pair()[0], side("xavier", rarely))])[0]
    assert found.sentence == "kaiming beats xavier by 2.6 points of test accuracy [2.0, no limit], 8 seeds, p = 0.008"


def test_two_schemes_that_always_diverge_are_not_identical():
    gone = [-math.inf] * 8
    found = compare_family(ACCURACY, [(side("normal", gone), side("ones", gone))])[0]
    assert found.sentence == "normal and ones are not shown to differ: both diverged on all 8 seeds"
    assert found.verdict is Verdict.BOTH_WITHOUT
    assert (found.difference.value, found.difference.low, found.difference.high) == (None, None, None)


def test_seeds_on_which_both_diverged_are_told_apart_from_equal_results():
    rarely = [-math.inf] * 3 + LOWER[3:]
    found = compare_family(ACCURACY, [(side("normal", rarely), side("ones", rarely))])[0]
    assert found.sentence == "normal and ones do not differ: no difference in test accuracy on any of 8 seeds, both diverged on 3"
    assert (found.verdict, found.both_without) == (Verdict.IDENTICAL, 3)


def test_only_seeds_that_both_have_are_paired():
    left, right = Side("kaiming", {0: 0.9, 1: 0.8, 5: 0.7}), Side("xavier", {1: 0.7, 2: 0.6, 5: 0.65})
    found = compare_family(ACCURACY, [(left, right)])[0]
    assert (found.n, found.wins) == (2, 2)


def test_a_skipped_scheme_is_not_compared_and_not_counted_in_the_family():
    skipped = Side("fixup", {}, "was skipped on 8 seeds: it needs branches")
    first, second = compare_family(ACCURACY, [(skipped, pair()[1]), pair()])
    assert first.sentence == "fixup and xavier cannot be compared: fixup was skipped on 8 seeds: it needs branches"
    assert (first.verdict, first.p, second.family, second.p_holm) == (Verdict.NOT_COMPARABLE, None, 1, second.p)
    apart = (Side("kaiming", {0: 0.9}), Side("xavier", {1: 0.9}))
    assert sentences(ACCURACY, apart) == ["kaiming and xavier cannot be compared: they have no seed in common"]


def test_equivalence_needs_the_whole_interval_within_the_margin():
    values = [low + shift / 1000 for low, shift in zip(LOWER, (-7, 7, -5, 5, -3, 3, -1, 1), strict=True)]
    pairs = (side("lecun", values), side("xavier", LOWER))
    shown = compare_family(ACCURACY, [pairs])[0].difference
    widest = 100 * max(-shown.low, shown.high)
    assert compare_family(ACCURACY, [pairs], margin=widest - 0.01)[0].verdict is Verdict.TIE
    assert compare_family(ACCURACY, [pairs], margin=widest + 0.01)[0].verdict is Verdict.EQUIVALENT
