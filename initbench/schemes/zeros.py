"""The scheme `zeros`."""

import torch
from torch import Tensor

from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import constant
from initbench.nn.layers import WeightLayer

FAMILY = "elementary"


def build() -> Layerwise:
    """Every weight 0: a network of zeros learns only the last bias.

    W = 0, b = 0. With phi(0) = 0 all signals and all gradients but the last bias's are exactly zero, so training never
    leaves the class frequencies. Right for heads and for the last layer of a residual branch: `layers: {"head.*": zeros}`.

    Applies to: any weight layer.
    Needs: nothing.

    Source: torch.nn.init.zeros_.
    """
    return Layerwise("zeros", _fill)


def _fill(weight: Tensor, _: WeightLayer, __: torch.Generator) -> Law:
    return constant(weight, 0.0)
