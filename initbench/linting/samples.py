"""Two samples of numbers: whether they are of one law, and whether they have anything to do with each other."""

import math

import torch
from torch import Tensor

from initbench.linting.builds import is_constant
from initbench.nn.numbers import central_moment, mean_and_std

MOST = 20_000
"""Numbers of each whose distributions are compared."""


def differ(one: Tensor, other: Tensor, limit: float) -> bool:
    """Whether two samples have another std, or another distribution, than chance gives: so many standard errors, or as unlikely."""
    (std, error), (second, second_error) = _std(one), _std(other)
    if abs(std - second) > limit * math.hypot(error, second_error):
        return True
    left, right = (values.flatten()[:: max(1, values.numel() // MOST)].double().sort().values for values in (one, other))
    points = torch.cat([left, right])
    distance = (torch.searchsorted(left, points, right=True) / len(left) - torch.searchsorted(right, points, right=True) / len(right)).abs()
    chance = math.erfc(limit / math.sqrt(2))
    return bool(distance.max() > math.sqrt(-math.log(chance / 2) / 2 * (1 / len(left) + 1 / len(right))))


def correlation(one: Tensor, other: Tensor) -> float:
    """How far two tensors of one shape go together, from -1 to 1; 0 where one is constant."""
    if is_constant(one) or is_constant(other):
        return 0.0
    left, right = (values.flatten().double() - values.double().mean() for values in (one, other))
    return float((left * right).sum() / (left.norm() * right.norm()))


def spread(values: Tensor) -> str:
    """What a sample is in short: its std, or the one number that it holds."""
    if values.numel() and bool((values == values.flatten()[0]).all()):
        return f"all {values.flatten()[0].item():.4g}"
    return f"std {_std(values)[0]:.4g}"


def _std(values: Tensor) -> tuple[float, float]:
    """The standard deviation, and its standard error by the fourth moment, whatever the law."""
    count = values.numel()
    if count < 2:
        return 0.0, 0.0
    mean, std = mean_and_std(values)
    if not std:
        return 0.0, 0.0
    spread_of_squares = math.sqrt(max(0.0, central_moment(values, mean, 4) - std**4) * count / (count - 1))
    return std, spread_of_squares / (2 * std * math.sqrt(count))
