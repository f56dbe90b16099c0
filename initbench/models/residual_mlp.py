"""The simplest residual network: a stem, blocks x + branch(x) of one width, a head."""

from typing import Literal

from torch import Tensor, nn

from initbench.nn.blocks import MOST_LAYERS, Maker, one_of, whole_numbers
from initbench.nn.blocks import activation as named_activation
from initbench.nn.residual import Residual

NORM_CHOICES = ("none", "layer", "batch")


def build(
    shape: tuple[int, ...],
    classes: int,
    *,
    depth: int = 10,
    width: int = 128,
    branch_layers: int = 2,
    activation: str = "relu",
    norm: Literal["none", "layer", "batch"] = "none",
) -> nn.Module:
    """Residual MLP with `depth` pre-activation blocks; each branch is `branch_layers` times [norm,] activation, linear.

    The plainest model for residual schemes: with He weights and no norm the variance doubles at each block.
    Raises: ConfigError for sizes below 1 and unknown norms.

    Source: the pre-activation order is that of He, Zhang, Ren & Sun 2016 (Identity Mappings in Deep Residual Networks).
    """
    whole_numbers("residual_mlp width", width, smallest=1)
    for what, given in (("depth", depth), ("branch_layers", branch_layers)):
        whole_numbers(f"residual_mlp {what}", given, smallest=1, largest=MOST_LAYERS)
    one_of("residual_mlp norm", norm, NORM_CHOICES)
    features = 1
    for size in shape:
        features *= size
    return ResidualMLP(features, classes, depth, width, branch_layers, named_activation(activation), norm)


class ResidualMLP(nn.Module):
    """Linear stem, residual blocks, [norm,] activation, linear head."""

    def __init__(self, features: int, classes: int, depth: int, width: int, branch_layers: int, activation: Maker, norm: str) -> None:
        super().__init__()

        def layer() -> list[nn.Module]:
            return [*_norm(norm, width), activation(), nn.Linear(width, width)]

        self.stem = nn.Linear(features, width)
        self.blocks = nn.Sequential(
            *(Residual(nn.Sequential(*(part for _ in range(branch_layers) for part in layer()))) for _ in range(depth))
        )
        self.final = nn.Sequential(*_norm(norm, width), activation())
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> logits (N, classes); inputs are flattened."""
        return self.head(self.final(self.blocks(self.stem(x.flatten(1)))))  # type: ignore[no-any-return]


def _norm(norm: str, width: int) -> list[nn.Module]:
    if norm == "none":
        return []
    return [nn.LayerNorm(width) if norm == "layer" else nn.BatchNorm1d(width)]
