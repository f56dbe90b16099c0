"""Schemes that look at the whole model first: what they plan for it, and how the plan is carried out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError
from initbench.init.assign import Filler, Law
from initbench.init.contract import InitContext, Layerwise, Need
from initbench.init.sampling import constant
from initbench.nn import hooks
from initbench.nn.hooks import Slot
from initbench.nn.layers import Role, WeightLayer
from initbench.nn.naming import parameters_of
from initbench.nn.residual import Branch
from initbench.question import catalog
from initbench.question.config import parse_ref
from initbench.results.record import InitReport


@dataclass(frozen=True)
class Number:
    """A number on the input or output of a module; a trainable one learns at `lr_multiplier` times the rate.

    With a `shape` (trainable only) there is one for each unit or channel, all of the same value; `like` has the type and
    device for a module that has no tensors of its own.
    """

    module: nn.Module
    slot: Slot
    value: float
    trainable: bool = False
    lr_multiplier: float = 1.0
    shape: tuple[int, ...] = ()
    like: Tensor | None = None


@dataclass(frozen=True)
class SchemePlan:
    """What a scheme does to one model: laws for all parameters, numbers in the forward pass, learning rates, notes."""

    laws: Layerwise
    numbers: tuple[Number, ...] = ()
    lr_multipliers: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    change: Callable[[nn.Module], None] | None = None


@dataclass(frozen=True)
class Structural:
    """A scheme that makes a plan for the model (or raises DoesNotApply) and then carries it out."""

    name: str
    plan: Callable[[nn.Module, InitContext], SchemePlan]
    needs: frozenset[Need] = frozenset()

    def apply(self, model: nn.Module, context: InitContext) -> InitReport:
        """Initializes in place; numbers that an earlier scheme left in the model are taken away.

        Raises: DoesNotApply with the reason, before anything is changed.
        """
        plan = self.plan(model, context)
        if plan.laws.check is not None:
            plan.laws.check(model, context.own_layers(model))
        hooks.clear(model)
        report = replace(plan.laws, name=self.name, check=None).apply(model, context)
        if plan.change is not None:
            plan.change(model)
        for number in plan.numbers:
            if number.trainable:
                hooks.set_parameter(number.module, number.slot, number.value, number.shape, number.like)
            else:
                hooks.set_constant(number.module, number.slot, number.value)
        if not plan.numbers and not plan.lr_multipliers:
            return report.model_copy(update={"notes": (*report.notes, *plan.notes)})
        parameters = parameters_of(model).first
        return hooks.amended(report, parameters, lr_multipliers={**plan.lr_multipliers, **_rates(parameters, plan)}, notes=plan.notes)


def _rates(parameters: Mapping[str, Tensor], plan: SchemePlan) -> dict[str, float]:
    slow = (number for number in plan.numbers if number.trainable and number.lr_multiplier != 1)
    rates = {id(getattr(number.module, number.slot)): number.lr_multiplier for number in slow}
    return {name: rates[id(parameter)] for name, parameter in parameters.items() if id(parameter) in rates}


def head_of(layers: tuple[WeightLayer, ...], residual: tuple[Branch, ...] = ()) -> WeightLayer | None:
    """The layer that gives the logits: by its role, else the last one outside of all branches."""
    inside = {layer.parameter for branch in residual for layer in branch.layers}
    outside = [layer for layer in layers if layer.parameter not in inside]
    named = [layer for layer in outside if layer.role is Role.HEAD]
    left = named or outside
    return left[-1] if left else None


def layerwise(text: str) -> Layerwise:
    """The scheme that `base=` names. Raises: ConfigError unless it is one that draws each weight on its own."""
    ref = catalog.resolve("scheme", parse_ref(text))
    made = catalog.load("scheme", ref.name)(**ref.params)
    if not isinstance(made, Layerwise):
        raise ConfigError(
            f"base is '{text}', which works on whole models. Give a scheme that draws each weight on its own, such as kaiming."
        )
    return made


def rescaled(fill: Filler, factors: Mapping[str, float]) -> Filler:
    """The same law, with the weights named in `factors` multiplied by their factor (0: constant zero)."""

    def changed(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
        factor = factors.get(layer.parameter, 1.0)
        if factor == 0:
            return constant(weight, 0.0)
        law = fill(weight, layer, generator)
        if factor != 1:
            weight.mul_(factor)
            law = Law(law.name, law.std * abs(factor), law.mean * factor)
        return law

    return changed
