"""The scheme `sparse`."""

import math

import torch
from torch import Tensor

from initbench.nn.assign import Law
from initbench.nn.layers import WeightLayer
from initbench.schemes import Layerwise
from initbench.schemes.arguments import number

FAMILY = "sparse"


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
        chosen = torch.rand(matrix.shape[1], rows, generator=generator).topk(zeros, dim=1, sorted=False).indices
        matrix.T.scatter_(1, chosen, 0.0)
        return Law("sparse normal", deviation * math.sqrt(1 - zeros / rows))

    return Layerwise("sparse", fill)
