"""Tables on narrow terminals: nothing is cut, numbers are never wrapped."""

import pytest

from initbench.cli.columns import fit

COLUMNS = ("figure", "published", "here", "verdict")
ROWS = [("gradient variance, first over last", "1/81 = 0.0123", "0.0124 [0.0121, 0.0126]", "agrees")]


def test_what_fits_stays_as_it_is():
    found = fit(COLUMNS, ROWS, frozenset({2}), 100)
    assert (found.columns, found.rows) == (COLUMNS, tuple(ROWS))
    assert found.widths == (34, 13, 23, 7)
    assert found.width == 34 + 13 + 23 + 7 + 3 * 2


@pytest.mark.parametrize("width", [80, 60, 50])
def test_what_does_not_fit_is_broken_and_then_wrapped(width):
    found = fit(COLUMNS, ROWS, frozenset({2}), width)
    assert found.rows[0][2] == "0.0124\n[0.0121, 0.0126]"
    assert found.width == min(width, 18 + 13 + 16 + 7 + 3 * 2)  # the figure breaks after its comma


def test_no_column_gets_narrower_than_its_words_and_numbers():
    found = fit(COLUMNS, ROWS, frozenset({2}), 10)
    assert found.widths == (9, 9, 16, 7)


def test_words_without_end_are_broken():
    assert fit(("name",), [("x" * 50,)], frozenset(), 10).widths == (20,)


def test_a_table_without_rows_has_its_headers():
    assert fit(("name", "seed"), [], frozenset(), 80).widths == (4, 4)
