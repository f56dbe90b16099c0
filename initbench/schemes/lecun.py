"""The scheme `lecun`."""

import torch
from torch import Tensor

from initbench.init.arguments import choose
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import Distribution, scaled
from initbench.nn.layers import WeightLayer

FAMILY = "variance scaling"
ALIASES: dict[str, dict[str, object]] = {
    "lecun_normal": {"distribution": "normal"},
    "lecun_uniform": {"distribution": "uniform"},
    "jax_lecun_normal": {"distribution": "trunc_normal"},
    "keras_lecun_normal": {"distribution": "trunc_normal"},
}


def build(*, distribution: Distribution = "normal") -> Layerwise:
    """Var W = 1 / fan_in: keeps the signal through linear layers; the one to use with SELU.

    s = 1 / sqrt(fan_in); normal: W ~ N(0, s^2), uniform: W ~ U(+-sqrt(3) s); trunc_normal: cut at two deviations,
    with variance s^2 after the cut; b = 0.

    Applies to: any weight layer.
    Needs: nothing.

    Source: LeCun et al. 1998, sec. 4.6; Klambauer et al. 2017 for SELU. `lecun_normal` of jax and
    Keras is truncated: `jax_lecun_normal` here.
    """
    choose("distribution", distribution, Distribution)

    def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
        return scaled(weight, layer, generator, distribution=distribution)

    return Layerwise("lecun", fill)
