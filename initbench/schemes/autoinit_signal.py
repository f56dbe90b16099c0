"""The scheme `autoinit_signal`."""

import math

import torch
from torch import Tensor, nn

from initbench.errors import DoesNotApply
from initbench.init.arguments import choose, number
from initbench.init.assign import Law
from initbench.init.contract import InitContext, Layerwise
from initbench.init.sampling import Distribution, sample
from initbench.init.signal import Signal, after
from initbench.init.structural import Plan, Structural
from initbench.nn.layers import WeightLayer
from initbench.question.config import parse_ref

FAMILY = "critical"
NEEDS_BATCH = True
ALIASES: dict[str, dict[str, object]] = {"autoinit": {}}


def build(
    *,
    input_mean: float = 0.0,
    input_variance: float = 1.0,
    signal_variance: float = 1.0,
    distribution: Distribution = "trunc_normal",
) -> Structural:
    """Tracks mean and variance of the signal through every layer, and gives each weight what keeps its output at variance 1.

    Var W = `signal_variance` / (fan_in (v + m^2)) where m and v are the mean and variance of what the layer is fed, from
    what stands before it: activations by exact Gaussian integrals, dropout (v + m^2) / (1 - p) - m^2, norms 0 and 1,
    average pooling v / k, max pooling the largest of k normal numbers. b = 0. Neighbours count as independent, so what is
    averaged behind an activation with a mean (ReLU) comes out larger than reckoned.

    Applies to: networks without sums of signals whose activations are known, such as `mlp`.
    Needs: nothing but an example batch (`inputs`).

    Source: Bingham & Miikkulainen 2023 (AutoInit: analytic mean- and variance-preserving), eq. 5 and section 4. Each group
    of a convolution counts alone (the authors' code multiplies a depthwise gain by C instead of sqrt C).
    """
    choose("distribution", distribution, Distribution)
    start = Signal(number("input_mean", input_mean), number("input_variance", input_variance, least=0.0))
    wanted = number("signal_variance", signal_variance, above=0.0)

    def plan(_: nn.Module, context: InitContext) -> Plan:
        squares = {layer.parameter: _square_before(layer, context.layers, start, wanted) for layer in context.layers}

        def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            std = math.sqrt(wanted / (max(1, layer.fan_in) * squares[layer.parameter]))
            return sample(weight, distribution, std, generator)

        return Plan(Layerwise("autoinit_signal", fill))

    return Structural("autoinit_signal", plan)


def _square_before(layer: WeightLayer, layers: tuple[WeightLayer, ...], start: Signal, wanted: float) -> float:
    """The second moment of what a layer is fed. Raises: DoesNotApply where it cannot be told."""
    around = layer.surroundings
    if not around.uses:
        raise DoesNotApply(f"'autoinit_signal' cannot see what '{layer.name}' is fed. Give an example batch that runs through it.")
    before = next((other for other in layers if other.name in around.sources), None)
    if len(around.sources) > 1:
        raise DoesNotApply(f"'autoinit_signal' does not apply: several signals meet before '{layer.name}' ({', '.join(around.sources)}).")
    shape = around.input_shape if before is None else before.surroundings.output_shape
    signal = Signal(0.0, wanted, shape[1:]) if before is not None else Signal(start.mean, start.variance, shape[1:])
    for step in around.path:
        ref = parse_ref(step)
        signal = after(signal, ref, f"before '{layer.name}'")
    if signal.square <= 0:
        raise DoesNotApply(f"'autoinit_signal' does not apply: '{layer.name}' is fed by a signal of zero.")
    return signal.square
