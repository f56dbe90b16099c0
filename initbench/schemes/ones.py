"""The scheme `ones`."""

import torch
from torch import Tensor

from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import constant
from initbench.nn.layers import WeightLayer

FAMILY = "elementary"


def build() -> Layerwise:
    """Every weight 1: all units of a layer stay identical forever.

    W = 1, b = 0. The rows of each weight get the same gradient at every step, so a layer keeps rank one.

    Applies to: any weight layer.
    Needs: nothing.

    Source: torch.nn.init.ones_.
    """
    return Layerwise("ones", _fill)


def _fill(weight: Tensor, _: WeightLayer, __: torch.Generator) -> Law:
    return constant(weight, 1.0)
