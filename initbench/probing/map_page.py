"""A trainability map on paper: colours are measured, lines are theory."""

from __future__ import annotations

import io
from itertools import pairwise
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

from initbench.errors import ConfigError
from initbench.probing.page import page
from initbench.reporting import tidy
from initbench.reporting.axes import INK
from initbench.reporting.draw import DPI, STYLE, WIDTH, library
from initbench.reporting.tables import Table
from initbench.results import store
from initbench.results.propagation import KEPT_DECADES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from initbench.probing.map_data import Axis, Map, Point

HEIGHT = 5.6
FARTHEST = 8.0
"""Powers of ten at which the colours end."""
LEVELS = (2.0, 5.0, 10.0, 20.0)
"""Depth scales that are drawn as contours."""
SPREADS = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Standard deviations between networks that are drawn as contours, in powers of ten."""
NEAR = 0.1
"""A gain so close to the edge that the grid shows is that edge."""
FINE = 41
"""Points along an axis of the theory."""
LINE, HALO = "#111111", "#fefefe"
"""Lines of theory and what surrounds them: they lie on the colours of the map, and so do not follow those of the page."""
VANISHING = 0.1
"""A length at the edge below this goes on to zero."""
LABELS = {
    "sigma_w": "sigma_w (gain of the weights)", "sigma_b": "sigma_b (standard deviation of the biases)", "gain": "gain (sigma_w)",
    "depth": "depth (hidden layers)", "width": "width (units a layer)",
}  # fmt: skip


def sentences(map_: Map) -> tuple[str, ...]:
    """What the map says, in words."""
    kept = [point for point in map_.points if point.decades is not None and abs(point.decades) <= KEPT_DECADES]
    lines = [
        f"{len(kept)} of {len(map_.points)} points keep the gradient within a factor of ten over the layers"
        f" ({map_.model}, {map_.activation})."
    ]
    sigma = next((axis for axis in (map_.x, map_.y) if axis.name in {"sigma_w", "gain"}), None)
    critical = _critical_gain(map_.activation)
    if sigma is not None and critical is not None:
        lines.append(f"Theory: without biases the edge between vanishing and exploding gradients is at {sigma.name} = {critical:.4g}.")
    if map_.trained:
        known = [point for point in map_.points if point.accuracy is not None]
        if known:
            best = max(known, key=lambda point: point.accuracy or 0.0)
            same = sum(point.accuracy == best.accuracy for point in known) - 1
            also = f", and the same at {same} other{'' if same == 1 else 's'}" if same else ""
            lines.insert(
                0,
                f"The best accuracy, {best.accuracy:.1%}, is at {map_.x.name} = {best.x:g}, {map_.y.name} = {best.y:g}{also};"
                f" {len(map_.points) - len(known)} points diverged or failed.",
            )
    return tuple(lines)


def _critical_gain(name: str) -> float | None:
    """The gain with chi_1 = 1 at the settled length, without biases; None where theory has no such activation."""
    import numpy as np

    from initbench.theory.activations import activation
    from initbench.theory.phase import phase_grid

    gains = np.linspace(0.4, 3.0, 261)
    try:
        phase, phi = phase_grid(name, gains, np.zeros_like(gains)), activation(name)
    except ConfigError:
        return None
    above = np.flatnonzero(phase.chi_1 > 1 + 1e-3)
    if not len(above) or not above[0]:
        return None
    # Where lengths vanish at the edge they do so ever more slowly, and the limit is exact.
    limit, seen = phi.moments(1e-12).slope_second ** -0.5, float(gains[above[0] - 1])
    return float(limit) if phase.q[above[0] - 1] < VANISHING and abs(limit - seen) < NEAR else seen


def write(folder: Path, map_: Map, config: str, command: str, provenance: dict[str, str], typed: str = "") -> None:
    """Writes map.csv, the picture, summary and page; `command` makes the map again, `typed` asked for it. Raises: StorageError."""
    name = f"map-{map_.x.name}-{map_.y.name}"
    picture = draw(map_, name)
    title = f"map of {map_.x.name} and {map_.y.name}: {map_.model}"
    notes = ("Colours are measured with the same noise at every point; lines are theory at infinite width",)
    store.write_derived(
        folder,
        {
            "config.yaml": config,
            "tables/map.csv": table(map_.points, map_.x.name, map_.y.name),
            "summary.md": f"# {title}\n\n" + "".join(f"- {line}\n" for line in map_.sentences),
            "report.html": page(
                title,
                map_.sentences,
                notes,
                {name: (title, picture[".svg"])},
                points=point_table(map_),
                provenance=provenance,
                asked=("config.yaml", config),
                question=f"At which {map_.x.name} and {map_.y.name} does {map_.model} {'train' if map_.trained else 'keep its gradient'}?",
                command=command,
                typed=typed,
            ),
        },
        {f"plots/{name}{ending}": content for ending, content in picture.items()},
    )


def table(points: tuple[Point, ...], x: str, y: str) -> str:
    """One point a row."""
    columns = (x, y, "gradient_decades", "correlation", "test_accuracy", "status")
    return tidy.write(columns, ((each.x, each.y, each.decades, each.correlation, each.accuracy, each.status) for each in points))


def point_table(map_: Map) -> Table:
    """One point a row, as people read it; the marked ones keep the gradient."""
    columns = [map_.x.name, map_.y.name, "gradient, powers of ten", "correlation"]
    columns += [f"{map_.split} accuracy", "status"] if map_.trained else []
    kept = [row for row, point in enumerate(map_.points) if point.decades is not None and abs(point.decades) <= KEPT_DECADES]
    title = f"{len(map_.points)} points; marked ones keep the gradient within a factor of ten"
    rows = tuple(_point_row(point)[: len(columns)] for point in map_.points)
    return Table(title, tuple(columns), rows, frozenset(range(5)), frozenset(kept))


def _point_row(point: Point) -> tuple[str, ...]:
    decades = "overflow or zero" if point.decades is None else f"{point.decades:.2f}"
    correlation = "" if point.correlation is None else f"{point.correlation:.3f}"
    accuracy = "" if point.accuracy is None else f"{point.accuracy:.1%}"
    return f"{point.x:g}", f"{point.y:g}", decades, correlation, accuracy, point.status


def draw(map_: Map, name: str) -> dict[str, bytes]:
    """The picture as `.png` and `.svg`."""
    mpl = library()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {**STYLE, "svg.hashsalt": name, "axes.grid": False}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI)
        signal = "Gradient at the first hidden layer over that at the last"
        what = f"{map_.split.capitalize()} accuracy after a short training" if map_.trained else signal
        figure.text(0.012, 0.985, what, fontsize=12, fontweight="bold", va="top")
        figure.text(0.012, 0.935, f"{map_.model}", fontsize=9, va="top")
        axes = figure.add_axes((0.09, 0.19, 0.76, 0.68))
        _paint(figure, axes, map_)
        said = _theory(axes, map_)
        figure.text(0.012, 0.012, said, fontsize=8.5, va="bottom", linespacing=1.3)
        pixels, vector = io.BytesIO(), io.BytesIO()
        canvas: Any = FigureCanvasAgg(figure)
        canvas.print_png(pixels, metadata={"Software": None})
        figure.patch.set_alpha(0)
        canvas = FigureCanvasSVG(figure)
        canvas.print_svg(vector, metadata={"Date": None, "Creator": None})
    return {".png": pixels.getvalue(), ".svg": vector.getvalue()}


def _paint(figure: Any, axes: Axes, map_: Map) -> None:
    import numpy as np

    shape = (len(map_.y.values), len(map_.x.values))
    raw = [point.accuracy if map_.trained else point.decades for point in map_.points]
    values = np.array([np.nan if value is None else value for value in raw], dtype=float).reshape(shape)
    colours, low, high = ("viridis", 0.0, 1.0) if map_.trained else ("RdBu_r", -FARTHEST, FARTHEST)
    axes.set_facecolor("#bbbbbb")
    mesh = axes.pcolormesh(_edges(map_.x), _edges(map_.y), np.clip(values, low, high), cmap=colours, vmin=low, vmax=high)
    mesh.set_rasterized(False)
    mesh.set_edgecolor("face")
    mesh.set_linewidth(0.3)
    for beyond, marker in ((values < low, "v"), (values > high, "^")):
        rows, columns = np.nonzero(beyond)
        axes.scatter(np.array(map_.x.values)[columns], np.array(map_.y.values)[rows], s=14, marker=marker, c=HALO, linewidths=0)
    bar = figure.colorbar(mesh, cax=figure.add_axes((0.87, 0.19, 0.022, 0.68)))
    bar.outline.set_visible(False)
    if map_.trained:
        bar.set_label(f"{map_.split} accuracy", color=INK)
    else:
        bar.set_label("powers of ten of the gradient's squared length", color=INK)
    for axis, setter, scale in ((map_.x, axes.set_xlabel, axes.set_xscale), (map_.y, axes.set_ylabel, axes.set_yscale)):
        setter(LABELS[axis.name])
        if axis.logarithmic:
            scale("log")
    _plain_ticks(axes, map_)


def _plain_ticks(axes: Axes, map_: Map) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter

    for axis, ticks in ((map_.x, axes.xaxis), (map_.y, axes.yaxis)):
        if axis.logarithmic:
            ticks.set_major_locator(FixedLocator(list(axis.values)))
            ticks.set_major_formatter(lambda value, _: f"{value:g}")
            ticks.set_minor_formatter(NullFormatter())


def _edges(axis: Axis) -> list[float]:
    """The borders of the cells around the points."""
    values = [log10(value) for value in axis.values] if axis.logarithmic else list(axis.values)
    middles = [(a + b) / 2 for a, b in pairwise(values)]
    ends = [values[0] - (middles[0] - values[0]), *middles, values[-1] + (values[-1] - middles[-1])]
    return [10**value for value in ends] if axis.logarithmic else ends


def _theory(axes: Axes, map_: Map) -> str:
    """Draws what theory says over the colours, and says what the lines are."""
    import numpy as np

    from initbench.theory.phase import TRAINS_TO, gradient_decades, phase_grid, straying

    names = (map_.x.name, map_.y.name)
    grey = "Grey: a number overflowed or is zero. " if any(_value(point, map_) is None for point in map_.points) else ""
    if map_.trained:
        grey = grey.replace("a number overflowed or is zero", "the run diverged")
    x, y = (_fine(axis) for axis in (map_.x, map_.y))
    grid = dict(zip(names, np.meshgrid(x, y), strict=True))
    sigma_w = grid.get("sigma_w", grid.get("gain", np.full_like(grid[names[0]], 2**0.5)))
    sigma_b = grid.get("sigma_b", np.zeros_like(sigma_w))
    depth = grid.get("depth", np.full_like(sigma_w, float(map_.depth)))
    width = grid.get("width", np.full_like(sigma_w, float(map_.width)))
    said = [grey] if grey else []
    if not map_.trained and any(abs(point.decades or 0.0) > FARTHEST for point in map_.points):
        said.append(f"Triangles: beyond {FARTHEST:g} powers of ten. ")
    try:
        phase = phase_grid(map_.activation, sigma_w, sigma_b)
        decades = gradient_decades(map_.activation, sigma_w, sigma_b, depth)
    except ConfigError:
        return "".join([*said, f"There is no theory for the activation {map_.activation}."])
    with np.errstate(all="ignore"):
        _contour(axes, x, y, decades, [-2.0, 2.0], linewidths=1, linestyles="dotted")
        said.append("Dotted: the gradient changes 100-fold, predicted. ")
        if set(names) == {"depth", "width"}:
            gain = float(sigma_w.flat[0])
            of_depth = straying(map_.activation, gain, max(3, int(depth.max())), map_.width)
            spread = np.interp(depth, np.arange(len(of_depth)) + 1, of_depth) * np.sqrt(map_.width / width)
            drawn = _contour(axes, x, y, spread, list(SPREADS), linewidths=0.9, linestyles="dashed")
            said.append(f"\nDashed: standard deviation between single networks, powers of ten, predicted; sigma_w = {gain:.3g}.")
        else:
            _contour(axes, x, y, phase.chi_1, [1.0], linewidths=2.2)
            said.append("Thick: critical line (chi_1 = 1).\n")
            if "depth" in names:
                drawn = None
                _contour(axes, x, y, depth / (TRAINS_TO * phase.xi_c), [1.0], linewidths=1.2, linestyles="dashed")
                said.append("Dashed: depth = 6 correlation lengths (xi_c), about as deep as networks can still be trained.")
            else:
                drawn = _contour(axes, x, y, phase.xi_c, list(LEVELS), linewidths=0.8, linestyles="dashed")
                said.append(f"Dashed: correlation length xi_c in layers (this network has {map_.depth}): over so many")
                said.append(", what tells two inputs apart shrinks e-fold.")
    if drawn is not None:
        for label in axes.clabel(drawn, fmt=lambda value: f"{value:g}", fontsize=8.5, colors=LINE):
            label.set_path_effects(_halo())
    return "".join(said)


def _contour(axes: Axes, x: Any, y: Any, values: Any, levels: list[float], **style: Any) -> Any:
    """Contours at those levels that occur; None where none does."""
    inside = [level for level in levels if values.min() < level < values.max()]
    drawn = axes.contour(x, y, values, levels=inside, colors=LINE, **style) if inside else None
    if drawn is not None:
        drawn.set_path_effects(_halo())
    return drawn


def _halo() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3.0, foreground=HALO)]


def _value(point: Point, map_: Map) -> float | None:
    return point.accuracy if map_.trained else point.decades


def _fine(axis: Axis) -> Any:
    import numpy as np

    low, high = axis.values[0], axis.values[-1]
    return np.geomspace(low, high, FINE) if axis.logarithmic else np.linspace(low, high, FINE)
