"""Carries the signal through a network at initialization: the infinite-width line, and replicas that stray from it.

Each replica is one imaginary network: what finite width does to its batch averages is drawn layer by layer from the
exact covariances of `units.py`. So the band is neither an expansion in 1/width nor a run of the network, and it stays
right where fluctuations multiply.
"""

from dataclasses import replace
from math import log2

import numpy as np

from initbench.theory.activations import Activation, activation
from initbench.theory.functions import Array
from initbench.theory.network import InputStats, LayerSpec
from initbench.theory.signal import Activated, Measured, NoPrediction, TheorySignal, positive, windows
from initbench.theory.units import NOISES, SMALLEST, UnitStatistics, straight, unit_table

FEW = 24
"""Layers with at most so many units are drawn unit by unit."""
ORTHOGONAL = frozenset({"orthogonal", "delta_orthogonal", "scaled_orthogonal"})


def start(inputs: InputStats, replicas: int) -> TheorySignal:
    """The network's input: the same for every replica."""
    return TheorySignal(
        field=inputs.squares,
        ratio=np.ones((replicas, len(inputs.squares))),
        c=np.full(replicas, min(1.0, inputs.correlation)),
        c_mean=inputs.mean_correlation,
        c_class=max(inputs.class_correlation, inputs.mean_correlation),
        units=inputs.channels,
        near=inputs.near_correlations,
        aligned=inputs.aligned_correlations,
        samples=inputs.samples,
        signed=inputs.signed_correlation,
        patches=True,
    )


def weigh(signal: TheorySignal, spec: LayerSpec, random: np.random.Generator) -> TheorySignal:
    """The output of a weight layer, which is Gaussian given its input."""
    if spec.why is not None:
        raise NoPrediction(spec.why)
    if spec.mean != 0:
        raise NoPrediction(f"the weights of '{spec.name}' have the mean {spec.mean:.3g}; theory is for mean zero")
    if spec.kernel and not signal.patches:
        signal = replace(signal, c=_of_patches(signal, spec.kernel))
    through, bias = _filtered(signal.field, spec) * (spec.std**2 * spec.fan_in), spec.bias_std**2
    field = through + bias
    after = TheorySignal(
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
        aligned=signal.aligned,
        tied=tied(spec),
        samples=signal.samples,
        signed=signal.signed,
    )
    if bias == 0:
        return after
    share = 1 - bias / after.by_image
    line = float(through.mean() / field.mean())
    shares = line * signal.replicas / max(signal.mean_square, 1e-300)
    shares = shares / (shares + 1 - line)
    c = shares * signal.c + 1 - shares
    return replace(
        after,
        steady=steady(spec, 1 - line, float(np.median(c))),
        ratio=share * signal.ratio + 1 - share,
        c=c,
        c_mean=line * signal.c_mean + 1 - line,
        c_class=line * signal.c_class + 1 - line,
        near=tuple(line * near + 1 - line for near in signal.near),
        aligned=tuple(line * value + 1 - line for value in signal.aligned),
        signed=None if signal.signed is None else line * signal.signed + 1 - line,
    )


def _of_patches(signal: TheorySignal, kernel: tuple[int, ...]) -> Array:
    """The root mean square correlation of patches, given that of single positions: the positions of a patch agree as neighbours do."""
    size = int(np.prod(kernel))
    alike = np.square(near_at(signal.near, max(kernel) / 2)) if signal.near else 1.0
    mean = np.square(np.minimum(signal.c, signal.c if signal.signed is None else signal.signed))
    return np.asarray(np.sqrt(mean + (np.square(signal.c) - mean) * (1 / size + (1 - 1 / size) * alike)))


def near_at(near: tuple[float, ...], distance: float) -> float:
    """The correlation of two positions of one image so far apart; `near` has those 1, 2, 4, ... apart."""
    place = log2(max(1.0, distance))
    low = min(int(place), len(near) - 1)
    high = min(low + 1, len(near) - 1)
    return near[low] + (place - low) * (near[high] - near[low])


def measure(signal: TheorySignal, random: np.random.Generator) -> Measured:
    """The population variance that a probe would find in a Gaussian signal."""
    noise = signal.noise
    assert noise is not None
    n = signal.units
    line = signal.mean_square * (1 - max(0.0, signal.c_mean) / n)
    if n <= FEW:
        common = random.standard_normal((len(noise), n))
        square, center = np.square(common).mean(axis=1), np.square(common.mean(axis=1))
    else:
        variance = 2 * max(0.0, 1 - signal.tied - signal.steady) / n
        square = positive(np.sqrt(variance) * noise[:, 0], variance)
        center = np.square(random.standard_normal(len(noise))) / n
    spread = signal.replicas * (1 - signal.c + signal.c * square - max(0.0, signal.c_mean) * center)
    return Measured(line, spread)


def lengths(signal: TheorySignal) -> Array:
    """The mean square of a Gaussian signal over its units, over the line's: each replica's, shape (R, images)."""
    if signal.noise is None:
        return signal.ratio
    variance = 2 * max(0.0, 1 - signal.tied - signal.steady) / signal.units
    square = positive(np.sqrt(variance) * signal.noise[:, 0], variance)
    return signal.ratio * (1 - signal.c + signal.c * square)[:, None]


def activate(signal: TheorySignal, name: str | Activation, random: np.random.Generator) -> tuple[TheorySignal, Activated]:
    """The signal after an activation function, and what the way back needs of it."""
    phi = activation(name)
    table = unit_table(phi, signal.constant)
    if not signal.gaussian or signal.noise is None:
        raise NoPrediction(f"what goes into '{phi.name}' is not Gaussian (no weight layer or norm directly before it)")
    field, slopes = table.lengths(np.maximum(signal.field, SMALLEST))
    slope = slopes.reshape(len(slopes), -1).mean(axis=1)
    by_image = np.maximum(signal.by_image, SMALLEST)
    q = float(by_image.mean())
    statistics = table.at(signal.replicas, np.square(signal.c) if signal.centered else signal.c)
    signed = None
    if signal.signed is not None:
        mean = np.minimum(signal.signed, signal.c)
        at_mean = table.at(signal.replicas, mean)
        rate = at_mean.slope_pair * at_mean.slope * signal.replicas / np.maximum(at_mean.second, 1e-300)
        spread = np.square(rate) * (np.square(signal.c) - np.square(mean))
        statistics = replace(
            statistics.of_signs(mean / np.maximum(signal.c, 1e-9)), pair=np.minimum(1.0, np.sqrt(np.square(at_mean.pair) + spread))
        )
        signed = float(np.median(at_mean.pair))
    if signal.level:
        statistics = statistics.level()
    units, pair, bend, slope_pair = unit_noise(statistics, signal, random)
    at_line, at_replica = table.lengths(by_image), table.lengths(by_image * signal.ratio)
    followed = np.array([signal.c_mean, signal.c_class, *signal.aligned, *signal.near])
    at_lines = table.at(np.full(len(followed), q), followed)
    lines, of_class = at_lines.pair.tolist(), float(at_lines.slope_pair[1] / max(at_lines.slope_pair[0], 1e-9))
    if signal.centered:
        spread = at_lines.slope_pair[0] * at_lines.slope[0] * q / at_lines.second[0] * signal.c
        statistics = replace(statistics, pair=np.minimum(1.0, np.sqrt(at_lines.pair[0] ** 2 + np.square(spread))))
    after = TheorySignal(
        field=field,
        ratio=at_replica[0] / at_line[0] * units[:, None] * _own_noise(statistics, signal, random),
        c=_correlation(statistics, signal, pair),
        c_mean=lines[0],
        c_class=lines[1],
        units=signal.units,
        near=tuple(lines[len(lines) - len(signal.near) :]),
        aligned=tuple(lines[2 : 2 + len(signal.aligned)]),
        samples=signal.samples,
        signed=signed,
    )
    ratio = at_replica[1] / at_line[1] * bend[:, None]
    kin = np.clip((statistics.slope_pair + slope_pair) * of_class, statistics.slope_pair, 1.0)
    return after, Activated(slope, ratio, kin, statistics)


def passed_on(signal: TheorySignal, random: np.random.Generator) -> tuple[TheorySignal, Activated]:
    """A Gaussian signal as the next layer mixes it, no activation between, and what the way back needs of that.

    The line stays as it is; in the replicas each unit adds its own length, and the correlations it makes.
    """
    assert signal.noise is not None
    statistics, c = straight(signal.c), signal.c
    variance = 0.0 if signal.level or signal.centered else 2 * max(0.0, 1 - signal.tied - signal.steady) / signal.units
    square = np.sqrt(variance) * signal.noise[:, 0]
    after = replace(
        signal,
        ratio=signal.ratio * (positive(c * square, c * c * variance)[:, None] * _own_noise(statistics, signal, random)),
        c=_correlation(statistics, signal, c * (1 - c) * square),
        gaussian=False,
        noise=None,
        tied=0.0,
        steady=0.0,
        centered=False,
    )
    return after, unbent(signal)


def unbent(signal: TheorySignal) -> Activated:
    """What the way back needs of a place with no activation: all slopes are 1."""
    return Activated(np.ones(len(signal.field)), np.ones_like(signal.ratio), np.ones_like(signal.c), straight(signal.c), bent=False)


def _own_noise(statistics: UnitStatistics, signal: TheorySignal, random: np.random.Generator) -> Array:
    """What the average over the units does to each image on its own, beside what it does to all: factors (R, images)."""
    known = 1.0 if signal.level else signal.tied + signal.steady
    shared = np.square(statistics.factor[:, 1]).sum(axis=1) - known * np.square(statistics.factor[:, 1, 0])
    alone = statistics.spread - known * np.square(statistics.lean)
    variance = np.log1p(np.maximum(alone - shared, 0.0) / signal.units)[:, None]
    noise = random.standard_normal(signal.ratio.shape)
    apart = noise - noise.mean(axis=1, keepdims=True)
    return np.asarray(np.exp(np.sqrt(variance) * apart - variance / 2 * (1 - 1 / noise.shape[1])))


def _correlation(statistics: UnitStatistics, signal: TheorySignal, noise: Array) -> Array:
    """The root mean square correlation after an activation: the map, the noise of single pairs, each input with itself."""
    mapped = np.square(np.clip(statistics.pair + noise, 0.0, 1.0))
    itself = (1 - np.minimum(1.0, np.square(statistics.pair / np.maximum(signal.c, 1e-9)))) / signal.looks
    apart = statistics.apart * (1 - signal.tied * np.square(statistics.linear)) / signal.units
    return np.asarray(np.sqrt(np.clip(mapped + apart + itself, 0.0, 1.0)))


def unit_noise(statistics: UnitStatistics, signal: TheorySignal, random: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """What the average over the units does to m2 (a factor), m11/m2 (added), s2 (a factor) and s11/s2 (added).

    Orthogonal weights put the outputs on a sphere: their fourth cumulant is -6 q^2 / units instead of zero.
    """
    assert signal.noise is not None
    free = np.ones(NOISES)
    free[0] = np.sqrt(max(0.0, 1 - signal.tied - signal.steady))
    factor = statistics.factor * (free / np.sqrt(signal.units))
    x = np.matmul(factor, signal.noise[:, :, None])[:, :, 0]
    alone = statistics.alone(signal.looks) / np.sqrt(signal.units)
    x[:, [1, 3]] += np.matmul(alone, random.standard_normal((len(x), 2, 1)))[:, :, 0]
    variance = np.square(factor).sum(axis=2)
    variance[:, [1, 3]] += np.square(alone).sum(axis=2)
    sphere = signal.tied / (4 * signal.units)
    value, slope = positive(x[:, 1], variance[:, 1]), positive(x[:, 3], variance[:, 3])
    return value * (1 - sphere * statistics.fourth), x[:, 2], slope * (1 - sphere * statistics.slope_fourth), x[:, 4]


def steady(spec: LayerSpec, bias_share: float, c: float) -> float:
    """The share of the variance of a unit's t that uniform biases take away: the fourth cumulant of a uniform number is -1.2."""
    return 0.6 * min(1.0, bias_share / max(c, 1e-9)) ** 2 if spec.bias_law == "uniform" else 0.0


def tied(spec: LayerSpec) -> float:
    """The share of the output's length that orthogonal weights fix: 1 where the inputs' length is kept exactly."""
    if spec.law not in ORTHOGONAL:
        return 0.0
    return min(1.0, spec.units / max(1, spec.fan_in)) if spec.units < spec.fan_in else 1.0


def _filtered(field: Array, spec: LayerSpec) -> Array:
    """The mean square of the inputs that each output position sees; zero padding counts as zero."""
    if not spec.kernel:
        return field.reshape(len(field), -1).mean(axis=1) if field.ndim > 1 else field
    return windows(field, spec.kernel, spec.stride, spec.padding, spec.dilation) / np.prod(spec.kernel)


def normalize(signal: TheorySignal, kind: str) -> TheorySignal:
    """The signal after a norm: every unit (batch) or every image (layer) has the mean square 1, in every replica."""
    if not signal.gaussian or signal.noise is None:
        raise NoPrediction("what goes into the norm is not Gaussian")
    noise = signal.noise.copy()
    noise[:, 0] = 0.0
    ones = np.ones_like(signal.ratio)
    plain = replace(signal, ratio=ones, noise=noise, constant=0.0)
    if kind == "layer":
        axes = tuple(range(1, signal.field.ndim))
        field = signal.field / signal.field.mean(axis=axes, keepdims=True) if axes else np.ones_like(signal.field)
        return replace(plain, field=field, level=True)
    if signal.field.ndim > 1:
        raise NoPrediction("there is no formula for the batch norm of images, whose patches are not alike")
    apart = centered_correlation(signal)
    rest = max(1e-6, 1 - signal.c_mean)
    root = np.sqrt(signal.field)
    shared = signal.c_mean * signal.mean_square / max(float(root.mean()) ** 2, 1e-300)
    own = signal.field - 2 * shared * root * root.mean() + shared * root.mean() ** 2
    own = np.maximum(own, 0.0)
    of_class = max(0.0, (signal.c_class - signal.c_mean) / rest)
    return replace(plain, field=own / own.mean(), c=apart, c_mean=0.0, c_class=of_class, centered=True)


def centered_correlation(signal: TheorySignal) -> Array:
    """The root mean square correlation of two inputs after the mean over the batch is taken off each unit, shape (R,)."""
    mean = replica_mean(signal)
    return np.asarray(np.sqrt(np.clip(np.square(signal.c) - np.square(mean), 0.0, 1.0)) / np.maximum(1 - mean, 1e-6)).clip(0.0, 1.0)


def replica_mean(signal: TheorySignal) -> Array:
    """The mean correlation of two inputs in each replica, shape (R,)."""
    return np.asarray(np.clip(signal.c * max(signal.c_mean, 0.0) / max(float(np.median(signal.c)), 1e-9), 0.0, 1 - 1e-9))


def add(first: TheorySignal, second: TheorySignal, random: np.random.Generator) -> TheorySignal:
    """The sum of two signals of which at least one is Gaussian with mean zero given the other.

    Their lengths add, but for their product over the units, which is zero in the mean only. Where both are Gaussian so is
    the sum, and the product is in the noise of its units; where one is not, the noise of the other's units comes in at once.
    """
    if not (first.gaussian or second.gaussian) or first.field.shape != second.field.shape or first.units != second.units:
        raise NoPrediction("it is a sum of signals that theory cannot take for independent")
    line = first.mean_square / max(first.mean_square + second.mean_square, 1e-300)
    noise = None
    if first.noise is not None and second.noise is not None:
        noise = _sum_of_noise(first, second, random)
    else:
        first, second = (passed_on(one, random)[0] if one.noise is not None else one for one in (first, second))
    both = np.maximum(first.by_image + second.by_image, 1e-300)
    ratio = (first.by_image * first.ratio + second.by_image * second.ratio) / both
    share = _share(first, second)
    if noise is None:
        variance = 4 * share * (1 - share) * first.c * second.c / first.units
        ratio = ratio * positive(np.sqrt(variance) * random.standard_normal(len(ratio)), variance)[:, None]
    return TheorySignal(
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
        signed=None if first.signed is None or second.signed is None else line * first.signed + (1 - line) * second.signed,
    )


def _share(first: TheorySignal, second: TheorySignal) -> Array:
    """The first signal's share of the sum's mean square, shape (R,)."""
    return np.asarray(first.replicas / np.maximum(first.replicas + second.replicas, 1e-300))


def _sum_of_noise(first: TheorySignal, second: TheorySignal, random: np.random.Generator) -> Array:
    """The noise (R, 5) of the units of a sum of two Gaussian signals: that of each, and that of their product, in squares of lengths."""
    share = _share(first, second)[:, None]
    assert first.noise is not None
    assert second.noise is not None
    product = np.sqrt(2 * share * (1 - share)) * random.standard_normal(first.noise.shape)
    return np.asarray(share * first.noise + (1 - share) * second.noise + product)


def scaled(signal: TheorySignal, factor: float) -> TheorySignal:
    """The signal times a number."""
    return replace(signal, field=signal.field * factor**2, constant=signal.constant * factor)


def flattened(signal: TheorySignal) -> TheorySignal:
    """All units at all positions as features of their own."""
    if signal.field.ndim == 1:
        return signal
    positions = int(np.prod(signal.field.shape[1:]))
    flat = replace(signal, field=signal.by_image, units=signal.units * positions, near=(), aligned=(), noise=None, signed=None)
    if not signal.aligned:
        return flat
    mean, of_class, spread = signal.aligned
    c = np.clip(signal.c * spread / max(float(np.median(signal.c)), 1e-6), 0.0, 1.0)
    return replace(flat, c=c, c_mean=mean, c_class=of_class)
