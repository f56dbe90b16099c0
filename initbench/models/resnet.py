"""The residual network for small images of He et al. 2016, with 6n+2 layers (8 to 110), with or without norm."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from initbench.errors import ConfigError
from initbench.nn.blocks import MOST_LAYERS, Maker, one_of, whole_numbers
from initbench.nn.blocks import activation as named_activation
from initbench.nn.residual import PadShortcut, Residual

Norm = Literal["batch", "group", "layer", "none"]
NORM_CHOICES = ("batch", "group", "layer", "none")


def build(
    shape: tuple[int, ...],
    classes: int,
    *,
    depth: int = 20,
    width: int = 16,
    norm: Norm = "batch",
    shortcut: Literal["A", "B"] = "A",
    activation: str = "relu",
    bias: bool | None = None,
    preactivation: bool = False,
) -> nn.Module:
    """ResNet for CIFAR and MNIST: three stages of (depth - 2) / 6 blocks with width, 2 width and 4 width channels.

    `norm` layer is one group over all channels and pixels, group has groups of 8 channels or fewer. `shortcut` A pads with
    zeros, B projects with a 1x1 convolution. Convolutions have a bias where there is no norm, unless `bias` says otherwise.
    With `preactivation` the norm and the activation come before each convolution of a block and none after the sum.
    Raises: ConfigError for a depth that is not 6n+2 and for inputs that are not images of at least 8 x 8 pixels.

    Source: He, Zhang, Ren & Sun 2016 (Deep Residual Learning), section 4.2; preactivation: the same authors, 2016
    (Identity Mappings in Deep Residual Networks), section 4.
    """
    whole_numbers("resnet depth", depth, smallest=8, largest=MOST_LAYERS)
    if depth < 8 or (depth - 2) % 6:
        near = max(8, 6 * round((depth - 2) / 6) + 2)
        raise ConfigError(f"A resnet has 6n+2 layers (8, 14, 20, ... 110), not {depth}. Try resnet:depth={near}.")
    whole_numbers("resnet width", width, smallest=1)
    one_of("resnet norm", norm, NORM_CHOICES)
    one_of("resnet shortcut", shortcut, ("A", "B"))
    if len(shape) != 3 or min(shape[1:]) < 8:
        raise ConfigError(f"A resnet takes images (C, H, W) of at least 8 x 8 pixels, not {shape}. Use mlp or residual_mlp.")
    parts = Parts(norm, named_activation(activation), shortcut, bias=norm == "none" if bias is None else bias, preactivation=preactivation)
    return ResNet(shape[0], classes, (depth - 2) // 6, width, parts)


@dataclass(frozen=True)
class Parts:
    """What the blocks of one network are made of."""

    norm: Norm
    activation: Maker
    shortcut: str
    bias: bool
    preactivation: bool


class ResNet(nn.Module):
    """Stem, three stages of residual blocks, the mean over all pixels, head."""

    def __init__(self, channels: int, classes: int, blocks: int, width: int, parts: Parts) -> None:
        super().__init__()
        stem = _conv(channels, width, 1, parts)
        self.stem = nn.Sequential(stem) if parts.preactivation else nn.Sequential(stem, *_norm_and_activation(width, parts))
        stages = []
        before = width
        for stage in range(3):
            after = width * 2**stage
            for block in range(blocks):
                stages.append(_block(before, after, 2 if stage and not block else 1, parts))
                before = after
        self.blocks = nn.Sequential(*stages)
        self.final = nn.Sequential(*(_norm_and_activation(before, parts) if parts.preactivation else ()))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(before, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> logits (N, classes)."""
        return self.head(self.pool(self.final(self.blocks(self.stem(images)))).flatten(1))  # type: ignore[no-any-return]


def _block(before: int, after: int, stride: int, parts: Parts) -> Residual:
    first, second = _conv(before, after, stride, parts), _conv(after, after, 1, parts)
    if parts.preactivation:
        branch = nn.Sequential(*_norm_and_activation(before, parts), first, *_norm_and_activation(after, parts), second)
    else:
        branch = nn.Sequential(first, *_norm_and_activation(after, parts), second, *_norm(parts.norm, after))
    skip: nn.Module | None = None
    if stride != 1 or before != after:
        if parts.shortcut == "A":
            skip = PadShortcut(stride, after - before)
        else:
            projection = nn.Conv2d(before, after, 1, stride, bias=parts.bias)
            skip = nn.Sequential(projection, *(() if parts.preactivation else _norm(parts.norm, after)))
    return Residual(branch, skip, None if parts.preactivation else parts.activation())


def _norm_and_activation(channels: int, parts: Parts) -> list[nn.Module]:
    return [*_norm(parts.norm, channels), parts.activation()]


def _conv(before: int, after: int, stride: int, parts: Parts) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=parts.bias)


def _norm(norm: Norm, channels: int) -> list[nn.Module]:
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    if norm == "layer":
        return [nn.GroupNorm(1, channels)]
    if norm == "group":
        size = next(size for size in (8, 4, 2, 1) if channels % size == 0)
        return [nn.GroupNorm(channels // size, channels)]
    return []
