"""How far an optimizer step moves a weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from initbench.quantities import LayerTensor, Quantity, Taken

if TYPE_CHECKING:
    from torch import Tensor


def change(tensor: LayerTensor) -> Taken | None:
    """The norm of the change, and that of the weight before; uses up the copy of it."""
    before = tensor.before
    if before is None:
        return None
    size = tensor.norm(before)
    return (tensor.norm(before.sub_(tensor.values)), size), ()


def ratio(taken: Tensor, _: Tensor) -> Tensor:
    """The change over the size before."""
    return taken[0] / taken[1]


QUANTITIES = (
    Quantity(
        "update_ratio",
        "norm of the next optimizer step over norm of the weight; empty at the last step",
        "update",
        change,
        ratio,
        place=10,
    ),
)
