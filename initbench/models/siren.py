"""A network of sines, for functions of few numbers such as an image by its coordinates."""

import math
from collections import OrderedDict

from torch import nn

from initbench.errors import ConfigError
from initbench.nn.blocks import MOST_LAYERS, Sin, whole_numbers

TASKS = ("regression",)


def build(shape: tuple[int, ...], classes: int, *, depth: int = 3, width: int = 64, omega: float = 30.0) -> nn.Module:
    """SIREN: `depth` hidden layers of `width` units, each sin(omega (W x + b)), and a linear head of `classes` numbers.

    Raises: ConfigError for sizes below 1 and an omega that is not above 0.

    Source: Sitzmann et al. 2020; the scheme `siren` is made for it.
    """
    whole_numbers("siren depth", depth, smallest=1, largest=MOST_LAYERS)
    whole_numbers("siren width", width, smallest=1)
    if isinstance(omega, bool) or not isinstance(omega, int | float) or not 0 < omega < math.inf:
        raise ConfigError(f"The omega of a siren is {omega}. Give a number above 0, such as 30.")
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    before = math.prod(shape)
    for number in range(1, depth + 1):
        layers[f"linear{number}"] = nn.Linear(before, width)
        layers[f"activation{number}"] = Sin(float(omega))
        before = width
    layers["head"] = nn.Linear(before, classes)
    return nn.Sequential(layers)
