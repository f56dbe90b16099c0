"""The scheme `xavier`."""

import torch
from torch import Tensor

from initbench.init.arguments import choose
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.gains import auto_check, check_gain, resolve
from initbench.init.sampling import Distribution, scaled
from initbench.nn.layers import WeightLayer

FAMILY = "variance scaling"
ALIASES: dict[str, dict[str, object]] = {
    "glorot": {},
    "xavier_normal": {"distribution": "normal"},
    "xavier_uniform": {"distribution": "uniform"},
    "glorot_normal": {"distribution": "normal"},
    "glorot_uniform": {"distribution": "uniform"},
    "jax_glorot_normal": {"distribution": "trunc_normal"},
    "keras_glorot_normal": {"distribution": "trunc_normal"},
}


def build(*, distribution: Distribution = "normal", gain: float | str = 1.0) -> Layerwise:
    """Var W = gain^2 2 / (fan_in + fan_out): the compromise between signal and gradient, for linear and tanh layers.

    normal: W ~ N(0, s^2), uniform: W ~ U(-sqrt(3) s, sqrt(3) s) = U(+-gain sqrt(6 / (fan_in + fan_out))), with s = gain
    sqrt(2 / (fan_in + fan_out)), trunc_normal: cut at two deviations, with variance s^2 after the cut; b = 0. `gain` is a
    number, the name of an activation or `auto` (the activation after each layer). With ReLU and gain 1 the signal halves at
    each layer.

    Applies to: any weight layer.
    Needs: nothing.

    Source: Glorot & Bengio 2010, eq. 16 (uniform). `glorot_normal` of jax and Keras is truncated: `jax_glorot_normal`
    here. Fans are the module's own: those of one group, one gate, one of q, k, v.
    """
    choose("distribution", distribution, Distribution)
    factor = check_gain("gain", gain)

    def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
        return scaled(weight, layer, generator, gain=resolve(factor, layer), mode="fan_avg", distribution=distribution)

    return Layerwise("xavier", fill, check=auto_check("xavier", factor))
