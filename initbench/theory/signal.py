"""A signal in a network at initialization, as theory carries it: at infinite width, and for replicas that stray from that."""

from dataclasses import dataclass

import numpy as np

from initbench.theory.functions import Array
from initbench.theory.units import UnitStatistics


class NoPrediction(Exception):
    """There is no formula; the message says why, in words that follow `no prediction: `."""


@dataclass(frozen=True)
class TheorySignal:
    """A signal at one place of the network.

    `field`: its mean square at infinite width, for each image (and position). `ratio` (R, images): each replica's mean
    square over that. `c` (R,): root mean square correlation of two inputs; `c_mean` its mean at infinite width, and
    `c_class` its mean over inputs of one class. `noise` (R, 5): the standard normal numbers of its units, where it is
    Gaussian. `constant`: a constant added to every unit. `near`: correlations between positions 1, 2, 4, ... apart;
    `aligned`: c_mean, c_class and the root mean square between images at one position (empty without positions).
    `tied`: the share of the length's variance that orthogonal weights take away, `steady`: that uniform biases take away.
    `samples`: inputs in the batch, `looks` with their positions; each is wholly correlated with itself, and `c` counts
    that. `centered`: each unit has the mean zero over the batch, so that correlations are as often negative as positive.
    `level`: a layer norm has fixed each input's mean and length.
    `signed`: the mean of the correlations at infinite width, weighted as those in `c`, where some are negative (positions of
    images); None where all are as good as `c`. `patches`: correlations are those of the patches that the next layer sees.
    """

    field: Array
    ratio: Array
    c: Array
    c_mean: float
    c_class: float
    units: int
    gaussian: bool = False
    noise: Array | None = None
    constant: float = 0.0
    near: tuple[float, ...] = ()
    aligned: tuple[float, ...] = ()
    tied: float = 0.0
    steady: float = 0.0
    samples: int = 1_000_000
    centered: bool = False
    level: bool = False
    signed: float | None = None
    patches: bool = False

    @property
    def mean_square(self) -> float:
        """Mean over images and positions, at infinite width."""
        return float(np.mean(self.field))

    @property
    def by_image(self) -> Array:
        """Mean over positions at infinite width, shape (images,)."""
        return np.asarray(self.field.reshape(len(self.field), -1).mean(axis=1))

    @property
    def size(self) -> int:
        """Numbers in the signal of one image."""
        return self.units * int(np.prod(self.field.shape[1:]))

    @property
    def looks(self) -> int:
        """Numbers that one unit has in the batch: inputs times positions."""
        return self.samples * int(np.prod(self.field.shape[1:]))

    @property
    def replicas(self) -> Array:
        """Each replica's mean square, shape (R,)."""
        return np.asarray(self.ratio @ self.by_image / len(self.field))


@dataclass(frozen=True)
class Measured:
    """The variance of a layer's output over batch, units and positions: on the line, and for each replica."""

    line: float
    replicas: Array


@dataclass(frozen=True)
class Activated:
    """What the way back must know of an activation.

    `slope` (images,): mean square slope at infinite width; `ratio` (R, images): each replica's over that. `pair` (R,): of
    two inputs of one class, whose gradients are the alike ones, over that of one; `statistics`: what it all comes from.
    `bent`: False where there is no activation and all slopes are 1.
    """

    slope: Array
    ratio: Array
    pair: Array
    statistics: UnitStatistics
    bent: bool = True


def windows(
    field: Array, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...] = ()
) -> Array:
    """The sum over each window of a field of shape (images, *positions), zero beyond the border."""
    for axis, (size, step, pad) in enumerate(zip(kernel, stride, padding, strict=True), start=1):
        apart = dilation[axis - 1] if dilation else 1
        widths = [(0, 0)] * field.ndim
        widths[axis] = (pad, pad)
        padded = np.pad(field, widths)
        count = (padded.shape[axis] - apart * (size - 1) - 1) // step + 1
        if count < 1:
            raise NoPrediction("a window is larger than what it looks at")
        parts = [np.take(padded, np.arange(count) * step + apart * offset, axis=axis) for offset in range(size)]
        field = np.sum(parts, axis=0)
    return field


def positive(x: Array, variance: Array | float) -> Array:
    """A positive number of mean 1 in place of 1 + x, where x is normal and stands for the mean of many positive numbers.

    Log-normal; the log of such a mean varies a little more than 1 + x does (like that of a gamma variable).
    """
    logarithm = variance * (1 + 0.6 * np.minimum(variance, 1.0))
    return np.asarray(np.exp(x * np.sqrt(logarithm / np.maximum(variance, 1e-300)) - logarithm / 2))
