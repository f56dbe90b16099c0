"""The scheme `normal`."""

import torch
from torch import Tensor

from initbench.init.arguments import number
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.nn.layers import WeightLayer

FAMILY = "elementary"
ALIASES: dict[str, dict[str, object]] = {"gaussian": {}, "random_normal": {}}


def build(*, mean: float = 0.0, std: float = 1.0) -> Layerwise:
    """N(mean, std^2) whatever the width: signals grow or shrink by std sqrt(fan_in) a layer.

    W ~ N(mean, std^2), b = 0. torch's default std is 1, Keras's 0.05, Flax's 0.01.

    Applies to: any weight layer.
    Needs: nothing.

    Source: torch.nn.init.normal_, value for value from the same generator.
    """
    centre, deviation = number("mean", mean), number("std", std, least=0.0)

    def fill(weight: Tensor, _: WeightLayer, generator: torch.Generator) -> Law:
        weight.normal_(centre, deviation, generator=generator)
        return Law("normal", deviation, centre)

    return Layerwise("normal", fill)
