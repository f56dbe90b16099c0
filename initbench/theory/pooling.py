"""Pooling of activations: the mean by their correlation between positions, the maximum by a fixed Monte-Carlo sample."""

from dataclasses import replace
from math import log2, prod

import numpy as np

from initbench.theory.activations import Activation
from initbench.theory.activations import activation as find_activation
from initbench.theory.backward import Gradient, settled
from initbench.theory.forward import near_at
from initbench.theory.functions import Array
from initbench.theory.network import Pool
from initbench.theory.signal import NoPrediction, TheorySignal, windows

SAMPLES = 4096
"""Windows in the Monte-Carlo sample of maximum pooling: 1.5 % error or less."""


def pool(signal: TheorySignal, node: Pool, before: TheorySignal | None, activation: str | Activation | None) -> tuple[TheorySignal, float]:
    """The signal after pooling, and the mean square slope where the gradient passes, over the mean one.

    `before` is the Gaussian signal that `activation` made the pooled one from.
    """
    if signal.field.ndim - 1 != len(node.kernel):
        raise NoPrediction("it pools over something other than positions")
    if not signal.near:
        raise NoPrediction("the correlation of neighbouring positions, which pooling needs, is not known here")
    size = prod(node.kernel)
    counts = windows(np.ones((1, *signal.field.shape[1:])), node.kernel, node.stride, node.padding)
    field = windows(signal.field, node.kernel, node.stride, node.padding) / counts
    steps = max(1, round(log2(max(1, max(node.stride)))))
    if node.kind == "avg":
        within = 1 / size + (1 - 1 / size) * max(0.0, near_at(signal.near, max(node.kernel) / 2))
        cross = 1.0
        slope = 1.0
        pairs = signal.near
    else:
        if before is None or activation is None or before.noise is None:
            raise NoPrediction("a maximum is taken of something other than an activation")
        within, cross, slope = _maximum(before, activation, size)
        pairs = tuple(max(near, _maximum(before, activation, size, own=before.near[min(i, len(before.near) - 1)])[1] * within)
                      for i, near in enumerate(signal.near))  # fmt: skip
    shared = signal.c_mean if node.kind == "avg" else cross * within
    c_mean = min(1.0, shared / within)
    grown = c_mean / max(signal.c_mean, 1e-6)
    near = tuple(min(1.0, value / within) for value in pairs[steps:]) or (min(1.0, pairs[-1] / within),)
    after = replace(
        signal,
        field=field * within,
        c=np.clip(signal.c * grown, 0.0, 1.0),
        c_mean=c_mean,
        c_class=min(1.0, signal.c_class * grown),
        near=near,
        aligned=tuple(min(1.0, value * grown) for value in signal.aligned),
        signed=None if signal.signed is None else min(1.0, signal.signed * grown),
        gaussian=False,
        noise=None,
    )
    return after, slope


def through_pool(gradient: Gradient, node: Pool, before: TheorySignal, slope: float) -> Gradient:
    """The gradient with respect to what is pooled."""
    gradient = settled(gradient)
    size = prod(node.kernel)
    ones = np.ones((1, *before.field.shape[1:]))
    out = windows(ones, node.kernel, node.stride, node.padding).size
    share = out / ones.size
    factor = share / size if node.kind == "avg" else share * slope
    return replace(gradient, field=gradient.field * factor, near=1.0 if node.kind == "avg" else 0.0)


def _maximum(before: TheorySignal, activation: str | Activation, size: int, own: float | None = None) -> tuple[float, float, float]:
    """Of the maximum m of a window of activations: E[m^2] / E[phi^2], E[m m'] / E[m^2] for two inputs, E[phi'(m)^2] / E[phi'^2].

    `own` is the correlation of the second window with the first, by default that of two images.
    """
    phi = find_activation(activation)
    random = np.random.default_rng(7)
    q, c = before.mean_square, min(1.0, max(0.0, before.c_mean if own is None else own))
    inside = min(1.0, max(0.0, before.near[0]))

    def window() -> Array:
        shared = random.standard_normal((SAMPLES, 1))
        return np.asarray(np.sqrt(inside) * shared + np.sqrt(1 - inside) * random.standard_normal((SAMPLES, size)))

    common, one, other = window(), window(), window()
    u1 = np.sqrt(q) * (np.sqrt(c) * common + np.sqrt(1 - c) * one) + before.constant
    u2 = np.sqrt(q) * (np.sqrt(c) * common + np.sqrt(1 - c) * other) + before.constant
    value1, value2 = phi.value(u1), phi.value(u2)
    m1, m2 = value1.max(axis=1), value2.max(axis=1)
    at = np.take_along_axis(u1, value1.argmax(axis=1)[:, None], axis=1)
    moments = phi.moments(q, before.constant)
    square = float(np.square(m1).mean())
    bend = float(np.square(phi.slope(at)).mean() / max(np.square(phi.slope(u1)).mean(), 1e-300))
    return square / max(moments.second, 1e-300), float((m1 * m2).mean()) / max(square, 1e-300), bend
