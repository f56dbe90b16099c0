"""The scheme `sparse_incoming`."""

import math

import torch
from torch import Tensor

from initbench.nn.assign import Law
from initbench.nn.layers import WeightLayer
from initbench.schemes import Layerwise
from initbench.schemes.arguments import number, whole

FAMILY = "sparse"
ALIASES: dict[str, dict[str, object]] = {"martens": {}, "sparse_martens": {}}


def build(*, k: int = 15, std: float = 1.0) -> Layerwise:
    """Each unit listens to k inputs only, with weights N(0, std^2).

    In each row (the weights into one unit, kernel included) k entries, chosen at random, are N(0, std^2), the others 0;
    all where there are at most k; b = 0. The scale does not depend on the width: sqrt(k) std on inputs of unit variance.

    Applies to: any weight layer.
    Needs: nothing.

    Source: Martens 2010, section 5; Sutskever et al. 2013, section 3 (k = 15, std = 1; for tanh std = 0.5 and biases 0.5).
    """
    count, deviation = whole("k", k, least=1), number("std", std, least=0.0)

    def fill(weight: Tensor, _: WeightLayer, generator: torch.Generator) -> Law:
        if not weight.numel():
            return Law("sparse normal", 0.0)
        weight.normal_(0.0, deviation, generator=generator)
        rows = weight.view(weight.shape[0], -1)
        kept = min(count, rows.shape[1])
        chosen = torch.rand(rows.shape, generator=generator).topk(kept, dim=1, sorted=False).indices
        rows.copy_(torch.zeros_like(rows).scatter_(1, chosen, rows.gather(1, chosen)))
        return Law("sparse normal", deviation * math.sqrt(kept / rows.shape[1]))

    return Layerwise("sparse_incoming", fill)
