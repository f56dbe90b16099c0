"""The scheme `zero_hadamard`."""

import math
from typing import Literal

import torch
from torch import Tensor

from initbench.init.arguments import choose
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import as_it_is, centre, matrices
from initbench.init.suitability import leaves_holes, no_centre, refuse_where
from initbench.nn.layers import Role, WeightLayer

FAMILY = "identity-like"
ALIASES: dict[str, dict[str, object]] = {"hadamard": {}}

Normalization = Literal["paper", "repo"]
BranchEnd = Literal["same", "zero"]


def build(*, normalization: Normalization = "paper", branch_end: BranchEnd = "same") -> Layerwise:
    """ZerO: zeros and ones only; widening layers get a Hadamard matrix, so no rank is lost and no chance is left.

    out <= in: the partial identity. out > in: c H[:out, :in] with H the 2^m x 2^m Hadamard matrix, m = ceil(log2 out), and
    c = 2^(-(m-1)/2) (`normalization=repo`: 2^(-m/2), which keeps the norm exactly where out is a power of two). Of a
    convolution the same at the centre of an odd kernel, per group. b = 0. `branch_end=zero` starts residual branches at
    zero. No randomness: every seed gives the same weights.

    Applies to: matrices and convolutions with odd kernels.
    Needs: nothing.

    Source: Zhao, Schaefer & Anandkumar 2022, algorithm 1; the authors' notebook has the other c. What the paper does to
    the ends of residual branches could not be confirmed, hence the parameter.
    """
    choose("normalization", normalization, Normalization)
    choose("branch_end", branch_end, BranchEnd)

    def fill(weight: Tensor, layer: WeightLayer, _: torch.Generator) -> Law:
        weight.zero_()
        if branch_end == "same" or layer.role is not Role.BRANCH_END:
            for block in matrices(weight, layer):
                middle = centre(block).T if layer.transposed else centre(block)
                _fill_matrix(middle, normalization)
        return as_it_is("identity or Hadamard", weight)

    def reason(layer: WeightLayer) -> str | None:
        return no_centre(layer) or leaves_holes(layer)

    return Layerwise("zero_hadamard", fill, check=refuse_where("zero_hadamard", reason))


def _fill_matrix(matrix: Tensor, normalization: Normalization) -> None:
    outputs, inputs = matrix.shape
    if outputs <= inputs:
        matrix.diagonal().fill_(1.0)
        return
    m = max(0, math.ceil(math.log2(outputs)))
    exponent = (m - 1) / 2 if normalization == "paper" else m / 2
    matrix.copy_(hadamard(outputs, inputs, m) * 2.0**-exponent)


def hadamard(rows: int, columns: int, bits: int) -> Tensor:
    """The upper left corner of the 2^bits Hadamard matrix: H_ij = (-1)^(number of ones in i & j)."""
    i, j = torch.arange(rows, device="cpu")[:, None], torch.arange(columns, device="cpu")[None, :]
    parity = torch.zeros(rows, columns, dtype=torch.bool, device="cpu")
    for bit in range(bits):
        parity ^= ((i >> bit) & (j >> bit) & 1).bool()
    return 1.0 - 2.0 * parity.float()
