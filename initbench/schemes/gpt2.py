"""The scheme `gpt2`."""

import torch
from torch import Tensor, nn

from initbench.init.arguments import number
from initbench.init.assign import Law, RestFiller
from initbench.init.contract import InitContext, Layerwise
from initbench.init.sampling import sample
from initbench.init.structural import SchemePlan, Structural, rescaled
from initbench.init.suitability import require_branches
from initbench.nn.layers import WeightLayer

FAMILY = "transformer"
EXAMPLE_MODEL = "vit:depth=2,width=32"
ALIASES: dict[str, dict[str, object]] = {"gpt": {}}


def build(*, std: float = 0.02) -> Structural:
    """N(0, 0.02) everywhere, the end of each residual branch divided by sqrt(number of branches).

    W ~ N(0, std^2), b = 0; the last weight of each branch (attention output, second MLP layer) has std / sqrt(2 n) with n
    transformer layers, which are 2 n branches. Embeddings are N(0, std^2) as well where init.exclude does not name them.

    Applies to: residual networks, meant for transformers, such as `vit:depth=2,width=32`.
    Needs: nothing.

    Source: Radford et al. 2019 (GPT-2), section 2.3; Karpathy's nanoGPT for the 2 in 2 n.
    """
    deviation = number("std", std, above=0.0)

    def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:  # noqa: ARG001  the law is the same for all
        return sample(weight, "normal", deviation, generator)

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        branches = require_branches("gpt2", model, context.layers)
        factors = {branch.last.parameter: len(branches) ** -0.5 for branch in branches}
        return SchemePlan(Layerwise("gpt2", rescaled(fill, factors), fill_rest=embeddings(deviation)))

    return Structural("gpt2", plan)


def embeddings(std: float) -> RestFiller:
    """Fills embedding tables and parameters called embedding with N(0, std^2)."""

    def fill_rest(short: str, values: Tensor, module: nn.Module, generator: torch.Generator) -> Law | None:
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) or "embedding" in short:
            return sample(values, "normal", std, generator)
        return None

    return fill_rest
