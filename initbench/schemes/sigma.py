"""The scheme `sigma`."""

import math

import torch
from torch import Tensor

from initbench.init.arguments import number
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import fan, sample
from initbench.nn.layers import WeightLayer

FAMILY = "variance scaling"
ALIASES: dict[str, dict[str, object]] = {}


def build(*, sigma_w: float = 1.0, sigma_b: float = 0.0) -> Layerwise:
    """A point of the phase diagram: W ~ N(0, sigma_w^2 / fan_in), b ~ N(0, sigma_b^2), whatever the activation.

    The two numbers of mean-field theory, as `initbench probe --map sigma_w,sigma_b` scans them; sigma_w is the gain.
    sigma_w = sqrt 2, sigma_b = 0 is kaiming, sigma_w = 1 is lecun; `edge_of_chaos` finds the critical pair itself.

    Applies to: any weight layer.
    Needs: nothing.

    Source: Poole et al. 2016, eq. 3; Schoenholz et al. 2017.
    """
    weight_sigma, bias_sigma = number("sigma_w", sigma_w, least=0.0), number("sigma_b", sigma_b, least=0.0)

    def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
        return sample(weight, "normal", weight_sigma / math.sqrt(fan(layer, "fan_in")), generator)

    def fill_bias(bias: Tensor, _: WeightLayer, generator: torch.Generator) -> Law:
        return sample(bias, "normal", bias_sigma, generator)

    return Layerwise("sigma", fill, fill_bias)
