"""The scheme `depth_scaled`."""

from dataclasses import replace
from typing import Literal

from torch import nn

from initbench.init.arguments import choose
from initbench.init.contract import InitContext
from initbench.init.structural import SchemePlan, Structural, layerwise, rescaled
from initbench.init.suitability import require_branches

FAMILY = "residual"
EXAMPLE_MODEL = "resnet:depth=8,norm=none"
ALIASES: dict[str, dict[str, object]] = {"scaled_residual": {}}

Rule = Literal["sqrt_l", "sqrt_2l"]


def build(*, rule: Rule = "sqrt_l", base: str = "kaiming") -> Structural:
    """The last weight of each residual branch is divided by sqrt(L), so the variance grows by e and not by 2^L.

    W of a branch's end follows `base` / sqrt(L) (`rule=sqrt_2l`: / sqrt(2 L)) with L the number of residual branches; all
    other weights follow `base`, b = 0. With He weights and no norm, L branches multiply the variance by (1 + 1/L)^L < e.
    Only the start is scaled; `stable_resnet` puts the same factor into the forward pass.

    Applies to: residual networks, such as `resnet:depth=8,norm=none`.
    Needs: nothing.

    Source: Hanin & Rolnick 2018 (a bounded sum of branch scales); Hayou et al. 2021 (Stable ResNet); Radford et al. 2019 count
    a transformer layer as L = 2 branches.
    """
    choose("rule", rule, Rule)
    laws = layerwise(base)

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        branches = require_branches("depth_scaled", model, context.layers)
        count = len(branches) * (2 if rule == "sqrt_2l" else 1)
        here = laws.for_model(model)
        fill = rescaled(here.fill, {branch.last.parameter: count**-0.5 for branch in branches})
        return SchemePlan(replace(here, fill=fill))

    return Structural("depth_scaled", plan)
