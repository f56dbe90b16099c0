"""What is measured of a weight layer: each file here declares some quantities, and how they are computed.

The record of a layer, its columns in layers.csv, the medians over seeds, the tables, the plots and docs/results.md follow from the
declarations; nothing else names a quantity unless it decides something by it. A file holds a tuple `QUANTITIES`; it is read
without torch, so that a file that computes with more than the methods of tensors imports torch within its functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor, dtype

Source = Literal["pre_activation", "activation", "gradient", "stream", "stream_gradient", "weight", "weight_gradient", "update"]
"""A tensor of a layer: its own output, what the activation after it gives, the gradient of the summed loss by its output; of the last
layer of a residual branch the sum of branch and skip path, and the gradient by that; its weight, the gradient of the summed loss by
it, and the weight after an update (`LayerTensor.before` is the one before)."""


class LayerTensor(Protocol):
    """One tensor of a layer at the moment it is there.

    `unit_dim` is the dimension of the neurons or channels, `function` the activation that gave the values (None where there
    is none or it is not known), `before` the weight before an update, `images` the size of the probe batch, `wide` the type
    that sums run in.
    """

    values: Tensor
    wide: dtype
    unit_dim: int
    function: Callable[[Tensor], Tensor] | None
    before: Tensor | None
    images: int

    def sums(self) -> tuple[Tensor, Tensor, int]:
        """The sum of all values, their Euclidean norm, and their number; computed once."""

    def norm(self, values: Tensor) -> Tensor:
        """The Euclidean norm of a tensor, at any magnitude."""

    def signs(self) -> Tensor:
        """1 where a value is not zero, else 0; to be used at once."""


Taken = tuple[tuple["Tensor", ...], tuple[int, ...]]
"""What is kept of a tensor: numbers on its device (or one vector, as long for each layer), and counts that the host knows."""


@dataclass(frozen=True)
class Figure:
    """A plot of a quantity through the layers: its file's name, its title, what stands at the axis, what a reader must know."""

    name: str
    title: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Quantity:
    """One number of a layer, the column `name` of layers.csv; `meaning` completes the row of its name in docs/results.md.

    How it is computed: `take` gives what is kept of the tensor `of` (None: nothing is, the layer has no such number), `compute`
    the number of all layers at once from what was kept, (numbers, layers) and (counts, layers), or several, of which this is the
    `row`; quantities share what is the same. Those with neither come from passes of their own, which only `initbench probe` makes.

    How it is shown: `title` is its column in the layer tables of a comparison, `heading` that of a probe (`always`: also where
    there are 80 columns), `spread` the quantities that are its lowest and highest value, `stream` the quantity that is the same of a
    residual stream. `backward`: it goes from the output to the input. `hidden`: plots leave out the head. `optional`: layers
    without it are in order, and columns without any number are left out. Columns come by `place`; those without one last, by name.
    """

    name: str
    meaning: str
    of: Source | None = None
    take: Callable[[LayerTensor], Taken | None] | None = None
    compute: Callable[[Tensor, Tensor], Tensor] | None = None
    row: int | None = None
    place: int | None = None
    unit: Literal["number", "share", "cosine"] = "number"
    title: str | None = None
    heading: str | None = None
    always: bool = True
    spread: tuple[str, str] | None = None
    stream: str | None = None
    backward: bool = False
    hidden: bool = False
    optional: bool = False
    comparison_plot: Figure | None = None
    probe_plot: Figure | None = None


def _declared() -> tuple[Quantity, ...]:
    files = (import_module(f"{__name__}.{file.name}") for file in iter_modules(__path__))
    every = [quantity for file in files for quantity in file.QUANTITIES]
    return tuple(sorted(every, key=lambda quantity: (quantity.place is None, quantity.place or 0, quantity.name)))


QUANTITIES: tuple[Quantity, ...] = _declared()
"""All quantities, in the order of their columns."""
BY_NAME = {quantity.name: quantity for quantity in QUANTITIES}
OF_EVERY_RUN = tuple(quantity for quantity in QUANTITIES if quantity.of is not None)
"""Those that are measured while training, too."""
OF_PROBES = tuple(quantity for quantity in QUANTITIES if quantity.of is None)
"""Those that `initbench probe` alone measures."""


LAST = ("place", "overflowed", "not_measured")
"""The columns of a table of layers that say how to read the others."""


def columns_in_order(names: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of a table of layers: what is always there, then the quantities that came later, which have no place, then words."""
    return tuple(sorted(names, key=lambda name: (name in LAST, name in BY_NAME and BY_NAME[name].place is None)))


def documented() -> str:
    """The rows of docs/results.md: a line for all quantities of one meaning."""
    rows: dict[str, list[str]] = {}
    for quantity in QUANTITIES:
        rows.setdefault(quantity.meaning, []).append(f"`{quantity.name}`")
    return "".join(f"| {', '.join(names)} | {meaning} |\n" for meaning, names in rows.items())
