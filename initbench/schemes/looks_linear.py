"""The scheme `looks_linear`."""

import math

import torch
from torch import Tensor, nn

from initbench.errors import DoesNotApply
from initbench.init.arguments import number
from initbench.init.assign import Law
from initbench.init.contract import InitContext, Layerwise
from initbench.init.sampling import as_it_is, centre, haar, matrices
from initbench.init.structural import SchemePlan, Structural
from initbench.init.suitability import channels, leaves_holes, no_centre
from initbench.nn.layers import WeightLayer

FAMILY = "orthogonal"
ALIASES: dict[str, dict[str, object]] = {"mirrored": {}, "gsm": {}}


def build(*, gain: float = 1.0) -> Structural:
    """A ReLU network that is linear and an isometry at the start: each unit has a mirror image.

    First layer W = [O; -O], inner layers [[O, -O], [-O, O]], last layer [O, -O] with O orthogonal times `gain`, b = 0:
    relu(v) and relu(-v) travel together, and their difference is v. Of convolutions O stands at the centre of an odd
    kernel. With widths that never shrink every input keeps its norm to rounding, at any depth.

    Applies to: plain ReLU networks without residual branches and groups, hidden widths even, kernels odd, such as `mlp`.
    Needs: nothing.

    Source: Balduzzi et al. 2017, section 4 (with CReLU); Burkholz & Dubatovka 2019 for plain ReLU.
    """
    factor = number("gain", gain)

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        layers = context.own_layers(model)
        _refuse(context.layers, layers)
        names = [layer.parameter for layer in context.layers] or [""]
        first, last = names[0], names[-1]

        def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            weight.zero_()
            (block,) = matrices(weight, layer)
            middle = centre(block).T if layer.transposed else centre(block)
            rows, columns = (1 if layer.parameter == last else 2), (1 if layer.parameter == first else 2)
            outputs, inputs = middle.shape[0] // rows, middle.shape[1] // columns
            o = factor * haar(outputs, inputs, generator)
            for i in range(rows):
                for j in range(columns):
                    middle[i * outputs : (i + 1) * outputs, j * inputs : (j + 1) * inputs] = (-1) ** (i + j) * o
            law = as_it_is("mirrored orthogonal", weight)
            return Law(law.name, factor * math.sqrt(rows * columns * min(o.shape) / max(1, weight.numel())))

        return SchemePlan(Layerwise("looks_linear", fill))

    return Structural("looks_linear", plan)


def _refuse(layers: tuple[WeightLayer, ...], own: tuple[WeightLayer, ...]) -> None:
    for layer in own:
        inputs, outputs = channels(layer)
        odd_in = inputs % 2 and layer is not layers[0]
        odd_out = outputs % 2 and layer is not layers[-1]
        against = (
            (f"its width of {inputs if odd_in else outputs} is odd, and every unit needs a mirror image" if odd_in or odd_out else None)
            or ("it is part of a residual block, where mirror images do not stay so" if layer.block is not None else None)
            or ("it has groups or gates" if layer.groups > 1 or layer.parts > 1 else None)
            or (f"{layer.activation} follows it, and only ReLU is undone" if layer.activation not in {None, "relu"} else None)
            or no_centre(layer)
            or leaves_holes(layer)
        )
        if against:
            raise DoesNotApply(f"'looks_linear' does not apply to '{layer.name}': {against}.")
