"""A plain convolutional network: convolution, norm, activation and pooling for each entry of `channels`, then a linear head."""

from collections import OrderedDict

from torch import nn

from initbench.errors import ConfigError
from initbench.nn.blocks import activation as named_activation
from initbench.nn.blocks import is_non_decreasing, one_of, share, whole_numbers

GROUPS = 8
"""Groups of a group norm; a layer whose channels it does not divide takes the largest smaller number that does."""


def build(
    shape: tuple[int, ...],
    classes: int,
    *,
    channels: list[int] | tuple[int, ...] = (16, 32),
    kernel: int = 3,
    pooling: str = "max",
    activation: str = "relu",
    norm: str = "none",
    head: str = "flatten",
    bias: bool = True,
    dropout: float = 0.0,
) -> nn.Sequential:
    """A plain convolutional network: convolution, norm, activation and pooling for each entry of `channels`, then a linear head.

    Weight layers are conv1, conv2, ..., head. `kernel` is odd and keeps the size; `pooling` (none, max or avg) halves it, until
    nothing is left to halve; `norm` is none, batch, group or layer; `head` is flatten, or global for the mean over
    positions; `dropout` comes before the head. Max pooling stands before an activation that never decreases: the
    values and gradients are the same and it is faster, but the activations measured are then those that were pooled.
    """
    if len(shape) != 3:
        raise ConfigError(f"The model cnn takes images, not inputs of shape {tuple(shape)}.")
    sizes = whole_numbers("cnn channels", channels, smallest=1)
    if kernel not in range(1, 100, 2):
        raise ConfigError(f"cnn kernel is {kernel}. Allowed: odd whole numbers from 1.")
    one_of("cnn pooling", pooling, ("none", "max", "avg"))
    one_of("cnn norm", norm, ("none", "batch", "group", "layer"))
    one_of("cnn head", head, ("flatten", "global"))
    make = named_activation(activation)
    early = pooling == "max" and is_non_decreasing(make())
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    before, height, width = shape
    for number, size in enumerate(sizes, start=1):
        layers[f"conv{number}"] = nn.Conv2d(before, size, kernel, padding=kernel // 2, bias=bias)
        if norm != "none":
            layers[f"norm{number}"] = _norm(norm, size)
        pool = _pool(pooling) if min(height, width) >= 2 else None
        if pool is not None and early:
            layers[f"pool{number}"] = pool
        layers[f"activation{number}"] = make()
        if pool is not None and not early:
            layers[f"pool{number}"] = pool
        if pool is not None and pooling != "none":
            height, width = height // 2, width // 2
        before = size
    if head == "global":
        layers["mean"] = nn.AdaptiveAvgPool2d(1)
        height = width = 1
    layers["flatten"] = nn.Flatten()
    if share("cnn dropout", dropout):
        layers["dropout"] = nn.Dropout(dropout)
    layers["head"] = nn.Linear(before * height * width, classes, bias=bias)
    return nn.Sequential(layers)


def _pool(pooling: str) -> nn.Module | None:
    return {"none": None, "max": nn.MaxPool2d(2), "avg": nn.AvgPool2d(2)}[pooling]


def _norm(norm: str, channels: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    groups = 1 if norm == "layer" else next(number for number in range(min(GROUPS, channels), 0, -1) if channels % number == 0)
    return nn.GroupNorm(groups, channels)
