"""What embeddings give: the numbers that enter a network where tokens are looked up, or places are added."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from initbench.nn.inputs import Inputs, called
from initbench.nn.layers import EMBEDDINGS, WeightLayer
from initbench.nn.watch import untouched

NAMES = re.compile(r"embed|pos(ition|_|$)")
"""What parameters that are added as embeddings are called."""


@dataclass(frozen=True)
class EmbeddingStart:
    """An embedding: how many rows of how many numbers it has, and the variance of those that it gives for a batch."""

    module: str
    rows: int
    width: int
    variance: float


def embedding_starts(model: nn.Module, layers: Iterable[WeightLayer], inputs: Inputs) -> tuple[EmbeddingStart, ...]:
    """Every table that is looked up in a pass, and every parameter of places that is added as it is, in the model's order."""
    tables: dict[nn.Module, str] = {module: name for name, module in model.named_modules() if isinstance(module, EMBEDDINGS)}
    taken = {layer.parameter for layer in layers} | {f"{name}.weight" for name in tables.values()}
    found = {
        name: EmbeddingStart(name, parameter.numel() // parameter.shape[-1], parameter.shape[-1], _variance(parameter))
        for name, parameter in model.named_parameters()
        if name not in taken and parameter.dim() > 1 and parameter.numel() and NAMES.search(name.rpartition(".")[2])
    }

    def look(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.numel():
            rows, width = int(module.num_embeddings), int(module.embedding_dim)  # type: ignore[arg-type]
            found[tables[module]] = EmbeddingStart(tables[module], rows, width, _variance(output))

    handles = [module.register_forward_hook(look) for module in tables]
    try:
        if handles:
            with torch.no_grad(), untouched(model, "batch"):
                called(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    order = {name: place for place, (name, _) in enumerate(model.named_modules())}
    return tuple(sorted(found.values(), key=lambda each: order.get(each.module, order.get(each.module.rpartition(".")[0], 0))))


def _variance(values: Tensor) -> float:
    return float(values.detach().float().var(correction=0))
