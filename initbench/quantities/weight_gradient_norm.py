"""The Euclidean norm of the gradient by a layer's weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from initbench.quantities import LayerTensor, Quantity, Taken

if TYPE_CHECKING:
    from torch import Tensor


def norm(tensor: LayerTensor) -> Taken:
    """The norm of the summed loss's gradient, and the number of examples."""
    return (tensor.norm(tensor.values),), (tensor.images,)


def of_mean_loss(taken: Tensor, counts: Tensor) -> Tensor:
    """The norm of the mean loss's gradient."""
    return taken[0] / counts[0]


QUANTITIES = (
    Quantity(
        "weight_gradient_norm", "Euclidean norm of the mean loss's gradient by the weight", "weight_gradient", norm, of_mean_loss, place=9
    ),
)
