"""The laws that schemes draw from: named distributions, and random orthogonal matrices.

Each named scheme of the variance scaling family is one call of `scaled`.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from initbench.init.assign import Law
from initbench.nn.layers import WeightLayer

Distribution = Literal["normal", "uniform", "trunc_normal"]
Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]

STD_OF_NORMAL_CUT_AT_2 = 0.87962566103423978
"""Standard deviation of N(0, 1) restricted to [-2, 2]."""


def fan(layer: WeightLayer, mode: Mode) -> float:
    """The number of connections that `mode` counts, at least 1."""
    numbers = {
        "fan_in": layer.fan_in,
        "fan_out": layer.fan_out,
        "fan_avg": (layer.fan_in + layer.fan_out) / 2,
        "fan_geo_avg": math.sqrt(layer.fan_in * layer.fan_out),
    }
    return max(1.0, numbers[mode])


def scaled(
    weight: Tensor,
    layer: WeightLayer,
    generator: torch.Generator,
    *,
    gain: float = 1.0,
    mode: Mode = "fan_in",
    distribution: Distribution = "normal",
) -> Law:
    """Fills with zero mean and standard deviation `gain` / sqrt(fan)."""
    return sample(weight, distribution, gain / math.sqrt(fan(layer, mode)), generator)


def sample(weight: Tensor, distribution: Distribution, std: float, generator: torch.Generator) -> Law:
    """Fills with zero mean and standard deviation `std`, whatever the distribution; truncation is at 2 parent deviations."""
    if distribution == "normal":
        weight.normal_(0.0, std, generator=generator)
    elif distribution == "uniform":
        bound = math.sqrt(3.0) * std
        weight.uniform_(-bound, bound, generator=generator)
    elif std == 0:
        weight.zero_()
    else:
        parent = std / STD_OF_NORMAL_CUT_AT_2
        truncated(weight, 0.0, parent, -2 * parent, 2 * parent, generator)
    return Law(distribution, std)


def constant(weight: Tensor, value: float) -> Law:
    """Fills with one value."""
    weight.fill_(value)
    return Law("constant", 0.0, value)


def uniform(weight: Tensor, low: float, high: float, generator: torch.Generator) -> Law:
    """Fills with U(low, high)."""
    weight.uniform_(low, high, generator=generator)
    return Law("uniform", (high - low) / math.sqrt(12.0), (low + high) / 2)


def truncated(weight: Tensor, mean: float, std: float, low: float, high: float, generator: torch.Generator) -> Law:
    """Fills with N(mean, std^2) restricted to [low, high], by the inverse distribution function.

    In float32 where the cuts are within 3 standard deviations: there it has 20 bits or more everywhere; else in float64.

    Not torch's `trunc_normal_`, whose algorithm and so whose numbers changed with torch 2.15. The law that is returned
    has the mean and standard deviation after the cut.
    """
    a, b = (low - mean) / std, (high - mean) / std
    # Where the interval lies in the upper tail, the lower one is used mirrored: erf keeps its digits there.
    sign = -1.0 if a > -b else 1.0
    left, right = (a, b) if sign > 0 else (-b, -a)
    lower, upper = _cumulative(left), _cumulative(right)
    if max(abs(left), abs(right)) <= 3:
        z = weight.uniform_(2 * lower - 1, 2 * upper - 1, generator=generator).erfinv_().mul_(math.sqrt(2.0))
    else:
        draws = torch.empty(weight.shape, dtype=torch.float64, device="cpu").uniform_(lower, upper, generator=generator)
        z = torch.special.ndtri(draws)
    z.mul_(sign * std)
    weight.copy_((z.add_(mean) if mean else z).clamp_(low, high))
    mass = upper - lower
    shift = (_density(left) - _density(right)) / mass
    spread = 1 + (left * _density(left) - right * _density(right)) / mass - shift**2
    return Law("trunc_normal", std * math.sqrt(max(0.0, spread)), mean + sign * std * shift)


def mass_within(mean: float, std: float, low: float, high: float) -> float:
    """The share of N(mean, std^2) that lies in [low, high]."""
    a, b = (low - mean) / std, (high - mean) / std
    return _cumulative(b) - _cumulative(a) if a <= -b else _cumulative(-a) - _cumulative(-b)


def _cumulative(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def _density(x: float) -> float:
    return math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def haar(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """A float64 matrix (rows, columns) with orthonormal rows or columns, whichever are fewer, uniform among such.

    The normal numbers are float32, as torch draws them; their QR decomposition is in float64, so that the number of
    threads cannot change the bytes of the float32 result; the signs of R's diagonal make the law uniform.

    Source: Mezzadri 2007, sec. 5; the numbers are those of torch.nn.init.orthogonal_ to float32 precision.
    """
    normal = torch.empty(rows, columns, dtype=torch.float32, device="cpu").normal_(generator=generator).double()
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
