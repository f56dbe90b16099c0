"""What schemes that look at data share: the outputs of all layers for a batch, and reports on what was changed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from initbench.errors import DoesNotApply
from initbench.init.assign import Law, describe, moments_of
from initbench.init.contract import InitContext, Layerwise
from initbench.nn.fans import CONVOLUTIONS, TRANSPOSED
from initbench.nn.graph import Use
from initbench.nn.inputs import Inputs
from initbench.nn.layers import EMBEDDINGS, WeightLayer
from initbench.nn.naming import modules_of
from initbench.nn.operations import SUMS, WEIGHTED, plain_name, tensors_in
from initbench.nn.parametrized import computed, computed_by_name
from initbench.nn.trace import Tracer
from initbench.nn.watch import run_traced, untouched
from initbench.question.config import InitRules
from initbench.results.record import InitReport, ParameterInit, Setter


class _Collector(Tracer):
    """Keeps the output of the first use of each weight, bias included.

    The model goes on with a copy: an activation that works in place changes what is kept neither in its values nor in the graph.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.outputs: dict[str, tuple[int, Tensor]] = {}
        self._original: Tensor | None = None

    def result(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A copy of what a layer gives, or a sum."""
        result = func(*args, **kwargs)
        fresh = isinstance(result, Tensor) and not any(result is given for given in tensors_in([args, kwargs]))
        self._original = result if fresh and plain_name(func) in WEIGHTED | SUMS else None
        return result if self._original is None else result.clone()

    def on_output(self, use: Use, output: Tensor) -> None:
        """Keeps the output; called again with the bias added."""
        index, _ = self.outputs.get(use.weight.name, (use.index, output))
        if index == use.index:
            self.outputs[use.weight.name] = (index, output if self._original is None else self._original)


def layer_outputs(model: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """The output of each weight for a batch, by the name of the parameter; dropout off, norms on batch statistics.

    Weights whose product is hidden inside a kernel (recurrent layers) are not in it. With gradients where they are enabled.
    """
    collector = _Collector(model)
    with untouched(model, "batch"):
        result = run_traced(model, collector, inputs)
    collector.unmark(result)
    return {name: output for name, (_, output) in collector.outputs.items()}


def unit_axis(layer: WeightLayer) -> int:
    """The axis of a layer's output that counts its units: 1 for convolutions, else the last."""
    return 1 if layer.weight.dim() > 2 and isinstance(layer.module, CONVOLUTIONS + TRANSPOSED) else -1


def training_batch(scheme: str, context: InitContext, size: int, index: int = 0) -> tuple[Inputs, Tensor]:
    """A batch of training data. Raises: DoesNotApply where there is none."""
    if context.batch is None:
        raise DoesNotApply(f"'{scheme}' needs training data, and there is none.")
    return context.batch(size, index)


def start_from(base: Layerwise, scheme: str, model: nn.Module, context: InitContext) -> InitReport:
    """Initializes by the layerwise scheme that another one begins with, in the other one's name. Raises: as `base` does."""
    return replace(base, name=scheme).apply(model, context)


def scale_of(model: nn.Module, layer: WeightLayer) -> str | None:
    """The parameter that a weight is proportional to: itself, or the length in a weight norm; None where it is computed otherwise."""
    if computed(layer.module, layer.weight) is None:
        return layer.parameter
    if layer.length is not None and model.get_parameter(layer.length).requires_grad:
        return layer.length
    return None


@torch.no_grad()
def change_weight(model: nn.Module, layer: WeightLayer, change: Callable[[Tensor], object], *, scale: bool = True) -> bool:
    """Changes a weight by a function that works in place; of a weight norm only the length where `change` is a factor (`scale`).

    A weight that is computed from parameters is set through what computes it, else with the parameter. False, with nothing
    changed, where it does not come out as wanted (what an orthogonal parametrization or a spectral norm gives cannot be scaled),
    and for a weight that an embedding uses too: whatever a layer is fed would change along with it.
    """
    if tied_embedding(model, layer) is not None:
        return False
    name = scale_of(model, layer)
    if name == layer.parameter or (name is not None and scale):
        change(model.get_parameter(name))
        return True
    through = computed(layer.module, layer.weight)
    if through is None:
        return False
    before, parameter = through.value().clone(), layer.weight.detach().clone()
    wanted = before.clone()
    change(wanted)
    if through.write(wanted) and through.gives(wanted):
        return True
    if not through.write(before):
        change(layer.weight)
        if through.gives(wanted):
            return True
        layer.weight.copy_(parameter)
    through.refresh()
    return False


def tied_embedding(model: nn.Module, layer: WeightLayer) -> str | None:
    """The embedding that a layer shares its weight with; None where there is none."""
    for name, module in modules_of(model):
        if isinstance(module, EMBEDDINGS) and module is not layer.module and module._parameters.get("weight") is layer.weight:
            return name
    return None


def fixed_by(model: nn.Module, layer: WeightLayer) -> str:
    """What is said of a weight that cannot be scaled."""
    tied, through = tied_embedding(model, layer), computed(layer.module, layer.weight)
    if tied is not None:
        return f"shares its weight with the embedding '{tied}', on which all that it is fed depends, and keeps its values."
    return f"goes through {through.words if through else 'a parametrization'}, which cannot be scaled, and keeps its values."


def changed_names(layer: WeightLayer) -> tuple[str, ...]:
    """The parameters that `change_weight` changes."""
    return (layer.parameter,) if layer.length is None else (layer.parameter, layer.length)


def remeasured(report: InitReport, model: nn.Module, names: Sequence[str], law: str, notes: Sequence[str] = ()) -> InitReport:
    """The report with the entries of the named parameters as they are now; they follow no law with a known deviation.

    Of a parameter that a weight is computed from, mean and deviation are the weight's.
    """
    parameters, changed = dict(model.named_parameters()), set(names)
    used = {name: through for name in changed if (through := computed_by_name(model, name)) is not None}

    def now(entry: ParameterInit) -> ParameterInit:
        if entry.parameter not in changed:
            return entry
        value = parameters[entry.parameter]
        through = used.get(entry.parameter)
        moments = None if through is None else moments_of(through.value())
        fresh = describe(entry.parameter, value, Setter.SCHEME, report.scheme, Law(law, 0.0), moments=moments)
        return fresh.model_copy(update={"target_std": None, "target_mean": None, "fan_in": entry.fan_in, "fan_out": entry.fan_out})

    entries = tuple(now(entry) for entry in report.parameters)
    return report.model_copy(update={"parameters": entries, "notes": (*report.notes, *notes)})


def free_biases(model: nn.Module, rules: InitRules) -> dict[str, nn.Parameter]:
    """The parameters that a scheme may use as biases: not excluded, not frozen, and not set to a constant by the rules."""
    if rules.bias != "scheme":
        return {}
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad and not rules.left_alone([name])}
