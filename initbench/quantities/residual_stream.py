"""The residual stream behind a block: the sum of its branch and its skip path, kept with the last layer of the branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from initbench.quantities import LayerTensor, Quantity, Taken
from initbench.quantities.moments import sums, variance

if TYPE_CHECKING:
    from torch import Tensor


def extent(tensor: LayerTensor) -> Taken:
    """The sum, which shows whether it is there, and how many values there are of how many examples."""
    total, _, count = tensor.sums()
    return (0 * total,), (count, tensor.images)


def size(taken: Tensor, counts: Tensor) -> Tensor:
    """The values that belong to one example."""
    return taken[0] + counts[0] / counts[1]


STREAM = (
    "of the last layer of a residual branch: variance of the residual stream behind it (branch and skip path added), of the gradient of the"
    " summed per-example loss by that stream, and how many values of it belong to one input; empty for other layers"
)

QUANTITIES = (
    Quantity("stream_variance", STREAM, "stream", sums, variance, title="stream variance", heading="stream", always=False, optional=True),
    Quantity(
        "stream_gradient_variance",
        STREAM,
        "stream_gradient",
        sums,
        variance,
        title="stream gradient",
        heading="stream gradient",
        always=False,
        backward=True,
        optional=True,
    ),
    Quantity("stream_size", STREAM, "stream", extent, size, optional=True),
)
