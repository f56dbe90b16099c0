"""The residual network for small images of He et al. 2016, with 6n+2 layers (8 to 110), with or without norm."""

from typing import Literal

from torch import Tensor, nn

from initbench.errors import ConfigError
from initbench.models.activations import Maker, one_of, whole_numbers
from initbench.models.activations import activation as named_activation
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
) -> nn.Module:
    """ResNet for CIFAR and MNIST: three stages of (depth - 2) / 6 blocks with width, 2 width and 4 width channels.

    `norm` layer is one group over all channels and pixels, group has groups of 8 channels or fewer. `shortcut` A pads with
    zeros, B projects with a 1x1 convolution. Convolutions have a bias where there is no norm, unless `bias` says otherwise.
    Raises: ConfigError for a depth that is not 6n+2 and for inputs that are not images of at least 8 x 8 pixels.

    Source: He, Zhang, Ren & Sun 2016, section 4.2.
    """
    whole_numbers("resnet depth", depth, smallest=8)
    if depth < 8 or (depth - 2) % 6:
        near = max(8, 6 * round((depth - 2) / 6) + 2)
        raise ConfigError(f"A resnet has 6n+2 layers (8, 14, 20, ... 110), not {depth}. Try resnet:depth={near}.")
    whole_numbers("resnet width", width, smallest=1)
    one_of("resnet norm", norm, NORM_CHOICES)
    one_of("resnet shortcut", shortcut, ("A", "B"))
    if len(shape) != 3 or min(shape[1:]) < 8:
        raise ConfigError(f"A resnet takes images (C, H, W) of at least 8 x 8 pixels, not {shape}. Use mlp or residual_mlp.")
    with_bias = norm == "none" if bias is None else bias
    return ResNet(shape[0], classes, (depth - 2) // 6, width, norm, shortcut, named_activation(activation), with_bias=with_bias)


class ResNet(nn.Module):
    """Stem, three stages of residual blocks, the mean over all pixels, head."""

    def __init__(
        self, channels: int, classes: int, blocks: int, width: int, norm: Norm, shortcut: str, activation: Maker, *, with_bias: bool
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(channels, width, 1, with_bias), *_norm(norm, width), activation())
        stages = []
        before = width
        for stage in range(3):
            after = width * 2**stage
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                stages.append(_block(before, after, stride, norm, shortcut, activation, with_bias))
                before = after
        self.blocks = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(before, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> logits (N, classes)."""
        return self.head(self.pool(self.blocks(self.stem(images))).flatten(1))  # type: ignore[no-any-return]


def _block(before: int, after: int, stride: int, norm: Norm, shortcut: str, activation: Maker, bias: bool) -> Residual:  # noqa: FBT001
    branch = nn.Sequential(
        _conv(before, after, stride, bias),
        *_norm(norm, after),
        activation(),
        _conv(after, after, 1, bias),
        *_norm(norm, after),
    )
    skip: nn.Module | None = None
    if stride != 1 or before != after:
        if shortcut == "A":
            skip = PadShortcut(stride, after - before)
        else:
            skip = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=bias), *_norm(norm, after))
    return Residual(branch, skip, activation())


def _conv(before: int, after: int, stride: int, bias: bool) -> nn.Conv2d:  # noqa: FBT001
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=bias)


def _norm(norm: Norm, channels: int) -> list[nn.Module]:
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    if norm == "layer":
        return [nn.GroupNorm(1, channels)]
    if norm == "group":
        size = next(size for size in (8, 4, 2, 1) if channels % size == 0)
        return [nn.GroupNorm(channels // size, channels)]
    return []
