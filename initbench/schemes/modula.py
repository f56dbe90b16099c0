"""The scheme `modula`."""

import math

import torch
from torch import Tensor

from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import fill_orthogonal
from initbench.init.suitability import channels, is_convolution, refuse_where
from initbench.nn.layers import WeightLayer

FAMILY = "orthogonal"
ALIASES: dict[str, dict[str, object]] = {"modular_norm": {}}


def build() -> Layerwise:
    """Orthogonal times sqrt(out / in): no input's root mean square grows, in whatever direction it lies.

    W = sqrt(out / in) Q with Q uniform among matrices with orthonormal rows or columns, so that all singular values are
    sqrt(out / in), the scale of the spectral condition for feature learning; b = 0. Per gate. Narrowing layers are smaller
    than `scaled_orthogonal`'s by sqrt(out / in), and random inputs shrink there.

    Applies to: matrices.
    Needs: nothing.

    Source: Large et al. 2024 (Scalable Optimization in the Modular Norm); jxbz/modula, `Linear` (where sqrt(out / in)
    is in the forward pass, so that its learning rates differ); Yang, Simon & Bernstein 2023, condition 1.
    """

    def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
        inputs, outputs = channels(layer)
        return Law("scaled orthogonal", fill_orthogonal(weight, layer, generator, math.sqrt(outputs / max(1, inputs))))

    return Layerwise("modula", fill, check=refuse_where("modula", is_convolution))
