from dataclasses import replace
from itertools import pairwise

import pytest

from initbench.reporting.panels import Curve, Panel
from initbench.reporting.scales import error_scale, error_unscale, limits, log_ticks, power_of_ten, spread_apart, stretched, ticks_between


def panel(*values, scale="log", layers="", weight="middle"):
    return Panel("", "", "", (Curve("kaiming", tuple(enumerate(values)), weight),), scale=scale, layers=layers)


def limits_of(one):
    return limits([one])


def test_labels_that_are_apart_stay_where_they_are():
    assert spread_apart([0.9, 0.1, 0.5], 0.1) == pytest.approx([0.9, 0.1, 0.5])


def test_labels_at_one_place_are_spread_around_it():
    assert spread_apart([0.5, 0.5, 0.5], 0.1) == pytest.approx([0.4, 0.5, 0.6])


@pytest.mark.parametrize("places", [[0.0] * 5, [1.0] * 5, [0.97, 0.98, 0.99, 0.1, 0.11]])
def test_spread_labels_stay_inside_and_never_overlap(places):
    moved = sorted(spread_apart(places, 0.1))
    assert moved[0] >= 0
    assert moved[-1] <= 1 + 1e-9
    assert all(after - before >= 0.1 - 1e-9 for before, after in pairwise(moved))


def test_a_log_axis_over_layers_does_not_magnify_noise():
    low, high = limits_of(panel(0.99, 1.0, 1.01, layers="forward"))
    assert high / low >= 90


def test_an_exploding_scheme_does_not_flatten_the_others():
    low, high = limits_of(panel(1.0, 1e20, 1e60, layers="forward"))
    assert high < 1e11
    assert low < 1


def test_a_diverged_run_does_not_stretch_the_axis():
    good, gone = Curve("kaiming", ((0, 2.0), (1, 0.1)), "seed"), Curve("xavier", ((0, 2.0), (1, 1e30)), "seed", broken=True)
    assert limits_of(Panel("", "", "", (good, gone)))[1] < 3


def test_values_that_are_all_zero_or_missing_still_have_an_axis():
    assert limits_of(panel(0.0, None)) == (0.1, 10.0)


def test_dead_units_begin_at_zero_and_reach_at_least_ten_percent():
    low, high = limits_of(panel(0.0, 0.01, scale="percent", layers="forward"))
    assert -0.01 < low < 0
    assert high == 0.1


def test_accuracies_near_the_top_are_shown_on_the_scale_of_the_error_and_others_are_not():
    near = panel(0.91, 0.998, scale="accuracy")
    assert stretched(0.91, 0.998, near)
    assert not stretched(0.1, 0.998, near)
    assert not stretched(0.91, 0.93, near)
    assert error_unscale(error_scale(0.97)) == pytest.approx(0.97)
    ticks = ticks_between(0.91, 0.998, 0.1, near)
    assert (ticks[0], ticks[-1]) == (0.998, 0.92)
    places = [float(error_scale(tick)) for tick in ticks]
    assert min(before - after for before, after in pairwise(places)) >= 0.1 * float(error_scale(0.998) - error_scale(0.91))


def test_panels_that_are_compared_have_one_range():
    both = [panel(1.0, 10.0, layers="forward"), panel(0.01, 1.0, layers="forward")]
    assert limits(both) == (pytest.approx(0.01 / 10**0.12), pytest.approx(10 * 10**0.12))


def test_a_head_far_from_the_other_layers_does_not_stretch_the_axis_and_a_near_one_has_its_place():
    far, near = (replace(panel(1.0, 2.0, head, layers="forward"), head=2) for head in (1e6, 9.0))
    assert limits([far])[1] < 100
    assert limits([near])[1] > 9


def test_close_accuracies_have_round_ticks():
    assert ticks_between(0.908, 0.933, 0.1, panel(0.908, 0.933, scale="accuracy")) == [0.91, 0.915, 0.92, 0.925, 0.93]


def test_powers_of_ten_are_written_with_raised_digits():
    assert [power_of_ten(value) for value in (1e-12, 1.0, 1e5)] == ["10⁻¹²", "10⁰", "10⁵"]


@pytest.mark.parametrize("low", [1e-7, 3e-5, 0.02, 0.85, 1.5, 3.0, 99.0, 2e10])
@pytest.mark.parametrize("times", [1.05, 1.3, 2, 4.9, 30, 100, 1000])
def test_a_log_axis_has_at_least_three_numbers(low, times):
    ticks = log_ticks(low, low * times)
    powers = [power for power in range(-12, 14) if low <= 10.0**power <= low * times]
    assert len(ticks) >= 3 or (not ticks and len(powers) >= 3)
    assert len(ticks) <= 12
    assert all(low <= tick <= low * times for tick, _ in ticks)
    assert len({text for _, text in ticks}) == len(ticks)


def test_numbers_at_a_log_axis_are_round():
    assert log_ticks(0.85, 4.2) == [(1.0, "1"), (2.0, "2"), (3.0, "3"), (4.0, "4")]
    assert [text for _, text in log_ticks(0.8, 60)] == ["1", "2", "5", "10", "20", "50"]
    assert [text for _, text in log_ticks(0.8, 900, room=6)] == ["1", "10", "100"]
    assert [text for _, text in log_ticks(2e-6, 2e-4)] == ["3·10⁻⁶", "10⁻⁵", "3·10⁻⁵", "10⁻⁴"]


def test_a_curve_that_begins_wild_does_not_set_the_axis_of_the_others():
    usual = [panel(2.3, 0.5), panel(2.6, 0.4), panel(2.4, 0.6)]
    assert limits(usual) == limits([*usual[:2], panel(2.4, 0.6)])
    assert limits([*usual, panel(1e9, 3e8)])[1] < 100
    assert limits([*usual, panel(9.0, 2.0)])[1] > 9


def test_most_curves_may_begin_wild_and_the_others_are_read_all_the_same():
    usual, wild = panel(2.3, 0.5), [panel(1e9, 3e8), panel(1e7, 5e6), panel(1e8, 1e8)]
    assert limits([usual, *wild])[1] == pytest.approx(20 * 2.3, rel=0.2)


def test_a_value_on_an_axis_of_values_is_no_start():
    deep = replace(panel(0.01, 0.1, 2.3), ticks=((0.0, "2"), (1.0, "10"), (2.0, "50")))
    assert limits([deep])[1] > 2.3
    assert limits([replace(panel(0.5, 0.4, 0.6, 2.0, 1e7), ticks=deep.ticks)])[1] < 100
