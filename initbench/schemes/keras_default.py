"""The scheme `keras_default`."""

import math

import torch
from torch import Tensor, nn

from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.sampling import constant, haar, sample, uniform
from initbench.nn.fans import CONVOLUTIONS
from initbench.nn.layers import WeightLayer

FAMILY = "framework defaults"
ALIASES: dict[str, dict[str, object]] = {"keras": {}, "tensorflow": {}}


def build() -> Layerwise:
    """What Keras's layers do: glorot_uniform on the tensor's own shape, zero biases, orthogonal recurrences.

    W ~ U(+-sqrt(6 / (a + b))) where a and b are the first two sizes of the weight times its kernel, so groups, gates and
    strides do not count; of a depthwise convolution they are channels and multiplier. Recurrent kernels: all gates together
    as one matrix with orthonormal rows (in, gates out); b = 0, 1 for an LSTM's forget gate (in the first of torch's two
    biases). Embedding U(+-0.05). PReLU 0.

    Applies to: any weight layer.
    Needs: nothing.

    Source: Keras 3, keras/src/layers (kernel_initializer, recurrent_initializer, unit_forget_bias). Its attention's
    einsum kernels have fans of their own, here they are the projections'.
    """
    return Layerwise("keras_default", _fill, _fill_bias, _fill_rest, whole=True)


def _fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
    recurrent = isinstance(layer.module, nn.RNNBase | nn.RNNCellBase) and "_hh" in layer.parameter
    if recurrent and weight.numel():
        weight.copy_(haar(weight.shape[0], weight.shape[1], generator))
        return Law("orthogonal", 1 / math.sqrt(max(weight.shape)))
    outputs = weight.shape[0]
    if isinstance(layer.module, nn.MultiheadAttention):
        outputs //= layer.parts
    if layer.transposed:
        outputs //= layer.groups
    inputs = weight.shape[1] * (layer.groups if layer.transposed else 1)
    if isinstance(layer.module, CONVOLUTIONS) and layer.groups == layer.module.in_channels:
        inputs, outputs = layer.groups, outputs // layer.groups  # DepthwiseConv: (*kernel, channels, multiplier)
    field = math.prod(weight.shape[2:])
    return sample(weight, "uniform", math.sqrt(2.0 / max(1, (inputs + outputs) * field)), generator)


def _fill_bias(bias: Tensor, layer: WeightLayer, _: torch.Generator) -> Law:
    constant(bias, 0.0)
    if isinstance(layer.module, nn.LSTM | nn.LSTMCell) and "_ih" in layer.parameter:
        bias.chunk(4)[1].fill_(1.0)
        return Law("constant, 1 for the forget gate", math.sqrt(3) / 4, 0.25)
    return Law("constant", 0.0)


def _fill_rest(short: str, values: Tensor, module: nn.Module, generator: torch.Generator) -> Law | None:
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and short == "weight":
        return uniform(values, -0.05, 0.05, generator)
    return constant(values, 0.0) if isinstance(module, nn.PReLU) else None
