"""The outputs of all layers on one batch, kept, and how large they are: what a coordinate check compares between steps and widths."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from initbench.measure.jacobians import Outputs
from initbench.nn.inputs import Inputs
from initbench.nn.layers import WeightLayer
from initbench.nn.outputs import main_output, outputs_in
from initbench.nn.watch import run_traced, untouched

WHOLE = "model output"
"""What the model gives, where no layer's output is just that (a tied head); no layer has a name with a space in it."""


def outputs_of(model: nn.Module, layers: tuple[WeightLayer, ...], inputs: Inputs) -> dict[str, Tensor]:
    """The pre-activation of each layer that can be seen, by its name, and the model's output where that is none of them.

    Norms use batch statistics, dropout is off; nothing of the model changes.
    """
    seen: dict[str, Tensor] = {}

    def look(row: int, output: Tensor) -> None:
        seen[layers[row].name] = output

    with torch.no_grad(), untouched(model, "batch"):
        given = outputs_in(run_traced(model, Outputs(model, layers, look), inputs))
        kept = {name: output.detach().clone() for name, output in seen.items()}
        if given:
            whole = given[main_output(given, labelled=False)]
            if all(whole is not output for output in seen.values()):
                kept[WHOLE] = whole.detach().clone()
    return kept


def sizes(now: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> Tensor:
    """The mean absolute value of each output and of its change since `before`, (outputs, 2), on the device."""
    return torch.stack([torch.stack([_size(output), _size(output - before[name])]) for name, output in now.items()])


def _size(values: Tensor) -> Tensor:
    return values.abs().float().mean()
