"""The laws that schemes draw from; each named scheme of the variance scaling family is one call of `variance_scaling`."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from initbench.errors import ConfigError
from initbench.nn.assign import Law
from initbench.nn.layers import WeightLayer

Distribution = Literal["normal", "uniform", "trunc_normal"]
Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]

STD_OF_NORMAL_CUT_AT_2 = 0.87962566103423978
"""Standard deviation of N(0, 1) restricted to [-2, 2]."""


def choose(what: str, given: str, allowed: object) -> None:
    """Raises: ConfigError unless `given` is one of the values of the Literal type `allowed`."""
    if given not in get_args(allowed):
        raise ConfigError(f"{what} is '{given}'. Allowed: {', '.join(get_args(allowed))}.")


def fan(layer: WeightLayer, mode: Mode) -> float:
    """The number of connections that `mode` counts, at least 1."""
    numbers = {
        "fan_in": layer.fan_in,
        "fan_out": layer.fan_out,
        "fan_avg": (layer.fan_in + layer.fan_out) / 2,
        "fan_geo_avg": math.sqrt(layer.fan_in * layer.fan_out),
    }
    return max(1.0, numbers[mode])


def sample(weight: Tensor, distribution: Distribution, std: float, generator: torch.Generator) -> Law:
    """Fills with zero mean and standard deviation `std`, whatever the distribution; truncation is at 2 parent deviations."""
    if distribution == "normal":
        weight.normal_(0.0, std, generator=generator)
    elif distribution == "uniform":
        bound = math.sqrt(3.0) * std
        weight.uniform_(-bound, bound, generator=generator)
    else:
        truncated(weight, std / STD_OF_NORMAL_CUT_AT_2, generator)
    return Law(distribution, std)


def truncated(weight: Tensor, std: float, generator: torch.Generator) -> None:
    """Fills with N(0, std^2) restricted to two standard deviations, by the inverse distribution function.

    Not torch's `trunc_normal_`, whose algorithm and so whose numbers changed with torch 2.15.
    """
    edge = math.erf(math.sqrt(2.0))
    weight.uniform_(-edge, edge, generator=generator).erfinv_().mul_(math.sqrt(2.0) * std).clamp_(-2 * std, 2 * std)


def variance_scaling(
    weight: Tensor,
    layer: WeightLayer,
    generator: torch.Generator,
    *,
    scale: float,
    mode: Mode = "fan_in",
    distribution: Distribution = "normal",
) -> Law:
    """Fills with variance `scale` / fan."""
    return sample(weight, distribution, math.sqrt(scale / fan(layer, mode)), generator)
