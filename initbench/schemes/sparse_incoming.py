"""The scheme `sparse_incoming`."""

import math

import torch
from torch import Tensor

from initbench.init.arguments import number, whole
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.nn.layers import WeightLayer

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
        rows = weight.view(weight.shape[0], -1)
        kept = min(count, rows.shape[1])
        chosen = _chosen(kept, rows.shape[0], rows.shape[1], generator)
        values = torch.empty(chosen.shape, dtype=torch.float32, device="cpu").normal_(0.0, deviation, generator=generator)
        rows.zero_().scatter_(1, chosen, values)
        return Law("sparse normal", deviation * math.sqrt(kept / rows.shape[1]))

    return Layerwise("sparse_incoming", fill)


def _chosen(count: int, rows: int, among: int, generator: torch.Generator) -> Tensor:
    """For each row `count` different numbers below `among`, as (rows, count).

    Where they are few, the first different ones of twice as many draws: a tenth of the time of ordering random keys.
    """
    if among >= 4 * count:
        draws = torch.randint(among, (rows, 2 * count), generator=generator, device="cpu")
        order = torch.arange(2 * count, device="cpu").expand(rows, -1)
        earliest = (
            torch.full((rows, among), 2 * count, dtype=torch.int64, device="cpu").scatter_reduce_(1, draws, order, "amin").gather(1, draws)
        )
        fresh = earliest == order
        wanted = fresh & (fresh.cumsum(1) <= count)
        if bool((wanted.sum(1) == count).all()):
            return draws[wanted].view(rows, count)
    return torch.rand(rows, among, generator=generator, dtype=torch.float32, device="cpu").topk(count, dim=1, sorted=False).indices
