"""The scheme `small_init`."""

import math

import torch
from torch import Tensor, nn

from initbench.init.assign import Law
from initbench.init.contract import InitContext, Layerwise
from initbench.init.sampling import sample
from initbench.init.structural import SchemePlan, Structural
from initbench.init.suitability import require_attention, require_branches, stream_width
from initbench.nn.layers import WeightLayer
from initbench.schemes.gpt2 import embeddings

FAMILY = "transformer"
EXAMPLE_MODEL = "vit:depth=2,width=32"
ALIASES: dict[str, dict[str, object]] = {"smallinit": {}}


def build() -> Structural:
    """All weights N(0, 2/(5d)) with d the transformer's width: Xavier's variance of a d -> 4d layer, for every layer.

    b = 0. Embeddings follow the same law where init.exclude does not name them.

    Applies to: transformers, such as `vit:depth=2,width=32`.
    Needs: nothing.

    Source: Nguyen & Salazar 2019 (Transformers without Tears), section 2.2.
    """

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        require_attention("small_init", model, context.layers)
        width = stream_width("small_init", require_branches("small_init", model, context.layers))
        std = math.sqrt(2 / (5 * width))

        def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:  # noqa: ARG001  the law is the same for all
            return sample(weight, "normal", std, generator)

        return SchemePlan(Layerwise("small_init", fill, fill_rest=embeddings(std)))

    return Structural("small_init", plan)
