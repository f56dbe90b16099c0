"""The scheme `vit_default`."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from initbench.init.arguments import choose, number
from initbench.init.assign import Law, RestFiller
from initbench.init.contract import InitContext, Layerwise
from initbench.init.sampling import constant, sample, scaled
from initbench.init.structural import SchemePlan, Structural, head_of, layerwise
from initbench.init.suitability import require_attention, require_branches
from initbench.nn.layers import WeightLayer

FAMILY = "transformer"
EXAMPLE_MODEL = "vit:depth=2,width=32"
ALIASES: dict[str, dict[str, object]] = {
    "vit_timm": {"variant": "timm"},
    "vit_jax": {"variant": "jax"},
    "vit_moco": {"variant": "moco"},
    "moco_v3": {"variant": "moco"},
}

Variant = Literal["timm", "jax", "moco"]
SMALL_STD = 1e-6
"""Standard deviation of the MLP biases in the JAX variant, and of class tokens."""


def build(*, variant: Variant = "timm", std: float = 0.02) -> Structural:
    """What vision transformers are started with in timm, in the original JAX code or in MoCo v3.

    timm: all linear weights N(0, std^2), b = 0; convolutions, the patch embedding among them, are as torch makes them.
    jax: linear weights Xavier uniform, MLP biases N(0, 1e-6^2), the head 0, convolutions LeCun normal (truncated). moco:
    Xavier uniform, a packed q, k and v weight part by part, the head as well; a patch embedding (a convolution whose stride
    is its kernel) Xavier uniform with the fans of the matrix that it is, b = 0; other convolutions as torch makes them.
    Where init.exclude does not name them, position embeddings are N(0, std^2) and class tokens N(0, 1e-6^2).

    Applies to: transformers, such as `vit:depth=2,width=32`.
    Needs: nothing.

    Source: timm's vision_transformer.py (init_weights_vit_timm, _jax); `VisionTransformerMoCo` of facebookresearch/moco-v3 (timm's
    init_weights_vit_moco leaves out its patch embedding). timm's truncation at +-2 cuts nothing at std 0.02, so it is a
    plain normal here.
    """
    choose("variant", variant, Variant)
    deviation = number("std", std, above=0.0)
    torch_own = layerwise("torch_default")

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        modules = require_attention("vit_default", model, context.layers)
        branches = require_branches("vit_default", model, context.layers)
        head = head_of(context.layers, branches)
        attention = {id(child) for module in modules for child in module.module.modules()}
        mlp = {layer.parameter for branch in branches for layer in branch.layers if id(layer.module) not in attention}

        def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            if layer.weight.dim() > 2:
                if variant == "jax":
                    return scaled(weight, layer, generator, mode="fan_in", distribution="trunc_normal")
                return _xavier_patches(weight, generator) if _as_in_moco(layer) else torch_own.fill(weight, layer, generator)
            if variant == "timm":
                return sample(weight, "normal", deviation, generator)
            if variant == "jax" and head is not None and layer.parameter == head.parameter:
                return constant(weight, 0.0)
            return _xavier(weight, layer, generator, split=variant == "moco" or layer.parts > 1)

        def fill_bias(bias: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            if variant == "jax" and layer.parameter in mlp:
                return sample(bias, "normal", SMALL_STD, generator)
            if variant != "jax" and layer.weight.dim() > 2 and not _as_in_moco(layer) and torch_own.fill_bias is not None:
                return torch_own.fill_bias(bias, layer, generator)
            return constant(bias, 0.0)

        return SchemePlan(Layerwise("vit_default", fill, fill_bias, fill_rest=_tokens(deviation)))

    def _as_in_moco(layer: WeightLayer) -> bool:
        """Whether a convolution is a patch embedding that MoCo v3 sets."""
        return variant == "moco" and tuple(getattr(layer.module, "stride", ())) == tuple(layer.weight.shape[2:])

    return Structural("vit_default", plan)


def _xavier(weight: Tensor, layer: WeightLayer, generator: torch.Generator, *, split: bool) -> Law:
    """Xavier uniform; a packed linear layer counts one third of its outputs where `split`."""
    packed = layer.parts == 1 and weight.dim() == 2 and weight.shape[0] == 3 * weight.shape[1] and "qkv" in layer.name
    if not (packed and split):
        return scaled(weight, layer, generator, mode="fan_avg", distribution="uniform")
    return sample(weight, "uniform", math.sqrt(2 / (weight.shape[0] / 3 + weight.shape[1])), generator)


def _xavier_patches(weight: Tensor, generator: torch.Generator) -> Law:
    """Xavier uniform of the matrix (out, pixels of a patch)."""
    return sample(weight, "uniform", math.sqrt(2 / (weight.shape[0] + weight[0].numel())), generator)


def _tokens(std: float) -> RestFiller:
    """Position embeddings and embedding tables N(0, std^2), class and register tokens N(0, 1e-6^2)."""

    def fill_rest(short: str, values: Tensor, module: nn.Module, generator: torch.Generator) -> Law | None:
        if short in {"cls_token", "class_token", "reg_token"}:
            return sample(values, "normal", SMALL_STD, generator)
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) or short == "dist_token" or "embedding" in short or "pos_embed" in short:
            return sample(values, "normal", std, generator)
        return None

    return fill_rest
