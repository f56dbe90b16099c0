"""How the columns of a table fit the width of a terminal."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

GAP = 2
"""Blanks between two columns."""
LONGEST_WORD = 20
"""Letters up to which a word is not broken, however narrow the terminal."""
PLACES_TO_BREAK = re.compile(r" (?=[\[(])|(?<=,) (?![^\[(]*[\])])|(?<=[:,])(?=\w+=)")
"""Blanks before a bracket, and after a comma that is not inside of one; before each parameter of a scheme."""


@dataclass(frozen=True)
class Fitted:
    """Headers and cells, broken into lines where they had to be, and the width of each column."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    widths: tuple[int, ...]

    @property
    def width(self) -> int:
        """Of the whole table."""
        return _total(self.widths)


def fit(columns: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int], width: int) -> Fitted:
    """The table in `width` letters, or in as few as it takes without cutting anything.

    Too wide, headers and intervals go to lines of their own; then the widest columns of words get narrower. Those in `right`
    hold numbers, which are not wrapped.
    """
    widths = _natural(columns, rows)
    if _total(widths) > width:
        columns = [column.replace(" ", "\n") for column in columns]
        rows = [[PLACES_TO_BREAK.sub("\n", cell) for cell in row] for row in rows]
        widths = _natural(columns, rows)
        least = [widths[index] if index in right else _longest_word(columns, rows, index) for index in range(len(columns))]
        while _total(widths) > width and (wide := [index for index, size in enumerate(widths) if size > least[index]]):
            widths[max(wide, key=widths.__getitem__)] -= 1
    return Fitted(tuple(columns), tuple(map(tuple, rows)), tuple(widths))


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _natural(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """The longest line of each column."""
    return [max(len(line) for cell in cells for line in cell.split("\n")) for cells in zip(columns, *rows, strict=True)]


def _longest_word(columns: Sequence[str], rows: Sequence[Sequence[str]], index: int) -> int:
    words = [word for cell in (columns[index], *(row[index] for row in rows)) for word in cell.split()]
    return min(LONGEST_WORD, max(map(len, words), default=0))
