"""The scheme `gaussian_gain`."""

from typing import Literal

import torch
from torch import Tensor

from initbench.init.arguments import choose, number
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.gains import auto_check, gain_after, gaussian_gain, gradient_gain
from initbench.init.sampling import Distribution, Mode, scaled
from initbench.nn.layers import WeightLayer

FAMILY = "variance scaling"
ALIASES: dict[str, dict[str, object]] = {"exact_gain": {}, "gaussian_exact": {}}

Keep = Literal["signal", "gradient"]


def build(*, keep: Keep = "signal", nonlinearity: str = "auto", q: float = 1.0, distribution: Distribution = "normal") -> Layerwise:
    """The exact gain of any activation: Var W = (q / E[phi(u)^2]) / fan_in with u ~ N(0, q).

    `keep=signal`: pre-activations of variance q stay there from layer to layer (of a layer fed by phi). `keep=gradient`:
    Var W = 1 / E[phi'(u)^2] / fan_out. b = 0. `nonlinearity` is an activation's name or `auto`, the one after each layer
    (none that is known: linear). For relu and leaky_relu this is kaiming, for selu lecun; tanh 1.5925 where torch's table
    says 5/3, gelu 1.5335, silu 1.6765, where it has nothing.

    Applies to: any weight layer; with `nonlinearity=auto` every activation must be a known one.
    Needs: nothing.

    Source: Poole et al. 2016, eq. 3 with sigma_b = 0; the expectations are computed to 1e-9 (initbench.theory).
    """
    choose("keep", keep, Keep)
    choose("distribution", distribution, Distribution)
    variance = number("q", q, above=0.0)
    fixed = None if nonlinearity == "auto" else (gaussian_gain if keep == "signal" else gradient_gain)(nonlinearity, variance)

    def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
        gain = gain_after(layer, variance, of_slope=keep == "gradient") if fixed is None else fixed
        mode: Mode = "fan_in" if keep == "signal" else "fan_out"
        return scaled(weight, layer, generator, gain=gain, mode=mode, distribution=distribution)

    return Layerwise("gaussian_gain", fill, check=auto_check("gaussian_gain", nonlinearity))
