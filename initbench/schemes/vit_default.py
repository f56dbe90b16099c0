"""The scheme `vit_default`."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from initbench.init.arguments import choose, number
from initbench.init.assign import Law
from initbench.init.contract import InitContext, Layerwise
from initbench.init.sampling import constant, sample, scaled
from initbench.init.structural import SchemePlan, Structural, head_of
from initbench.init.suitability import require_attention, require_branches
from initbench.nn.layers import WeightLayer
from initbench.schemes.gpt2 import embeddings

FAMILY = "transformer"
EXAMPLE_MODEL = "vit:depth=2,width=32"
ALIASES: dict[str, dict[str, object]] = {"vit_timm": {"variant": "timm"}, "vit_jax": {"variant": "jax"}, "vit_moco": {"variant": "moco"}}

Variant = Literal["timm", "jax", "moco"]
MLP_BIAS_STD = 1e-6
"""Standard deviation of the MLP biases in the JAX variant."""


def build(*, variant: Variant = "timm", std: float = 0.02) -> Structural:
    """What vision transformers are started with in timm, in the original JAX code or in MoCo v3.

    timm: all linear weights N(0, std^2), b = 0. jax: linear weights Xavier uniform, MLP biases N(0, 1e-6^2), the head 0,
    convolutions LeCun normal (truncated). moco: Xavier uniform, a packed q, k and v weight part by part, the head as
    well. Position and patch embeddings follow (N(0, std^2); convolutions by their own law) where init.exclude does not
    name them.

    Applies to: transformers, such as `vit:depth=2,width=32`.
    Needs: nothing.

    Source: timm's vision_transformer.py (init_weights_vit_timm, _jax, _moco). timm's truncation at +-2 cuts nothing at
    std 0.02, so it is a plain normal here.
    """
    choose("variant", variant, Variant)
    deviation = number("std", std, above=0.0)

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        modules = require_attention("vit_default", model, context.layers)
        branches = require_branches("vit_default", model, context.layers)
        head = head_of(context.layers, branches)
        attention = {id(child) for module in modules for child in module.module.modules()}
        mlp = {layer.parameter for branch in branches for layer in branch.layers if id(layer.module) not in attention}

        def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            if variant == "timm":
                return sample(weight, "normal", deviation, generator)
            if variant == "jax" and head is not None and layer.parameter == head.parameter:
                return constant(weight, 0.0)
            if variant == "jax" and layer.weight.dim() > 2:
                return scaled(weight, layer, generator, mode="fan_in", distribution="trunc_normal")
            return _xavier(weight, layer, generator, split=variant == "moco" or layer.parts > 1)

        def fill_bias(bias: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            if variant == "jax" and layer.parameter in mlp:
                return sample(bias, "normal", MLP_BIAS_STD, generator)
            return constant(bias, 0.0)

        return SchemePlan(Layerwise("vit_default", fill, fill_bias, fill_rest=embeddings(deviation)))

    return Structural("vit_default", plan)


def _xavier(weight: Tensor, layer: WeightLayer, generator: torch.Generator, *, split: bool) -> Law:
    """Xavier uniform; a packed linear layer counts one third of its outputs where `split`."""
    packed = layer.parts == 1 and weight.dim() == 2 and weight.shape[0] == 3 * weight.shape[1] and "qkv" in layer.name
    if not (packed and split):
        return scaled(weight, layer, generator, mode="fan_avg", distribution="uniform")
    return sample(weight, "uniform", math.sqrt(2 / (weight.shape[0] / 3 + weight.shape[1])), generator)
