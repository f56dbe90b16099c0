"""Random orthogonal matrices and what orthogonality means for the weight of a layer."""

import math

import torch
from torch import Tensor

from initbench.nn.layers import WeightLayer


def haar(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """A float64 matrix (rows, columns) with orthonormal rows or columns, whichever are fewer, uniform among such.

    The normal numbers are float32, as torch draws them; their QR decomposition is in float64, so that the number of
    threads cannot change the bytes of the float32 result; the signs of R's diagonal make the law uniform.

    Source: Mezzadri 2007, sec. 5; the numbers are those of torch.nn.init.orthogonal_ to float32 precision.
    """
    normal = torch.empty(rows, columns).normal_(generator=generator).double()
    wide = rows < columns
    q, r = torch.linalg.qr(normal.T if wide else normal)
    signed: Tensor = q * torch.where(torch.diagonal(r) < 0, -1.0, 1.0)
    return signed.T if wide else signed


def matrices(weight: Tensor, layer: WeightLayer) -> list[Tensor]:
    """The blocks of a weight (out, in / groups, *kernel) on which orthogonality is asked, one a group, as views.

    Each is (out / groups, in / groups, *kernel); for a transposed convolution (and a weight stored (in, out)) with the
    first two axes swapped, as torch stores it: its adjoint is the convolution that is made orthogonal.
    """
    blocks = weight.view(layer.groups, weight.shape[0] // layer.groups, *weight.shape[1:]).unbind(0)
    return [block.transpose(0, 1) if layer.transposed else block for block in blocks]


def fill_orthogonal(weight: Tensor, layer: WeightLayer, generator: torch.Generator, gain: float) -> float:
    """Makes each block of the weight, its trailing axes flattened, `gain` times orthogonal; gives the std of its entries."""
    std = 0.0
    for block in matrices(weight, layer):
        rows, columns = block.shape[0], math.prod(block.shape[1:])
        if rows and columns:
            block.copy_((gain * haar(rows, columns, generator)).reshape(block.shape))
            std = gain / math.sqrt(max(rows, columns))
    return std
