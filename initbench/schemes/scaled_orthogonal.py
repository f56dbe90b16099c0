"""The scheme `scaled_orthogonal`."""

import math
from typing import Literal

import torch
from torch import Tensor

from initbench.init.arguments import choose
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.gains import check_gain, resolve, without_gain
from initbench.init.sampling import fill_delta, fill_orthogonal
from initbench.init.suitability import channels, leaves_holes, no_centre, refuse_where
from initbench.nn.layers import WeightLayer

FAMILY = "orthogonal"
ALIASES: dict[str, dict[str, object]] = {"suo": {}, "suo_delta": {"kernel": "delta"}, "suo_flat": {"kernel": "flat"}}

Kernel = Literal["delta", "flat"]


def build(*, gain: float | str = 1.0, kernel: Kernel = "delta") -> Layerwise:
    """Orthogonal times max(1, sqrt(out / in)): keeps the mean square, of widening layers too.

    W = gain max(1, sqrt(out / in)) Q with Q uniform among matrices with orthonormal rows or columns, b = 0. Of
    convolutions `kernel=delta` puts it at the centre of the kernel (odd sizes), `kernel=flat` flattens the kernel into
    the inputs. Per gate and per group. `gain` is a number, an activation's name or `auto`.

    Applies to: matrices and convolutions; with `kernel=delta` their kernels must be odd.
    Needs: nothing.

    Source: Martens et al. 2021 (DKS), section on SUO weights. The authors' torch code assumes weights stored (in, out).
    """
    choose("kernel", kernel, Kernel)
    factor = check_gain("gain", gain)

    def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
        inputs, outputs = channels(layer)
        flat = kernel == "flat"
        wide = inputs * layer.receptive_field if flat else inputs
        gain = resolve(factor, layer) * math.sqrt(max(1.0, outputs / max(1, wide)))
        return Law("scaled orthogonal", (fill_orthogonal if flat else fill_delta)(weight, layer, generator, gain))

    def reason(layer: WeightLayer) -> str | None:
        uncentred = None if kernel == "flat" else no_centre(layer) or leaves_holes(layer)
        return uncentred or (without_gain(layer) if factor == "auto" else None)

    return Layerwise("scaled_orthogonal", fill, check=refuse_where("scaled_orthogonal", reason))
