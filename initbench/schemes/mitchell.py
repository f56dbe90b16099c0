"""The scheme `mitchell`."""

import math

import torch
from torch import Tensor, nn

from initbench.init.arguments import number
from initbench.init.assign import Law
from initbench.init.contract import InitContext, Layerwise
from initbench.init.sampling import truncated
from initbench.init.structural import SchemePlan, Structural
from initbench.init.suitability import require_attention, require_branches, stream_width
from initbench.nn.layers import EMBEDDINGS, WeightLayer

FAMILY = "transformer"
EXAMPLE_MODEL = "vit:depth=2,width=32"
ALIASES: dict[str, dict[str, object]] = {"olmo": {}}


def build(*, cutoff: float = 3.0) -> Structural:
    """Var W = 1 / fan_in, branch ends divided by 2 (l + 1) in layer l: OLMo's, each layer scaled by its own depth.

    W ~ N(0, s^2) cut at `cutoff` times s, with s = 1 / sqrt(fan_in), and s = 1 / sqrt(2 fan_in (l + 1)) for the attention
    output and the last MLP weight of transformer layer l = 0, 1, ...; b = 0. Embeddings, where init.exclude does not name
    them, with s = 1 / sqrt(d), d the transformer's width.

    Applies to: transformers, such as `vit:depth=2,width=32`.
    Needs: nothing.

    Source: Groeneveld et al. 2024 (OLMo); allenai/OLMo, `reset_parameters` under `InitFnType.mitchell`.
    """
    limit = number("cutoff", cutoff, above=0.0)

    def draw(values: Tensor, std: float, generator: torch.Generator) -> Law:
        return truncated(values, 0.0, std, -limit * std, limit * std, generator)

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        outputs = {module.output.parameter for module in require_attention("mitchell", model, context.layers)}
        branches = require_branches("mitchell", model, context.layers)
        width, layer_number, depths = stream_width("mitchell", branches), -1, {}
        for branch in branches:
            layer_number += branch.last.parameter in outputs
            depths[branch.last.parameter] = max(0, layer_number)

        def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            deeper = 2 * (depths[layer.parameter] + 1) if layer.parameter in depths else 1
            return draw(weight, 1 / math.sqrt(max(1, layer.fan_in) * deeper), generator)

        def fill_rest(short: str, values: Tensor, module: nn.Module, generator: torch.Generator) -> Law | None:
            return draw(values, width**-0.5, generator) if isinstance(module, EMBEDDINGS) or "embedding" in short else None

        return SchemePlan(Layerwise("mitchell", fill, fill_rest=fill_rest))

    return Structural("mitchell", plan)
