"""Figures of the numbers of a tensor in double precision, a part at a time: no wide copy of a large weight is made."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

PART = 2**18
"""Numbers that are widened at once."""


def in_parts(values: Tensor) -> Iterator[Tensor]:
    """The numbers in their order, as float64 (complex ones as complex128), so many at a time."""
    flat = values.detach().reshape(-1)
    for start in range(0, len(flat), PART):
        part = flat[start : start + PART]
        yield part.cpu().to(torch.complex128 if part.is_complex() else torch.float64)


def mean_and_std(values: Tensor) -> tuple[float, float]:
    """The mean and the standard deviation (of the population) of real numbers; NaN where there are none."""
    count = values.numel()
    if not count:
        return math.nan, math.nan
    mean = sum(part.sum().item() for part in in_parts(values)) / count
    return mean, math.sqrt(central_moment(values, mean, 2))


def central_moment(values: Tensor, mean: float, power: int) -> float:
    """The mean of (value - mean) to a power, of real numbers."""
    return sum((part - mean).pow_(power).sum().item() for part in in_parts(values)) / values.numel()
