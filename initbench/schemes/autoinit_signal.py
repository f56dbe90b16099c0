"""The scheme `autoinit_signal`."""

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from initbench.errors import ConfigError, DoesNotApply
from initbench.init.arguments import choose, number
from initbench.init.assign import Law
from initbench.init.contract import InitContext, Layerwise
from initbench.init.sampling import Distribution, sample
from initbench.init.structural import SchemePlan, Structural
from initbench.nn.layers import WeightLayer
from initbench.nn.operations import DROPOUTS, NORMALIZATIONS
from initbench.question.config import Ref, parse_ref
from initbench.theory import activations

FAMILY = "critical"
NEEDS = ("inputs",)
ALIASES: dict[str, dict[str, object]] = {"autoinit": {}}

UNCHANGED = {"identity", "pad", "flatten", "interpolate", "upsample", "roll", "pixel_shuffle", "channel_shuffle"}
"""What leaves mean and variance as they are."""


@dataclass(frozen=True)
class SignalMoments:
    """The mean and variance of a signal's entries, and the size of its images (empty: no images)."""

    mean: float
    variance: float
    positions: tuple[int, ...] = ()

    @property
    def square(self) -> float:
        """The second moment."""
        return self.variance + self.mean**2


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
    start = SignalMoments(number("input_mean", input_mean), number("input_variance", input_variance, least=0.0))
    wanted = number("signal_variance", signal_variance, above=0.0)

    def plan(_: nn.Module, context: InitContext) -> SchemePlan:
        squares = {layer.parameter: _square_before(layer, context.layers, start, wanted) for layer in context.layers}

        def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            std = math.sqrt(wanted / (max(1, layer.fan_in) * squares[layer.parameter]))
            return sample(weight, distribution, std, generator)

        return SchemePlan(Layerwise("autoinit_signal", fill))

    return Structural("autoinit_signal", plan)


def _square_before(layer: WeightLayer, layers: tuple[WeightLayer, ...], start: SignalMoments, wanted: float) -> float:
    """The second moment of what a layer is fed. Raises: DoesNotApply where it cannot be told."""
    around = layer.surroundings
    if not around.uses:
        raise DoesNotApply(f"'autoinit_signal' cannot see what '{layer.name}' is fed. Give an example batch that runs through it.")
    before = next((other for other in layers if other.name in around.sources), None)
    if len(around.sources) > 1:
        raise DoesNotApply(f"'autoinit_signal' does not apply: several signals meet before '{layer.name}' ({', '.join(around.sources)}).")
    shape = around.input_shape if before is None else before.surroundings.output_shape
    signal = SignalMoments(0.0, wanted, shape[1:]) if before is not None else SignalMoments(start.mean, start.variance, shape[1:])
    for step in around.path:
        ref = parse_ref(step)
        signal = after(signal, ref, f"before '{layer.name}'")
    if signal.square <= 0:
        raise DoesNotApply(f"'autoinit_signal' does not apply: '{layer.name}' is fed by a signal of zero.")
    return signal.square


def after(signal: SignalMoments, step: Ref, where: str) -> SignalMoments:
    """The signal behind an activation, norm, dropout or pooling, its entries taken as normal and independent.

    Raises: DoesNotApply for sums of signals, and for activations that are not known.
    """
    if step.name in UNCHANGED:
        return signal
    if step.name in NORMALIZATIONS:
        return replace(signal, mean=0.0, variance=1.0)
    if step.name in DROPOUTS:
        kept = 1 - float(step.params.get("p", 0.5))
        return replace(signal, variance=signal.square / max(kept, 1e-6) - signal.mean**2)
    if "pool" in step.name or step.name == "mean":
        return _pooled(signal, step)
    if step.name in {"add", "radd", "iadd", "sum", "scale", "shift", "mul"}:
        raise DoesNotApply(f"'autoinit_signal' does not apply: signals are added or multiplied {where}.")
    try:
        moments = activations.find(str(step)).moments(signal.variance, signal.mean)
    except ConfigError as error:
        raise DoesNotApply(f"'autoinit_signal' does not know what '{step.name}' {where} does to a signal.") from error
    return replace(signal, mean=moments.mean, variance=moments.variance)


def _pooled(signal: SignalMoments, step: Ref) -> SignalMoments:
    dims = len(signal.positions)
    if "adaptive" in step.name or step.name == "mean":
        target = _sizes(step.params.get("output_size", 1), dims)
        windows = [max(1, size // max(1, out)) for size, out in zip(signal.positions, target, strict=False)]
    else:
        windows = list(_sizes(step.params.get("kernel_size", 2), dims or int(step.name.rstrip("d")[-1])))
    left = tuple(size // window for size, window in zip(signal.positions, windows, strict=False))
    count = math.prod(windows)
    if "max" not in step.name:
        return SignalMoments(signal.mean, signal.variance / count, left)
    mean, variance = largest_of(count)
    std = math.sqrt(signal.variance)
    return SignalMoments(signal.mean + std * mean, signal.variance * variance, left)


def _sizes(value: object, dims: int) -> tuple[int, ...]:
    if isinstance(value, list | tuple):
        return tuple(int(item) for item in value)
    return (int(value) if isinstance(value, int | float) else 1,) * dims


@cache
def largest_of(count: int) -> tuple[float, float]:
    """Mean and variance of the largest of `count` independent normal numbers, by quadrature of its distribution function."""
    x = np.linspace(-9.0, 12.0, 8401)
    below = np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in x]) ** count
    density = np.diff(below)
    middle = (x[1:] + x[:-1]) / 2
    mean = float(density @ middle)
    return mean, float(density @ (middle - mean) ** 2)
