"""The scheme `orthogonal`."""

import torch
from torch import Tensor

from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.gains import auto_check, check_gain, resolve
from initbench.init.sampling import fill_orthogonal
from initbench.nn.layers import WeightLayer

FAMILY = "orthogonal"
ALIASES: dict[str, dict[str, object]] = {"ortho": {}, "saxe": {}}


def build(*, gain: float | str = 1.0) -> Layerwise:
    """Random orthogonal matrices: every singular value is `gain`.

    W = gain Q with Q uniform among matrices with orthonormal rows (columns, if there are fewer), b = 0. Each gate of a
    recurrent layer, each of q, k, v and each group of a convolution is orthogonal on its own; kernels are flattened to
    (out, in k k), which is not an orthogonal convolution (see `delta_orthogonal`). A widening layer keeps the norm, so
    the mean square falls by in/out (see `scaled_orthogonal`). `gain` is a number, an activation's name or `auto`.

    Applies to: any weight layer.
    Needs: nothing.

    Source: Saxe et al. 2014; torch.nn.init.orthogonal_, whose numbers these are where there is one gate and one group.
    """
    factor = check_gain("gain", gain)

    def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
        return Law("orthogonal", fill_orthogonal(weight, layer, generator, resolve(factor, layer)))

    return Layerwise("orthogonal", fill, check=auto_check("orthogonal", factor))
