"""Quantiles of a layer's activations, signal gradients and weights, interpolated linearly as `numpy.quantile` does.

Of more than `SAMPLE` values a sample is sorted, always the same one: value number i * k modulo their number, with k without a
common divisor and near the golden section of the number, so that units, positions and images all take part evenly.
The median's rank is then exact to about half a percent, that of the 1 % quantile to a tenth.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import TYPE_CHECKING

from initbench.quantities import LayerTensor, Quantity, Source, Taken

if TYPE_CHECKING:
    from torch import Tensor, device

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SAMPLE = 2**13
"""Values that are sorted at most: a tenth of a millisecond each time."""
GOLDEN = 0.6180339887498949


def sample(tensor: LayerTensor) -> Taken | None:
    """The sample as one vector, filled up with infinities, and the number of its values; None for complex ones, which have no order."""
    import torch

    values = tensor.values
    if not values.numel() or values.is_complex():
        return None
    flat = (values.movedim(1, -1) if values.dim() == 4 and not values.is_contiguous() else values).reshape(-1)
    if flat.dtype not in {torch.float32, torch.float64}:
        flat = flat.float()
    if len(flat) > SAMPLE:
        return (flat.index_select(0, places(len(flat), flat.device)),), (SAMPLE,)
    return (torch.nn.functional.pad(flat, (0, SAMPLE - len(flat)), value=torch.inf),), (len(flat),)


@lru_cache(maxsize=64)
def places(count: int, where: device) -> Tensor:
    """Which of `count` values are the sample."""
    import torch

    step = round(count * GOLDEN)
    while gcd(step, count) > 1:
        step += 1
    return (torch.arange(SAMPLE, device=where) * step) % count


def quantiles(taken: Tensor, counts: Tensor) -> Tensor:
    """The quantiles of each layer, (levels, layers); NaN where a value of the sample is."""
    import torch

    ordered = _sorted(taken.T)
    ranks = counts.new_tensor(LEVELS) * (counts.T - 1)
    lower = ranks.floor()
    low, high = (ordered.gather(1, rank.long()).to(counts.dtype) for rank in (lower, ranks.ceil()))
    return (low + (high - low) * (ranks - lower)).masked_fill(ordered[:, -1:].isnan(), torch.nan).T


def _sorted(rows: Tensor) -> Tensor:
    """Each row in rising order; on a CPU by numpy, whose sort is ten times as fast as torch's."""
    if rows.device.type != "cpu":
        return rows.sort(1).values
    import numpy as np
    import torch

    return torch.from_numpy(np.sort(rows.numpy(), axis=1))


def _of(source: Source, what: str, names: tuple[str, ...]) -> tuple[Quantity, ...]:
    meaning = f"quantiles of the {what}: 1, 5, 25, 50, 75, 95 and 99 %; of more than {SAMPLE:,} values, those of a fixed sample of so many"
    return tuple(Quantity(name, meaning, source, sample, quantiles, row=row) for row, name in enumerate(names))


QUANTITIES = (
    *_of(
        "activation",
        "activations",
        ("activation_q01", "activation_q05", "activation_q25", "activation_q50", "activation_q75", "activation_q95", "activation_q99"),
    ),
    *_of(
        "gradient",
        "signal gradients, as in `gradient_variance`",
        ("gradient_q01", "gradient_q05", "gradient_q25", "gradient_q50", "gradient_q75", "gradient_q95", "gradient_q99"),
    ),
    *_of(
        "weight",
        "weights",
        ("weight_q01", "weight_q05", "weight_q25", "weight_q50", "weight_q75", "weight_q95", "weight_q99"),
    ),
)
