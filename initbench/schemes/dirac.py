"""The scheme `dirac`."""

import torch
from torch import Tensor

from initbench.init.arguments import number
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import as_it_is, centre, matrices
from initbench.nn.layers import WeightLayer

FAMILY = "identity-like"


def build(*, gain: float = 1.0) -> Layerwise:
    """Convolutions that pass their input on: a one at the centre of the kernel for channel i to channel i.

    W[i, i, centre] = gain, 0 elsewhere, b = 0, per group; a matrix is a convolution of size 1, so `identity`. Of an even
    kernel the tap behind the middle is taken, which shifts the image.

    Applies to: any weight layer.
    Needs: nothing.

    Source: torch.nn.init.dirac_ with `groups` those of the layer; Zagoruyko & Komodakis 2017.
    """
    factor = number("gain", gain)

    def fill(weight: Tensor, layer: WeightLayer, _: torch.Generator) -> Law:
        weight.zero_()
        for block in matrices(weight, layer):
            centre(block).diagonal().fill_(factor)
        return as_it_is("dirac", weight)

    return Layerwise("dirac", fill)
