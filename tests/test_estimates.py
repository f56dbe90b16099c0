import math

import pytest

from initbench.statistics.estimates import estimate, estimate_text, number_text, share, share_text
from initbench.statistics.known_metrics import find_metric

ACCURACY, LOSS = find_metric("final_test_accuracy"), find_metric("final_test_loss")
EIGHT = [0.961, 0.962, 0.963, 0.9645, 0.9655, 0.966, 0.967, 0.968]


def test_an_estimate_over_eight_seeds_has_an_interval():
    assert estimate_text(ACCURACY, estimate(ACCURACY, EIGHT)) == "96.5 % [96.2, 96.7]"


def test_five_seeds_have_a_range_in_round_brackets_and_no_interval():
    found = estimate(ACCURACY, EIGHT[:5])
    assert (found.level, found.low, found.high) == (None, None, None)
    assert estimate_text(ACCURACY, found) == "96.3 % (96.1 to 96.5)"


def test_one_seed_has_neither():
    assert estimate_text(ACCURACY, estimate(ACCURACY, EIGHT[:1])) == "96.1 %"


def test_no_seed_has_nothing():
    assert estimate_text(ACCURACY, estimate(ACCURACY, [])) == ""


def test_diverged_runs_are_counted_and_never_filled_in():
    found = estimate(ACCURACY, [-math.inf, -math.inf, *EIGHT[2:]])
    assert (found.value, found.low, found.n, found.without_number) == (pytest.approx(0.965), None, 8, 2)
    assert estimate_text(ACCURACY, found) == "96.5 % [diverged, 96.7]"
    assert estimate_text(LOSS, estimate(LOSS, [0.1, 0.2, math.inf])) == "0.200 (0.100 to diverged)"


def test_a_median_that_diverged_is_said_in_words():
    found = estimate(ACCURACY, [-math.inf] * 4 + EIGHT[4:])
    assert found.value is None
    assert estimate_text(ACCURACY, found) == "diverged"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.000"), (0.1234, "0.123"), (2.3026, "2.303"), (12.345, "12.35"), (123.4, "123.4"), (1e-9, "1.0e-09"), (3e7, "3.0e+07")],
)
def test_losses_keep_about_three_digits(value, text):
    assert number_text(LOSS, value) == text


def test_a_small_difference_of_accuracies_gets_a_second_decimal_and_nothing_is_minus_zero():
    assert number_text(ACCURACY, 0.0004) == "0.04"
    assert number_text(ACCURACY, -0.0000001) == "0.00"
    assert number_text(ACCURACY, -0.0001, like=0.5) == "0.0"


def test_a_share_has_its_wilson_interval():
    assert share_text(share(7, 8)) == "7 of 8 [53 %, 98 %]"
    assert share_text(share(1, 1)) == "1 of 1"
    assert share_text(share(0, 0)) == ""
