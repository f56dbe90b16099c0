"""The scheme `wang_init`."""

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
ALIASES: dict[str, dict[str, object]] = {"wang": {}}


def build() -> Structural:
    """Branch ends N(0, (2 / (L sqrt d))^2), all other weights as in `small_init`: N(0, 2/(5d)).

    d is the transformer's width, L its number of layers (attention modules); b = 0. Embeddings follow `small_init` where
    init.exclude does not name them.

    Applies to: transformers, such as `vit:depth=2,width=32`.
    Needs: nothing.

    Source: Wang's GPT-J (mesh-transformer-jax) and Black et al. 2022 (GPT-NeoX-20B), section 3.2, which pair the two.
    """

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        count = len(require_attention("wang_init", model, context.layers))
        branches = require_branches("wang_init", model, context.layers)
        width = stream_width("wang_init", branches)
        small, end = math.sqrt(2 / (5 * width)), 2 / (count * math.sqrt(width))
        ends = {branch.last.parameter for branch in branches}

        def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            return sample(weight, "normal", end if layer.parameter in ends else small, generator)

        return SchemePlan(Layerwise("wang_init", fill, fill_rest=embeddings(small)))

    return Structural("wang_init", plan)
