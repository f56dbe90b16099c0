"""A trainability map as data: its axes, and what was found at each point."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from initbench.metrics import Split
from initbench.question.config import Ref

SPACED = ("depth", "width")
"""Axes of whole numbers, whose points are spaced by equal factors and need a model each."""


@dataclass(frozen=True)
class Axis:
    """One axis of a map and the points on it."""

    name: str
    values: tuple[float, ...]

    @property
    def logarithmic(self) -> bool:
        """Whether the points are spaced by equal factors."""
        return self.name in SPACED


@dataclass(frozen=True)
class Point:
    """What was found at one point: `decades` of the gradient from last to first layer, and when trained the accuracy."""

    x: float
    y: float
    decades: float | None
    correlation: float | None
    accuracy: float | None = None
    status: str = ""


@dataclass(frozen=True)
class Map:
    """A finished map. `points` go along x first; `split` are the images that accuracies are of."""

    x: Axis
    y: Axis
    model: Ref
    activation: str
    depth: int
    width: int
    trained: bool
    points: tuple[Point, ...]
    split: Split = "test"
    sentences: tuple[str, ...] = ()
    folder: Path | None = None

    def document(self) -> dict[str, Any]:
        """The map as one JSON document."""
        points = [vars(point) for point in self.points]
        return {"folder": str(self.folder), "axes": [self.x.name, self.y.name], "sentences": list(self.sentences), "points": points}
