"""The scheme `bert`."""

from typing import Literal

import torch
from torch import Tensor, nn

from initbench.init.arguments import choose, number
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import truncated
from initbench.init.suitability import require_attention
from initbench.nn.layers import EMBEDDINGS, WeightLayer

FAMILY = "transformer"
EXAMPLE_MODEL = "vit:depth=2,width=32"
ALIASES: dict[str, dict[str, object]] = {"bert_google": {"variant": "google"}, "bert_transformers": {"variant": "transformers"}}

Variant = Literal["google", "transformers"]


def build(*, variant: Variant = "google", std: float = 0.02) -> Layerwise:
    """N(0, 0.02) for all weights and embeddings, cut at two standard deviations as in the authors' code.

    google: W ~ N(0, std^2) cut at 2 std, which leaves a standard deviation of 0.8796 std. transformers: W ~ N(0, std^2),
    uncut, and an embedding's padding row 0. b = 0 in both; embeddings follow where init.exclude does not name them.

    Applies to: transformers, such as `vit:depth=2,width=32`.
    Needs: nothing.

    Source: Devlin et al. 2018; `create_initializer` of google-research/bert (tf.truncated_normal_initializer);
    `PreTrainedModel._init_weights` of huggingface/transformers.
    """
    choose("variant", variant, Variant)
    deviation = number("std", std, above=0.0)

    def draw(values: Tensor, generator: torch.Generator) -> Law:
        if variant == "google":
            return truncated(values, 0.0, deviation, -2 * deviation, 2 * deviation, generator)
        values.normal_(0.0, deviation, generator=generator)
        return Law("normal", deviation)

    def fill(weight: Tensor, _: WeightLayer, generator: torch.Generator) -> Law:
        return draw(weight, generator)

    def fill_rest(short: str, values: Tensor, module: nn.Module, generator: torch.Generator) -> Law | None:
        if not (isinstance(module, EMBEDDINGS) or "embedding" in short):
            return None
        law = draw(values, generator)
        padding = getattr(module, "padding_idx", None)
        if variant == "transformers" and isinstance(padding, int):
            values[padding] = 0
        return law

    def check(model: nn.Module, layers: tuple[WeightLayer, ...]) -> None:
        require_attention("bert", model, layers)

    return Layerwise("bert", fill, fill_rest=fill_rest, check=check)
