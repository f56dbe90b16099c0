"""Mean and variance (population, not sample) of a layer's tensors, over examples, units and positions together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from initbench.quantities import Figure, LayerTensor, Quantity, Taken

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING = 1e-12
"""A variance below this share of the mean square is rounding of a constant."""


def sums(tensor: LayerTensor) -> Taken:
    """The sum and the Euclidean norm of all values, and their number."""
    total, norm, count = tensor.sums()
    return (total, norm), (count,)


def mean(taken: Tensor, counts: Tensor) -> Tensor:
    """The mean of each layer."""
    return taken[0] / counts[0]


def variance(taken: Tensor, counts: Tensor) -> Tensor:
    """The population variance of each layer: mean square less squared mean."""
    square = taken[1].square() / counts[0]
    difference = square - mean(taken, counts).square()
    return difference.masked_fill(difference < ROUNDING * square, 0.0)


PRE_ACTIVATION = "mean and variance of the weight layer's own output, over examples, units and positions together"
ACTIVATION = "the same after the activation function that follows; the same tensor where none follows"

QUANTITIES = (
    Quantity("pre_activation_mean", PRE_ACTIVATION, "pre_activation", sums, mean, place=1),
    Quantity(
        "pre_activation_variance",
        PRE_ACTIVATION,
        "pre_activation",
        sums,
        variance,
        place=2,
        title="pre-activation variance",
        heading="variance",
        probe_plot=Figure("pre_activations", "Variance of the pre-activations, before the first step", "pre-activation variance"),
    ),
    Quantity("activation_mean", ACTIVATION, "activation", sums, mean, place=3),
    Quantity(
        "activation_variance",
        ACTIVATION,
        "activation",
        sums,
        variance,
        place=4,
        title="activation variance",
        heading="after activation",
        stream="stream_variance",
        always=False,
        comparison_plot=Figure("signal", "Variance of the activations through the layers", "activation variance"),
        probe_plot=Figure("signal", "Variance of the activations, before the first step", "variance"),
    ),
    Quantity(
        "gradient_variance",
        "variance of the gradient of the summed per-example loss with respect to the layer's output: independent of the batch size",
        "gradient",
        sums,
        variance,
        place=7,
        title="gradient variance",
        heading="gradient",
        stream="stream_gradient_variance",
        backward=True,
        comparison_plot=Figure("gradients", "Variance of the gradients through the layers", "gradient variance"),
        probe_plot=Figure("gradients", "Variance of the gradients, before the first step", "gradient variance"),
    ),
    Quantity("weight_variance", "variance of the weight", "weight", sums, variance, place=8, title="weight variance"),
)
