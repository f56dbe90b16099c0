"""Mean and variance of a signal through what stands between two weight layers, by exact integrals."""

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from initbench.errors import ConfigError, DoesNotApply
from initbench.nn.operations import DROPOUTS, NORMALIZATIONS
from initbench.question.config import Ref
from initbench.theory import activations

UNCHANGED = {"identity", "pad", "flatten", "interpolate", "upsample", "roll", "pixel_shuffle", "channel_shuffle"}


@dataclass(frozen=True)
class Signal:
    """The mean and variance of a signal's entries, and the size of its images (empty: no images)."""

    mean: float
    variance: float
    positions: tuple[int, ...] = ()

    @property
    def square(self) -> float:
        """The second moment."""
        return self.variance + self.mean**2


def after(signal: Signal, step: Ref, where: str) -> Signal:
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


def _pooled(signal: Signal, step: Ref) -> Signal:
    dims = len(signal.positions)
    if "adaptive" in step.name or step.name == "mean":
        target = _sizes(step.params.get("output_size", 1), dims)
        windows = [max(1, size // max(1, out)) for size, out in zip(signal.positions, target, strict=False)]
    else:
        windows = list(_sizes(step.params.get("kernel_size", 2), dims or int(step.name.rstrip("d")[-1])))
    left = tuple(size // window for size, window in zip(signal.positions, windows, strict=False))
    count = math.prod(windows)
    if "max" not in step.name:
        return Signal(signal.mean, signal.variance / count, left)
    mean, variance = largest_of(count)
    std = math.sqrt(signal.variance)
    return Signal(signal.mean + std * mean, signal.variance * variance, left)


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
