"""The scheme `sparse`."""

import math

import numpy as np
import torch
from torch import Tensor

from initbench.init.arguments import number
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.nn.layers import WeightLayer

FAMILY = "sparse"
MOST_BY_FLOYD = 16
"""Its time grows with the square of the count."""


def build(*, sparsity: float = 0.1, std: float = 0.01) -> Layerwise:
    """The law of torch's sparse_: N(0, std^2) with the same share of zeros in each column.

    In each column (the weights that leave one input; a kernel counts as that many inputs) ceil(sparsity out) entries,
    chosen at random, are 0, the others N(0, std^2); b = 0. Martens's own scheme fixes the number of inputs of each unit:
    `sparse_incoming`.

    Applies to: any weight layer.
    Needs: nothing.

    Source: torch.nn.init.sparse_ (its non-zero values are the same; its zeros come from the global generator, ours do not).
    """
    share, deviation = number("sparsity", sparsity, least=0.0, most=1.0), number("std", std, least=0.0)

    def fill(weight: Tensor, _: WeightLayer, generator: torch.Generator) -> Law:
        weight.normal_(0.0, deviation, generator=generator)
        rows = weight.shape[0]
        zeros = math.ceil(share * rows)
        if not weight.numel():
            return Law("sparse normal", 0.0)
        matrix = weight.view(rows, -1)
        matrix.scatter_(0, _chosen(zeros, rows, matrix.shape[1], generator), 0.0)
        return Law("sparse normal", deviation * math.sqrt(1 - zeros / rows))

    return Layerwise("sparse", fill)


def _chosen(count: int, among: int, columns: int, generator: torch.Generator) -> Tensor:
    """For each column `count` different numbers below `among`, as (count, columns); Floyd's algorithm where there are few."""
    if count > MOST_BY_FLOYD:
        return torch.rand(columns, among, generator=generator, dtype=torch.float32, device="cpu").topk(count, dim=1, sorted=False).indices.T
    # In numpy, which takes half of torch's time for arrays this short.
    highest = np.arange(among - count, among, dtype=np.int32)[:, None]
    draws = torch.rand(count, columns, generator=generator, dtype=torch.float32, device="cpu").numpy() * (highest + 1).astype(np.float32)
    rows = np.minimum(draws.astype(np.int32), highest)
    for index in range(1, count):
        np.putmask(rows[index], (rows[:index] == rows[index]).any(0), highest[index])
    return torch.from_numpy(rows).long()
