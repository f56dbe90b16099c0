"""Measures every weight layer of a model on a fixed batch; training goes on as if nothing had been measured.

Norms use batch statistics and dropout is off; gradients never touch `.grad`; nothing waits for the device until `to_stats`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from initbench.fast.tape import Tape
from initbench.measure.capture import captured
from initbench.measure.sums import MeasuredTensor, Scratch, Statistics, columns
from initbench.nn.inputs import Inputs, first_tensor
from initbench.nn.layers import WeightLayer
from initbench.nn.outputs import outputs_in
from initbench.nn.parametrized import weight_of
from initbench.quantities import OF_EVERY_RUN
from initbench.results.record import LayerStats

OF_UPDATES = tuple(quantity for quantity in OF_EVERY_RUN if quantity.of == "update")
MEASURED = tuple(quantity for quantity in OF_EVERY_RUN if quantity.of != "update")
COLUMNS = tuple(quantity.name for quantity in MEASURED)
"""The columns of what `measure` gives; each is a field of `LayerStats`."""


@dataclass(frozen=True)
class ProbeAtStep:
    """One probe after `step` optimizer steps: `values` (layers, `COLUMNS`), `update_ratios` (layers, `OF_UPDATES`) of the next step."""

    step: int
    values: Tensor
    update_ratios: Tensor | None = None


Loss = Callable[[Any], Tensor]
"""The loss of what the model gives, summed over the batch."""


def measure(
    model: nn.Module, layers: tuple[WeightLayer, ...], inputs: Inputs, labels: Tensor | Loss | None, tape: Tape | None = None
) -> Tensor:
    """One row a layer, one column a quantity (`COLUMNS`), float64 on the model's device (float32 on MPS); NaN where there is none.

    `inputs` (N, ...), `labels` int64 (N,); without labels there is no loss and the gradient columns are NaN. Signal
    gradients are of the summed cross entropy (or of the loss that stands in the place of `labels`), `weight_gradient_norm`
    of the mean. A `tape` that is kept makes the next probe of the same model cheaper. Of a model
    that gives several tensors, labels are of the first; a loss in their place is given all.
    """
    weights = [layer.weight for layer in layers]
    gradients: list[Tensor | None] = [None] * len(layers)
    with torch.enable_grad(), captured(model, layers, inputs, tape) as forward:
        outputs = outputs_in(forward.output)
        if labels is not None and any(output.requires_grad for output in outputs):
            loss = labels(forward.output) if callable(labels) else _cross_entropy(outputs[0], labels)
            wanted = [index for index, weight in enumerate(weights) if weight.requires_grad]
            computed = torch.autograd.grad(loss, [weights[index] for index in wanted], allow_unused=True)
            for index, got in zip(wanted, computed, strict=True):
                gradients[index] = got
    scratch = Scratch()
    for statistics, layer, gradient in zip(forward.statistics, layers, gradients, strict=True):
        statistics.add("weight", MeasuredTensor(weight_of(layer), scratch))
        if gradient is not None:
            statistics.add("weight_gradient", MeasuredTensor(gradient, scratch, images=len(inputs)))
    return torch.column_stack(list(columns(forward.statistics, first_tensor(inputs), MEASURED).values()))


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), labels, reduction="sum")


def copy_weights(layers: tuple[WeightLayer, ...]) -> list[Tensor]:
    """The weights as they are now, for `update_ratios`."""
    return [layer.weight.detach().clone() for layer in layers]


def update_ratios(layers: tuple[WeightLayer, ...], before: Sequence[Tensor]) -> Tensor:
    """The quantities of an update (`OF_UPDATES`) since `copy_weights`, (layers, columns) on the device; uses up the copies."""
    scratch = Scratch()
    statistics = [Statistics() for _ in layers]
    for kept, layer, old in zip(statistics, layers, before, strict=True):
        kept.add("update", MeasuredTensor(layer.weight, scratch, before=old))
    return torch.column_stack(list(columns(statistics, layers[0].weight, OF_UPDATES).values()))


def to_stats(layers: tuple[WeightLayer, ...], records: Sequence[ProbeAtStep]) -> tuple[LayerStats, ...]:
    """Brings the records to the host, in one transfer a record; numbers that do not exist become None."""
    stats: list[LayerStats] = []
    names = (*COLUMNS, *(quantity.name for quantity in OF_UPDATES))
    for record in records:
        ratios = record.update_ratios
        if ratios is None:
            ratios = record.values.new_full((len(layers), len(OF_UPDATES)), torch.nan)
        for layer, row in zip(layers, torch.column_stack([record.values, ratios]).tolist(), strict=True):
            stats.append(LayerStats(step=record.step, layer=layer.name, position=layer.position, **dict(zip(names, row, strict=True))))
    return tuple(stats)
