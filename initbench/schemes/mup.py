"""The scheme `mup`."""

import math
from dataclasses import replace
from typing import Literal

from torch import nn

from initbench.errors import DoesNotApply
from initbench.init.arguments import choose, number, switch, whole
from initbench.init.contract import InitContext, Need
from initbench.init.structural import Number, SchemePlan, Structural, head_of, layerwise, rescaled
from initbench.nn.attention import AttentionLayers, attentions
from initbench.nn.hooks import Slot
from initbench.nn.layers import WeightLayer
from initbench.nn.naming import parameters_of
from initbench.optimizers import build_rule
from initbench.question.config import Ref, TrainConfig

FAMILY = "transformer"
ALIASES: dict[str, dict[str, object]] = {"maximal_update": {}}

Optimizer = Literal["auto", "sgd", "adam", "adamw"]


def build(
    *,
    base_width: int = 64,
    optimizer: Optimizer = "auto",
    output_multiplier: float = 1.0,
    zero_readout: bool = False,
    base: str = "kaiming",
) -> Structural:
    """Maximal update parametrization: one learning rate for all widths, the same function at `base_width`.

    With m = width / base_width (width: outputs of the first layer; all widths and head sizes are taken to grow with it):
    hidden weights follow `base` (variance 1/fan_in); the head follows `base` with its standard deviation times sqrt(m),
    so that it does not depend on width (`zero_readout`: 0), and its input is multiplied by output_multiplier / m;
    attention scores by 1/sqrt(m), which makes 1/d of 1/sqrt(d). Learning rates, Adam: matrices between hidden layers 1/m,
    all else 1; SGD: matrices between hidden layers and the head's bias 1, all else m. `optimizer=auto` asks the training's
    optimizer what its updates are like: Adam's where each number moves by about the learning rate (adagrad, rmsprop, lion),
    1 for everything with muon. b = 0. It is a parametrization: compare it by its training, at several widths. Weight decay
    is not rescaled.

    Applies to: networks of at least two weight layers, such as `mlp`; not packed attention.
    Needs: model hooks (it changes the forward pass itself).

    Source: Yang et al. 2021 (Tensor Programs V), table 8, in the form of the package microsoft/mup; for muon, whose updates
    have the spectral norm that this asks for, Yang, Simon & Bernstein 2023.
    """
    choose("optimizer", optimizer, Optimizer)
    whole("base_width", base_width, least=1)
    factor, zero = number("output_multiplier", output_multiplier, above=0.0), switch("zero_readout", zero_readout)
    laws = layerwise(base)

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        layers = context.layers
        head = head_of(layers)
        if head is None or len(layers) < 2:
            raise DoesNotApply("'mup' needs a first layer and a head, and this model has fewer than two weight layers.")
        modules = _attention(model, layers)
        ratio = layers[0].shape[1 if layers[0].transposed else 0] / base_width
        here = laws.for_model(model)
        fill = rescaled(here.fill, {head.parameter: 0.0 if zero else math.sqrt(ratio)})
        numbers = [Number(head.module, Slot.INPUT_SCALE, factor / ratio)]
        numbers += [Number(module.query.module, Slot.OUTPUT_SCALE, ratio**-0.5) for module in modules if module.query]
        own = Ref(name=optimizer) if optimizer != "auto" else context.train.optimizer if context.train else Ref(name="adam")
        size = build_rule((context.train or TrainConfig()).model_copy(update={"optimizer": own})).size
        notes = [f"learning rates for {own}, width {ratio:g} times the base width {base_width}"]
        if context.train is not None and context.train.weight_decay > 0 and size != "gradient":
            notes.append("weight decay acts through the scaled learning rates; the paper keeps their product constant")
        rates = {} if size == "spectral" else _rates(model, layers, head, ratio, sgd=size == "gradient")
        changed = replace(here, fill=fill)
        return SchemePlan(changed, tuple(numbers), rates, tuple(notes))

    return Structural("mup", plan, frozenset({Need.HOOKS}))


def _attention(model: nn.Module, layers: tuple[WeightLayer, ...]) -> tuple[AttentionLayers, ...]:
    modules = attentions(model, layers)
    packed = [module.name for module in modules if module.query is None]
    if packed:
        raise DoesNotApply(f"'mup' scales attention scores at the query layer, and '{packed[0]}' packs query, key and value in one weight.")
    return modules


def _rates(model: nn.Module, layers: tuple[WeightLayer, ...], head: WeightLayer, ratio: float, *, sgd: bool) -> dict[str, float]:
    """Parameter name -> factor: matrices whose inputs and outputs both grow with the width, and everything else."""
    hidden = {layer.parameter for layer in layers[1:]} - {head.parameter}
    if sgd:
        rates = {name: 1.0 if name in hidden else ratio for name in parameters_of(model).first}
        if head.bias is not None:
            rates[head.bias] = 1.0
    else:
        rates = {name: 1 / ratio if name in hidden else 1.0 for name in parameters_of(model).first}
    return {name: rate for name, rate in rates.items() if rate != 1}
