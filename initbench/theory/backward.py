"""Carries the loss's gradient back through a network at initialization; the replicas are those of the forward pass."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from initbench.theory.forward import ORTHOGONAL, lengths, replica_mean
from initbench.theory.functions import Array
from initbench.theory.network import LayerSpec
from initbench.theory.signal import Activated, NoPrediction, TheorySignal, positive, windows

PER_CLASS = 4
"""Pseudo-images of each class a replica, for the mean over the batch; every second one mirrors the one before."""
UNIFORM = 0.6
"""Minus half the excess kurtosis of a uniform number: what a weight of that law has less in the variance of its square."""
MANY_CLASSES = 64
"""Above this the gradient of the logits counts as spread evenly over the classes."""
LOGITS, LABELS = 2**24, (2, 16)
"""Of many classes: random logits that are drawn at most, all together, and how many pseudo-images a replica may have."""


@dataclass(frozen=True)
class Gradient:
    """The gradient of each image's loss at one place.

    `field` (images,): its mean square at infinite width; `ratio` (R, images): each replica's over that. `rho` (R,): root
    mean square correlation of the gradients of two images; it counts each image with itself, a share `alone` of all pairs.
    `noise` (R,): standard normal numbers of the units that a weight layer has just mixed, until an activation or a
    measurement uses them up; `units` their number, `tied` the share of the length that orthogonal weights fix. `along`
    (R,): the mean square of the gradient along the signal itself, 1 where their directions are unrelated: the sum of signal
    times gradient is the same at every depth, so what the loss sees at the logits is felt in all layers. `others` (R,): by how
    much it is more along the signals of other images, relative to that, as long as no activation turns them. `near`: the
    correlation of the gradients at neighbouring positions. `common` (R,): the share of the mean square that lies in the mean
    over the batch. `peaked`: sum over units of their mean square, squared, over
    the square of the sum; `flat` what uniform weights take off rho^2 for it, as long as there is `noise`.
    """

    field: Array
    ratio: Array
    rho: Array
    along: Array
    common: Array
    alone: float = 0.0
    near: float = 1.0
    others: Array | float = 0.0
    noise: Array | None = None
    units: int = 1
    tied: float = 0.0
    peaked: float = 0.0
    flat: float = 0.0

    @property
    def line(self) -> float:
        """Mean over images at infinite width."""
        return float(self.field.mean())

    @property
    def replicas(self) -> Array:
        """Each replica's mean over images, shape (R,)."""
        return self.ratio @ self.field / len(self.field)


def of_logits(logits: TheorySignal, shares: tuple[float, ...], random: np.random.Generator) -> Gradient:
    """The gradient of softmax cross entropy; `shares` of the labels in the batch.

    Logits have a part that all images share, a part that those of one class share and a part of their own.
    """
    classes = len(shares)
    if logits.field.ndim != 1 or logits.units != classes:
        raise NoPrediction(f"the network does not end in {classes} logits")
    replicas, images = logits.ratio.shape
    each = PER_CLASS if classes <= MANY_CLASSES else 1
    labels = np.repeat(np.arange(classes), each) if classes <= MANY_CLASSES else _some_labels(shares, replicas)
    count = len(labels)
    common = random.standard_normal((replicas, 1, classes))
    of_class = random.standard_normal((replicas, classes, classes) if classes <= MANY_CLASSES else (replicas, count, classes))
    of_class = of_class[:, labels] if classes <= MANY_CLASSES else of_class
    own = random.standard_normal((replicas, count, classes))
    if each > 1:
        own[:, 1::2] = -own[:, ::2]
    group = (random.permutation(count) * images) // count
    alike = float(np.square(shares).sum())
    other = max(0.0, (logits.c_mean - alike * logits.c_class) / max(1e-9, 1 - alike))
    kin = min(1.0, max(0.0, logits.c_class - other) / max(1e-9, 1 - other))

    weight = np.asarray(shares)[labels]
    weight = weight / weight.sum()

    def look(ratio: Array, c: Array) -> tuple[Array, Array, Array, Array, Array]:
        c = np.clip(c, 0.0, 1.0)[:, None, None]
        z = np.sqrt(c) * common + np.sqrt(1 - c) * (np.sqrt(kin) * of_class + np.sqrt(1 - kin) * own)
        h = np.sqrt(logits.field[group] * ratio[:, group])[:, :, None] * z
        p = np.exp(h - h.max(axis=2, keepdims=True))
        p /= p.sum(axis=2, keepdims=True)
        delta = p.copy()
        delta[:, np.arange(count), labels] -= 1
        square = np.square(delta).sum(axis=2)
        along = np.square((z * delta).sum(axis=2))
        return p, square @ weight / classes, along @ weight / np.maximum(square @ weight, 1e-300), delta, np.square(z).mean(axis=2) @ weight

    ones = np.ones(replicas)
    line = float(look(np.ones_like(logits.ratio), ones * other)[1].mean())
    p, spread, along, delta, square = look(logits.ratio, replica_mean(logits) - max(logits.c_mean, 0.0) + other)
    ratio = np.broadcast_to((spread / line)[:, None], logits.ratio.shape)
    alone, kin_pairs = _alone(delta, weight, each)
    alone = min(1.0, alone / logits.samples)
    rho = np.sqrt(np.clip(_concentration(p, np.asarray(shares)) + alone * (1 - kin_pairs), 0.0, 1.0))
    mean = np.einsum("rik,i->rk", p, weight) - np.asarray(shares)
    common = np.square(mean).sum(axis=1) / np.maximum(spread * classes, 1e-300)
    of_units = np.einsum("rik,i->rk", np.square(delta), weight)
    peaked = float(np.mean(np.square(of_units).sum(axis=1) / np.maximum(of_units.sum(axis=1), 1e-300) ** 2))
    return Gradient(np.full(images, line), ratio, rho, along, common, alone, others=square - 1, peaked=peaked)


def _some_labels(shares: tuple[float, ...], replicas: int) -> npt.NDArray[np.intp]:
    """Of many classes some that are in the batch, as many as there is room for. Raises: NoPrediction where that is next to none."""
    room = LOGITS // (replicas * len(shares))
    if room < LABELS[0]:
        raise NoPrediction(f"{len(shares)} logits are too many to follow")
    present = np.flatnonzero(shares)
    return present[:: len(present) // min(LABELS[1], room) + 1]


def _alone(delta: Array, weight: Array, each: int) -> tuple[float, float]:
    """How much the gradients' lengths make of the pairs of an image with itself, and what other pairs of a class are beside those.

    The first is 1 for equal lengths; the second is the mean squared product of two gradients of one class over that with itself.
    """
    square = np.square(delta).sum(axis=2)
    uneven = float(np.mean((square * square) @ weight / np.maximum(square @ weight, 1e-300) ** 2))
    if each < PER_CLASS:  # the same label in another replica stands for another image of its class
        pairs = np.square((delta * np.roll(delta, 1, axis=0)).sum(axis=2))
        return uneven, min(1.0, float((pairs @ weight).mean() / max(((square * square) @ weight).mean(), 1e-300)))
    grouped = delta.reshape(len(delta), -1, each, delta.shape[2])
    products = np.square(np.einsum("rkic,rkjc->rkij", grouped[:, :, :2], grouped[:, :, 2:])).mean(axis=(2, 3))
    return uneven, min(1.0, float((products @ weight[::each]).mean() * each / max(((square * square) @ weight).mean(), 1e-300)))


def _concentration(p: Array, shares: Array) -> Array:
    """tr(C^2) / tr(C)^2 of the second moment matrix C of p - y: one over the number of directions it takes."""
    classes = len(shares)
    if classes > MANY_CLASSES:  # p is nearly uniform: with balanced labels, 1 / (classes - 1)
        return np.full(len(p), (np.square(shares).sum() * (1 - 2 / classes) + classes**-2) / (1 - 1 / classes) ** 2)
    mean = p.mean(axis=1)
    crossed = mean[:, :, None] * shares
    matrix = np.matmul(p.transpose(0, 2, 1), p) / p.shape[1]
    matrix = matrix - crossed - crossed.transpose(0, 2, 1) + np.diag(shares)
    return np.asarray(np.square(matrix).sum(axis=(1, 2)) / np.square(np.trace(matrix, axis1=1, axis2=2)))


def through_weight(gradient: Gradient, spec: LayerSpec, before: TheorySignal, after: TheorySignal, random: np.random.Generator) -> Gradient:
    """The gradient with respect to the input of a weight layer."""
    gradient = settled(gradient)
    touches = 1.0
    if spec.kernel:
        ones = np.ones((1, *before.field.shape[1:]))
        touches = float(windows(ones, spec.kernel, spec.stride, spec.padding, spec.dilation).sum() / ones.sum())
    growth = spec.std**2 * spec.units / spec.groups * touches
    near = 1 / touches + (1 - 1 / touches) * gradient.near**2 if touches > 1 else 1.0
    passed = after.size * (after.mean_square - spec.bias_std**2) / max(before.size * before.mean_square * growth, 1e-300)
    tied = min(1.0, spec.fan_in / spec.units) if spec.law in ORTHOGONAL else 0.0
    return replace(
        gradient,
        field=gradient.field * growth,
        rho=gradient.rho * np.sqrt(near),
        along=gradient.along * passed,
        others=gradient.others * passed,
        noise=random.standard_normal(len(gradient.rho)),
        units=before.units,
        tied=tied,
        peaked=1 / before.units,
        flat=UNIFORM * gradient.peaked if spec.law == "uniform" else 0.0,
    )


def through_activation(gradient: Gradient, activated: Activated, before: TheorySignal) -> Gradient:
    """The gradient with respect to what an activation function is applied to.

    Where the gradient leans towards the signal, or away from it, it meets other slopes than the mean one, and weights
    that are not orthogonal have passed more of it on, or less.
    """
    statistics = activated.statistics
    directions = 0.0 if activated.bent else 1 / np.clip(np.square(before.c), 1 / before.samples, 1.0) - 1
    others = directions * gradient.others
    leaning = gradient.along - 1 + others
    positions = before.size / before.units
    felt = 1 / positions + (1 - 1 / positions) * gradient.near**2 * (before.signed or 0.0)
    meeting = np.maximum(1 + (statistics.meet - gradient.tied) * leaning * felt / before.units, 0.1)
    ratio = gradient.ratio * activated.ratio * (_mixing(gradient, statistics.slope_square, statistics.slope_alone) * meeting)[:, None]
    apart = (statistics.slope_square - gradient.tied * np.square(activated.pair)) * (1 - np.square(gradient.rho)) / before.units
    if not activated.bent:
        apart = apart * (1 + 2 * np.square(gradient.rho))
    itself = (1 - np.square(activated.pair)) * gradient.alone
    rho = np.sqrt(np.clip(np.square(gradient.rho * activated.pair) + itself + apart, 0.0, 1.0))
    along = gradient.along / meeting * statistics.turn + np.maximum(statistics.stretch - statistics.turn, 0.0)
    others = 0.0 if activated.bent else (1 + gradient.others) / meeting - 1
    common, near = gradient.common * statistics.slope_pair, gradient.near * float(np.median(statistics.slope_pair))
    return replace(
        gradient,
        field=gradient.field * activated.slope,
        ratio=ratio,
        rho=rho,
        along=along,
        others=others,
        common=common,
        near=near,
        noise=None,
    )


def variances(gradient: Gradient, units: int, random: np.random.Generator) -> Array:
    """The population variance that a probe would find in each replica: the mean over batch and units is taken off, (R,)."""
    center = np.square(random.standard_normal(len(gradient.rho))) * gradient.common / units
    return settled(gradient).replicas * np.maximum(1 - center, 0.0)


def through_norm(gradient: Gradient, before: TheorySignal, kind: str) -> Gradient:
    """The gradient with respect to what a norm is applied to.

    A layer norm divides by the length that each image has in this network, and takes off the gradient's mean over units and
    its part along the signal; the three balance in the mean where that part is no larger than others.

    Raises: NoPrediction for a batch norm: the infinite-width formula leaves out what the norm takes off along its mean and
    its output, and strays by up to a quarter over a few layers, which no band of finite width covers.
    """
    if kind == "batch":
        raise NoPrediction("gradients below a batch norm have no formula that holds to the width of a band")
    field = np.maximum(before.by_image, 1e-300)
    settled_gradient = settled(gradient)
    kept = 1 + (1 - gradient.along - 2 * np.square(before.c)) / before.size
    return replace(
        settled_gradient,
        field=settled_gradient.field / field,
        ratio=settled_gradient.ratio / lengths(before) * np.maximum(kept, 0.1)[:, None],
        along=np.zeros_like(gradient.along),
        others=0.0,
    )


def settled(gradient: Gradient) -> Gradient:
    """The gradient where it is looked at: the noise of a weight layer's units is in its ratio."""
    if gradient.noise is None:
        return gradient
    ones = np.ones_like(gradient.rho)
    mixing = _mixing(gradient, ones, ones)
    return replace(gradient, ratio=gradient.ratio * mixing[:, None], noise=None)


def summed(first: Gradient | None, second: Gradient, units: int, random: np.random.Generator) -> Gradient:
    """The gradients of two uses of one signal: their lengths add, but for their product over the units, zero in the mean only."""
    if first is None:
        return second
    first, second = settled(first), settled(second)
    total = np.maximum(first.field + second.field, 1e-300)
    ratio = (first.field * first.ratio + second.field * second.ratio) / total
    share = first.line / max(first.line + second.line, 1e-300)
    part = first.replicas / np.maximum(first.replicas + second.replicas, 1e-300)
    variance = 4 * part * (1 - part) * first.rho * second.rho / units
    ratio = ratio * positive(np.sqrt(variance) * random.standard_normal(len(ratio)), variance)[:, None]
    pairs = ((first.rho, second.rho), (first.along, second.along), (first.common, second.common))
    rho, along, common = (share * a + (1 - share) * b for a, b in pairs)
    others = share * first.others + (1 - share) * second.others
    alone = float(share) * first.alone + float(1 - share) * second.alone
    return replace(first, field=first.field + second.field, ratio=ratio, rho=rho, along=along, common=common, others=others, alone=alone)


def _mixing(gradient: Gradient, slope_square: Array, slope_alone: Array) -> Array:
    """The factor by which the mean over units of weight-mixed gradients strays.

    Its variance is 2 rho^2 (E[a a'] / E[a]^2 - tied) / units, with a the squared slopes at two images; at one, a = a'.
    """
    if gradient.noise is None:
        return np.ones_like(gradient.rho)
    square = np.maximum(np.square(gradient.rho) - gradient.flat, 0.0)
    variance = 2 * mixing_variance(square, gradient.alone, slope_square, slope_alone, gradient.tied) / gradient.units
    return positive(gradient.noise * np.sqrt(variance), variance)


def mixing_variance(square: Array, alone: float, slope_square: Array, slope_alone: Array, tied: float) -> Array:
    """The mean over pairs of images of their squared correlation and what both slopes do to it; `square` is rho^2."""
    pairs = np.maximum(square - alone, 0.0) * np.maximum(slope_square - tied, 0.0)
    return np.asarray(pairs + np.minimum(square, alone) * np.maximum(slope_alone - tied, 0.0))


def spread_out(gradient: Gradient, positions: float) -> Gradient:
    """The gradient before flattening: each position has weights of its own, so positions are unrelated."""
    settled_gradient = settled(gradient)
    many = max(1.0, positions)
    return replace(settled_gradient, rho=settled_gradient.rho / np.sqrt(many), near=0.0, alone=settled_gradient.alone / many)


def scaled(gradient: Gradient, factor: float) -> Gradient:
    """The gradient before a multiplication by a number."""
    return replace(gradient, field=gradient.field * factor**2)
