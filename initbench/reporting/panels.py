"""What plots are made of, as data: lines, bands, dots, heat maps, the panels and pictures that they stand in; `draw` draws them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

MOST_TOGETHER = 6
"""Of more schemes each is drawn in a small panel of its own, the best first, over the range of all."""
MOST_PANELS = 24
"""Of more panels the best and the worst are drawn."""
STREAM = "residual stream, behind each block"
"""The title of its panel."""
LONGEST_NAME = 28
"""Letters of a scheme's name in a plot; of longer ones parts are left out."""
LONGEST_TICK = 12
"""Letters of a name at the x axis."""
BREAKS = ":,=/"
"""What stands between the words of a scheme's name."""
NAMED = 4
"""Names that a note lists; of more it gives the number."""
Points = tuple[tuple[float, float | None], ...]
"""(x, y) pairs; y is None where the value overflowed."""


@dataclass(frozen=True)
class Curve:
    """A line of one scheme. `weight` is a thin line for one seed, a thick one for the middle of the seeds, dashed theory, or a thick one
    in steps, each value in the middle of its own.

    `named`: the scheme's name stands at it, and behind that the `remark`. `broken`: the run of that seed diverged at the line's end.
    `hollow`: the places whose marker is not filled.
    """

    scheme: str
    points: Points
    weight: Literal["seed", "middle", "theory", "steps"] = "middle"
    named: bool = False
    broken: bool = False
    remark: str = ""
    hollow: frozenset[float] = frozenset()


@dataclass(frozen=True)
class Band:
    """A range of one scheme, (x, low, high): that of a prediction, or from the lowest to the highest seed, as `bars` one by one.

    `steps`: each from half before to half after its x.
    """

    scheme: str
    points: tuple[tuple[float, float, float], ...]
    of: Literal["theory", "seeds", "bars", "steps"] = "theory"


@dataclass(frozen=True)
class Strip:
    """A row of dots, one a seed, with the estimate and its interval; `note` says what has no dot."""

    scheme: str
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
        """As in `3 of 8 diverged, first at step 5`."""
        return self.share + (f", first at step {self.steps[0]}" if self.steps else "")


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
    `ticks`: places on the x axis and their labels, where numbers would not do or say less. `corner`: what stands within, such as
    `start`; one without a title belongs to the panel at its left. `notes`: sentences without their full stop.
    `layers`: x counts weight layers, from the input on or, as gradients go, from the output back; `head` is the place of the last one
    where it stands apart from the others. `lost`: what diverged, in rows of their own below a curve. `gone`: the schemes that may leave
    the range of the others, as all of their runs diverged.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Curve, ...] = ()
    bands: tuple[Band, ...] = ()
    strips: tuple[Strip, ...] = ()
    heat: Heat | None = None
    lost: tuple[Lost, ...] = ()
    gone: frozenset[str] = frozenset()
    scale: Literal["log", "percent", "accuracy", "number"] = "log"
    layers: Literal["", "forward", "backward"] = ""
    head: float | None = None
    notes: tuple[str, ...] = ()
    corner: str = ""
    ticks: tuple[tuple[float, str], ...] = ()

    def head_name(self, most: int = LONGEST_TICK) -> str:
        """The name of a head that stands apart, in so many letters."""
        return cut(dict(self.ticks).get(self.head or 0.0, "head"), most)


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
            lines = tuple(replace(line, named=line.named and line.scheme == scheme) for line in panel.lines)
            lost = tuple(each for each in panel.lost if each.scheme == scheme)
            ordered = tuple(sorted(lines, key=lambda line: line.scheme != scheme))
            return replace(panel, lines=ordered, lost=lost, bands=tuple(band for band in panel.bands if band.scheme == scheme))

        return replace(self, rows=tuple(tuple(map(changed, row)) for row in self.rows), highlight=scheme)

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels, row by row."""
        return tuple(panel for row in self.rows for panel in row)

    @cached_property
    def names(self) -> dict[str, str]:
        """How each scheme is called in it, with what is remarked of its line."""
        remarks = {line.scheme: line.remark for panel in self.panels for line in panel.lines if line.remark}
        return {scheme: name + remarks.get(scheme, "") for scheme, name in short_names(self.schemes).items()}


def short_names(schemes: Sequence[str], most: int = LONGEST_NAME) -> dict[str, str]:
    """The schemes' names in at most so many letters each, no two alike: of a longer one the middle is left out.

    Those that begin alike keep the words that tell them apart: `variance_sca…fan_in…uniform…`.
    """
    begin: dict[str, set[str]] = {}
    for scheme in schemes:
        begin.setdefault(scheme[: most // 2], set()).add(scheme)
    rivals = {scheme: begin[scheme[: most // 2]] - {scheme} for scheme in schemes}
    while True:
        found = {scheme: _told_apart(scheme, own, most) for scheme, own in rivals.items()}
        alike = {scheme: {other for other in found if other != scheme and found[other] == found[scheme]} for scheme in found}
        if all(alike[scheme] <= own for scheme, own in rivals.items()):
            break
        rivals = {scheme: own | alike[scheme] for scheme, own in rivals.items()}
    for place, scheme in enumerate(found, 1):
        number = f" #{place}"
        found[scheme] = cut(scheme, most - len(number)) + number if alike[scheme] else found[scheme]
    return found


def cut(text: str, most: int) -> str:
    """The text in at most so many letters: of a longer one the middle is left out."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"


def _told_apart(scheme: str, rivals: Collection[str], most: int) -> str:
    """The beginning and the words at which it parts from its rivals, as much of each as there is room for."""
    places = {next((at for at, letter in enumerate(rival) if scheme[at : at + 1] != letter), len(rival)) for rival in rivals}
    if len(scheme) <= most or not places:
        return cut(scheme, most)
    for size in range(most, 0, -1):
        kept = set(range(size))
        for place in places:
            word = max(scheme.rfind(mark, 0, place) for mark in BREAKS) + 1
            end = next((at for at in range(place + 1, len(scheme)) if scheme[at] in BREAKS), len(scheme))
            start = max(word, place - size // 2)
            kept |= set(range(start, min(end, start + size)))
        name = "".join(letter if at in kept else "…" * (at - 1 in kept) for at, letter in enumerate(scheme))
        if len(name) <= most:
            return name
    return cut(scheme, most)


def few(names: Sequence[str]) -> str:
    """Names in a row, of many the first and how many more: `bert, fixup, gpt2 and 19 more`."""
    shown = names if len(names) <= NAMED else names[: NAMED - 1]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(shown) < len(names) else "")


def in_rows(panels: Sequence[Panel], columns: int = 3) -> tuple[tuple[Panel, ...], ...]:
    """So many panels a row."""
    return tuple(tuple(panels[start : start + columns]) for start in range(0, len(panels), columns))
