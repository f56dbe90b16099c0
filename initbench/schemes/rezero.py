"""The scheme `rezero`."""

import math

import torch
from torch import Tensor, nn

from initbench.init.arguments import number
from initbench.init.assign import Law
from initbench.init.contract import InitContext, Layerwise, Need
from initbench.init.sampling import scaled
from initbench.init.structural import Number, SchemePlan, Structural
from initbench.init.suitability import require_branches
from initbench.nn.layers import WeightLayer

FAMILY = "residual"
EXAMPLE_MODEL = "resnet:depth=8,norm=none"
ALIASES: dict[str, dict[str, object]] = {"re_zero": {}}


def build(*, gain: float = math.sqrt(2.0), alpha_lr: float = 1.0) -> Structural:
    """Residual sums x + alpha f(x) with a learnable alpha = 0 a branch: the identity at start, at any depth.

    W ~ N(0, gain^2 2 / (fan_in + fan_out)), b = 0; alpha starts at 0 and learns at `alpha_lr` times the rate. Norm layers
    may stay.

    Applies to: residual networks and transformers, with or without norm, such as `resnet:depth=8,norm=none`.
    Needs: model hooks (it changes the forward pass itself).

    Source: Bachlechner et al. 2020 (ReZero is All You Need), eq. 1; the law of the weights is that of the authors' fully
    connected networks (Xavier normal with gain sqrt 2).
    """
    factor, rate = number("gain", gain, least=0.0), number("alpha_lr", alpha_lr, least=0.0)

    def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
        return scaled(weight, layer, generator, gain=factor, mode="fan_avg")

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        branches = require_branches("rezero", model, context.layers)
        alphas = (Number(branch.end, branch.slot, 0.0, trainable=True, lr_multiplier=rate) for branch in branches)
        return SchemePlan(Layerwise("rezero", fill), tuple(alphas))

    return Structural("rezero", plan, frozenset({Need.HOOKS}))
