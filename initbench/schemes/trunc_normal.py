"""The scheme `trunc_normal`."""

from typing import Literal

import torch
from torch import Tensor

from initbench.errors import ConfigError
from initbench.init.arguments import choose, number
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import mass_within, truncated
from initbench.nn.layers import WeightLayer

FAMILY = "elementary"
ALIASES: dict[str, dict[str, object]] = {"truncated_normal": {}, "trunc_normal_tf": {"cut": "std"}}

Cut = Literal["absolute", "std"]


def build(*, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, cut: Cut = "absolute") -> Layerwise:
    """N(mean, std^2) restricted to [a, b].

    W ~ N(mean, std^2) given a <= W <= b, b = 0. With `cut=absolute` a and b are values, as in torch: std=0.02 with a=-2
    and b=2 cuts at 100 standard deviations, so never. With `cut=std` they are standard deviations from the mean, as in
    Keras and timm's `trunc_normal_tf_`. The report's target std is that after the cut (0.8796 std at two of them).

    Applies to: any weight layer.
    Needs: nothing.

    Source: torch.nn.init.trunc_normal_, the same law; the numbers differ, as torch's own do from version to version.
    """
    choose("cut", cut, Cut)
    centre, deviation = number("mean", mean), number("std", std, above=0.0)
    low, high = number("a", a), number("b", b)
    if cut == "std":
        low, high = centre + low * deviation, centre + high * deviation
    if low >= high:
        raise ConfigError(f"a is {a:g} and b is {b:g}. Give a below b.")
    if mass_within(centre, deviation, low, high) < 1e-100:
        raise ConfigError(f"N({centre:g}, {deviation:g}^2) has nothing between {low:g} and {high:g}. Move a and b towards the mean.")

    def fill(weight: Tensor, _: WeightLayer, generator: torch.Generator) -> Law:
        return truncated(weight, centre, deviation, low, high, generator)

    return Layerwise("trunc_normal", fill)
