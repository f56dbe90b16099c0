"""Random orthogonal matrices and what orthogonality means for the weight of a layer."""

import math

import torch
from torch import Tensor

from initbench.init.assign import Law
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


def centre(block: Tensor) -> Tensor:
    """The middle tap of a kernel (a, b, *kernel), a view (a, b); of an even size the one behind the middle, as in torch."""
    for size in block.shape[2:]:
        block = block.select(2, size // 2)
    return block


def fill_delta(weight: Tensor, layer: WeightLayer, generator: torch.Generator, gain: float) -> float:
    """Zero but for an orthogonal matrix times `gain` at the centre of each group's kernel; gives the std of the entries."""
    weight.zero_()
    smaller, entries = 0, 1
    for block in matrices(weight, layer):
        middle = centre(block)
        if middle.numel():
            middle.copy_(gain * haar(middle.shape[0], middle.shape[1], generator))
            smaller, entries = min(middle.shape), block.numel()
    return gain * math.sqrt(smaller / entries)


def as_it_is(name: str, weight: Tensor) -> Law:
    """The law of a weight without chance in it: its own mean and standard deviation."""
    if not weight.numel():
        return Law(name, 0.0)
    return Law(name, weight.std(correction=0).item(), weight.mean().item())
