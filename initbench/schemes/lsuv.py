"""The scheme `lsuv`."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from initbench.init.arguments import number, switch, whole
from initbench.init.contract import InitContext, Layerwise, Need
from initbench.init.data_driven import (
    change_weight,
    changed_names,
    fixed_by,
    free_biases,
    layer_outputs,
    remeasured,
    start_from,
    training_batch,
    unit_axis,
)  # fmt: skip
from initbench.init.structural import layerwise
from initbench.nn.inputs import Inputs
from initbench.nn.layers import WeightLayer
from initbench.results.record import InitReport

FAMILY = "data-dependent"
NEEDS = ("batch",)
ALIASES: dict[str, dict[str, object]] = {"layer_sequential_unit_variance": {}}


def build(
    *, base: str = "orthogonal", tolerance: float = 0.1, max_iterations: int = 10, batch_size: int = 256, centre: bool = False
) -> "Lsuv":
    """Layer-sequential unit variance: orthogonal weights, each divided until its output has variance 1 on real data.

    W ~ `base`, b = 0; then in execution order, on one batch of training data: W /= sqrt(Var(output)) until |Var - 1| <
    `tolerance` or `max_iterations` times. The variance is over examples, units and positions together. With `centre` the
    bias of each unit also takes the mean out, once its layer's variance is right.

    Applies to: networks of layers whose outputs can be seen, such as `mlp`; recurrent layers keep `base`.
    Needs: data.

    Source: Mishkin & Matas 2016, algorithm 1. The authors' torch code compares the standard deviation, and goes by
    registration; `centre` is its `needed_mean`, but exact.
    """
    return Lsuv(
        base=layerwise(base),
        tolerance=number("tolerance", tolerance, above=0.0),
        max_iterations=whole("max_iterations", max_iterations, least=1),
        batch_size=whole("batch_size", batch_size, least=2),
        centre=switch("centre", centre),
    )


@dataclass(frozen=True)
class Lsuv:
    """Starts from `base` and rescales layer by layer."""

    base: Layerwise
    tolerance: float
    max_iterations: int
    batch_size: int
    centre: bool
    name: str = "lsuv"
    needs: frozenset[Need] = frozenset({Need.DATA})

    @torch.no_grad()
    def apply(self, model: nn.Module, context: InitContext) -> InitReport:
        """Initializes in place. Raises: DoesNotApply as `base` does."""
        inputs, _ = training_batch(self.name, context, self.batch_size)
        report = start_from(self.base, self.name, model, context)
        layers = context.own_layers(model)
        biases = free_biases(model, context.rules) if self.centre else {}
        outputs = layer_outputs(model, inputs)
        notes: list[str] = []
        changed: list[str] = []
        settled: list[WeightLayer] = []
        for layer in layers:
            outcome, outputs = self._settle(model, inputs, layer, outputs)
            if outcome is not None:
                notes.append(f"'{layer.name}' {outcome}")
            else:
                settled.append(layer)
            changed += changed_names(layer)
            bias = biases.get(layer.bias or "")
            if bias is not None and layer.parameter in outputs:
                values = outputs[layer.parameter].movedim(unit_axis(layer), -1).flatten(0, -2)
                bias.sub_(values.mean(dim=0).to(bias.dtype))
                changed.append(layer.bias or "")
                outputs = layer_outputs(model, inputs)
        for layer in settled:
            variance = _variance(outputs[layer.parameter])
            if not abs(variance - 1) < 2 * self.tolerance:
                notes.append(f"'{layer.name}' had variance 1, and has {variance:.3g} since a later layer was scaled: they share a weight.")
        return remeasured(report, model, changed, f"{self.base.name}, scaled to unit variance", notes)

    def _settle(
        self, model: nn.Module, inputs: Inputs, layer: WeightLayer, outputs: dict[str, Tensor]
    ) -> tuple[str | None, dict[str, Tensor]]:
        """Scales one layer; gives what is to be said about it and the outputs afterwards."""
        for _ in range(self.max_iterations):
            if layer.parameter not in outputs:
                return "has no output that can be seen, and keeps its values.", outputs
            variance = _variance(outputs[layer.parameter])
            if abs(variance - 1) < self.tolerance:
                return None, outputs
            if not (math.isfinite(variance) and variance > 0):
                return f"has an output variance of {variance:g}, and keeps its values.", outputs
            if not change_weight(model, layer, lambda weight, root=math.sqrt(variance): weight.div_(root)):  # type: ignore[misc]
                return fixed_by(model, layer), outputs
            outputs = layer_outputs(model, inputs)
        variance = _variance(outputs[layer.parameter])
        return (None if abs(variance - 1) < self.tolerance else f"has variance {variance:.3g} after all iterations."), outputs


def _variance(output: Tensor) -> float:
    """The variance of all numbers; of complex ones that of both parts together."""
    return output.to(torch.complex128 if output.is_complex() else torch.float64).var(correction=0).item()
