"""The contract of a scheme: a file of this folder with `build(*, ...) -> Scheme`.

A scheme that draws each weight on its own (most of them) is a `Layerwise`: one function that fills a tensor for a
`WeightLayer` and says which law it used. A scheme that needs more (data, gradients, changes in the model) is any object
with `needs` and `apply(model, context)`; it may start from a layerwise one through `Layerwise.apply` and amend the report.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor, nn

from initbench.config import InitRules, TrainConfig
from initbench.nn.assign import BiasFiller, Filler, assign
from initbench.nn.layers import WeightLayer
from initbench.results import InitReport


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
    scheme of a seed. None where there is no data (`init_network` without any).
    """

    seed: int
    rules: InitRules = field(default_factory=InitRules)
    layers: tuple[WeightLayer, ...] = ()
    overrides: tuple[tuple[str, "Layerwise"], ...] = ()
    batch: Callable[[int, int], tuple[Tensor, Tensor]] | None = None
    train: TrainConfig | None = None


class Scheme(Protocol):
    """Initializes a model in place and reports on every parameter."""

    @property
    def needs(self) -> frozenset[Need]:
        """What must be in the context."""

    def apply(self, model: nn.Module, context: InitContext) -> InitReport:
        """Initializes in place. Raises: DoesNotApply with the reason, before anything is changed."""


@dataclass(frozen=True)
class Layerwise:
    """A scheme that draws each weight on its own.

    `fill` writes one weight and gives its law; `fill_bias`, where the scheme has an opinion, one bias; `check` raises
    DoesNotApply for a model that the scheme does not suit.
    """

    name: str
    fill: Filler
    fill_bias: BiasFiller | None = None
    check: Callable[[nn.Module, tuple[WeightLayer, ...]], None] | None = None
    needs: frozenset[Need] = frozenset()

    @torch.no_grad()
    def apply(self, model: nn.Module, context: InitContext) -> InitReport:
        """Fills every weight from its own generator; see `initbench.nn.assign.assign` for what sets the rest."""
        if self.check is not None:
            self.check(model, context.layers)
        overrides = tuple((pattern, scheme.name, scheme.fill) for pattern, scheme in context.overrides)
        return assign(
            model,
            context.layers,
            name=self.name,
            fill=self.fill,
            fill_bias=self.fill_bias,
            rules=context.rules,
            overrides=overrides,
            seed=context.seed,
        )
