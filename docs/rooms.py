"""Draws docs/images/rooms.svg, the rooms of the package and which imports which: `python docs/rooms.py`, or `make docs`.

The rooms are those of the import contract in pyproject.toml, the arrows are read from the source. An arrow that a longer way
implies is left out: `cli` imports `errors` too.
"""

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from initbench.question import catalog

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "initbench"
PICTURE = ROOT / "docs" / "images" / "rooms.svg"

Arrow = tuple[str, str]
"""The room that imports, and the one that is imported."""

COLD, HOT, EDGE = "#dbe9f6", "#fde3c8", "#444444"
WIDTH, HEIGHT, ACROSS, UP = 1.5, 0.62, 1.9, 1.15
"""Of a room, and from the middle of one to the middle of the next."""
SWEEPS = 24
"""How often the floors are put in order by what they are connected with."""


@cache
def rooms() -> tuple[str, ...]:
    """The rooms, top to bottom."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"][0]
    return tuple(room.strip() for layer in contract["layers"] for room in layer.split("|"))


def files(room: str) -> tuple[Path, ...]:
    """The files of a room: a folder's, or the one of its name."""
    return tuple(sorted((PACKAGE / room).rglob("*.py"))) or (PACKAGE / f"{room}.py",)


def is_hot(room: str) -> bool:
    """Whether importing some file of the room imports torch."""
    return any("torch" in map(_root, _at_once(path)) for path in files(room))


@cache
def arrows() -> frozenset[Arrow]:
    """Every import of one room by another, those inside functions too."""
    return frozenset(
        (room, other) for room in rooms() for path in files(room) for other in _named(_imported(ast.walk(_tree(path)))) if other != room
    )


@cache
def below(room: str) -> frozenset[str]:
    """Every room that one needs, by whatever way."""
    needed = {other for importer, other in arrows() if importer == room}
    return frozenset(needed.union(*map(below, needed)))


def drawn_arrows() -> tuple[Arrow, ...]:
    """The arrows that no longer way implies."""
    return tuple(
        sorted(
            (room, other)
            for room, other in arrows()
            if not any(other in below(between) for importer, between in arrows() if importer == room)
        )
    )


@cache
def floor(room: str) -> int:
    """How many rooms the longest way down from here has."""
    return max((1 + floor(other) for other in below(room)), default=0)


def ids() -> set[str]:
    """The names of what the picture shows, as its elements bear them."""
    shown = {f"room-{room}-{'hot' if is_hot(room) else 'cold'}" for room in rooms()}
    return shown | {f"arrow-{room}-{other}" for room, other in drawn_arrows()}


def places() -> dict[tuple[str, str] | str, tuple[float, float]]:
    """Where the middle of each room is, and of each point (room, other, floor) that a long arrow passes."""
    chains = [_chain(arrow) for arrow in drawn_arrows()]
    nodes = list(dict.fromkeys([*rooms(), *(node for chain in chains for node in chain)]))
    level = {node: floor(node) if isinstance(node, str) else node[2] for node in nodes}
    beside = {node: {other for chain in chains for pair in pairwise(chain) if node in pair for other in pair} - {node} for node in nodes}
    floors = [[node for node in nodes if level[node] == number] for number in range(max(level.values()) + 1)]
    across = {node: index - (len(row) - 1) / 2 for row in floors for index, node in enumerate(row)}
    for sweep in range(SWEEPS):
        step = 1 if sweep % 2 else -1
        for row in floors[::-step]:
            wanted = {node: _mean([across[other] for other in beside[node]], across[node]) for node in row}
            row.sort(key=wanted.__getitem__)
            across |= {node: index - (len(row) - 1) / 2 for index, node in enumerate(row)}
    return {node: (ACROSS * across[node], UP * level[node]) for node in nodes}


def picture() -> Figure:
    """The rooms on their floors, what is imported below what imports it."""
    at = places()
    left, right = (pick(x for x, _ in at.values()) for pick in (min, max))
    top = max(y for _, y in at.values())
    figure = Figure(figsize=((right - left + 2) * 0.75, (top + 2) * 0.75))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left - 1, right + 1), ylim=(-0.6, top + 1.0))
    axes.set_axis_off()
    for room, other in drawn_arrows():
        points = [at[node] for node in _chain((room, other))]
        points[0], points[-1] = (points[0][0], points[0][1] - HEIGHT / 2), (points[-1][0], points[-1][1] + HEIGHT / 2)
        path = matplotlib.path.Path(*_curve(points))
        arrow = matplotlib.patches.FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=9, color=EDGE, linewidth=0.8, zorder=1)
        arrow.set_gid(f"arrow-{room}-{other}")
        axes.add_patch(arrow)
    for room in rooms():
        x, y = at[room]
        by_name = room in {kind.folder for kind in catalog.KINDS.values()}
        box = matplotlib.patches.FancyBboxPatch(
            (x - WIDTH / 2 + 0.08, y - HEIGHT / 2 + 0.08),
            WIDTH - 0.16,
            HEIGHT - 0.16,
            boxstyle="round,pad=0.08",
            facecolor=HOT if is_hot(room) else COLD,
            edgecolor=EDGE,
            linestyle="--" if by_name else "-",
            zorder=2,
        )
        box.set_gid(f"room-{room}-{'hot' if is_hot(room) else 'cold'}")
        axes.add_patch(box)
        axes.text(x, y, room, ha="center", va="center", fontsize=10, zorder=3)
    words = "blue: imported without torch    orange: needs torch    dashed: a file is a name, imported when it is asked for"
    axes.text((left + right) / 2, top + 0.75, words, ha="center", va="center", fontsize=9)
    return figure


def draw() -> None:
    """Writes the picture; the same rooms give the same bytes with the same matplotlib."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "rooms", "font.family": "sans-serif"}):
        FigureCanvasSVG(picture()).print_svg(PICTURE, metadata={"Date": None, "Creator": None})


def _chain(arrow: Arrow) -> list:
    """A room, a point on every floor that its arrow passes, the other room."""
    room, other = arrow
    return [room, *((room, other, number) for number in range(floor(room) - 1, floor(other), -1)), other]


def _curve(points: list[tuple[float, float]]) -> tuple[list[tuple[float, float]], list[int]]:
    """A line that leaves and meets every point upright."""
    vertices, codes = [points[0]], [matplotlib.path.Path.MOVETO]
    for (x, y), (to_x, to_y) in pairwise(points):
        vertices += [(x, (y + to_y) / 2), (to_x, (y + to_y) / 2), (to_x, to_y)]
        codes += [matplotlib.path.Path.CURVE4] * 3
    return vertices, codes


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


@cache
def _at_once(path: Path) -> frozenset[str]:
    """Every name that importing a file imports, by whatever way."""
    names = frozenset(_imported(_tree(path).body))
    return names.union(*(_at_once(other) for name in names if (other := _file(name)) not in (None, path)))


def _file(name: str) -> Path | None:
    """The file of the package that a full name is in."""
    parts = name.split(".")
    candidates = (ROOT.joinpath(*parts[:end]).with_suffix(".py") for end in (len(parts), len(parts) - 1))
    return next((path for path in candidates if path.is_file()), None) if parts[0] == PACKAGE.name else None


def _root(name: str) -> str:
    return name.partition(".")[0]


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imported(nodes: Iterator[ast.AST] | list[ast.stmt]) -> Iterator[str]:
    """The full names that import statements name; of `from a import b` it is `a.b`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _named(names: Iterator[str] | set[str]) -> set[str]:
    """The rooms among imported names."""
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "initbench" and part[1:2] and part[1] in rooms()}


if __name__ == "__main__":
    draw()
