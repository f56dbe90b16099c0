"""The scheme `identity`."""

import torch
from torch import Tensor

from initbench.init.arguments import number
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import as_it_is
from initbench.init.suitability import is_convolution, refuse_where
from initbench.nn.layers import WeightLayer

FAMILY = "identity-like"
ALIASES: dict[str, dict[str, object]] = {"eye": {}, "irnn": {}}


def build(*, gain: float = 1.0) -> Layerwise:
    """Matrices with ones on the diagonal: each layer passes its input on.

    W_ij = gain if i = j else 0, b = 0, each gate of a recurrent layer on its own. What a narrow layer cuts off is lost,
    and widening layers never use their further units' symmetry: the rank of a widening layer stays that of its input
    (Zhao et al. 2022, theorem 1).

    Applies to: matrices only, as in `mlp`; `dirac` is for convolutions.
    Needs: nothing.

    Source: torch.nn.init.eye_; Le, Jaitly & Hinton 2015 for recurrent layers.
    """
    factor = number("gain", gain)

    def fill(weight: Tensor, _: WeightLayer, __: torch.Generator) -> Law:
        weight.zero_().diagonal().fill_(factor)
        return as_it_is("identity", weight)

    return Layerwise("identity", fill, check=refuse_where("identity", is_convolution))
