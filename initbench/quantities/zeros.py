"""How many activations and how many units are zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

from initbench.quantities import Figure, LayerTensor, Quantity, Taken

if TYPE_CHECKING:
    from torch import Tensor


def living(tensor: LayerTensor) -> Taken:
    """The values that are not exactly zero and the units that are zero throughout, of how many values and units."""
    import torch

    values = tensor.values
    unit_dim = tensor.unit_dim % max(1, values.dim())
    others = [dim for dim in range(values.dim()) if dim != unit_dim]
    signs = tensor.signs()
    of_units = signs.sum(others, dtype=torch.float32) if others else signs.to(torch.float32)
    return (of_units.sum(dtype=tensor.wide), of_units.eq(0).sum(dtype=tensor.wide)), (values.numel(), of_units.numel())


def zero_fraction(taken: Tensor, counts: Tensor) -> Tensor:
    """The share of values that are zero."""
    return 1 - taken[0] / counts[0]


def dead_fraction(taken: Tensor, counts: Tensor) -> Tensor:
    """The share of units that are zero throughout."""
    return taken[1] / counts[1]


QUANTITIES = (
    Quantity(
        "zero_fraction",
        "share of activations that are exactly zero",
        "activation",
        living,
        zero_fraction,
        place=5,
        unit="share",
        title="zeros",
        heading="zeros",
        always=False,
    ),
    Quantity(
        "dead_fraction",
        "share of units (neurons, channels) whose activation is zero on the whole probe batch, at every position",
        "activation",
        living,
        dead_fraction,
        place=6,
        unit="share",
        title="dead units",
        heading="dead",
        hidden=True,
        comparison_plot=Figure("dead_units", "Units that are zero on the whole probe batch", "dead units"),
        probe_plot=Figure("dead_units", "Units that are zero on the whole batch, before the first step", "dead units"),
    ),
)
