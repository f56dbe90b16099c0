"""The scheme `mimetic`."""

import math

import torch
from torch import Tensor, nn

from initbench.errors import DoesNotApply
from initbench.init.arguments import number
from initbench.init.assign import Law
from initbench.init.contract import InitContext, Layerwise
from initbench.init.structural import SchemePlan, Structural, layerwise
from initbench.init.suitability import require_attention
from initbench.nn.attention import AttentionLayers, thirds
from initbench.nn.layers import WeightLayer
from initbench.nn.seeds import generator

FAMILY = "transformer"
EXAMPLE_MODEL = "vit:depth=2,width=32"
ALIASES: dict[str, dict[str, object]] = {}


def build(
    *,
    qk_noise: float = 0.7,
    qk_identity: float = 0.7,
    vo_noise: float = 0.4,
    vo_identity: float = 0.4,
    base: str = "xavier",
) -> Structural:
    """Attention that looks like a trained one: W_Q W_K^T near the identity, W_V W_O near minus the identity.

    W_Q W_K^T = qk_noise Z + qk_identity I for each head and W_V W_O = vo_noise Z - vo_identity I, with W as x W and Z ~
    N(0, 1/d), each split into two factors by U sqrt(S) and sqrt(S) V^T of its singular value decomposition. A head of k <
    d units gets the k largest singular values (of a Z of its own). Everything else follows `base`, b = 0. The paper's
    sinusoidal positions are the model's own matter.

    Applies to: transformers, such as `vit:depth=2,width=32`.
    Needs: nothing.

    Source: Trockman & Kolter 2023 (Mimetic Initialization of Self-Attention Layers).
    """
    query_key = number("qk_noise", qk_noise), number("qk_identity", qk_identity)
    value_output = number("vo_noise", vo_noise), -number("vo_identity", vo_identity)
    laws = layerwise(base)

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        here = laws.for_model(model)
        weights: dict[tuple[str, str], Tensor] = {}
        for module in require_attention("mimetic", model, context.layers):
            _refuse_narrow(module)
            weights |= _weights(module, context.seed, query_key, value_output)
        packed = {parameter for parameter, role in weights if role == "packed"}

        def fill(weight: Tensor, layer: WeightLayer, source: torch.Generator) -> Law:
            if layer.parameter in packed:
                for role, view, _ in thirds(weight, layer):
                    view.copy_(weights[layer.parameter, role])
                return Law("mimetic", math.nan)
            if (layer.parameter, "whole") in weights:
                weight.copy_(weights[layer.parameter, "whole"])
                return Law("mimetic", math.nan)
            return here.fill(weight, layer, source)

        return SchemePlan(Layerwise("mimetic", fill, here.fill_bias, here.fill_rest, here.check))

    return Structural("mimetic", plan)


def _refuse_narrow(module: AttentionLayers) -> None:
    """Raises: DoesNotApply unless queries, keys and values all are as wide as the tokens."""
    width = module.output.weight.shape[0]
    for layer in (module.query, module.key, module.value, module.packed, module.output):
        rows = 3 * width if layer is module.packed else width
        if layer is not None and tuple(layer.weight.shape) != (rows, width):
            shape = " x ".join(map(str, layer.weight.shape))
            raise DoesNotApply(f"'mimetic' needs projections of {width} x {width}, as wide as the tokens, and '{layer.name}' is {shape}.")


def _weights(
    module: AttentionLayers, seed: int, query_key: tuple[float, float], value_output: tuple[float, float]
) -> dict[tuple[str, str], Tensor]:
    """(parameter, part) -> weight (out, in) for the four projections of one attention module."""
    width = module.output.weight.shape[0]
    size = width // module.heads
    queries, keys = [], []
    for head in range(module.heads):
        left, right = _factors(width, size, *query_key, generator(seed, "init", f"{module.name}.query-key.{head}"))
        queries.append(left.T)
        keys.append(right)
    left, right = _factors(width, width, *value_output, generator(seed, "init", f"{module.name}.value-output"))
    parts = {"query": torch.cat(queries), "key": torch.cat(keys), "value": left.T}
    weights = {(module.output.parameter, "whole"): right.T}
    if module.packed is not None:
        weights |= {(module.packed.parameter, role): weight for role, weight in parts.items()}
        return weights | {(module.packed.parameter, "packed"): parts["query"]}
    for layer, weight in zip((module.query, module.key, module.value), parts.values(), strict=True):
        if layer is not None:
            weights[layer.parameter, "whole"] = weight
    return weights


def _factors(width: int, rank: int, noise: float, identity: float, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """(width, rank) and (rank, width) factors of noise Z + identity I, as far as that rank reaches."""
    random = torch.empty(width, width, dtype=torch.float32, device="cpu").normal_(0.0, width**-0.5, generator=source).double()
    u, s, vt = torch.linalg.svd(noise * random + identity * torch.eye(width, dtype=torch.float64, device="cpu"))
    root = s[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * vt[:rank]
