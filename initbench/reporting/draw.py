"""Draws plots with matplotlib: PNG, SVG and PDF, the same bytes for the same data on the same versions.

The object-oriented interface on bare canvases, without pyplot, which would cost start-up time and touch global state.
"""

from __future__ import annotations

import gc
import io
import os
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from initbench.reporting import axes as within
from initbench.reporting.axes import GREY, GRID, INK, Style
from initbench.reporting.layout import LETTER, Frame, Row, frame_of, gap_of, in_lines, named_in, room_between, rows_of, title_of
from initbench.reporting.looks import Look, looks
from initbench.reporting.panels import LONGEST_NAME, Curve, Panel, Plot, short_names
from initbench.reporting.scales import limits, spread_apart
from initbench.results.provenance import cores, may_start_processes
from initbench.workers.forked import LostProcess, mapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW_PLOTS = 4
"""Below so many plots, starting a second process takes longer than it saves."""
COMPRESSION = 3
"""Of 9: a third of the time of matplotlib's own 6, for files a tenth larger."""
WIDTH, DPI = 8.0, 150
"""Inches, and pixels an inch in a PNG; shown at 800 pixels in a README."""
NOTEBOOK = Style(WIDTH, 2.6, text=9.5, note=8.5, title=12, line=1.9, labels="beside")
"""Of pages, README files and notebooks."""
STYLES: dict[tuple[str, int], Style] = {
    ("paper", 1): Style(3.25, 1.7, text=7.5, note=7, title=0, line=1.0, labels="below"),
    ("paper", 2): Style(6.75, 2.1, text=8, note=7, title=0, line=1.1, labels="beside"),
    ("slide", 1): Style(6.0, 3.4, text=16, note=13, title=18, line=2.6, labels="below"),
    ("slide", 2): Style(13.0, 5.0, text=18, note=15, title=24, line=3.2, labels="beside"),
    ("notebook", 1): Style(4.0, 2.2, text=9.5, note=8.5, title=11, line=1.7, labels="below"),
    ("notebook", 2): NOTEBOOK,
}
"""By name and how many columns of a page (paper: of a two-column page) it is wide."""
COVERED = 1.5
"""Lines that are nowhere so many pixels apart cover one another: they share a place for their names, with ≈ where they are not equal."""
EQUAL = 1e-6

STYLE: dict[str, Any] = {
    "axes.facecolor": "none",
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titley": 1.0,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "text.parse_math": False,
    "grid.color": GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "path.simplify_threshold": 0.5,
}


def import_ahead() -> None:
    """Imports what drawing needs and has it find its fonts, while there is nothing else to do."""
    line = Curve("ahead", ((1.0, 0.1), (2.0, 1.0)), named=True)
    draw(Plot("ahead", "A plot", ((Panel("", "step", "loss", (line,)),),), ("ahead",)))


def draw_all(plots: Sequence[Plot]) -> list[dict[str, bytes]]:
    """The files of each plot; processes share them where there is more than one core and forking is safe here.

    If one of these is killed, all plots are drawn here.
    """
    safe = sys.platform == "linux" and "torch" not in sys.modules and threading.active_count() == 1 and may_start_processes()
    if len(plots) < FEW_PLOTS or cores() < 2 or not safe:
        return [draw(plot) for plot in plots]
    try:
        with closing(mapped(_draw_quickly, plots, cores())) as drawn:
            return list(drawn)
    except (LostProcess, OSError):
        return [draw(plot) for plot in plots]


def _draw_quickly(plot: Plot) -> dict[str, bytes]:
    """In a process that only draws: garbage is left to its end."""
    gc.disable()
    return draw(plot)


def library() -> Any:
    """Matplotlib, also where the environment names a backend that is not there (a notebook's): files are drawn without one."""
    try:
        import matplotlib as mpl
    except ValueError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
            del sys.modules[name]  # half imported
        wanted = os.environ.pop("MPLBACKEND", "")
        try:
            import matplotlib as mpl
        finally:
            os.environ["MPLBACKEND"] = wanted
    return mpl


def draw(plot: Plot, style: Style = NOTEBOOK, endings: Sequence[str] = (".png", ".svg")) -> dict[str, bytes]:
    """The files of one plot by their ending: `.png`, `.svg` or `.pdf`."""
    with _settings(plot, style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter of somebody's name that the font lacks is a box
        figure = _figure(plot, style)
        return {ending: _file(figure, ending) for ending in endings}


def figure_of(plot: Plot, style: Style = NOTEBOOK) -> Figure:
    """The plot as a figure of matplotlib, which a notebook shows."""
    with _settings(plot, style):
        return _figure(plot, style)


def _settings(plot: Plot, style: Style) -> Any:
    """Within: matplotlib's settings for a style."""
    mpl = library()
    sizes = {
        "font.size": style.text,
        "axes.titlesize": style.text,
        "axes.labelsize": style.text,
        "axes.linewidth": 0.4 * style.line,
        "grid.linewidth": 0.42 * style.line,
    }
    ticks = {"xtick.labelsize": style.note, "ytick.labelsize": style.note}
    return mpl.rc_context({**STYLE, **sizes, **ticks, "svg.hashsalt": plot.name})


@cache
def _figure_class() -> type[Figure]:
    """A figure that a notebook shows as a picture, also where nobody has imported pyplot there."""
    from matplotlib.figure import Figure

    class Drawn(Figure):
        def _repr_png_(self) -> bytes:
            return _file(self, ".png")

    return Drawn


def _figure(plot: Plot, style: Style) -> Figure:
    plot = plot.settled
    own = looks(plot.schemes)
    if plot.highlight is not None:
        own = {scheme: look if scheme == plot.highlight else Look(GREY, "solid", "") for scheme, look in own.items()}
    with_lines = [panel for panel in plot.panels if not panel.strips and panel.heat is None]
    ranges = limits(with_lines) if with_lines else (0.0, 1.0)
    rows = [(row, frame_of(row, style)) for row in rows_of(plot, style)]
    title, above = title_of(plot, style)
    figure = _figure_class()(figsize=(style.width, above + sum(frame.height(style) for _, frame in rows)), dpi=DPI)
    figure.text(0.012, 1 - 0.09 / figure.get_figheight(), "\n".join(title), fontsize=style.title or None, fontweight="bold", va="top")
    top = figure.get_figheight() - above
    titles = [panel.title for panel in plot.panels]
    for row, frame in rows:
        _draw_row(figure, row, frame, top, own, titles, ranges, style)
        top -= frame.height(style)
    return figure


def _file(figure: Figure, ending: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    content = io.BytesIO()
    figure.patch.set_alpha(1 if ending == ".png" else 0)
    canvas: Any = {".png": FigureCanvasAgg, ".svg": FigureCanvasSVG, ".pdf": FigureCanvasPdf}[ending](figure)
    if ending == ".png":
        canvas.print_png(content, metadata={"Software": None}, pil_kwargs={"compress_level": COMPRESSION})
    elif ending == ".svg":
        canvas.print_svg(content, metadata={"Date": None, "Creator": None})
    else:
        canvas.print_pdf(content, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return content.getvalue()


def _draw_row(
    figure: Figure,
    row: Row,
    frame: Frame,
    top: float,
    own: Mapping[str, Look],
    titles: Sequence[str],
    ranges: tuple[float, float],
    style: Style,
) -> None:
    whole, em = figure.get_figheight(), style.em
    gap = gap_of(row, style)
    width = (style.width - frame.left - frame.right - gap * (row.columns - 1)) / row.columns
    bottom = top - frame.heading - frame.axes
    if row.heading:
        figure.text(0.012, (top - 0.06) / whole, row.heading, fontweight="bold", va="top")
    made: list[Axes] = []
    short = short_names(list(own), min(LONGEST_NAME, int(width / (LETTER * em))))
    for column, (panel, only) in enumerate(row.cells):
        left = frame.left + column * (width + gap)
        axes = figure.add_axes((left / style.width, bottom / whole, width / style.width, frame.axes / whole))
        made.append(axes)
        axes.set_xlabel(panel.x_label if row.columns == 1 and not row.named_below else "")
        axes.set_ylabel(panel.y_label if column == 0 and (row.together or row.first) else "")
        alone = column + 1 == len(row.cells) or row.cells[column + 1][0].title
        most = int((width if alone else 2 * width + gap) / (LETTER * em))
        axes.set_title(short[only[0]] if only else short_names(titles, most)[panel.title])
        if panel.strips:
            within.draw_strips(axes, panel, own, row.names, style)
            continue
        if panel.heat is not None:
            within.draw_heat(axes, panel.heat, style)
            axes.tick_params(axis="y", labelleft=column == 0)
            continue
        within.set_axes(axes, panel, ranges, within.x_ticks(panel, width, room_between(row, style), style), style)
        _draw_lines(axes, panel, only, own, short, ranges, style)
        if row.part:
            within.draw_head_value(axes, panel, ranges, style)
        axes.tick_params(axis="y", labelleft=column == 0)
        axes.tick_params(axis="x", labelbottom=column >= row.next)
        if row.together and panel.lost:
            low = bottom - frame.lost + 0.2 * em
            below = figure.add_axes((left / style.width, low / whole, width / style.width, (frame.lost - 0.5 * em) / whole), sharex=axes)
            within.draw_lost(below, panel.lost, own, row.names, style)
            axes.tick_params(axis="x", pad=frame.lost * 72 + 2)
            axes.xaxis.labelpad = 2
    if row.last and row.columns > 1 and not row.named_below:
        centre = (frame.left + (style.width - frame.left - frame.right) / 2) / style.width
        half = min(0.5, LETTER * em * len(row.cells[0][0].x_label) / style.width / 2)
        centre = min(max(centre, half), 1 - half)
        figure.text(centre, (bottom - frame.ticks + 0.4 * em) / whole, row.cells[0][0].x_label, ha="center", va="bottom")
    if row.together and not row.cells[0][0].strips and row.cells[0][0].heat is None:
        _draw_names(figure, row, made, frame, bottom, own, style)
    if frame.notes:
        low = top - frame.height(style) + 0.04
        figure.text(0.012, low / whole, "\n".join(frame.notes), fontsize=style.note, va="bottom", linespacing=1.3)


def _draw_lines(
    axes: Axes,
    panel: Panel,
    only: tuple[str, ...],
    own: Mapping[str, Look],
    names: Mapping[str, str],
    ranges: tuple[float, float],
    style: Style,
) -> None:
    if only:
        within.draw_behind(axes, panel)
        room = int(axes.bbox.height / axes.figure.dpi * 72 / (1.3 * style.note)) - 2
        same = [f"= {names[scheme]}" for scheme in only[1:]]
        same = same if len(same) <= room else [*same[: room - 1], f"and {len(same) - room + 1} more"]
        said = [*same, *(each.share for each in panel.lost if each.scheme == only[0])]
    else:
        said = [panel.corner]
    axes.text(0.98, 0.97, "\n".join(said), ha="right", va="top", transform=axes.transAxes, fontsize=style.note)
    for band in panel.bands:
        if not only or band.scheme == only[0]:
            within.draw_band(axes, panel, band, own[band.scheme], style)
    for line in reversed(panel.lines):  # the first on top: of lines that cover one another it is the one that is named
        if not only or line.scheme == only[0]:
            within.draw_line(axes, panel, line, own[line.scheme], ranges, style)


@dataclass
class _Name:
    """What stands beside the axes for one line, or for several that cover one another, the others in `same`."""

    line: Curve
    same: list[tuple[str, str]]
    reaches: bool
    height: float


def _draw_names(figure: Figure, row: Row, made: Sequence[Axes], frame: Frame, bottom: float, own: Mapping[str, Look], style: Style) -> None:
    """The names of the schemes with a piece of their line: at the height of its end at the right, or below the axes."""
    if style.labels == "below":
        whole, line_height = figure.get_figheight(), 1.5 * style.em
        for index, schemes in enumerate(in_lines(row, style)):
            left, middle = 0.15, bottom - frame.lost - frame.ticks - (index + 0.6) * line_height
            for scheme in schemes:
                _draw_name(figure, (left, middle), row.names[scheme], own[scheme], style, whole)
                left += 0.55 + LETTER * style.em * len(row.names[scheme])
        return
    beside = _names_beside(row, made)
    rows = [
        (each, index, f"{sign}{row.names[scheme]}")
        for each in beside
        for index, (sign, scheme) in enumerate([("", each.line.scheme), *each.same])
    ]
    heights = spread_apart([each.height - 1e-6 * index for each, index, _ in rows], 1.35 * style.em / frame.axes)
    right = style.width - frame.right
    whole = figure.get_figheight()
    for (each, index, text), height in zip(rows, heights, strict=True):
        middle = bottom + height * frame.axes
        if index == 0 and each.reaches and abs(height - each.height) * frame.axes > 0.05:
            ends = [(right / style.width, (bottom + each.height * frame.axes) / whole), ((right + 0.12) / style.width, middle / whole)]
            _line(figure, ends, color=GREY, linewidth=0.5)
        _draw_name(figure, (right + 0.14, middle), text, own[each.line.scheme] if index == 0 else None, style, whole)


def _names_beside(row: Row, made: Sequence[Axes]) -> list[_Name]:
    """One name for each line of the last axes, or of the ones before where it has none there; lines that cover one another share it."""
    found: dict[str, tuple[int, Curve]] = {}
    for column, (panel, _) in enumerate(row.cells):
        found |= {line.scheme: (column, line) for line in panel.lines if line.named}
    names: list[tuple[_Name, list[list[tuple[float, float]]]]] = []
    for scheme in named_in(row):
        column, line = found[scheme]
        axes, panel = made[column], row.cells[column][0]
        places = [
            within.pixels(made[at], each, other)
            for at, (other, _) in enumerate(row.cells)
            for each in other.lines
            if each.named and each.scheme == scheme
        ]
        twin = next(((name, others) for name, others in names if _cover(places, others, COVERED)), None)
        if twin is not None:
            twin[0].same.append(("= " if _cover(places, twin[1], EQUAL) else "≈ ", scheme))
            continue
        reaches, height = within.end_of(axes, line, panel)
        names.append((_Name(line, [], reaches and column == row.columns - 1, height), places))
    return [name for name, _ in names]


def _cover(places: list[list[tuple[float, float]]], others: list[list[tuple[float, float]]], most: float) -> bool:
    """Whether lines are nowhere apart by so many pixels, point by point."""
    if [len(line) for line in places] != [len(line) for line in others]:
        return False
    pairs = [pair for line, other in zip(places, others, strict=True) for pair in zip(line, other, strict=True)]
    return bool(pairs) and all(abs(x - u) < most and (abs(y - v) < most or (y != y and v != v)) for (x, y), (u, v) in pairs)


def _draw_name(figure: Figure, place: tuple[float, float], text: str, look: Look | None, style: Style, whole: float) -> None:
    left, middle = place
    if look is not None:
        ends = [(left / style.width, middle / whole), ((left + 0.28) / style.width, middle / whole)]
        _line(figure, ends, color=look.colour, linewidth=style.line, linestyle=within.DASHES[look.dash])
        centre = [((left + 0.14) / style.width, middle / whole)]
        _line(figure, centre, color=look.colour, marker=look.marker, markersize=1.9 * style.line, linestyle="none")
    figure.text((left + 0.33) / style.width, middle / whole, text, va="center_baseline", fontsize=style.text)


def _line(figure: Figure, places: Sequence[tuple[float, float]], **how: Any) -> None:
    """A line on the page itself, outside of all axes."""
    from matplotlib.lines import Line2D

    xs, ys = zip(*places, strict=True)
    figure.add_artist(Line2D(xs, ys, transform=figure.transFigure, **how))
