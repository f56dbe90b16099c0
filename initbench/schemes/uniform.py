"""The scheme `uniform`."""

import torch
from torch import Tensor

from initbench.errors import ConfigError
from initbench.init.arguments import number
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import uniform
from initbench.nn.layers import WeightLayer

FAMILY = "elementary"
ALIASES: dict[str, dict[str, object]] = {"random_uniform": {}}


def build(*, a: float = 0.0, b: float = 1.0) -> Layerwise:
    """U(a, b) whatever the width; torch's own bounds 0 and 1 have the mean 0.5.

    W ~ U(a, b), b = 0; mean (a + b) / 2, std (b - a) / sqrt(12). Keras's bounds are -0.05 and 0.05.

    Applies to: any weight layer.
    Needs: nothing.

    Source: torch.nn.init.uniform_, value for value from the same generator.
    """
    low, high = number("a", a), number("b", b)
    if low > high:
        raise ConfigError(f"a is {low:g} and b is {high:g}. Give a at most b.")

    def fill(weight: Tensor, _: WeightLayer, generator: torch.Generator) -> Law:
        return uniform(weight, low, high, generator)

    return Layerwise("uniform", fill)
