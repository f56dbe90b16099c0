"""The scheme `constant`."""

import torch
from torch import Tensor

from initbench.init.arguments import number
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import constant
from initbench.nn.layers import WeightLayer

FAMILY = "elementary"
ALIASES: dict[str, dict[str, object]] = {"const": {}, "fill": {}}


def build(*, value: float) -> Layerwise:
    """Every weight one value: symmetric units that never part.

    W = value, b = 0. For biases use `init.bias`; for one layer a pattern: `layers: {"*.gamma": "constant:value=0.1"}`.

    Applies to: any weight layer.
    Needs: nothing.

    Source: torch.nn.init.constant_.
    """
    filling = number("value", value)

    def fill(weight: Tensor, _: WeightLayer, __: torch.Generator) -> Law:
        return constant(weight, filling)

    return Layerwise("constant", fill)
