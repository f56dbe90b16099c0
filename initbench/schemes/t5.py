"""The scheme `t5`."""

import math

import torch
from torch import Tensor, nn

from initbench.init.arguments import number, switch
from initbench.init.assign import Law, together
from initbench.init.contract import InitContext, Layerwise
from initbench.init.sampling import sample
from initbench.init.structural import SchemePlan, Structural, head_of
from initbench.init.suitability import require_attention, require_branches
from initbench.nn.attention import AttentionLayers, thirds
from initbench.nn.layers import EMBEDDINGS, WeightLayer

FAMILY = "transformer"
EXAMPLE_MODEL = "vit:depth=2,width=32"
ALIASES: dict[str, dict[str, object]] = {}


def build(*, factor: float = 1.0, fold_scale: bool = True, head_std: float | None = None) -> Structural:
    """Var W = 1 / fan_in, of queries 1 / (fan_in d_head): T5's attention does not divide its scores by sqrt(d_head).

    std = factor / sqrt(fan_in), of queries factor / sqrt(fan_in d_head) with d_head the units of a head (`fold_scale=false`:
    as all others, for attention that divides its scores itself); b = 0. The head likewise, or N(0, head_std^2): 1 is what
    transformers gives a language model's head that is not tied. Embeddings N(0, factor^2), a head tied to one as well, and
    relative position biases N(0, factor^2 / d), where init.exclude does not name them.

    Applies to: transformers, such as `vit:depth=2,width=32`.
    Needs: nothing.

    Source: Raffel et al. 2020 (T5); `T5PreTrainedModel._init_weights` of huggingface/transformers, which follows Mesh TensorFlow.
    """
    scale = number("factor", factor, above=0.0)
    folded = switch("fold_scale", fold_scale)
    given = None if head_std is None else number("head_std", head_std, least=0.0)

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        modules = require_attention("t5", model, context.layers)
        head = head_of(context.layers, require_branches("t5", model, context.layers))
        packed = {module.packed.parameter: _head_size(module) for module in modules if module.packed}
        queries = {module.query.parameter: _head_size(module) for module in modules if module.query}
        tables = {id(module.weight) for module in model.modules() if isinstance(module, EMBEDDINGS)}
        relative = {id(module): _width(modules) for name, module in model.named_modules() if name.endswith("relative_attention_bias")}

        def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            if id(layer.weight) in tables:
                return sample(weight, "normal", scale, generator)
            if given is not None and head is not None and layer.parameter == head.parameter:
                return sample(weight, "normal", given, generator)
            std = scale / math.sqrt(max(1, layer.fan_in))
            if layer.parameter not in packed:
                return sample(weight, "normal", std / math.sqrt(queries.get(layer.parameter, 1)) if folded else std, generator)
            size = packed[layer.parameter] if folded else 1
            parts = {role: std / math.sqrt(size) if role == "query" else std for role in ("query", "key", "value")}
            return together([sample(view, "normal", parts[role], generator) for role, view, _ in thirds(weight, layer)])

        def fill_rest(short: str, values: Tensor, module: nn.Module, generator: torch.Generator) -> Law | None:
            if isinstance(module, EMBEDDINGS) or "embedding" in short:
                return sample(values, "normal", scale / math.sqrt(relative.get(id(module), 1)), generator)
            return None

        doubtful = [module.name for module in modules if folded and module.heads == 1]
        notes = [f"the heads of '{name}' are not known: it counts as one" for name in doubtful]
        return SchemePlan(Layerwise("t5", fill, fill_rest=fill_rest), notes=tuple(notes))

    return Structural("t5", plan)


def _head_size(module: AttentionLayers) -> int:
    """The units of one head."""
    if module.query is not None:
        return max(1, module.query.fan_out // module.heads)
    return max(1, module.output.fan_in // module.heads)


def _width(modules: tuple[AttentionLayers, ...]) -> int:
    """The width of the residual stream: what the first attention module gives."""
    return max(1, modules[0].output.fan_out)
