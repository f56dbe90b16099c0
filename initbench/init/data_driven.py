"""What schemes that look at data share: the outputs of all layers for a batch, and reports on what was changed."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from initbench.errors import DoesNotApply
from initbench.init.assign import Law, describe
from initbench.init.contract import InitContext, Layerwise
from initbench.nn.fans import CONVOLUTIONS, TRANSPOSED
from initbench.nn.graph import Use
from initbench.nn.inputs import Inputs
from initbench.nn.layers import WeightLayer
from initbench.nn.trace import Tracer
from initbench.nn.watch import run_traced, untouched
from initbench.question.config import InitRules
from initbench.results.record import InitReport, ParameterInit, Setter


class _Collector(Tracer):
    """Keeps the output of the first use of each weight, bias included."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.outputs: dict[str, tuple[int, Tensor]] = {}

    def on_output(self, use: Use, output: Tensor) -> None:
        """Keeps the output; called again with the bias added."""
        index, _ = self.outputs.get(use.weight.name, (use.index, output))
        if index == use.index:
            self.outputs[use.weight.name] = (index, output)


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


def remeasured(report: InitReport, model: nn.Module, names: Sequence[str], law: str, notes: Sequence[str] = ()) -> InitReport:
    """The report with the entries of the named parameters as they are now; they follow no law with a known deviation."""
    parameters, changed = dict(model.named_parameters()), set(names)

    def now(entry: ParameterInit) -> ParameterInit:
        if entry.parameter not in changed:
            return entry
        fresh = describe(entry.parameter, parameters[entry.parameter], Setter.SCHEME, report.scheme, Law(law, 0.0))
        return fresh.model_copy(update={"target_std": None, "target_mean": None, "fan_in": entry.fan_in, "fan_out": entry.fan_out})

    entries = tuple(now(entry) for entry in report.parameters)
    return report.model_copy(update={"parameters": entries, "notes": (*report.notes, *notes)})


def free_biases(model: nn.Module, rules: InitRules) -> dict[str, nn.Parameter]:
    """The parameters that a scheme may use as biases: not excluded, not frozen, and not set to a constant by the rules."""
    if rules.bias != "scheme":
        return {}
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not any(part in name for part in rules.exclude)
    }
