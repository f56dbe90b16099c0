"""The scheme `flax_default`."""

import torch
from torch import Tensor, nn

from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import constant, fill_orthogonal, sample, scaled
from initbench.nn.layers import WeightLayer

FAMILY = "framework defaults"
ALIASES: dict[str, dict[str, object]] = {"flax": {}, "jax": {}}


def build() -> Layerwise:
    """What Flax's layers do: lecun_normal, cut at two standard deviations, and zero biases.

    W ~ N(0, s^2) cut at two of its standard deviations, with variance 1 / fan_in after the cut; of a transposed
    convolution fan_in is in k k, whatever the stride. Recurrent matrices are orthogonal, gate by gate; b = 0.
    Embedding N(0, 1 / features). PReLU 0.01.

    Applies to: any weight layer.
    Needs: nothing.

    Source: Flax linen: Dense, Conv, ConvTranspose, LSTMCell and GRUCell, Embed, PReLU.
    """
    return Layerwise("flax_default", _fill, fill_rest=_fill_rest)


def _fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
    if isinstance(layer.module, nn.RNNBase | nn.RNNCellBase) and "_hh" in layer.parameter:
        return Law("orthogonal", fill_orthogonal(weight, layer, generator, 1.0))
    if layer.transposed:
        summed = max(1, weight[0].numel())
        return sample(weight, "trunc_normal", summed**-0.5, generator)
    return scaled(weight, layer, generator, distribution="trunc_normal")


def _fill_rest(short: str, values: Tensor, module: nn.Module, generator: torch.Generator) -> Law | None:
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and short == "weight":
        return sample(values, "normal", values.shape[1] ** -0.5, generator)
    return constant(values, 0.01) if isinstance(module, nn.PReLU) else None
