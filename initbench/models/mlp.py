"""A multilayer perceptron: `depth` hidden layers of `width` units, each norm and activation, then a linear head."""

import math
from collections import OrderedDict

from torch import nn

from initbench.errors import ConfigError
from initbench.nn.blocks import MOST_LAYERS, one_of, share, whole_numbers
from initbench.nn.blocks import activation as named_activation

DEPTH, WIDTH = 3, 256
NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def build(
    shape: tuple[int, ...],
    classes: int,
    *,
    depth: int = 3,
    width: int = 256,
    widths: list[int] | None = None,
    activation: str = "relu",
    norm: str = "none",
    bias: bool = True,
    dropout: float = 0.0,
) -> nn.Sequential:
    """A multilayer perceptron: `depth` hidden layers of `width` units, each norm and activation, then a linear head.

    `depth` counts hidden layers, so there are depth + 1 weight layers: linear1, linear2, ..., head. `widths` (a list) gives
    each hidden layer its own width instead. `activation` is any of torch.nn, such as tanh or LeakyReLU(0.2); `norm` is
    none, batch or layer; `dropout` is the share of activations dropped.
    """
    if widths is not None and (depth, width) != (DEPTH, WIDTH):
        raise ConfigError("The model mlp has widths and also depth or width. Give widths, or depth and width.")
    whole_numbers("mlp depth", depth, smallest=0, largest=MOST_LAYERS)
    sizes = whole_numbers("mlp widths", [width] * depth if widths is None else widths, smallest=1)
    one_of("mlp norm", norm, ("none", *NORMS))
    share("mlp dropout", dropout)
    make = named_activation(activation)
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    before = math.prod(shape)
    for number, size in enumerate(sizes, start=1):
        layers[f"linear{number}"] = nn.Linear(before, size, bias=bias)
        if norm != "none":
            layers[f"norm{number}"] = NORMS[norm](size)
        layers[f"activation{number}"] = make()
        if dropout:
            layers[f"dropout{number}"] = nn.Dropout(dropout)
        before = size
    layers["head"] = nn.Linear(before, classes, bias=bias)
    return nn.Sequential(layers)
