"""The scheme `sinusoidal`."""

import math

import torch
from torch import Tensor

from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import as_it_is
from initbench.init.suitability import refuse_where
from initbench.nn.layers import WeightLayer

FAMILY = "special"
ALIASES: dict[str, dict[str, object]] = {"sinusoidal_init": {}}

SMALLEST = 1e-10
"""A pattern with a smaller variance than this is zero but for rounding."""


def build() -> Layerwise:
    """No chance: each unit's weights are a sine wave over its inputs, of a frequency of its own, with Xavier's variance.

    W[i, j] = a sin(i (2 pi j / n + 2 pi / m)), i = 1, ..., m units and j = 0, ..., n - 1 inputs (a kernel is flattened into
    the inputs), with the a that makes the variance of all entries 2 / (n + m); b = 0. Per gate, and per one of q, k, v. The
    same for every seed.

    Applies to: weight layers whose pattern is not zero (which it is for 1 x 1, 1 x 2 and 2 x 2).
    Needs: nothing.

    Source: Fernandez-Hernandez et al. 2025 (Sinusoidal Initialization, Time for a New Start; NeurIPS);
    jmiravet/Sinusoidal-Initialization, `sinusoidal_`.
    """

    def fill(weight: Tensor, _: WeightLayer, __: torch.Generator) -> Law:
        if weight.numel():
            waves = _waves(weight.shape[0], weight[0].numel())
            weight.copy_((waves * math.sqrt(2 / (waves.var().item() * sum(waves.shape)))).reshape(weight.shape))
        return as_it_is("sinusoidal", weight)

    def reason(layer: WeightLayer) -> str | None:
        outputs, inputs = _matrix(layer)
        if not outputs * inputs or (outputs * inputs > 1 and _waves(outputs, inputs).var().item() > SMALLEST):
            return None
        return f"its {outputs} x {inputs} sine waves are zero at all of its inputs"

    return Layerwise("sinusoidal", fill, check=refuse_where("sinusoidal", reason))


def _waves(outputs: int, inputs: int) -> Tensor:
    """sin(i (2 pi j / n + 2 pi / m)) as a float64 matrix (m outputs, n inputs)."""
    position = torch.arange(inputs, dtype=torch.float64, device="cpu") * (2 * math.pi / inputs) + 2 * math.pi / outputs
    return torch.outer(torch.arange(1, outputs + 1, dtype=torch.float64, device="cpu"), position).sin()


def _matrix(layer: WeightLayer) -> tuple[int, int]:
    """Outputs of a part, and inputs times kernel, as a filler gets the weight."""
    first, second, *kernel = layer.weight.shape
    outputs, inputs = (second * layer.groups, first // layer.groups) if layer.transposed else (first // layer.parts, second)
    return outputs, inputs * math.prod(kernel)
