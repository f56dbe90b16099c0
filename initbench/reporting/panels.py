"""What plots are made of, as data: lines, bands, dots, heat maps, the panels and pictures that they stand in; `draw` draws them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

MOST_TOGETHER = 6
"""Of more schemes each is drawn in a small panel of its own, the best first, over the range of all."""
MOST_PANELS = 24
"""Of more panels the best and the worst are drawn."""
STREAM = "residual stream, behind each block"
"""The title of its panel."""
LONGEST_NAME = 28
"""Longer names of schemes are cut in plots."""
Points = tuple[tuple[float, float | None], ...]
"""(x, y) pairs; y is None where the value overflowed."""


@dataclass(frozen=True)
class Curve:
    """A line of one scheme. `weight` is a thin line for one seed, a thick one for the middle of the seeds, or dashed theory.

    `broken`: the run of that seed diverged at the line's end.
    """

    scheme: str
    points: Points
    weight: Literal["seed", "middle", "theory"] = "middle"
    label: str = ""
    broken: bool = False


@dataclass(frozen=True)
class Band:
    """A range of one scheme, (x, low, high): that of a prediction, or from the lowest to the highest seed."""

    scheme: str
    points: tuple[tuple[float, float, float], ...]
    of: Literal["theory", "seeds"] = "theory"


@dataclass(frozen=True)
class Strip:
    """A row of dots, one a seed, with the estimate and its interval; `note` says what has no dot."""

    scheme: str
    label: str
    values: tuple[float, ...]
    middle: float | None
    low: float | None
    high: float | None
    note: str = ""


@dataclass(frozen=True)
class Lost:
    """The runs of a scheme that diverged: the step of each, and how many of how many."""

    scheme: str
    steps: tuple[int, ...]
    runs: int
    of: int

    @property
    def share(self) -> str:
        """As in `3 of 8 diverged`."""
        return f"{self.runs} of {self.of} diverged"

    @property
    def words(self) -> str:
        """As in `normal: 3 of 8 diverged, first at step 5`."""
        return f"{shortened(self.scheme)}: {self.share}" + (f", first at step {self.steps[0]}" if self.steps else "")


@dataclass(frozen=True)
class Contour:
    """A line over a heat map, where `values[y][x]` are 1; `x` and `y` are places counted in cells, from the middle of the first at 0."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    dashed: bool = False


@dataclass(frozen=True)
class Heat:
    """Colours over two axes: `values[y][x]`, the lowest y first, shares from 0 to 1; `marks` say of cells without one what became of it."""

    x: tuple[str, ...]
    y: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    marks: tuple[tuple[str, ...], ...]
    contours: tuple[Contour, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    The scale `accuracy` is that of the error, reversed, where all values are near the top.
    `ticks`: places on the x axis and their labels, where numbers would not do. `corner`: what stands within, such as `start`; one
    without a title belongs to the panel at its left.
    `layers`: x counts weight layers, from the input on or, as gradients go, from the output back; `head` is the place of the last one
    where it stands apart from the others. `lost`: what diverged, in rows of their own below a curve.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Curve, ...] = ()
    bands: tuple[Band, ...] = ()
    strips: tuple[Strip, ...] = ()
    heat: Heat | None = None
    lost: tuple[Lost, ...] = ()
    scale: Literal["log", "percent", "accuracy"] = "log"
    layers: Literal["", "forward", "backward"] = ""
    head: float | None = None
    note: str = ""
    corner: str = ""
    ticks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Plot:
    """One picture: a file name without ending, what it shows in a sentence, and rows of panels that stand side by side.

    `schemes` are all of the question, the best first: by them looks are chosen, and panels ordered where each has one of its own.
    `highlight`: the only one in colour, where there is one. `parts`: panels are of parts of a network, less high and more a row.
    """

    name: str
    title: str
    rows: tuple[tuple[Panel, ...], ...]
    schemes: tuple[str, ...] = ()
    highlight: str | None = None
    parts: bool = False

    @property
    def settled(self) -> "Plot":
        """As it is drawn: where panels of parts cannot hold so many schemes, the best one alone is in colour."""
        many = self.parts and len({line.scheme for panel in self.panels for line in panel.lines}) > MOST_TOGETHER
        return self.highlighting(self.schemes[0]) if many and self.highlight is None else self

    def highlighting(self, scheme: str) -> "Plot":
        """The same with this scheme alone in colour and named, and the others grey behind it."""

        def changed(panel: Panel) -> Panel:
            lines = tuple(replace(line, label=line.label if line.scheme == scheme else "") for line in panel.lines)
            lost = tuple(each for each in panel.lost if each.scheme == scheme)
            ordered = tuple(sorted(lines, key=lambda line: line.scheme != scheme))
            return replace(panel, lines=ordered, lost=lost, bands=tuple(band for band in panel.bands if band.scheme == scheme))

        return replace(self, rows=tuple(tuple(map(changed, row)) for row in self.rows), highlight=scheme)

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels, row by row."""
        return tuple(panel for row in self.rows for panel in row)


def shortened(scheme: str) -> str:
    """A scheme's name in a plot."""
    return scheme if len(scheme) <= LONGEST_NAME else scheme[: LONGEST_NAME - 1] + "…"


def in_rows(panels: Sequence[Panel], columns: int = 3) -> tuple[tuple[Panel, ...], ...]:
    """So many panels a row."""
    return tuple(tuple(panels[start : start + columns]) for start in range(0, len(panels), columns))
