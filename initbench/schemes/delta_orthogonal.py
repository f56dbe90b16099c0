"""The scheme `delta_orthogonal`."""

from typing import Literal

import torch
from torch import Tensor

from initbench.init.arguments import choose
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.gains import check_gain, resolve, without_gain
from initbench.init.sampling import fill_delta
from initbench.init.suitability import channels, kernel, leaves_holes, no_centre, refuse_where
from initbench.nn.layers import WeightLayer

FAMILY = "orthogonal"
ALIASES: dict[str, dict[str, object]] = {"delta_ortho": {}, "delta": {}}

Narrowing = Literal["refuse", "semi"]


def build(*, gain: float | str = 1.0, narrowing: Narrowing = "refuse") -> Layerwise:
    """Orthogonal convolutions: an orthogonal matrix at the centre of the kernel, zero elsewhere.

    W[:, :, centre] = gain Q, 0 elsewhere, b = 0: with gain 1 the whole convolution keeps the norm of every image. With
    `narrowing=semi` convolutions may narrow: then the rows of Q are orthonormal. Per group. Matrices are orthogonal as in
    `orthogonal`. `gain` is a number, an activation's name or `auto`.

    Applies to: convolutions with odd kernels that do not narrow, and matrices, such as `mlp`; no strided transposed ones.
    Needs: nothing.

    Source: Xiao et al. 2018, algorithm 1 (JAX's delta_orthogonal; a known torch port multiplies by sqrt(gain) instead).
    """
    choose("narrowing", narrowing, Narrowing)
    factor = check_gain("gain", gain)

    def reason(layer: WeightLayer) -> str | None:
        inputs, outputs = channels(layer)
        if kernel(layer) and inputs > outputs and narrowing == "refuse":
            return f"it narrows from {inputs} to {outputs} channels, which cannot keep the norm. Allow it with narrowing=semi"
        return no_centre(layer) or leaves_holes(layer) or (without_gain(layer) if factor == "auto" else None)

    def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
        return Law("delta orthogonal", fill_delta(weight, layer, generator, resolve(factor, layer)))

    return Layerwise("delta_orthogonal", fill, check=refuse_where("delta_orthogonal", reason))
