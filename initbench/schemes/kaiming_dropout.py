"""The scheme `kaiming_dropout`."""

import math

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError
from initbench.init.arguments import choose, number
from initbench.init.assign import Law
from initbench.init.contract import InitContext, Layerwise
from initbench.init.sampling import Distribution, scaled
from initbench.init.structural import SchemePlan, Structural
from initbench.nn.layers import WeightLayer
from initbench.nn.operations import DROPOUTS
from initbench.question.config import parse_ref

FAMILY = "variance scaling"
EXAMPLE_MODEL = "mlp:dropout=0.2"
ALIASES: dict[str, dict[str, object]] = {"dropout_aware": {}, "he_dropout": {}}

DROPOUT_MODULES = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def build(*, p: float | str = "auto", distribution: Distribution = "normal") -> Structural:
    """He's variance for ReLU layers behind dropout: Var W = 2 (1 - p) / fan_in.

    Dropout with probability p (kept values divided by 1 - p, as torch does) multiplies the second moment of what a layer
    is fed by 1 / (1 - p); this takes it back. `p` is a number for every layer, or `auto`: the dropout that stands between
    a layer and the one before it (several multiply), none before the first layer unless one stands there. b = 0. Without
    dropout it is `kaiming`.

    Applies to: any weight layer; meant for ReLU networks with dropout, such as `mlp:dropout=0.2`.
    Needs: nothing.

    Source: Pretorius et al. 2018, eq. 11: the critical initialization sigma_w^2 = 2 / mu_2, with mu_2 = 1 / (1 - p).
    """
    choose("distribution", distribution, Distribution)
    if isinstance(p, str) and p != "auto":
        raise ConfigError(f"p is '{p}'. Give a number or auto.")
    fixed = None if isinstance(p, str) else number("p", p, least=0.0, most=0.999)

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        kept = kept_before(model, context.layers)

        def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            share = kept[layer.parameter] if fixed is None else 1 - fixed
            return scaled(weight, layer, generator, gain=math.sqrt(2 * share), distribution=distribution)

        return SchemePlan(Layerwise("kaiming_dropout", fill))

    return Structural("kaiming_dropout", plan)


def kept_before(model: nn.Module, layers: tuple[WeightLayer, ...]) -> dict[str, float]:
    """For each weight the share that dropout keeps of its input.

    It is the product over what the signal passes on its way; where the model has not been run, over the dropout modules
    registered since the weight before.
    """
    weights = {id(layer.module): layer for layer in layers}
    kept, share = {}, 1.0
    for module in model.modules():
        if isinstance(module, DROPOUT_MODULES):
            share *= 1 - module.p
        elif id(module) in weights:
            for layer in layers:
                if layer.module is module:
                    kept[layer.parameter] = share
            share = 1.0
    return {layer.parameter: _kept_on_the_way(layer) if layer.surroundings.uses else kept.get(layer.parameter, 1.0) for layer in layers}


def _kept_on_the_way(layer: WeightLayer) -> float:
    steps = [parse_ref(step) for step in layer.surroundings.path]
    return math.prod(1 - float(step.params.get("p", 0.0)) for step in steps if step.name in DROPOUTS)
