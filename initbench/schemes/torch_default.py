"""The scheme `torch_default`."""

import math
from functools import partial

import torch
from torch import Tensor, nn

from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import constant, uniform
from initbench.nn.layers import WeightLayer

FAMILY = "framework defaults"
ALIASES: dict[str, dict[str, object]] = {"default": {}, "pytorch": {}, "torch": {}}


def build() -> Layerwise:
    """What torch's constructors do: U(+-1 / sqrt(fan_in)) for weights and biases.

    Linear and convolutions: W, b ~ U(+-1 / sqrt(fan_in)), a variance of 1 / (3 fan_in), so that a ReLU network's signal
    falls by 6 a layer. fan_in is torch's own: of a transposed convolution it is out k k / groups, not what is summed.
    Recurrent layers: all U(+-1 / sqrt(hidden)). Attention: the packed or separate q, k, v xavier_uniform on the tensor,
    their biases and that of the output 0. Every matrix inside an `nn.Transformer` xavier_uniform, which its constructor
    does last. Embedding N(0, 1), its padding row 0. Norms 1 and 0. PReLU the value it was made with.

    Applies to: any weight layer.
    Needs: nothing.

    Source: torch 2.15, torch/nn/modules (`reset_parameters` of each module).
    """
    return Layerwise("torch_default", _fill, _fill_bias, _fill_rest, in_model=_in_model)


def _fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
    bound = _bound(layer)
    return uniform(weight, -bound, bound, generator)


def _fill_bias(bias: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
    inside_attention = type(layer.module).__name__ == "NonDynamicallyQuantizableLinear"
    if inside_attention or isinstance(layer.module, nn.MultiheadAttention):
        return constant(bias, 0.0)
    bound = _bound(layer)
    return uniform(bias, -bound, bound, generator)


def _bound(layer: WeightLayer) -> float:
    shape, module = layer.shape, layer.module
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return 1 / math.sqrt(module.hidden_size)
    fan_in, fan_out = math.prod(shape[1:]), shape[0] * math.prod(shape[2:])
    if isinstance(module, nn.MultiheadAttention):
        return math.sqrt(6.0 / max(1, fan_in + fan_out))
    if isinstance(module, nn.Bilinear):
        return 1 / math.sqrt(module.in1_features)
    return 1 / math.sqrt(max(1, fan_in))


def _in_model(model: nn.Module) -> Layerwise:
    """The laws in a model that may have an `nn.Transformer` in it."""
    inside = frozenset(
        id(parameter)
        for transformer in model.modules()
        if isinstance(transformer, nn.Transformer)
        for stack in (transformer.encoder, transformer.decoder)
        for parameter in stack.parameters()
        if parameter.dim() > 1
    )
    return Layerwise("torch_default", partial(_fill_inside, inside), _fill_bias, partial(_fill_rest_inside, inside))


def _fill_inside(inside: frozenset[int], weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
    if id(layer.weight) in inside:
        return _xavier_uniform(weight, layer.weight.shape, generator)
    return _fill(weight, layer, generator)


def _fill_rest_inside(inside: frozenset[int], short: str, values: Tensor, module: nn.Module, generator: torch.Generator) -> Law | None:
    if id(getattr(module, short, None)) in inside:
        return _xavier_uniform(values, values.shape, generator)
    return _fill_rest(short, values, module, generator)


def _xavier_uniform(values: Tensor, shape: torch.Size, generator: torch.Generator) -> Law:
    """As torch counts: the fans of the whole tensor as it is stored."""
    field = math.prod(shape[2:])
    bound = math.sqrt(6.0 / max(1, (shape[0] + shape[1]) * field))
    return uniform(values, -bound, bound, generator)


def _fill_rest(short: str, values: Tensor, module: nn.Module, generator: torch.Generator) -> Law | None:
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and short == "weight":
        values.normal_(generator=generator)
        if module.padding_idx is not None:
            values[module.padding_idx] = 0
        return Law("normal", 1.0)
    if isinstance(module, nn.PReLU):
        return constant(values, getattr(module, "init", 0.25))
    if isinstance(module, nn.MultiheadAttention) and short in {"bias_k", "bias_v"}:
        std = math.sqrt(2.0 / (values.shape[0] * values.shape[2] + values.shape[1] * values.shape[2]))
        values.normal_(0.0, std, generator=generator)
        return Law("normal", std)
    return None
