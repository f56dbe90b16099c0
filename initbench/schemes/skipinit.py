"""The scheme `skipinit`."""

from torch import nn

from initbench.init.arguments import number
from initbench.init.contract import InitContext, Need
from initbench.init.structural import Number, SchemePlan, Structural, layerwise
from initbench.init.suitability import require_branches

FAMILY = "residual"
EXAMPLE_MODEL = "resnet:depth=8,norm=none"
ALIASES: dict[str, dict[str, object]] = {}


def build(*, alpha: float | None = 0.0, base: str = "kaiming") -> Structural:
    """A learnable scalar at the end of each residual branch, zero at start, replaces the norm.

    x + alpha f(x) with one trainable alpha a branch; it starts at `alpha` (null: 1/sqrt(L) for L branches, the other
    value of the paper). All weights follow `base` (He normal, fan_in), b = 0. Layers should have biases.

    Applies to: residual networks, meant for those without norm, such as `resnet:depth=8,norm=none`.
    Needs: model hooks (it changes the forward pass itself).

    Source: De & Smith 2020 (Batch Normalization Biases Residual Blocks Towards the Identity Function), section 4.
    """
    start = None if alpha is None else number("alpha", alpha)
    laws = layerwise(base)

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        branches = require_branches("skipinit", model, context.layers)
        value = len(branches) ** -0.5 if start is None else start
        return SchemePlan(laws, tuple(Number(branch.end, branch.slot, value, trainable=True) for branch in branches))

    return Structural("skipinit", plan, frozenset({Need.HOOKS}))
