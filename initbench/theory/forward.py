"""Carries the signal through a network at initialization: the infinite-width line, and replicas that stray from it.

Each replica is one imaginary network: what finite width does to its batch averages is drawn layer by layer from the
exact covariances of `units.py`. So the band is neither an expansion in 1/width nor a run of the network, and it stays
right where fluctuations multiply.
"""

from dataclasses import dataclass, replace

import numpy as np

from initbench.theory.activations import find
from initbench.theory.functions import Array
from initbench.theory.network import InputStats, LayerSpec
from initbench.theory.units import NOISES, UnitStatistics, unit_table

FEW = 24
"""Layers with at most so many units are drawn unit by unit."""
ORTHOGONAL = frozenset({"orthogonal", "delta_orthogonal", "scaled_orthogonal", "semi_orthogonal"})


class NoPrediction(Exception):
    """There is no formula; the message says why, in words that follow `no prediction: `."""


@dataclass(frozen=True)
class Signal:
    """A signal at one place of the network.

    `field`: its mean square at infinite width, for each image (and position). `ratio` (R, images): each replica's mean
    square over that. `c` (R,): root mean square correlation of two inputs; `c_mean` its mean at infinite width, and
    `c_class` its mean over inputs of one class. `noise` (R, 5): the standard normal numbers of its units, where it is
    Gaussian. `constant`: a constant added to every unit.
    `near`: correlations between positions 1, 2, 4, ... apart. `tied`: the share of the length that orthogonal weights
    fix. `samples`: inputs (and positions) in the batch; each is wholly correlated with itself, and `c` counts that.
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
    tied: float = 0.0
    samples: int = 1_000_000

    @property
    def mean_square(self) -> float:
        """Mean over images and positions, at infinite width."""
        return float(self.field.mean())

    @property
    def by_image(self) -> Array:
        """Mean over positions at infinite width, shape (images,)."""
        return self.field.reshape(len(self.field), -1).mean(axis=1)

    @property
    def size(self) -> int:
        """Numbers in the signal of one image."""
        return self.units * int(np.prod(self.field.shape[1:]))

    @property
    def replicas(self) -> Array:
        """Each replica's mean square, shape (R,)."""
        return self.ratio @ self.by_image / len(self.field)


@dataclass(frozen=True)
class Measured:
    """The variance of a layer's output over batch, units and positions: on the line, and for each replica."""

    line: float
    replicas: Array


@dataclass(frozen=True)
class Activated:
    """What the way back must know of an activation.

    `slope` (images,): mean square slope at infinite width; `ratio` (R, images): each replica's over that. `pair` (R,): of
    two inputs of one class, whose gradients are the alike ones, over that of one; `found`: the statistics it all comes from.
    """

    slope: Array
    ratio: Array
    pair: Array
    found: UnitStatistics


def start(inputs: InputStats, replicas: int) -> Signal:
    """The network's input: the same for every replica."""
    return Signal(
        field=inputs.squares,
        ratio=np.ones((replicas, len(inputs.squares))),
        c=np.full(replicas, min(1.0, inputs.correlation)),
        c_mean=inputs.mean_correlation,
        c_class=max(inputs.class_correlation, inputs.mean_correlation),
        units=inputs.channels,
        near=inputs.near_correlations,
        samples=inputs.samples,
    )


def weigh(signal: Signal, spec: LayerSpec, random: np.random.Generator) -> Signal:
    """The output of a weight layer, which is Gaussian given its input."""
    if spec.mean != 0:
        raise NoPrediction(f"the weights of '{spec.name}' have the mean {spec.mean:.3g}; theory is for mean zero")
    through, bias = _filtered(signal.field, spec) * (spec.std**2 * spec.fan_in), spec.bias_std**2
    field = through + bias
    after = Signal(
        field=field,
        ratio=signal.ratio,
        c=signal.c,
        c_mean=signal.c_mean,
        c_class=signal.c_class,
        units=spec.units,
        gaussian=True,
        noise=random.standard_normal((len(signal.ratio), NOISES)),
        constant=spec.bias_mean,
        near=signal.near,
        tied=_tied(spec),
        samples=signal.samples,
    )
    if bias == 0:
        return after
    share = 1 - bias / after.by_image
    line = float(through.mean() / field.mean())
    shares = line * signal.replicas / max(signal.mean_square, 1e-300)
    shares = shares / (shares + 1 - line)
    return replace(
        after,
        ratio=share * signal.ratio + 1 - share,
        c=shares * signal.c + 1 - shares,
        c_mean=line * signal.c_mean + 1 - line,
        c_class=line * signal.c_class + 1 - line,
        near=tuple(line * near + 1 - line for near in signal.near),
    )


def measure(signal: Signal, random: np.random.Generator) -> Measured:
    """The population variance that a probe would find in a Gaussian signal."""
    noise = signal.noise
    assert noise is not None
    n = signal.units
    line = signal.mean_square * (1 - max(0.0, signal.c_mean) / n)
    if n <= FEW:
        common = random.standard_normal((len(noise), n))
        square, center = np.square(common).mean(axis=1), np.square(common.mean(axis=1))
    else:
        square = positive(np.sqrt(2 * (1 - signal.tied) / n) * noise[:, 0], 2 * (1 - signal.tied) / n)
        center = np.square(random.standard_normal(len(noise))) / n
    spread = signal.replicas * (1 - signal.c + signal.c * square - max(0.0, signal.c_mean) * center)
    return Measured(line, spread)


def activate(signal: Signal, name: str) -> tuple[Signal, Activated]:
    """The signal after an activation function, and what the way back needs of it."""
    phi = find(name)
    table = unit_table(phi, signal.constant)
    if not signal.gaussian or signal.noise is None:
        raise NoPrediction(f"what goes into '{name}' is not Gaussian (no weight layer or norm directly before it)")
    field, slopes = table.lengths(np.maximum(signal.field, 1e-30))
    slope = slopes.reshape(len(slopes), -1).mean(axis=1)
    by_image = np.maximum(signal.by_image, 1e-30)
    q = float(by_image.mean())
    found = table.at(signal.replicas, signal.c)
    units, pair, bend, slope_pair = unit_noise(found, signal)
    at_line, at_replica = table.lengths(by_image), table.lengths(by_image * signal.ratio)
    at_lines = table.at(np.full(2 + len(signal.near), q), np.array([signal.c_mean, signal.c_class, *signal.near]))
    lines, of_class = at_lines.pair.tolist(), float(at_lines.slope_pair[1] / max(at_lines.slope_pair[0], 1e-9))
    after = Signal(
        field=field,
        ratio=at_replica[0] / at_line[0] * units[:, None],
        c=_correlation(found, signal, pair),
        c_mean=lines[0],
        c_class=lines[1],
        units=signal.units,
        near=tuple(lines[2:]),
        samples=signal.samples,
    )
    ratio = at_replica[1] / at_line[1] * bend[:, None]
    kin = np.clip((found.slope_pair + slope_pair) * of_class, found.slope_pair, 1.0)
    return after, Activated(slope, ratio, kin, found)


def _correlation(found: UnitStatistics, signal: Signal, noise: Array) -> Array:
    """The root mean square correlation after an activation: the map, the noise of single pairs, each input with itself."""
    mapped = np.square(np.clip(found.pair + noise, 0.0, 1.0))
    itself = (1 - np.minimum(1.0, np.square(found.pair / np.maximum(signal.c, 1e-9)))) / signal.samples
    apart = found.apart * (1 - signal.tied * np.square(found.linear)) / signal.units
    return np.asarray(np.sqrt(np.clip(mapped + apart + itself, 0.0, 1.0)))


def unit_noise(found: UnitStatistics, signal: Signal) -> tuple[Array, Array, Array, Array]:
    """What the average over the units does to m2 (a factor), m11/m2 (added), s2 (a factor) and s11/s2 (added).

    Orthogonal weights put the outputs on a sphere: their fourth cumulant is -6 q^2 / units instead of zero.
    """
    assert signal.noise is not None
    free = np.ones(NOISES)
    free[0] = np.sqrt(1 - signal.tied)
    factor = found.factor * (free / np.sqrt(signal.units))
    x = np.matmul(factor, signal.noise[:, :, None])[:, :, 0]
    variance = np.square(factor).sum(axis=2)
    sphere = signal.tied / (4 * signal.units)
    value, slope = positive(x[:, 1], variance[:, 1]), positive(x[:, 3], variance[:, 3])
    return value * (1 - sphere * found.fourth), x[:, 2], slope * (1 - sphere * found.slope_fourth), x[:, 4]


def positive(x: Array, variance: Array | float) -> Array:
    """A positive number of mean 1 in place of 1 + x, where x is normal and stands for the mean of many positive numbers.

    Log-normal; the log of such a mean varies a little more than 1 + x does (like that of a gamma variable).
    """
    logarithm = variance * (1 + 0.6 * np.minimum(variance, 1.0))
    return np.asarray(np.exp(x * np.sqrt(logarithm / np.maximum(variance, 1e-300)) - logarithm / 2))


def _tied(spec: LayerSpec) -> float:
    """The share of the output's length that orthogonal weights fix: 1 where the inputs' length is kept exactly."""
    if spec.law not in ORTHOGONAL:
        return 0.0
    return min(1.0, spec.units / max(1, spec.fan_in)) if spec.units < spec.fan_in else 1.0


def _filtered(field: Array, spec: LayerSpec) -> Array:
    """The mean square of the inputs that each output position sees; zero padding counts as zero."""
    if not spec.kernel:
        return field.reshape(len(field), -1).mean(axis=1) if field.ndim > 1 else field
    return windows(field, spec.kernel, spec.stride, spec.padding, spec.dilation) / np.prod(spec.kernel)


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


def normalize(signal: Signal, kind: str) -> Signal:
    """The signal after a norm: every unit (batch) or every image (layer) has the mean square 1, in every replica."""
    if not signal.gaussian or signal.noise is None:
        raise NoPrediction("what goes into the norm is not Gaussian")
    noise = signal.noise.copy()
    noise[:, 0] = 0.0
    ones = np.ones_like(signal.ratio)
    plain = replace(signal, ratio=ones, noise=noise, constant=0.0)
    if kind == "layer":
        axes = tuple(range(1, signal.field.ndim))
        return replace(plain, field=signal.field / signal.field.mean(axis=axes, keepdims=True) if axes else np.ones_like(signal.field))
    rest = max(1e-6, 1 - signal.c_mean)
    apart = np.sqrt(np.clip(np.square(signal.c) - signal.c_mean**2, 0.0, 1.0)) / rest
    near = tuple(max(0.0, (value - signal.c_mean) / rest) for value in signal.near)
    share = (signal.field / signal.mean_square - signal.c_mean) / rest
    of_class = max(0.0, (signal.c_class - signal.c_mean) / rest)
    return replace(plain, field=np.maximum(share, 0.0), c=np.minimum(apart, 1.0), c_mean=0.0, c_class=of_class, near=near)


def add(first: Signal, second: Signal) -> Signal:
    """The sum of two signals of which at least one is Gaussian with mean zero given the other."""
    if not (first.gaussian or second.gaussian) or first.field.shape != second.field.shape or first.units != second.units:
        raise NoPrediction("it is a sum of signals that theory cannot take for independent")
    line = first.mean_square / max(first.mean_square + second.mean_square, 1e-300)
    both = np.maximum(first.by_image + second.by_image, 1e-300)
    ratio = (first.by_image * first.ratio + second.by_image * second.ratio) / both
    share = first.replicas / np.maximum(first.replicas + second.replicas, 1e-300)
    noise = None
    if first.noise is not None and second.noise is not None:
        noise = np.sqrt(share)[:, None] * first.noise + np.sqrt(1 - share)[:, None] * second.noise
    return Signal(
        field=first.field + second.field,
        ratio=ratio,
        c=share * first.c + (1 - share) * second.c,
        c_mean=line * first.c_mean + (1 - line) * second.c_mean,
        c_class=line * first.c_class + (1 - line) * second.c_class,
        units=first.units,
        gaussian=first.gaussian and second.gaussian,
        noise=noise,
        constant=first.constant + second.constant,
        near=tuple(line * a + (1 - line) * b for a, b in zip(first.near, second.near, strict=False)),
        tied=line * first.tied + (1 - line) * second.tied,
        samples=min(first.samples, second.samples),
    )


def scaled(signal: Signal, factor: float) -> Signal:
    """The signal times a number."""
    return replace(signal, field=signal.field * factor**2, constant=signal.constant * factor)


def flattened(signal: Signal) -> Signal:
    """All units at all positions as features of their own."""
    if signal.field.ndim == 1:
        return signal
    positions = int(np.prod(signal.field.shape[1:]))
    return replace(
        signal, field=signal.field.reshape(len(signal.field), -1).mean(axis=1), units=signal.units * positions, near=(), noise=None
    )
