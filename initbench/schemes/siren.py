"""The scheme `siren`."""

import math

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError, DoesNotApply
from initbench.init.arguments import number
from initbench.init.assign import Law
from initbench.init.contract import InitContext, Layerwise
from initbench.init.sampling import uniform
from initbench.init.structural import SchemePlan, Structural
from initbench.nn.layers import WeightLayer
from initbench.question.config import parse_ref

FAMILY = "special"
EXAMPLE_MODEL = "mlp:activation=sin"
NEEDS = ("inputs",)


def build(*, omega: float | str = "auto") -> Structural:
    """For networks of sines sin(omega (W x + b)): the frequencies of the first layer spread, all others in step.

    First layer W ~ U(+-1 / in), all others U(+-sqrt(6 / in) / omega), b ~ U(+-1 / sqrt(in)). `omega` is the factor inside
    the sine, `auto` takes it from the model (`sin:omega=30`). The pre-activation variance settles at 0.797 (the solution
    of q = 1 - exp(-2 q)), not at the 1 that the paper approximates.

    Applies to: networks of sines, such as `mlp:activation=sin`.
    Needs: nothing, but with `omega=auto` an example batch (`inputs`).

    Source: Sitzmann et al. 2020, theorem 1.8 and supplement 1.5 (omega = 30; biases are torch's, as in the authors' code).
    """
    if isinstance(omega, str) and omega != "auto":
        raise ConfigError(f"omega is '{omega}'. Give a number or auto.")
    given = None if isinstance(omega, str) else number("omega", omega, above=0.0)

    def plan(_: nn.Module, context: InitContext) -> SchemePlan:
        frequency = _frequency(context.layers) if given is None else given
        first = context.layers[0].parameter if context.layers else ""

        def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            inputs = max(1, layer.fan_in)
            bound = 1 / inputs if layer.parameter == first else math.sqrt(6 / inputs) / frequency
            return uniform(weight, -bound, bound, generator)

        def fill_bias(bias: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            bound = 1 / math.sqrt(max(1, layer.fan_in))
            return uniform(bias, -bound, bound, generator)

        return SchemePlan(Layerwise("siren", fill, fill_bias))

    return Structural("siren", plan)


def _frequency(layers: tuple[WeightLayer, ...]) -> float:
    """The omega of the sines that follow the layers. Raises: DoesNotApply where there is another activation, or no sine."""
    omegas = set()
    for layer in layers:
        if layer.activation is None:
            continue
        ref = parse_ref(layer.activation)
        if ref.name != "sin":
            raise DoesNotApply(f"'siren' is for networks of sines, and {layer.activation} follows '{layer.name}'.")
        omegas.add(float(ref.params.get("omega", 1.0)))
    if not omegas:
        raise DoesNotApply("'siren' is for networks of sines, and none was found in this model. Say siren:omega=30 if there are.")
    if len(omegas) > 1:
        raise DoesNotApply(
            f"'siren' found sines with omega {', '.join(f'{value:g}' for value in sorted(omegas))}. Say which: siren:omega=30."
        )
    return omegas.pop()
