"""A deep autoencoder of linear layers: the classic test of sparse, orthogonal and data-driven initialization."""

import math
from collections import OrderedDict
from itertools import pairwise

from torch import nn

from initbench.errors import ConfigError
from initbench.nn.blocks import activation as named_activation
from initbench.nn.blocks import whole_numbers

TASKS = ("autoencoder",)
WIDTHS = (1000, 500, 250, 30)


def build(shape: tuple[int, ...], *, widths: list[int] | tuple[int, ...] = WIDTHS, activation: str = "sigmoid") -> nn.Module:
    """Deep autoencoder: hidden layers of `widths` down to a linear code, the same widths back up, an image of the shape given.

    All layers but the code and the last have the activation. Raises: ConfigError for widths that are no whole numbers from 1.

    Source: Hinton & Salakhutdinov 2006 (784-1000-500-250-30 for MNIST); Martens 2010, who trained it from sparse weights.
    """
    sizes = whole_numbers("autoencoder widths", widths, smallest=1)
    if not sizes:
        raise ConfigError("The widths of an autoencoder are empty. Give at least that of the code, such as [64,16].")
    make, pixels = named_activation(activation), math.prod(shape)
    whole = [pixels, *sizes, *sizes[-2::-1], pixels]
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for number, (before, after) in enumerate(pairwise(whole), start=1):
        code, last = number == len(sizes), number == len(whole) - 1
        layers["code" if code else "head" if last else f"linear{number}"] = nn.Linear(before, after)
        if not (code or last):
            layers[f"activation{number}"] = make()
    layers["image"] = nn.Unflatten(1, tuple(shape))
    return nn.Sequential(layers)
