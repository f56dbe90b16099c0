"""A small vision transformer for images of 28 x 28 or 32 x 32 pixels."""

from typing import Literal

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError
from initbench.nn.attention import SelfAttention
from initbench.nn.blocks import MOST_LAYERS, Maker, one_of, whole_numbers
from initbench.nn.blocks import activation as named_activation
from initbench.nn.residual import Residual

NORM_CHOICES = ("pre", "post", "none")


def build(
    shape: tuple[int, ...],
    classes: int,
    *,
    depth: int = 6,
    width: int = 128,
    heads: int = 4,
    patch: int = 4,
    mlp_ratio: float = 2.0,
    norm: Literal["pre", "post", "none"] = "pre",
    activation: str = "gelu",
) -> nn.Module:
    """Vision transformer: patches, learned positions, `depth` layers of attention and MLP, the mean over all tokens, head.

    `norm` pre is x + f(norm(x)), post is norm(x + f(x)), none has no norm anywhere. The names of the patch and position
    embeddings contain `embedding`, so they keep their construction values unless init.exclude is emptied.
    Raises: ConfigError for sizes that do not fit each other.

    Source: Dosovitskiy et al. 2021; the mean over tokens instead of a class token as in Zhai et al. 2022.
    """
    if len(shape) != 3:
        raise ConfigError(f"A vit takes images (C, H, W), not {shape}. Use mlp or residual_mlp.")
    whole_numbers("vit depth", depth, smallest=1, largest=MOST_LAYERS)
    for what, given in (("width", width), ("heads", heads), ("patch", patch)):
        whole_numbers(f"vit {what}", given, smallest=1)
    if width % heads:
        raise ConfigError(f"A vit's width {width} cannot be split into {heads} heads. Give a multiple of {heads}.")
    if shape[1] % patch or shape[2] % patch:
        raise ConfigError(
            f"Images of {shape[1]} x {shape[2]} pixels cannot be cut into patches of {patch}. Give vit:patch=N that divides both."
        )
    if mlp_ratio <= 0 or round(width * mlp_ratio) < 1:
        raise ConfigError(f"The mlp_ratio of a vit is {mlp_ratio}. Give a number above 0.")
    one_of("vit norm", norm, NORM_CHOICES)
    hidden, make = round(width * mlp_ratio), named_activation(activation)
    tokens = (shape[1] // patch) * (shape[2] // patch)
    return VisionTransformer(shape[0], classes, tokens, depth, width, heads, patch, hidden, norm, make)


class VisionTransformer(nn.Module):
    """Patch embedding, position embedding, transformer layers, mean over tokens, head."""

    def __init__(
        self,
        channels: int,
        classes: int,
        tokens: int,
        depth: int,
        width: int,
        heads: int,
        patch: int,
        hidden: int,
        norm: str,
        activation: Maker,
    ) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(channels, width, patch, patch)
        self.position_embedding = nn.Parameter(torch.randn(1, tokens, width) * POSITION_STD)
        self.blocks = nn.Sequential(*(_layer(width, heads, hidden, norm, activation) for _ in range(depth)))
        self.norm = nn.LayerNorm(width) if norm == "pre" else nn.Identity()
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> logits (N, classes)."""
        tokens = self.patch_embedding(images).flatten(2).transpose(1, 2) + self.position_embedding
        return self.head(self.norm(self.blocks(tokens)).mean(dim=1))  # type: ignore[no-any-return]


POSITION_STD = 0.02
"""Standard deviation of the position embedding at construction, as in Dosovitskiy et al. 2021."""


def _layer(width: int, heads: int, hidden: int, norm: str, activation: Maker) -> nn.Sequential:
    attention = nn.Sequential(*_before(norm, width), SelfAttention(width, heads))
    mlp = nn.Sequential(*_before(norm, width), nn.Linear(width, hidden), activation(), nn.Linear(hidden, width))
    return nn.Sequential(
        Residual(attention, after=nn.LayerNorm(width) if norm == "post" else None),
        Residual(mlp, after=nn.LayerNorm(width) if norm == "post" else None),
    )


def _before(norm: str, width: int) -> list[nn.Module]:
    return [nn.LayerNorm(width)] if norm == "pre" else []
