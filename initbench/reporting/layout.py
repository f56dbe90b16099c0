"""Where the parts of a picture stand: rows of axes, how high each is, and what is written beside and below them; no drawing."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from initbench.reporting import axes as within
from initbench.reporting.axes import Style
from initbench.reporting.panels import MOST_PANELS, MOST_TOGETHER, Panel, Plot, few

LETTER, BOLD = 0.58, 0.64
"""The width of a letter, in its height."""
PART = 0.5
"""Axes of a part of a network, in the height of others."""
MOST_GREY = 6
"""Schemes in grey that are named; of more it gives the number."""


@dataclass(frozen=True)
class Row:
    """Axes side by side: panels, each for all schemes (empty `only`) or for those that it names; `note` stands below, `heading` above.

    `names`: how the schemes of the plot are called in it.
    """

    cells: tuple[tuple[Panel, tuple[str, ...]], ...]
    columns: int
    names: Mapping[str, str]
    heading: str = ""
    note: str = ""
    first: bool = True
    next: int = 0
    """How many axes stand in the row below that shares the x axis."""
    part: bool = False
    """Whether the axes are of parts of a network, and so less high."""
    named_below: bool = False
    """Whether a row below says what the x axis is."""

    @property
    def last(self) -> bool:
        """Whether no row of the same axes comes below."""
        return self.next == 0

    @property
    def together(self) -> bool:
        """Whether all schemes share the axes."""
        return not self.cells[0][1]


@dataclass(frozen=True)
class Frame:
    """Where the parts of a row are: heights in inches from above to below, and the room at the sides of the axes."""

    heading: float
    axes: float
    lost: float
    ticks: float
    names: float
    notes: tuple[str, ...]
    left: float
    right: float

    def height(self, style: Style) -> float:
        """All of it."""
        return self.heading + self.axes + self.lost + self.ticks + self.names + len(self.notes) * 1.45 * style.note / 72


def title_of(plot: Plot, style: Style) -> tuple[list[str], float]:
    """The lines of the title, and the inches that they take."""
    title = textwrap.wrap(plot.title, int(style.width * 72 / (BOLD * style.title))) if style.title else []
    return title, (1.25 * style.title * len(title) + 9) / 72 if title else 0.05


def inches_high(plot: Plot, style: Style) -> float:
    """How high the picture of a plot is."""
    plot = plot.settled
    return title_of(plot, style)[1] + sum(frame_of(row, style).height(style) for row in rows_of(plot, style))


def rows_of(plot: Plot, style: Style) -> list[Row]:
    """The rows of axes: panels side by side where there is room, and of many schemes a small panel each, the best first."""
    wide = style.width > 40 * style.em
    if plot.parts:
        return _of_parts(plot, wide=wide)
    found: list[Row] = []
    for row in plot.rows:
        schemes = {line.scheme for panel in row for line in panel.lines if line.weight == "middle"}
        if len(schemes) > MOST_TOGETHER and plot.highlight is None:
            for panel in row:
                found += _one_by_one(panel, plot, 4 if wide else 2)
            continue
        for panels in [row] if wide else [(panel,) for panel in row]:
            cells = tuple((panel, ()) for panel in panels)
            found.append(Row(cells, len(panels), plot.names, note=". ".join([*_notes(panels), *_grey(plot)])))
    return found


def _of_parts(plot: Plot, *, wide: bool) -> list[Row]:
    """Rows of less high axes, which say once what is true of all; each row fills the width but the last, which may hold fewer."""
    rows = plot.rows if wide else [plot.panels[start : start + 2] for start in range(0, len(plot.panels), 2)]
    columns = max(map(len, rows))
    return [
        Row(
            tuple((panel, ()) for panel in row),
            len(row) if index < len(rows) - 1 else columns,
            plot.names,
            note=". ".join([*_notes(plot.panels), *_grey(plot)]) if index == len(rows) - 1 else "",
            part=True,
            named_below=index < len(rows) - 1 and rows[index + 1][0].x_label == row[0].x_label,
        )
        for index, row in enumerate(rows)
    ]


def _grey(plot: Plot) -> list[str]:
    """Whose lines are grey where one scheme is in colour."""
    others = list(dict.fromkeys(line.scheme for panel in plot.panels for line in panel.lines if line.scheme != plot.highlight))
    if plot.highlight is None or not others:
        return []
    named = ", ".join(plot.names[scheme] for scheme in others)
    return [f"Grey: {named if len(others) <= MOST_GREY else f'the {len(others)} other schemes'}"]


def _notes(panels: Sequence[Panel]) -> list[str]:
    """What the notes of panels say: what all say, then each other sentence once, after the panels that it is of."""
    titles: list[str] = []
    for panel in panels:
        titles.append(panel.title or (titles[-1] if titles else ""))
    found: dict[str, list[int]] = {}
    for place, panel in enumerate(panels):
        for sentence in panel.notes:
            found.setdefault(sentence, []).append(place)
    own = {sentence: places for sentence, places in found.items() if len(places) < len(panels)}
    return [
        *(sentence for sentence in found if sentence not in own),
        *(f"{_where(panels, titles, places)}: {sentence}" for sentence, places in own.items()),
    ]


def _where(panels: Sequence[Panel], titles: Sequence[str], places: Sequence[int]) -> str:
    """The panels at these places: by the corner that they and no others have, such as `End`, else by their titles."""
    corner = panels[places[0]].corner
    if corner and list(places) == [place for place, panel in enumerate(panels) if panel.corner == corner]:
        return corner.capitalize()
    return few(
        list(dict.fromkeys(f"{titles[place]} ({panels[place].corner})" if panels[place].corner else titles[place] for place in places))
    )


def _one_by_one(panel: Panel, plot: Plot, columns: int) -> list[Row]:
    """Rows of small axes, one a scheme or a few that are the same, of too many the best and the worst; behind each the range of all."""
    drawn = {line.scheme for line in panel.lines}
    same: dict[object, list[str]] = {}
    for scheme in [scheme for scheme in plot.schemes if scheme in drawn]:
        same.setdefault(tuple((line.points, line.weight) for line in panel.lines if line.scheme == scheme), []).append(scheme)
    groups = [tuple(group) for group in same.values()]
    best, between, worst = groups, groups[:0], groups[:0]
    if len(groups) > MOST_PANELS:
        best, between, worst = groups[: MOST_PANELS - columns], groups[MOST_PANELS - columns : -columns], groups[-columns:]
    counts = [sum(map(len, part)) for part in (best, between, worst)]
    some = [f"The {counts[0]} best and the {counts[2]} worst; {counts[1]} between are not shown"] if between else []
    shown = [*best, *worst]
    rows = [shown[start : start + columns] for start in range(0, len(shown), columns)]
    behind = "Grey: the range of all schemes" + " that do not always diverge" * bool(drawn & panel.gone)
    note = ". ".join([behind, *some, *panel.notes])
    return [
        Row(
            tuple((panel, group) for group in row),
            columns,
            plot.names,
            heading=panel.title if index == 0 else "",
            note=note if row is rows[-1] else "",
            first=index == 0,
            next=len(rows[index + 1]) if row is not rows[-1] else 0,
        )
        for index, row in enumerate(rows)
    ]


def frame_of(row: Row, style: Style) -> Frame:
    """Where the parts of a row stand."""
    panel, em, small = row.cells[0][0], style.em, style.note / 72
    notes = tuple(textwrap.wrap(row.note, int(style.width * 72 / (0.56 * style.note))))
    if panel.strips:
        left, right = within.beside_strips(panel, row.names, style)
        if not left:
            return Frame(0.1, (3.6 * em) * len(panel.strips), 0, 3.6 * em, 0, notes, 0.2, 0.2)
        return Frame(0.1, (2.6 * em) * len(panel.strips), 0, 3.6 * em, 0, notes, left, right)
    titled = any(each.title for each, _ in row.cells) or not row.together
    if panel.heat is not None:
        left = 2.4 * em + 1.15 * LETTER * small * max(len(label) for label in panel.heat.y)
        height = max(1.0, min(style.height, 2.2 * em * len(panel.heat.y)))
        return Frame(0.1 + 1.5 * em * titled, height, 0, 3.6 * em, 0, notes, left, 0.12)
    heading = 0.1 + 1.5 * em * bool(row.heading) + 1.5 * em * titled
    ticks = 2.2 * em if row.named_below else 3.6 * em if row.last else 2.2 * em if row.next < len(row.cells) else 0.9 * em
    lost = 0.0
    if row.together and panel.lost:
        lost = 1.7 * small * len(panel.lost) + 0.5 * em
    named = named_in(row)
    beside = row.together and style.labels == "beside"
    right = 0.12 + (0.45 + LETTER * em * max((len(row.names[scheme]) + 2 for scheme in named), default=0) if beside else 0)
    below = 0.0 if (row.together and beside) or not row.together else 1.5 * em * len(in_lines(row, style)) + 0.3 * em
    height = (PART if row.part else 1.0 if row.together else 0.48) * style.height
    left = 1.2 * em + 5.2 * small
    width = (style.width - left - right - gap_of(row, style) * (row.columns - 1)) / row.columns
    labelled = [within.x_ticks(each, width, room_between(row, style), style) for each, _ in row.cells[row.next :]]
    ticks += 0.4 * small * max((len(text) for each in labelled if each.tilted for text in each.texts), default=0)
    return Frame(heading, height, lost, ticks, below, notes, left, right)


def gap_of(row: Row, style: Style) -> float:
    """The inches between axes side by side."""
    return (0.25 if row.together else 0.15) + style.em


def room_between(row: Row, style: Style) -> float:
    """The inches that labels of neighbouring axes share beyond the ends of these."""
    return gap_of(row, style) if row.columns > 1 else style.width


def named_in(row: Row) -> list[str]:
    """The schemes that are named beside or below a row."""
    return list(dict.fromkeys(line.scheme for panel, _ in row.cells for line in panel.lines if line.named))


def in_lines(row: Row, style: Style) -> list[list[str]]:
    """The schemes that are named, in as many lines as the width asks for."""
    lines: list[list[str]] = [[]]
    left = style.width - 0.2
    for scheme in named_in(row):
        needed = 0.55 + LETTER * style.em * len(row.names[scheme])
        if needed > left and lines[-1]:
            lines.append([])
            left = style.width - 0.2
        lines[-1].append(scheme)
        left -= needed
    return lines
