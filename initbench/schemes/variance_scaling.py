"""The scheme `variance_scaling`."""

import math

import torch
from torch import Tensor

from initbench.init.arguments import choose, number
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import Distribution, Mode, scaled
from initbench.nn.layers import WeightLayer

FAMILY = "variance scaling"
ALIASES: dict[str, dict[str, object]] = {"vs": {}}


def build(*, scale: float = 1.0, mode: Mode = "fan_in", distribution: Distribution = "trunc_normal") -> Layerwise:
    """Var W = scale / fan, for any scale, fan and distribution: the family behind xavier, kaiming and lecun.

    fan is fan_in, fan_out, their mean (fan_avg) or the root of their product (fan_geo_avg). The variance is that after
    truncation (the parent's std is divided by 0.87963); b = 0.

    Applies to: any weight layer.
    Needs: nothing.

    Source: keras.initializers.VarianceScaling and jax.nn.initializers.variance_scaling, whose defaults these are.
    """
    choose("distribution", distribution, Distribution)
    choose("mode", mode, Mode)
    gain = math.sqrt(number("scale", scale, least=0.0))

    def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
        return scaled(weight, layer, generator, gain=gain, mode=mode, distribution=distribution)

    return Layerwise("variance_scaling", fill)
