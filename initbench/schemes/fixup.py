"""The scheme `fixup`."""

import math

import torch
from torch import Tensor, nn

from initbench.errors import DoesNotApply
from initbench.init.arguments import choose, number
from initbench.init.assign import Law
from initbench.init.contract import InitContext, Layerwise, Need
from initbench.init.sampling import Mode, scaled
from initbench.init.structural import Number, SchemePlan, Structural, head_of, rescaled
from initbench.init.suitability import refuse_norm, refuse_stuck, require_branches
from initbench.nn.attention import attentions
from initbench.nn.hooks import Slot
from initbench.nn.layers import WeightLayer
from initbench.nn.residual import Branch

FAMILY = "residual"
EXAMPLE_MODEL = "resnet:depth=8,norm=none"
ALIASES: dict[str, dict[str, object]] = {"fixup_init": {}}


def build(*, mode: Mode = "fan_out", scalar_lr: float = 0.1) -> Structural:
    """Trains residual networks without norm: branches start at zero, their inner layers are scaled down with depth.

    L branches of m layers each: the last layer of each branch and the head start at 0, the others of the branch are He
    normal times L^(-1/(2m-2)), all else is He normal (`mode` of the fan: the authors' code counts fan_out). Each branch
    gets a multiplier 1 at its end and a scalar bias 0 before each layer and each activation, which learn at `scalar_lr`
    times the rate. Biases of the layers themselves, where a model has them, start at 0 (resnet:norm=none,bias=false has
    none, as in the paper).

    Applies to: residual networks without norm and attention, such as `resnet:depth=8,norm=none`.
    Needs: model hooks (it changes the forward pass itself).

    Source: Zhang, Dauphin & Ma 2019 (Fixup Initialization), section 3; scalar_lr from its section 4. Copies that print
    L^(+1/(2m-2)) have lost the sign.
    """
    choose("mode", mode, Mode)
    rate = number("scalar_lr", scalar_lr, least=0.0)

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        layers = context.layers
        branches = require_branches("fixup", model, layers)
        refuse_stuck("fixup", branches)
        refuse_norm("fixup", model)
        if attentions(model, layers):
            raise DoesNotApply("'fixup' is for branches of convolutions and linear layers. Use t_fixup for transformers.")
        head = head_of(layers, branches)

        def he(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            return scaled(weight, layer, generator, gain=math.sqrt(2.0), mode=mode)

        zero = {} if head is None else {head.parameter: 0.0}
        laws = Layerwise("fixup", rescaled(he, _factors(branches) | zero))
        return SchemePlan(laws, _numbers(layers, branches, head, rate))

    return Structural("fixup", plan, frozenset({Need.HOOKS}))


def _factors(branches: tuple[Branch, ...]) -> dict[str, float]:
    """Parameter -> factor on the He deviation, for all layers of all branches."""
    factors = {}
    for branch in branches:
        inner, last = branch.layers[:-1], branch.layers[-1]
        factors[last.parameter] = 0.0
        for layer in inner:
            factors[layer.parameter] = len(branches) ** (-1 / (2 * len(branch.layers) - 2))
    return factors


def _numbers(layers: tuple[WeightLayer, ...], branches: tuple[Branch, ...], head: WeightLayer | None, rate: float) -> tuple[Number, ...]:
    """The scalar biases before each layer (but the first of the network) and activation, and the multipliers."""

    def bias(module: nn.Module, slot: Slot) -> Number:
        return Number(module, slot, 0.0, trainable=True, lr_multiplier=rate)

    inside = {layer.parameter for branch in branches for layer in branch.layers}
    numbers = []
    for index, layer in enumerate(layers):
        if layer.parameter in inside:
            continue
        numbers.append(bias(layer.module, Slot.OUTPUT_SHIFT if index == 0 and layer is not head else Slot.INPUT_SHIFT))
    for branch in branches:
        if branch.starts_with_activation:
            numbers.append(bias(branch.end, Slot.INPUT_SHIFT))
        for layer in branch.layers:
            numbers.append(bias(layer.module, Slot.INPUT_SHIFT))
            if layer is not branch.last:
                numbers.append(bias(layer.module, Slot.OUTPUT_SHIFT))
        numbers.append(Number(branch.end, branch.slot, 1.0, trainable=True, lr_multiplier=rate))
        numbers.append(bias(branch.end, Slot.OUTPUT_SHIFT))
    return tuple(numbers)
