"""The scheme `stable_resnet`."""

import math
from typing import Literal

from torch import nn

from initbench.init.arguments import choose
from initbench.init.contract import InitContext, Need
from initbench.init.structural import Number, SchemePlan, Structural, layerwise
from initbench.init.suitability import require_branches

FAMILY = "residual"
EXAMPLE_MODEL = "resnet:depth=8,norm=none"
ALIASES: dict[str, dict[str, object]] = {}

Scaling = Literal["uniform", "decreasing"]


def build(*, scaling: Scaling = "uniform", base: str = "kaiming") -> Structural:
    """Residual sums x + lambda_l f(x), the squares of the fixed lambda_l of bounded sum: signal and gradient stay stable.

    uniform: lambda_l = 1/sqrt(L); decreasing: lambda_l = 1 / (sqrt(l) log(l + 1)) for l = 1 ... L. The multipliers stay
    in the forward pass; weights follow `base` (He normal), b = 0.

    Applies to: residual networks, such as `resnet:depth=8,norm=none`.
    Needs: model hooks (it changes the forward pass itself).

    Source: Hayou et al. 2021 (Stable ResNet), where both scalings are defined.
    """
    choose("scaling", scaling, Scaling)
    laws = layerwise(base)

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        branches = require_branches("stable_resnet", model, context.layers)
        count = len(branches)
        factors = [count**-0.5 if scaling == "uniform" else 1 / (math.sqrt(index) * math.log(index + 1)) for index in range(1, count + 1)]
        numbers = (Number(branch.end, branch.slot, factor) for branch, factor in zip(branches, factors, strict=True))
        return SchemePlan(laws, tuple(numbers))

    return Structural("stable_resnet", plan, frozenset({Need.HOOKS}))
