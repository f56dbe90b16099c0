"""Measures every weight layer of a model on a fixed batch; training goes on as if nothing had been measured.

Norms use batch statistics and dropout is off; gradients never touch `.grad`; nothing waits for the device until `to_stats`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from initbench.fast.tape import Tape
from initbench.measure.capture import captured
from initbench.measure.sums import MeasuredTensor, Scratch, Statistics, columns
from initbench.nn.inputs import Inputs, first_tensor
from initbench.nn.layers import Role, WeightLayer
from initbench.nn.operations import NORMALIZATIONS
from initbench.nn.outputs import outputs_in
from initbench.nn.parametrized import weight_of
from initbench.quantities import OF_EVERY_RUN
from initbench.results.record import LayerStats, Place

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
    """One row a layer, one column a quantity (`COLUMNS`), float64 on the model's device (float32 on MPS).

    NaN where a layer has no such signal, infinite where the signal is no finite number.
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
    """Brings the records to the host, in one transfer a record.

    Numbers that do not exist become None, with what overflowed and why the rest was not measured beside them.
    """
    stats: list[LayerStats] = []
    places = _places(layers)
    names = (*COLUMNS, *(quantity.name for quantity in OF_UPDATES))
    for record in records:
        ratios = record.update_ratios
        if ratios is None:
            ratios = record.values.new_full((len(layers), len(OF_UPDATES)), torch.nan)
        rows = [dict(zip(names, row, strict=True)) for row in torch.column_stack([record.values, ratios]).tolist()]
        any_gradient = any(not math.isnan(values["gradient_variance"]) for values in rows)
        for layer, place, values in zip(layers, places, rows, strict=True):
            entry = LayerStats(
                step=record.step,
                layer=layer.name,
                position=layer.position,
                size=math.prod(layer.surroundings.output_shape) if layer.surroundings.uses else 0,
                place=place,
                overflowed=tuple(name for name in COLUMNS if math.isinf(values[name])),
                not_measured=_why_not(layer, values, any_gradient=any_gradient),
                **values,
            )
            stats.append(entry)
    return tuple(stats)


def _places(layers: tuple[WeightLayer, ...]) -> list[Place | None]:
    """Where each layer stands; None for all of them where no pass has shown it."""
    if not any(layer.surroundings.uses for layer in layers):
        return [None] * len(layers)
    feeding = {name for layer in layers for name in layer.surroundings.sources}
    on_way, scaled = _on_way(layers), normed(layers) | _pooled(layers)
    end, entering = Place.NORMED_END if _norms_hold(layers) else Place.BRANCH_END, _before_held(layers)
    places: list[Place | None] = []
    for layer in layers:
        if layer.name in entering:
            places.append(Place.ASIDE)
        elif layer.role in {Role.BRANCH, Role.BRANCH_END}:
            places.append(end if layer.role is Role.BRANCH_END else Place.BRANCH)
        elif layer.role is Role.HEAD and layer.name not in feeding:
            places.append(Place.HEAD)
        elif layer.block is not None:
            places.append(Place.SHORTCUT)
        else:
            places.append(Place.ASIDE if layer.name in scaled or layer.name not in on_way else Place.PATH)
    return places


def _before_held(layers: tuple[WeightLayer, ...]) -> set[str]:
    """The layers in front of the first norm on the stream of a post-norm stack, which takes out the scale of all before it."""
    held = {layer.block: layer.surroundings.ends.held for layer in layers if layer.role is Role.BRANCH_END}
    if 2 * sum(held.values()) < len(held) or not any(held.values()):
        return set()
    first = next(index for index, layer in enumerate(layers) if layer.block is not None and held.get(layer.block))
    return {layer.name for layer in layers[:first] if layer.role is not Role.BRANCH}


def _on_way(layers: tuple[WeightLayer, ...]) -> set[str]:
    """The layers whose signal reaches an output or a residual block; what only gates another signal does not."""
    sources = {layer.name: layer.surroundings.sources for layer in layers}
    reached: set[str] = set()
    waiting = [layer.name for layer in layers if layer.role is Role.HEAD or layer.block is not None]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += sources.get(name, ())
    return reached


def _norms_hold(layers: tuple[WeightLayer, ...]) -> bool:
    """Whether there are norms in most residual blocks; one that users write themselves is known by its root."""
    blocks = {layer.block for layer in layers if layer.block is not None}
    normed = {
        layer.block
        for layer in layers
        if layer.block is not None
        and any(step in NORMALIZATIONS or "sqrt" in step for step in (*layer.surroundings.path, *layer.surroundings.between))
    }
    return 2 * len(normed) >= len(blocks) > 0


def normed(layers: tuple[WeightLayer, ...]) -> set[str]:
    """The layers whose output goes into a norm first, or before its activation, which takes out its scale."""
    before = {layer.name for layer in layers if layer.activation is not None and NORMALIZATIONS.intersection(layer.surroundings.between)}
    without = {layer.name for layer in layers if layer.activation is None}
    after = {
        source
        for layer in layers
        for source in layer.surroundings.sources
        if layer.surroundings.path and layer.surroundings.path[0] in NORMALIZATIONS
    }
    return before | without & after


def _pooled(layers: tuple[WeightLayer, ...]) -> set[str]:
    """The layers behind an average over all positions, which makes a signal smaller that differs from one to the next."""
    pooled: set[str] = set()
    for layer in layers:
        around = layer.surroundings
        if any(step.startswith(("adaptive_avg_pool", "mean")) for step in around.path) or pooled.intersection(around.sources):
            pooled.add(layer.name)
    return pooled


def _why_not(layer: WeightLayer, values: Mapping[str, float], *, any_gradient: bool) -> str | None:
    """Why a layer has no signal or no gradient; None where it has both."""
    if math.isnan(values["pre_activation_variance"]):
        if isinstance(layer.module, nn.RNNBase | nn.RNNCellBase):
            return "hidden inside a recurrent module"
        return "cannot be followed" if layer.surroundings.uses else "not met in the forward pass"
    if math.isnan(values["gradient_variance"]):
        if not any_gradient:
            return "there is no gradient of a loss"
        return "gets no gradient" if layer.weight.requires_grad else "gets no gradient (frozen)"
    return None
