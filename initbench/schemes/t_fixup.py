"""The scheme `t_fixup`."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from initbench.init.arguments import choose, number
from initbench.init.assign import Filler, Law, together
from initbench.init.contract import InitContext, Layerwise
from initbench.init.sampling import Distribution, scaled
from initbench.init.structural import SchemePlan, Structural
from initbench.init.suitability import refuse_norm, require_attention, require_branches, stream_width
from initbench.nn.attention import AttentionLayers, thirds
from initbench.nn.layers import WeightLayer
from initbench.nn.residual import Branch
from initbench.schemes.gpt2 import embeddings

FAMILY = "transformer"
EXAMPLE_MODEL = "vit:depth=2,width=32,norm=none"
ALIASES: dict[str, dict[str, object]] = {"tfixup": {}}

Stack = Literal["encoder", "decoder"]


def build(*, stack: Stack = "encoder", distribution: Distribution = "uniform", qk_gain: float = 1.0) -> Structural:
    """Trains transformers without layer norm and without warm-up: Xavier, with values, outputs and MLPs scaled down.

    All weights are Xavier (q and k with gain `qk_gain`, 1/sqrt(2) in the authors' code); value, attention output and both
    MLP weights of each branch times 0.67 N^(-1/4) in an encoder of N layers, times (9N)^(-1/4) in a decoder; b = 0.
    Embeddings, where init.exclude does not name them, normal with std d^(-1/2) (9N)^(-1/4).

    Applies to: transformers without norm, such as `vit:depth=2,width=32,norm=none`.
    Needs: nothing.

    Source: Huang, Perez, Ba & Volkovs 2020 (Improving Transformer Optimization Through Better Initialization), sections
    3.2 and 4.1.
    """
    choose("stack", stack, Stack)
    choose("distribution", distribution, Distribution)
    other = number("qk_gain", qk_gain, above=0.0)

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        modules = require_attention("t_fixup", model, context.layers)
        branches = require_branches("t_fixup", model, context.layers)
        refuse_norm("t_fixup", model)
        count = len(modules)
        factor = 0.67 * count**-0.25 if stack == "encoder" else (9 * count) ** -0.25
        fill = xavier_by_part(modules, branches, smaller=factor, other=other, distribution=distribution)
        std = (9 * count) ** -0.25 / math.sqrt(stream_width("t_fixup", branches))
        return SchemePlan(Layerwise("t_fixup", fill, fill_rest=embeddings(std)))

    return Structural("t_fixup", plan)


def xavier_by_part(
    modules: tuple[AttentionLayers, ...], branches: tuple[Branch, ...], *, smaller: float, other: float, distribution: Distribution
) -> Filler:
    """Xavier with gain `smaller` for values, attention outputs and MLPs, `other` for queries and keys, 1 for all else."""
    packed = {module.packed.parameter for module in modules if module.packed}
    plain = {layer.parameter for module in modules for layer in (module.query, module.key) if layer}
    gains = {layer.parameter: smaller for branch in branches for layer in branch.layers} | dict.fromkeys(plain, other)

    def xavier(weight: Tensor, layer: WeightLayer, generator: torch.Generator, gain: float) -> Law:
        return scaled(weight, layer, generator, gain=gain, mode="fan_avg", distribution=distribution)

    def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
        if layer.parameter not in packed:
            return xavier(weight, layer, generator, gains.get(layer.parameter, 1.0))
        laws = [xavier(view, part, generator, smaller if role == "value" else other) for role, view, part in thirds(weight, layer)]
        return together(laws)

    return fill
