"""The contract of a scheme: a file of the folder `schemes` with `build(*, ...) -> Scheme`.

A scheme that draws each weight on its own (most of them) is a `Layerwise`: one function that fills a tensor for a
`WeightLayer` and says which law it used. A scheme that needs more is any object with `name`, `needs` and
`apply(model, context)`; it may start from a layerwise one through `Layerwise.apply` and amend the report. Whatever it
needs it says in `needs`, and `initialize` refuses before it starts where the context lacks it. A scheme that does not
suit the model raises DoesNotApply before anything is changed.

Schemes that change the model itself (Need.HOOKS) do it in `apply`, in place, through `initbench.nn.hooks`: a number on the
input or the output of a module, trainable or fixed. `initbench.nn.residual.branches` says where the residual branches are.
Schemes and models do not import one another. Where the layers change by it, `context.find_layers()` gives them as they are
now; the layerwise part is handed those (`dataclasses.replace(context, layers=...)`). The new parameters are reported like any
other (`initbench.nn.hooks.amended`). Whoever trains makes its optimizer after the scheme was applied;
`InitReport.lr_multipliers` says what it needs to know.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from initbench.init.assign import Override, Recipe, assign
from initbench.nn.inputs import Inputs
from initbench.nn.layers import WeightLayer
from initbench.nn.naming import all_names, matches, own_layers
from initbench.question.config import InitRules, TrainConfig
from initbench.results.record import InitReport


class Need(StrEnum):
    """What a scheme needs beside the model."""

    DATA = "data"
    LABELS = "labels"
    GRADIENTS = "gradients"
    HOOKS = "model hooks"


@dataclass(frozen=True)
class InitContext:
    """What a scheme may use. `layers` are the model's weight layers in execution order.

    `batch(size, index)` gives (inputs, labels) from the training split on the model's device: normalized float images
    (size, C, H, W) or (size, features) and int64 labels (size,); index 0, 1, ... are different batches, the same for every
    scheme of a seed. None where there is no data (`init_network` without any). `inputs` is a batch as the model takes it,
    for schemes that only need to run it. Of models with several arguments both are `ModelInputs`: `initbench.nn.inputs.called`
    runs a model on either. `find_layers()` looks again, for schemes that changed the model.
    """

    seed: int
    rules: InitRules = field(default_factory=InitRules)
    layers: tuple[WeightLayer, ...] = ()
    overrides: tuple[tuple[str, "Layerwise"], ...] = ()
    batch: Callable[[int, int], tuple[Inputs, Tensor]] | None = None
    train: TrainConfig | None = None
    inputs: Inputs | None = None
    find_layers: Callable[[], tuple[WeightLayer, ...]] | None = None

    def own_layers(self, model: nn.Module) -> tuple[WeightLayer, ...]:
        """The layers whose weight the scheme itself sets: not excluded, frozen or given to another by a pattern."""
        return own_layers(model, self.layers, self.rules, tuple(pattern for pattern, _ in self.overrides))


@runtime_checkable
class Scheme(Protocol):
    """Initializes a model in place and reports on every parameter."""

    @property
    def name(self) -> str:
        """The scheme's name."""

    @property
    def needs(self) -> frozenset[Need]:
        """What must be in the context."""

    def apply(self, model: nn.Module, context: InitContext) -> InitReport:
        """Initializes in place. Raises: DoesNotApply with the reason, before anything is changed."""


@dataclass(frozen=True)
class Layerwise(Recipe):
    """A scheme that draws each weight on its own.

    `fill` writes one weight and gives its law; `fill_bias` and `fill_rest`, where the scheme has an opinion, the biases
    and all other parameters; `check` raises DoesNotApply for layers that the scheme does not suit (it is given those
    whose weight the scheme is to set). Where a layer's law depends on what the layer is a part of, `in_model` gives the
    scheme for a model.
    """

    check: Callable[[nn.Module, tuple[WeightLayer, ...]], None] | None = None
    needs: frozenset[Need] = frozenset()
    in_model: "Callable[[nn.Module], Layerwise] | None" = None

    def for_model(self, model: nn.Module) -> "Layerwise":
        """The scheme with the laws that it has in this model."""
        return self if self.in_model is None else replace(self.in_model(model), name=self.name, in_model=None)

    @torch.no_grad()
    def apply(self, model: nn.Module, context: InitContext) -> InitReport:
        """Fills every weight from its own generator; see `initbench.init.assign.assign` for what sets the rest."""
        if self.check is not None:
            self.check(model, context.own_layers(model))
        self._check_overrides(model, context)
        overrides = tuple(Override(pattern, scheme.for_model(model)) for pattern, scheme in context.overrides)
        return assign(model, context.layers, self.for_model(model), rules=context.rules, overrides=overrides, seed=context.seed)

    def _check_overrides(self, model: nn.Module, context: InitContext) -> None:
        if not context.overrides:
            return
        names = all_names(model)
        left = own_layers(model, context.layers, context.rules, ())
        for pattern, scheme in context.overrides:
            its = tuple(layer for layer in left if matches(pattern, layer, names[id(layer.weight)]))
            left = tuple(layer for layer in left if layer not in its)
            if scheme.check is not None and its:
                scheme.check(model, its)
