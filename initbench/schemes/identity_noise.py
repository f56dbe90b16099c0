"""The scheme `identity_noise`."""

import math
from typing import Literal

import torch
from torch import Tensor

from initbench.init.arguments import choose, number
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import fan
from initbench.init.suitability import is_convolution, refuse_where
from initbench.nn.layers import WeightLayer

FAMILY = "identity-like"
EXAMPLE_MODEL = "mlp:activation=tanh"
ALIASES: dict[str, dict[str, object]] = {"tanh_dz": {}}

Fan = Literal["fan_in", "fan_out"]


def build(*, noise: float = 0.085, mode: Fan = "fan_in") -> Layerwise:
    """Identity plus a little noise, for tanh networks: W = D + Z.

    D_ij = 1 where i = j mod in (a widening layer repeats the identity), Z ~ N(0, noise^2 / fan_in), b = 0. It keeps the
    activations of deep tanh networks from saturating and from vanishing.

    Applies to: matrices only; meant for deep tanh networks, such as `mlp:activation=tanh`.
    Needs: nothing.

    Source: Lee et al. 2025 (ICLR). The authors' code divides by sqrt(out) where the paper says the previous layer's
    width: `mode=fan_out` is the code.
    """
    choose("mode", mode, Fan)
    scale = number("noise", noise, least=0.0)

    def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
        std = scale / math.sqrt(fan(layer, mode))
        weight.normal_(0.0, std, generator=generator)
        outputs, inputs = weight.shape
        share = 0.0
        if weight.numel():
            rows = torch.arange(outputs, device="cpu")
            weight[rows, rows % inputs] += 1
            share = 1 / inputs
        return Law("identity + normal", math.sqrt(std**2 + share * (1 - share)), share)

    return Layerwise("identity_noise", fill, check=refuse_where("identity_noise", is_convolution))
