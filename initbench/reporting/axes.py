"""What is drawn within one pair of axes: lines, bands, dots, marks at the edges; where the axes stand is `draw`'s affair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from initbench.reporting.looks import Look
from initbench.reporting.panels import LONGEST_NAME, LONGEST_TICK, Band, Curve, Heat, Lost, Panel, Points, Strip, short_names
from initbench.reporting.scales import error_scale, error_unscale, head_beyond, log_ticks, power_of_ten, stretched, ticks_between

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GRID, PAPER, GREY = "#333333", "#dddddd", "#fcfcfc", "#999999"
"""Text and axes, grid lines, the inside of hollow marks, what is behind; the page replaces the first three by its own colours."""
HEAD_GAP = 0.6
"""How far the head stands from the layer before it, beyond one layer."""
DASHES = {"solid": "solid", "dashed": (0, (5, 1.5)), "dotted": (0, (1.2, 1.2)), "dash-dotted": (0, (6, 1.5, 1.2, 1.5))}
"""The dashes of looks for matplotlib, in widths of the line."""
LEAST_TICK = 4
"""Letters that are left of a head's name at the x axis."""
TILT = 40
"""Degrees, of names that do not fit side by side."""
MARKED_LAYERS = 40
"""Of more points on a line not each has a marker, and the range of the seeds is shaded."""


COLOURS, DARK = "cividis", 0.55
"""Of heat maps: colours that colour-blind people see as the others do, and the share below which ink is white on them."""
THEORY = "#D55E00"
"""Of lines of theory over heat maps."""
MARKED_EDGES = 12
"""So many triangles at most stand at an edge for a line."""


@dataclass(frozen=True)
class Style:
    """How a picture is printed: widths and heights in inches, type and lines in points.

    `labels`: where the names of the schemes stand. `title` 0: there is none, as a caption says it.
    """

    width: float
    height: float
    text: float
    note: float
    title: float
    line: float
    labels: Literal["beside", "below"]

    @property
    def em(self) -> float:
        """The size of the type in inches."""
        return self.text / 72


@dataclass(frozen=True)
class Ticks:
    """Labels at the x axis: places, as they are drawn, and texts; none where numbers are left to matplotlib."""

    places: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()
    tilted: bool = False


def set_axes(axes: Axes, panel: Panel, limits: tuple[float, float], ticks: Ticks, style: Style) -> None:
    """Scales, ranges and ticks of axes with lines."""
    from matplotlib.ticker import MaxNLocator

    _set_y_axis(axes, panel, *limits, style)
    ends = _ends(panel)
    axes.set_xlim(ends[::-1] if panel.layers == "backward" else ends)
    wide = axes.get_position().width * style.width
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=max(2, min(12, int(wide / (5 * style.em))))))
    if ticks.places or panel.layers:
        axes.set_xticks(ticks.places, ticks.texts)
    if ticks.tilted:
        axes.tick_params(axis="x", rotation=TILT)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")


def _ends(panel: Panel) -> tuple[float, float]:
    """The least and the greatest of the x axis, with some room: all points, values with a label, and the steps at which runs diverged."""
    xs = [_place(x, panel) for line in panel.lines for x, _ in line.points]
    xs += [float(step) for lost in panel.lost for step in lost.steps]
    xs += [] if panel.layers else [place for place, _ in panel.ticks]
    low, high = (min(xs), max(xs)) if xs else (0.0, 1.0)
    room = 0.02 * (high - low) or 0.5
    return low - room, high + room


def x_ticks(panel: Panel, inches: float, between: float, style: Style) -> Ticks:
    """What stands at an x axis of so many inches, the next one `between` further: names side by side, tilted where that is too long.

    Where neither fits, layers are numbers, but for a head that stands apart, and of other names some are left out.
    """
    letter = 0.6 * style.note / 72
    low, high = _ends(panel)

    def at(place: float) -> float:
        return (_place(place, panel) - low) / (high - low) * inches

    def apart(ticks: Sequence[tuple[float, str]]) -> bool:
        after = [*ticks[1:], *ticks[:1]]
        room = [at(right) - at(left) for (left, _), (right, _) in pairwise(ticks)]
        room.append(inches - at(ticks[-1][0]) + between + at(ticks[0][0]))
        return all(((len(a) + len(b)) / 2 + 1) * letter <= gap for (_, a), (_, b), gap in zip(ticks, after, room, strict=True))

    def made(ticks: Sequence[tuple[float, str]], *, tilted: bool = False) -> Ticks:
        return Ticks(tuple(_place(place, panel) for place, _ in ticks), tuple(text for _, text in ticks), tilted)

    names = sorted(panel.ticks)
    if panel.layers:
        names = [(place, panel.head_name() if place == panel.head else name) for place, name in names]
    elif names:
        short = short_names([text for _, text in names], LONGEST_TICK)
        names = [(place, short[text]) for place, text in names]
    if names and max(len(name) for _, name in names) <= LONGEST_TICK:
        if apart(names):
            return made(names)
        closest = min((at(right) - at(left) for (left, _), (right, _) in pairwise(names)), default=inches)
        if closest * math.sin(math.radians(TILT)) >= 1.1 * style.note / 72:
            return made(names, tilted=True)
    if not panel.layers:
        return next((made(names[::step]) for step in range(2, len(names)) if apart(names[::step])), Ticks())
    heads = (
        [(panel.head, panel.head_name(max(LEAST_TICK, min(LONGEST_TICK, int(2 * between / letter) - 3))))] if panel.head is not None else []
    )
    places = sorted({x for line in panel.lines for x, _ in line.points if x != panel.head})
    step = max(1, math.ceil(2.5 * style.em / inches * (high - low)))
    numbers = [(place, f"{place:g}") for place in places[::step]]
    return made([*(tick for tick in numbers if not heads or apart([tick, *heads])), *heads])


def _place(x: float, panel: Panel) -> float:
    return x + HEAD_GAP if x == panel.head else x


def _set_y_axis(axes: Axes, panel: Panel, low: float, high: float, style: Style) -> None:
    from matplotlib.ticker import NullFormatter

    if panel.scale == "log":
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
        tall = axes.bbox.height / axes.figure.dpi
        if ticks := log_ticks(low, high, int(tall / (1.7 * style.note / 72))):
            axes.set_yticks(*zip(*ticks, strict=True))
        else:
            axes.yaxis.set_major_formatter(lambda value, _: power_of_ten(value))
    elif stretched(low, high, panel):
        axes.set_yscale("function", functions=(error_scale, error_unscale))
        shares = ticks_between(low, high, 0.09, panel)
        axes.set_yticks(shares, [f"{100 * tick:g} %" for tick in shares])
        axes.set_ylabel(f"{panel.y_label} (log scale of the error)")
    elif panel.scale != "number":
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
    axes.set_ylim(low, high)


def draw_band(axes: Axes, panel: Panel, band: Band, look: Look, style: Style) -> None:
    """The range of a prediction or of the seeds: shaded, of the seeds with edges that have the dash, or at a few layers a bar each."""
    points = band.points
    if band.of == "bars" or (band.of == "seeds" and panel.layers and len(points) <= MARKED_LAYERS):
        x, low, high = zip(*points, strict=True)
        axes.vlines([_place(each, panel) for each in x], low, high, color=look.colour, linewidth=1, alpha=0.6)
        return
    main = [point for point in points if point[0] != panel.head]
    if main:
        x, low, high = zip(*main, strict=True)
        if band.of == "steps":
            axes.fill_between(x, low, high, color=look.colour, alpha=0.15, linewidth=0, step="mid")
            return
        axes.fill_between(x, low, high, color=look.colour, alpha=0.15, linewidth=0)
        for edge in (low, high) if band.of == "seeds" else ():
            axes.plot(x, edge, color=look.colour, linewidth=0.3 * style.line, linestyle=DASHES[look.dash], alpha=0.4)
    for x_head, low_head, high_head in points[len(main) :] if len(main) < len(points) else ():
        place = _place(x_head, panel)
        axes.fill_between([place - 0.2, place + 0.2], low_head, high_head, color=look.colour, alpha=0.15, linewidth=0)


def draw_line(axes: Axes, panel: Panel, line: Curve, look: Look, limits: tuple[float, float], style: Style) -> None:
    """A line, in two parts where the head stands apart, and the marks for what is beyond the range."""
    xs = [_place(x, panel) for x, _ in line.points]
    ys = _drawn(line.points, panel)
    if line.weight == "seed":
        axes.plot(xs, ys, color=look.colour, linewidth=0.3 * style.line, linestyle=DASHES[look.dash], alpha=0.4)
        if panel.ticks:
            _mark_edges(axes, panel, line, look, limits, style)
        if line.broken and xs:
            end = next((y for y in reversed(ys) if math.isfinite(y)), limits[0])
            place = min(max(end, limits[0]), limits[1])
            axes.plot(
                xs[-1:], [place], color=look.colour, marker="x", markersize=3 * style.line, markeredgewidth=0.8 * style.line, clip_on=False
            )
        return
    if line.weight == "steps":
        axes.step(xs, ys, where="mid", color=look.colour, linewidth=style.line, solid_capstyle="round")
        return
    body = [index for index, (x, _) in enumerate(line.points) if x != panel.head]
    parts = (body, [index for index in range(len(xs)) if index not in set(body)])
    for part in parts:
        x, y = [xs[index] for index in part], [ys[index] for index in part]
        if line.weight == "theory":
            alone: dict[str, Any] = {"marker": "_", "markersize": 5 * style.line} if len(part) == 1 else {}
            axes.plot(x, y, color=INK, linewidth=0.5 * style.line, linestyle=(0, (2, 2)), zorder=4, **alone)
        elif part:
            marker = look.marker if panel.layers or panel.ticks else None
            every = -(-len(part) // MARKED_LAYERS)
            axes.plot(
                *(x, y), color=look.colour, linewidth=style.line, linestyle=DASHES[look.dash], solid_capstyle="round",
                marker=marker, markevery=every, markersize=1.9 * style.line,
            )  # fmt: skip
        hollow = [index for index in part if line.points[index][0] in line.hollow]
        if hollow:
            axes.plot(
                *([each[index] for index in hollow] for each in (xs, ys)), look.marker, color=look.colour, markerfacecolor=PAPER,
                markersize=1.9 * style.line, markeredgewidth=0.5 * style.line,
            )  # fmt: skip
    if line.weight == "middle":
        _mark_edges(axes, panel, line, look, limits, style)


def _drawn(points: Points, panel: Panel) -> list[float]:
    return [math.nan if y is None or (panel.scale == "log" and y <= 0) else y for _, y in points]


def _mark_edges(axes: Axes, panel: Panel, line: Curve, look: Look, limits: tuple[float, float], style: Style) -> None:
    """Triangles at the edge for what a log axis cannot show: zero and underflow below, overflow above."""
    if panel.scale != "log":
        return
    low, high = limits
    for edge, marker, beyond in ((0.0, "v", lambda y: y is not None and y < low), (1.0, "^", lambda y: y is None or y > high)):
        xs = [_place(x, panel) for x, y in line.points if beyond(y)]
        xs = xs[:: -(-len(xs) // MARKED_EDGES) or 1]
        place = axes.get_xaxis_transform()
        axes.plot(xs, [edge] * len(xs), marker, color=look.colour, markersize=3.2 * style.line, transform=place, clip_on=False, zorder=5)


def draw_head_value(axes: Axes, panel: Panel, limits: tuple[float, float], style: Style) -> None:
    """The value of a head that leaves the range, beside its mark at the edge and below what stands in the corner."""
    text = head_beyond(panel, *limits)
    if text and panel.head is not None:
        left = panel.layers == "backward"
        axes.annotate(
            text, (_place(panel.head, panel), 0.97), (0.4 * style.note * (1 if left else -1), -1.3 * style.note),
            xycoords=axes.get_xaxis_transform(), textcoords="offset points", ha="left" if left else "right", va="top", fontsize=style.note,
        )  # fmt: skip


def end_of(axes: Axes, line: Curve, panel: Panel) -> tuple[bool, float]:
    """Whether the line comes to the end of the axes, and how high it is there, from 0 to 1."""
    shown = [(x, y) for x, y in line.points if y is not None and (panel.scale != "log" or y > 0)]
    last_x, last_y = line.points[-1]
    if last_y is None or (last_y <= 0 and panel.scale == "log"):
        height = 1.0 if last_y is None else 0.0
    elif shown:
        height = float(axes.transAxes.inverted().transform(axes.transData.transform(shown[-1]))[1])
    else:
        height = 0.0
    across = float(axes.transAxes.inverted().transform((axes.transData.transform((_place(last_x, panel), 1.0))[0], 0.0))[0])
    return across > 0.9, min(max(height, 0.0), 1.0)


def pixels(axes: Axes, line: Curve, panel: Panel) -> list[tuple[float, float]]:
    """Where the points of a line are, in pixels; by it is seen which lines cover one another."""
    import numpy as np

    ys = _drawn(line.points, panel)
    places = axes.transData.transform(np.array([(_place(x, panel), y) for (x, _), y in zip(line.points, ys, strict=True)]))
    return [(float(x), float(y)) for x, y in places]


def draw_lost(axes: Axes, lost: Sequence[Lost], looks: Mapping[str, Look], names: Mapping[str, str], style: Style) -> None:
    """A row for each scheme of which runs diverged: a mark at the step of each, and how many in words."""
    axes.set_ylim(len(lost) - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="x", length=0, labelbottom=False)
    for row, each in enumerate(lost):
        steps = each.steps
        axes.axhspan(row - 0.42, row + 0.42, color=GREY, alpha=0.12, linewidth=0)
        colour = looks[each.scheme].colour
        axes.plot(
            steps, [row] * len(steps), "x", color=colour, markersize=2.6 * style.line, markeredgewidth=0.8 * style.line, clip_on=False
        )
        low, high = axes.get_xlim()
        right = not steps or high - max(steps) >= min(steps) - low
        place: dict[str, Any] = {"x": 0.99 if right else 0.01, "ha": "right" if right else "left"}
        behind = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
        axes.text(
            y=row,
            s=f"{names[each.scheme]}: {each.words}",
            va="center",
            transform=axes.get_yaxis_transform(),
            fontsize=style.note,
            bbox=behind,
            **place,
        )


def beside_strips(panel: Panel, names: Mapping[str, str], style: Style) -> tuple[float, float]:
    """The inches that names and notes take beside rows of dots; zero where they leave these too little, and stand above each row."""
    letter = 0.58 * style.note / 72
    left = 0.25 + letter * max(len(names[strip.scheme]) for strip in panel.strips)
    right = 0.22 + 0.92 * letter * max(len(strip.note) for strip in panel.strips)
    return (left, right) if style.labels == "beside" and left + right < 0.65 * style.width else (0.0, 0.0)


def draw_strips(axes: Axes, panel: Panel, looks: Mapping[str, Look], names: Mapping[str, str], style: Style) -> None:
    """A row of dots a scheme."""
    values = [value for strip in panel.strips for value in (*strip.values, strip.low, strip.high) if value is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if stretched(low, high, panel):
        axes.set_xscale("function", functions=(error_scale, error_unscale))
        axes.set_xlabel(f"{panel.x_label} (log scale of the error)")
        low, high = 1 - (1 - low) * 1.15, 1 - (1 - high) * 0.87
    else:
        room = 0.03 * (high - low) or 0.005
        low, high = low - room, high + room
    ticks = ticks_between(low, high, 5 * style.em / (axes.get_position().width * style.width), panel)
    axes.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
    axes.set_xlim(low, high)
    beside = bool(beside_strips(panel, names, style)[0])
    room = int(axes.get_position().width * style.width * 72 / (0.56 * style.note))
    if not beside:
        left = room - 2 - max(len(strip.note) for strip in panel.strips)
        names = short_names(list(names), min(LONGEST_NAME, max(LONGEST_NAME // 2, left)))
    axes.set_yticks(range(len(panel.strips)), [names[strip.scheme] if beside else "" for strip in panel.strips])
    axes.set_ylim(len(panel.strips) - 0.5, -0.5 if beside else -0.9)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    for row, strip in enumerate(panel.strips):
        _draw_strip(axes, strip, row, looks[strip.scheme], style)
        if beside:
            axes.text(1.015, row, strip.note, transform=axes.get_yaxis_transform(), va="center", fontsize=style.note)
        else:
            words = names[strip.scheme] + f"  {strip.note}" * bool(strip.note)
            words = words if len(words) <= room else f"{words[: room - 1]}…"
            behind = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6}
            axes.text(0.01, row - 0.42, words, transform=axes.get_yaxis_transform(), va="center", fontsize=style.note, bbox=behind)


def _draw_strip(axes: Axes, strip: Strip, row: int, look: Look, style: Style) -> None:
    xs = strip.values
    middle = (len(xs) - 1) / 2
    ys = [row + 0.32 * (index - middle) / max(1, len(xs)) for index in range(len(xs))]
    if strip.high is not None:
        left = axes.get_xlim()[0] if strip.low is None else strip.low
        axes.plot([left, strip.high], [row, row], color=look.colour, linewidth=3 * style.line, alpha=0.3, solid_capstyle="butt")
    if strip.middle is not None:
        axes.plot([strip.middle] * 2, [row - 0.32, row + 0.32], color=look.colour, linewidth=1.2 * style.line, solid_capstyle="butt")
    axes.plot(xs, ys, look.marker, color=look.colour, markersize=2.2 * style.line, alpha=0.75, markeredgewidth=0, clip_on=False)


def draw_heat(axes: Axes, heat: Heat, style: Style) -> None:
    """Colours, each with its number in percent where there is room; without one a cross (diverged), a bar (failed, skipped) or nothing."""
    import numpy as np

    values = np.array([[math.nan if value is None else value for value in row] for row in heat.values], dtype=float)
    mesh = axes.pcolormesh(values, cmap=COLOURS, vmin=0, vmax=1, edgecolors="white", linewidth=0.5)
    mesh.set_rasterized(False)
    axes.grid(visible=False)
    room = axes.get_position().width * style.width / len(heat.x)
    for y, row in enumerate(heat.values):
        for x, value in enumerate(row):
            text = heat.marks[y][x] if value is None else f"{100 * value:.0f}" if room > 2.2 * style.note / 72 else ""
            colour = INK if value is None or value > DARK else "white"
            axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=style.note, color=colour)
    for line in heat.contours:
        level = np.array(line.values)
        if level.min() < 1 < level.max():
            columns, lines = ([place + 0.5 for place in places] for places in (line.x, line.y))
            axes.contour(
                columns, lines, level, levels=[1.0], colors=THEORY, linewidths=style.line, linestyles="dashed" if line.dashed else "solid"
            )
    for axis, labels in ((axes.xaxis, heat.x), (axes.yaxis, heat.y)):
        longest = max(map(len, labels)) + 1
        inches = room if axis is axes.xaxis else 1.0
        every = max(1, math.ceil(longest * 0.6 * style.note / 72 / inches))
        axis.set_ticks([place + 0.5 for place in range(0, len(labels), every)], labels[::every])
        axis.set_tick_params(length=0)


def draw_behind(axes: Axes, panel: Panel) -> None:
    """The range of the lines of all schemes that do not always diverge, in grey, behind the one that is shown."""
    at: dict[float, list[float]] = {}
    for line in panel.lines:
        if line.weight == "middle" and line.scheme not in panel.gone:
            for (x, _), y in zip(line.points, _drawn(line.points, panel), strict=True):
                if math.isfinite(y) and x != panel.head:
                    at.setdefault(x, []).append(y)
    if at:
        xs = sorted(at)
        axes.fill_between(xs, [min(at[x]) for x in xs], [max(at[x]) for x in xs], color=GREY, alpha=0.18, linewidth=0)
