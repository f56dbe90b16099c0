"""The scheme `zero_gamma`."""

import torch
from torch import Tensor, nn

from initbench.errors import DoesNotApply
from initbench.init.arguments import choose, number
from initbench.init.assign import Law
from initbench.init.contract import InitContext, Layerwise
from initbench.init.sampling import Mode, constant, sample, scaled
from initbench.init.structural import SchemePlan, Structural, head_of
from initbench.init.suitability import refuse_stuck, require_branches
from initbench.nn.layers import WeightLayer

FAMILY = "residual"
EXAMPLE_MODEL = "resnet:depth=8"
ALIASES: dict[str, dict[str, object]] = {"zero_init_residual": {}, "zero_init_last": {}}


def build(*, mode: Mode = "fan_out", head_std: float | None = 0.01) -> Structural:
    """The last norm of each residual branch starts at gamma = 0: every block is its skip path at start.

    Other weights are He normal (gain sqrt 2; `mode` fan_out, as in the usual implementations), the head is N(0,
    head_std^2) (null: He like the rest), b = 0, other norms 1 and 0.

    Applies to: residual networks whose branches end in a norm with a weight, such as `resnet:depth=8`.
    Needs: nothing.

    Source: Goyal et al. 2017 (Accurate, Large Minibatch SGD), section 5.1.
    """
    choose("mode", mode, Mode)
    deviation = None if head_std is None else number("head_std", head_std, least=0.0)

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        branches = require_branches("zero_gamma", model, context.layers)
        refuse_stuck("zero_gamma", branches)
        missing = [branch.name for branch in branches if getattr(branch.last_norm, "weight", None) is None]
        if missing:
            raise DoesNotApply(f"'zero_gamma' needs a norm with a weight at the end of each branch; '{missing[0]}' has none.")
        last_norms = {id(branch.last_norm) for branch in branches}
        head = head_of(context.layers, branches)

        def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            if deviation is not None and head is not None and layer.parameter == head.parameter:
                return sample(weight, "normal", deviation, generator)
            return scaled(weight, layer, generator, gain=2**0.5, mode=mode)

        def fill_rest(short: str, values: Tensor, module: nn.Module, _: torch.Generator) -> Law | None:
            return constant(values, 0.0) if short == "weight" and id(module) in last_norms else None

        return SchemePlan(Layerwise("zero_gamma", fill, fill_rest=fill_rest))

    return Structural("zero_gamma", plan)
