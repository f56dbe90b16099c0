"""Draws plots with matplotlib: PNG and SVG, the same bytes for the same data on the same versions.

The object-oriented interface on bare canvases, without pyplot, which would cost start-up time and touch global state.
"""

from __future__ import annotations

import gc
import io
import math
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from initbench.reporting.figures import Curve, Panel, Plot, Strip
from initbench.reporting.scales import error_scale, error_unscale, limits, power_of_ten, spread_apart, stretched, ticks_between
from initbench.results.provenance import cores, may_start_processes
from initbench.workers.forked import LostProcess, mapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe & Ito's palette, which colour-blind people can tell apart, without black and the yellow that white swallows."""
DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.5)), (0, (1.5, 1.2)))
"""Line styles of the first, second and third six schemes."""
MARKERS = ("o", "s", "^")

INK, GRID = "#333333", "#dddddd"
"""Text and axes, grid lines; the page replaces them by its own colours."""

FEW_PLOTS = 4
"""Below so many plots, starting a second process takes longer than it saves."""
COMPRESSION = 3
"""Of 9: a third of the time of matplotlib's own 6, for files a tenth larger."""
WIDTH, DPI = 8.0, 150
"""Inches, and pixels an inch in a PNG; shown at 800 pixels in a README."""

STYLE: dict[str, Any] = {
    "axes.facecolor": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titley": 1.0,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "path.simplify_threshold": 0.5,
}


def import_ahead() -> None:
    """Imports what drawing needs and has it find its fonts, while there is nothing else to do."""
    draw(Plot("ahead", "A plot", (Panel("", "step", "loss", (Curve(0, ((1.0, 0.1), (2.0, 1.0)), label="line"),)),)))


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


def draw(plot: Plot) -> dict[str, bytes]:
    """The files of one plot by their ending: `.png` and `.svg`."""
    mpl = library()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {**STYLE, "svg.hashsalt": plot.name}
    with mpl.rc_context(settings):
        heights = [_panel_height(panel) for panel in plot.panels]
        figure = Figure(figsize=(WIDTH, 0.45 + sum(heights)), dpi=DPI)
        figure.text(0.012, 1 - 0.09 / figure.get_figheight(), plot.title, fontsize=12, fontweight="bold", va="top")
        top = figure.get_figheight() - 0.45
        for panel, height in zip(plot.panels, heights, strict=True):
            _draw_panel(figure, panel, top, height)
            top -= height
        pixels, vector = io.BytesIO(), io.BytesIO()
        canvas: Any = FigureCanvasAgg(figure)
        canvas.print_png(pixels, metadata={"Software": None}, pil_kwargs={"compress_level": COMPRESSION})
        figure.patch.set_alpha(0)
        canvas = FigureCanvasSVG(figure)
        canvas.print_svg(vector, metadata={"Date": None, "Creator": None})
    return {".png": pixels.getvalue(), ".svg": vector.getvalue()}


def _panel_height(panel: Panel) -> float:
    return 1.0 + 0.36 * len(panel.strips) if panel.strips else 3.3 + 0.2 * bool(panel.title) + _note_lines(panel) * 0.17


def _note_lines(panel: Panel) -> int:
    return len(_wrapped(panel.note))


def _wrapped(text: str, width: int = 112) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width)


def _draw_panel(figure: Figure, panel: Panel, top: float, height: float) -> None:
    """Places a panel between `top` and `top - height` inches, with room for labels on both sides."""
    labels = [strip.label for strip in panel.strips] or [line.label for line in panel.lines if line.label]
    notes = [strip.note for strip in panel.strips]
    left = 0.35 + 0.078 * max((len(text) for text in labels), default=0) if panel.strips else 0.85
    right = 0.3 + 0.072 * max((len(text) for text in (notes or labels)), default=0)
    below, above = 0.55 + 0.17 * _note_lines(panel), 0.1 + 0.2 * bool(panel.title)
    whole = figure.get_figheight()
    axes = figure.add_axes((left / WIDTH, (top - height + below) / whole, (WIDTH - left - right) / WIDTH, (height - below - above) / whole))
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    if panel.note:
        figure.text(
            left / WIDTH, (top - height + 0.05) / whole, "\n".join(_wrapped(panel.note)), fontsize=8.5, va="bottom", linespacing=1.3
        )
    if panel.strips:
        _draw_strips(axes, panel)
    else:
        _draw_lines(axes, panel)


def _draw_lines(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import MaxNLocator

    low, high = limits(panel)
    _set_y_axis(axes, panel, low, high)
    xs = [x for line in panel.lines for x, _ in line.points]
    if xs:
        room = 0.02 * (max(xs) - min(xs)) or 0.5
        ends = (min(xs) - room, max(xs) + room)
        axes.set_xlim(ends[::-1] if panel.layers == "backward" else ends)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    if panel.ticks:
        axes.set_xticks([place for place, _ in panel.ticks], [text for _, text in panel.ticks])
    for band in panel.bands:
        x, bottom, top = zip(*band.points, strict=True)
        axes.fill_between(x, bottom, top, color=_colour(band.scheme), alpha=0.15, linewidth=0)
    for line in panel.lines:
        _draw_line(axes, panel, line, low, high)
    _draw_labels(axes, [line for line in panel.lines if line.label], panel)


def _set_y_axis(axes: Axes, panel: Panel, low: float, high: float) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    if panel.scale == "log":
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: power_of_ten(value))
        axes.yaxis.set_minor_formatter(NullFormatter())
        if high / low < 2e3 and low > 1e-4:
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    elif stretched(low, high, panel):
        axes.set_yscale("function", functions=(error_scale, error_unscale))
        ticks = ticks_between(low, high, 0.09, panel)
        axes.set_yticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
        axes.set_ylabel(f"{panel.y_label} (log scale of the error)")
    else:
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
    axes.set_ylim(low, high)


def _draw_line(axes: Axes, panel: Panel, line: Curve, low: float, high: float) -> None:
    ys = [math.nan if y is None or (panel.scale == "log" and y <= 0) else y for _, y in line.points]
    xs = [x for x, _ in line.points]
    colour, dashes = _colour(line.scheme), DASHES[line.scheme // len(COLOURS) % len(DASHES)]
    if line.weight == "seed":
        axes.plot(xs, ys, color=colour, linewidth=0.6, alpha=0.4)
        if panel.ticks:
            _mark_edges(axes, panel, line, low, high)
    elif line.weight == "theory":
        axes.plot(xs, ys, color=INK, linewidth=1, linestyle=(0, (2, 2)), zorder=4)
    else:
        marker = MARKERS[line.scheme // len(COLOURS) % len(MARKERS)] if panel.layers else None
        axes.plot(xs, ys, color=colour, linewidth=2, linestyle=dashes, marker=marker, markersize=3.5, solid_capstyle="round")
        _mark_edges(axes, panel, line, low, high)
    if line.broken and xs:
        axes.plot(xs[-1:], [min(max(ys[-1], low), high)], color=colour, marker="x", markersize=6, markeredgewidth=1.6, clip_on=False)


def _mark_edges(axes: Axes, panel: Panel, line: Curve, low: float, high: float) -> None:
    """Triangles at the edge for what a log axis cannot show: zero and underflow below, overflow above."""
    if panel.scale != "log":
        return
    for edge, marker, beyond in ((0.0, "v", lambda y: y is not None and y < low), (1.0, "^", lambda y: y is None or y > high)):
        xs = [x for x, y in line.points if beyond(y)]
        axes.plot(
            xs,
            [edge] * len(xs),
            marker,
            color=_colour(line.scheme),
            markersize=6,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            zorder=5,
        )


def _draw_labels(axes: Axes, lines: list[Curve], panel: Panel) -> None:
    """Writes each name at the right of its line's end, pushed apart so that none covers another."""
    import numpy as np

    height = axes.get_window_extent().height / DPI
    to_axes = axes.transAxes.inverted()
    ends = []
    for line in lines:
        shown = [(x, y) for x, y in line.points if y is not None and (panel.scale != "log" or y > 0)]
        lost_above = bool(line.points) and line.points[-1][1] is None
        x, y = shown[-1] if shown else (line.points[-1][0], math.nan)
        place = to_axes.transform(axes.transData.transform((x, y))) if shown else np.array([1.0, 0.0])
        if lost_above or (line.points and line.points[-1][1] == 0 and panel.scale == "log"):
            place = np.array([to_axes.transform(axes.transData.transform((line.points[-1][0], 1.0)))[0], 1.0 if lost_above else 0.0])
        ends.append((float(place[0]), min(max(float(place[1]), 0.0), 1.0)))
    heights = spread_apart([y for _, y in ends], 0.165 / height)
    for line, (x, y), label_y in zip(lines, ends, heights, strict=True):
        colour = _colour(line.scheme)
        axes.plot([x, 1.015], [y, label_y], color=colour, linewidth=0.6, alpha=0.6, transform=axes.transAxes, clip_on=False)
        axes.text(1.022, label_y, line.label, color=colour, va="center", transform=axes.transAxes, fontsize=9.5)


def _draw_strips(axes: Axes, panel: Panel) -> None:
    values = [value for strip in panel.strips for value in (*strip.values, strip.low, strip.high) if value is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if stretched(low, high, panel):
        axes.set_xscale("function", functions=(error_scale, error_unscale))
        axes.set_xlabel(f"{panel.x_label} (log scale of the error)")
        low, high = 1 - (1 - low) * 1.15, 1 - (1 - high) * 0.87
    else:
        room = 0.03 * (high - low) or 0.005
        low, high = low - room, high + room
    ticks = ticks_between(low, high, 0.5 / (axes.get_position().width * WIDTH), panel)
    axes.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
    axes.set_xlim(low, high)
    axes.set_yticks(range(len(panel.strips)), [strip.label for strip in panel.strips])
    axes.set_ylim(len(panel.strips) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    for row, strip in enumerate(panel.strips):
        _draw_strip(axes, strip, row)


def _draw_strip(axes: Axes, strip: Strip, row: int) -> None:
    colour = _colour(strip.scheme)
    xs = strip.values
    middle = (len(xs) - 1) / 2
    ys = [row + 0.32 * (index - middle) / max(1, len(xs)) for index in range(len(xs))]
    if strip.high is not None:
        left = axes.get_xlim()[0] if strip.low is None else strip.low
        axes.plot([left, strip.high], [row, row], color=colour, linewidth=6, alpha=0.3, solid_capstyle="butt")
    if strip.middle is not None:
        axes.plot([strip.middle] * 2, [row - 0.32, row + 0.32], color=colour, linewidth=2.4, solid_capstyle="butt")
    axes.plot(xs, ys, "o", color=colour, markersize=4.5, alpha=0.75, markeredgewidth=0, clip_on=False)
    axes.text(1.015, row, strip.note, transform=axes.get_yaxis_transform(), va="center", fontsize=9.5, color=colour)


def _colour(scheme: int) -> str:
    return COLOURS[scheme % len(COLOURS)]
