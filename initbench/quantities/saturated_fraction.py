"""How many units of a bounded activation are saturated."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from initbench.quantities import Figure, LayerTensor, Quantity, Taken

if TYPE_CHECKING:
    from torch import Tensor

NEAR = 0.01
"""A value that is so close to an end, as a share of the way from one end to the other, is saturated: tanh beyond 0.98, the sigmoid
below 0.01 and above 0.99. The slope is then at most 4 % of the steepest (of erf, 7 %; of ReLU6, hard sigmoid and their like, 0
but for this rim).
Source: Glorot and Bengio 2010, section 3, where saturation is read off the activations that are next to the asymptotes."""
FAR = (1e5, 3e5, 1e6)
"""Inputs at which a bounded activation is at its end."""
SETTLED = 1e-4
"""What is left of the way to an end there at most, as a share of the whole way."""


def saturated(tensor: LayerTensor) -> Taken | None:
    """How many values are near an end of the activation, of how many; None where the activation has no two ends."""
    between = ends(tensor.function) if tensor.function is not None and not tensor.values.is_complex() else None
    if between is None:
        return None
    low, high = min(between), max(between)
    rim = NEAR * (high - low)
    near = (tensor.values <= low + rim) | (tensor.values >= high - rim)
    total, _, count = tensor.sums()
    return (near.sum(dtype=tensor.wide) + 0 * total,), (count,)  # the sum, so that what is no number stays none


@lru_cache(maxsize=128)
def ends(function: Callable[[Tensor], Tensor]) -> tuple[float, float] | None:
    """Where a function goes to for very low and very high inputs; None where it goes on, swings, or goes to one place."""
    import torch

    inputs = torch.tensor([*(-x for x in FAR), *FAR], dtype=torch.float64, device="cpu")
    try:
        with torch.no_grad():
            outputs = function(inputs)
    except (RuntimeError, TypeError, ValueError, IndexError):
        return None
    if outputs.shape != inputs.shape or not outputs.isfinite().all():
        return None
    low, high = outputs[: len(FAR)].tolist(), outputs[len(FAR) :].tolist()
    way = abs(high[-1] - low[-1])
    settled = all(max(side) - min(side) <= SETTLED * way for side in (low, high))
    return (low[-1], high[-1]) if way and settled else None


def share(taken: Tensor, counts: Tensor) -> Tensor:
    """The share of values that are saturated."""
    return taken[0] / counts[0]


QUANTITIES = (
    Quantity(
        "saturated_fraction",
        "share of activations within 1 % of the range of one of the activation's two ends, where its slope is next to nothing (tanh"
        " beyond 0.98); empty for activations that are not bounded on both sides",
        "activation",
        saturated,
        share,
        unit="share",
        title="saturated",
        heading="saturated",
        always=False,
        hidden=True,
        optional=True,
        comparison_plot=Figure("saturated_units", "Activations at the ends of their range through the layers", "saturated units"),
        probe_plot=Figure("saturated_units", "Activations at the ends of their range, before the first step", "saturated units"),
    ),
)
