"""The scheme `rai`."""

import math

import torch
from torch import Tensor, nn

from initbench.errors import DoesNotApply
from initbench.init.arguments import number
from initbench.init.assign import Law
from initbench.init.contract import InitContext, Layerwise
from initbench.init.structural import SchemePlan, Structural
from initbench.nn.layers import WeightLayer
from initbench.nn.naming import matches, parameters_of
from initbench.nn.seeds import generator as generator_for

FAMILY = "special"
ALIASES: dict[str, dict[str, object]] = {"randomized_asymmetric": {}}

STD = 0.6007
"""The constant with which the expected norm is kept, Lu et al. 2019, after eq. 24."""


def build(*, std: float = STD) -> Structural:
    """Randomized asymmetric: one positive weight in each unit, so that fewer ReLU units are born dead.

    The row [w, b] of each unit is N(0, std^2 / fan_in), then one of its fan_in + 1 entries, chosen at random, is replaced
    by a draw from Beta(2, 1), which is in (0, 1). Where a bias is missing, or init.bias or a pattern sets it, the entry
    is one of w. The filters of convolutions are the rows.

    Applies to: ReLU networks, above all deep and narrow ones, such as `mlp`.
    Needs: nothing.

    Source: Lu, Shin, Su & Karniadakis 2019 (Dying ReLU and Initialization), section 4.
    """
    deviation = number("std", std, above=0.0)

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        for layer in context.own_layers(model):
            if layer.activation not in {None, "relu"} and not layer.activation.startswith("leaky_relu"):
                raise DoesNotApply(f"'rai' is for ReLU networks, and {layer.activation} follows '{layer.name}'.")
        parameters = parameters_of(model).first

        def has_bias(layer: WeightLayer) -> bool:
            name = layer.bias or ""
            ruled = bool(context.rules.left_alone([name])) or any(matches(glob, None, [name]) for glob, _ in context.overrides)
            ours = context.rules.bias == "scheme" and layer.parts == 1 and not ruled
            return ours and name in parameters and parameters[name].requires_grad

        def replaced(layer: WeightLayer, rows: int, entries: int) -> tuple[Tensor, Tensor]:
            source = generator_for(context.seed, "rai", layer.parameter)
            where = torch.randint(entries, (rows,), generator=source, device="cpu")
            return where, torch.rand(rows, generator=source, dtype=torch.float32, device="cpu").sqrt()

        def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            s = deviation / math.sqrt(max(1, layer.fan_in))
            if not weight.numel():
                return Law("normal with Beta(2, 1)", s)
            rows = weight.normal_(0.0, s, generator=generator).view(weight.shape[0], -1)
            entries = rows.shape[1] + has_bias(layer)
            where, values = replaced(layer, rows.shape[0], entries)
            if entries == rows.shape[1]:
                rows.scatter_(1, where[:, None], values[:, None])
            else:
                hit = where < rows.shape[1]
                rows[hit, where[hit]] = values[hit]
            return _mixed(s, 1 / entries)

        def fill_bias(bias: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            s = deviation / math.sqrt(max(1, layer.fan_in))
            if not has_bias(layer):
                bias.zero_()
                return Law("constant", 0.0)
            bias.normal_(0.0, s, generator=generator)
            entries = math.prod(layer.weight.shape) // max(1, bias.numel()) + 1
            where, values = replaced(layer, bias.numel(), entries)
            hit = where == entries - 1
            bias[hit] = values[hit]
            return _mixed(s, 1 / entries)

        return SchemePlan(Layerwise("rai", fill, fill_bias))

    return Structural("rai", plan)


def _mixed(std: float, share: float) -> Law:
    """N(0, std^2) with a share of Beta(2, 1), whose mean is 2/3 and mean square 1/2."""
    mean = share * 2 / 3
    return Law("normal with Beta(2, 1)", math.sqrt((1 - share) * std**2 + share / 2 - mean**2), mean)
