"""The scheme `kaiming`."""

import torch
from torch import Tensor

from initbench.init.arguments import choose, number
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.gains import auto_check, check_gain, resolve
from initbench.init.sampling import Distribution, Mode, scaled
from initbench.nn.layers import WeightLayer

FAMILY = "variance scaling"
ALIASES: dict[str, dict[str, object]] = {
    "he": {},
    "kaiming_normal": {"distribution": "normal"},
    "kaiming_uniform": {"distribution": "uniform"},
    "he_normal": {"distribution": "normal"},
    "he_uniform": {"distribution": "uniform"},
    "msra": {},
    "jax_he_normal": {"distribution": "trunc_normal"},
    "keras_he_normal": {"distribution": "trunc_normal"},
}


def build(
    *,
    distribution: Distribution = "normal",
    mode: Mode = "fan_in",
    a: float = 0.0,
    nonlinearity: str = "leaky_relu",
) -> Layerwise:
    """Var W = gain^2 / fan_in with gain^2 = 2 / (1 + a^2): keeps the signal through ReLU layers.

    s = gain / sqrt(fan); normal: W ~ N(0, s^2), uniform: W ~ U(+-sqrt(3) s); b = 0. `mode=fan_out` keeps the gradient
    instead. `a` is the negative slope, used with `leaky_relu` only, as in torch. `nonlinearity` is an activation's name or
    `auto` (that after each layer): torch's gain where it has one (tanh 5/3, selu 3/4), otherwise the exact
    1 / sqrt(E[phi(z)^2]).

    Applies to: any weight layer.
    Needs: nothing.

    Source: He et al. 2015, eq. 10 and 14. Fans are the module's own: fan_out counts one group, where torch's counts all.
    `he_normal` of jax and Keras is truncated at two deviations, with variance s^2 after the cut: `jax_he_normal` here.
    """
    choose("distribution", distribution, Distribution)
    choose("mode", mode, Mode)
    slope = number("a", a)
    given = f"leaky_relu:negative_slope={slope!r}" if nonlinearity == "leaky_relu" else nonlinearity
    factor = check_gain("nonlinearity", str(given))

    def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
        return scaled(weight, layer, generator, gain=resolve(factor, layer), mode=mode, distribution=distribution)

    return Layerwise("kaiming", fill, check=auto_check("kaiming", factor))
