"""A small U-Net: down by pooling, up by transposed convolutions, with skips between."""

from typing import Literal

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError
from initbench.nn.blocks import one_of, whole_numbers

TASKS = ("segmentation",)
NORM_CHOICES = ("none", "batch", "group")
GROUPS = 4
"""Groups of channels of a group norm."""


def build(
    shape: tuple[int, ...], classes: int, *, depth: int = 3, width: int = 16, norm: Literal["none", "batch", "group"] = "none"
) -> nn.Module:
    """U-Net: `depth` levels of two 3 x 3 convolutions with ReLU, twice as many channels at each, and back with skips.

    Takes images (N, C, H, W) and gives logits (N, classes, H, W). `width` is the number of channels of the first level.
    Raises: ConfigError for sizes that cannot be halved so often, or split into groups.

    Source: Ronneberger, Fischer & Brox 2015, with padding, so that sizes stay.
    """
    if len(shape) != 3:
        raise ConfigError(f"A unet takes images (C, H, W), not {shape}. Try --dataset shapes.")
    whole_numbers("unet depth", depth, smallest=1, largest=8)
    whole_numbers("unet width", width, smallest=1)
    one_of("unet norm", norm, NORM_CHOICES)
    factor = 2 ** (depth - 1)
    if shape[1] % factor or shape[2] % factor:
        raise ConfigError(
            f"Images of {shape[1]} x {shape[2]} pixels cannot be halved {depth - 1} times. Give unet:depth=N with a smaller N."
        )
    if norm == "group" and width % GROUPS:
        raise ConfigError(f"A unet's width {width} cannot be split into {GROUPS} groups of channels. Give a multiple of {GROUPS}.")
    return UNet(shape[0], classes, depth, width, norm)


class UNet(nn.Module):
    """Levels down, levels up, a 1 x 1 head."""

    def __init__(self, channels: int, classes: int, depth: int, width: int, norm: str) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth)]
        self.down = nn.ModuleList(_level(before, own, norm) for before, own in zip([channels, *widths], widths, strict=False))
        pairs = list(zip(widths[-2::-1], widths[:0:-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(below, own, 2, 2) for own, below in pairs)
        self.back = nn.ModuleList(_level(2 * own, own, norm) for own, _ in pairs)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> logits (N, classes, H, W)."""
        kept: list[Tensor] = []
        x = images
        for level in self.down:
            x = level(nn.functional.max_pool2d(x, 2) if kept else x)
            kept.append(x)
        for up, level, skip in zip(self.up, self.back, kept[-2::-1], strict=True):
            x = level(torch.cat([skip, up(x)], 1))
        return self.head(x)  # type: ignore[no-any-return]


def _level(before: int, own: int, norm: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, own):
        layers += [nn.Conv2d(channels, own, 3, padding=1), *_norm(norm, own), nn.ReLU()]
    return nn.Sequential(*layers)


def _norm(norm: str, channels: int) -> list[nn.Module]:
    if norm == "none":
        return []
    return [nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(GROUPS, channels)]
