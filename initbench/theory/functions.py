"""The named activation functions as numpy functions, with their derivatives and the points where they are not smooth.

Names and parameters are those of `torch.nn` in lower snake case. A derivative is what autograd gives: the jump of a
discontinuous function (hardshrink) is not in it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array], Array]


@dataclass(frozen=True)
class Shape:
    """A function, its derivative, its `kinks` (where either jumps) and the length over which it bends."""

    value: Function
    slope: Function
    kinks: tuple[float, ...] = ()
    length: float = 1.0


def identity() -> Shape:
    """phi(x) = x."""
    return Shape(lambda x: x, np.ones_like)


def leaky_relu(*, negative_slope: float = 0.01) -> Shape:
    """phi(x) = x above 0 and negative_slope x below."""
    return Shape(lambda x: np.where(x > 0, x, negative_slope * x), lambda x: np.where(x > 0, 1.0, negative_slope), (0.0,))


def relu() -> Shape:
    """phi(x) = max(x, 0)."""
    return leaky_relu(negative_slope=0.0)


def prelu(*, init: float = 0.25) -> Shape:
    """PReLU at its initial slope."""
    return leaky_relu(negative_slope=init)


def rrelu(*, lower: float = 1 / 8, upper: float = 1 / 3) -> Shape:
    """RReLU as it is in evaluation: its mean slope."""
    return leaky_relu(negative_slope=(lower + upper) / 2)


def absolute() -> Shape:
    """phi(x) = |x|."""
    return leaky_relu(negative_slope=-1.0)


def elu(*, alpha: float = 1.0) -> Shape:
    """phi(x) = x above 0 and alpha (e^x - 1) below."""
    return _scaled_elu(1.0, alpha, 1.0)


def celu(*, alpha: float = 1.0) -> Shape:
    """phi(x) = x above 0 and alpha (e^(x/alpha) - 1) below."""
    return _scaled_elu(1.0, alpha, alpha)


def selu() -> Shape:
    """The self-normalizing scaled ELU (Klambauer et al. 2017)."""
    return _scaled_elu(1.0507009873554804934193349852946, 1.6732632423543772848170429916717, 1.0)


def _scaled_elu(scale: float, alpha: float, length: float) -> Shape:
    def value(x: Array) -> Array:
        return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / length))

    def slope(x: Array) -> Array:
        return scale * np.where(x > 0, 1.0, alpha / length * np.exp(np.minimum(x, 0) / length))

    return Shape(value, slope, (0.0,), min(1.0, abs(length)))


ERF_STEPS, ERF_REACH, ERF_TERMS = 128, 6.0, 6
"""Points a unit on which the error function is expanded, as far as it differs from 1, and terms of each expansion."""


@cache
def _erf_table() -> Array:
    """Taylor coefficients of the error function at each point, (terms, points): sixteen digits between them."""
    x = np.arange(round(-ERF_REACH * ERF_STEPS), round(ERF_REACH * ERF_STEPS) + 1) / ERF_STEPS
    derivatives = [np.array([math.erf(point) for point in x.tolist()]), 2 / np.sqrt(np.pi) * np.exp(-x * x)]
    for order in range(2, ERF_TERMS):  # from y'' = -2 x y'
        derivatives.append(-2 * (x * derivatives[-1] + (order - 2) * (derivatives[-2] if order > 2 else 0.0)))
    return np.stack([derivative / math.factorial(order) for order, derivative in enumerate(derivatives)])


def _erf(x: Array) -> Array:
    """The error function by its expansion at the nearest of many points; importing scipy takes longer than all of this."""
    clipped = np.clip(x, -ERF_REACH, ERF_REACH)
    nearest = np.rint(clipped * ERF_STEPS)
    with np.errstate(invalid="ignore"):  # NaN has no index; its distance makes it NaN again
        index = nearest.astype(np.intp) + round(ERF_REACH * ERF_STEPS)
    away = clipped - nearest / ERF_STEPS
    table = _erf_table()
    sums = table[-1].take(index, mode="clip")
    for terms in table[-2::-1]:
        sums = sums * away + terms.take(index, mode="clip")
    return np.asarray(sums, dtype=np.float64)


def _expit(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


def gelu(*, approximate: str = "none") -> Shape:
    """phi(x) = x P(z <= x), exact or in the tanh form."""
    if approximate == "tanh":
        factor = np.sqrt(2 / np.pi)

        def inner(x: Array) -> Array:
            return np.asarray(np.tanh(factor * (x + 0.044715 * x**3)))

        def slope(x: Array) -> Array:
            t = inner(x)
            return np.asarray(0.5 * (1 + t) + 0.5 * x * (1 - t * t) * factor * (1 + 3 * 0.044715 * x * x))

        return Shape(lambda x: 0.5 * x * (1 + inner(x)), slope)
    if approximate != "none":
        raise ValueError("approximate is 'none' or 'tanh'")

    def cumulative(x: Array) -> Array:
        return 0.5 * (1 + _erf(x / np.sqrt(2)))

    return Shape(lambda x: x * cumulative(x), lambda x: cumulative(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi))


def silu() -> Shape:
    """phi(x) = x sigmoid(x)."""
    return Shape(lambda x: x * _expit(x), lambda x: _expit(x) * (1 + x * (1 - _expit(x))))


def mish() -> Shape:
    """phi(x) = x tanh(softplus(x))."""

    def inner(x: Array) -> Array:
        return np.asarray(np.tanh(np.logaddexp(0, x)))

    return Shape(lambda x: x * inner(x), lambda x: inner(x) + x * (1 - inner(x) ** 2) * _expit(x))


def tanh() -> Shape:
    """The hyperbolic tangent."""
    return Shape(np.tanh, lambda x: 1 - np.tanh(x) ** 2)


def sigmoid() -> Shape:
    """phi(x) = 1 / (1 + e^-x)."""
    return Shape(_expit, lambda x: _expit(x) * (1 - _expit(x)))


def softplus(*, beta: float = 1.0, threshold: float = 20.0) -> Shape:
    """phi(x) = log(1 + e^(beta x)) / beta; torch's linear part above `threshold` is the same number."""
    del threshold
    return Shape(lambda x: np.logaddexp(0, beta * x) / beta, lambda x: _expit(beta * x), (), min(1.0, 1 / abs(beta)))


def logsigmoid() -> Shape:
    """phi(x) = log sigmoid(x)."""
    return Shape(lambda x: -np.logaddexp(0, -x), lambda x: _expit(-x))


def softsign() -> Shape:
    """phi(x) = x / (1 + |x|)."""
    return Shape(lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2, (0.0,))


def hardtanh(*, min_val: float = -1.0, max_val: float = 1.0) -> Shape:
    """The identity clipped to [min_val, max_val]."""

    def slope(x: Array) -> Array:
        return ((x > min_val) & (x < max_val)).astype(np.float64)

    return Shape(lambda x: np.clip(x, min_val, max_val), slope, (min_val, max_val))


def relu6() -> Shape:
    """ReLU clipped at 6."""
    return hardtanh(min_val=0.0, max_val=6.0)


def hardsigmoid() -> Shape:
    """phi(x) = x/6 + 1/2 clipped to [0, 1]."""
    return Shape(lambda x: np.clip(x / 6 + 0.5, 0, 1), lambda x: (np.abs(x) < 3) / 6.0, (-3.0, 3.0))


def hardswish() -> Shape:
    """phi(x) = x hardsigmoid(x)."""

    def slope(x: Array) -> Array:
        return np.where(np.abs(x) < 3, x / 3 + 0.5, (x > 0).astype(np.float64))

    return Shape(lambda x: x * np.clip(x / 6 + 0.5, 0, 1), slope, (-3.0, 3.0))


def hardshrink(*, lambd: float = 0.5) -> Shape:
    """phi(x) = x outside [-lambd, lambd] and 0 inside."""
    return Shape(lambda x: np.where(np.abs(x) > lambd, x, 0.0), lambda x: (np.abs(x) > lambd).astype(np.float64), (-lambd, lambd))


def softshrink(*, lambd: float = 0.5) -> Shape:
    """The distance of x from [-lambd, lambd], with its sign."""

    def value(x: Array) -> Array:
        return np.asarray(np.sign(x) * np.maximum(np.abs(x) - lambd, 0))

    return Shape(value, lambda x: (np.abs(x) > lambd).astype(np.float64), (-lambd, lambd))


def tanhshrink() -> Shape:
    """phi(x) = x - tanh(x)."""
    return Shape(lambda x: x - np.tanh(x), lambda x: np.tanh(x) ** 2)


def threshold(*, threshold: float, value: float) -> Shape:
    """phi(x) = x above the threshold and `value` elsewhere."""
    return Shape(lambda x: np.where(x > threshold, x, value), lambda x: (x > threshold).astype(np.float64), (threshold,))


def erf() -> Shape:
    """The error function."""
    return Shape(_erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x))


def sin(*, omega: float = 1.0) -> Shape:
    """The sine of omega x."""
    return Shape(lambda x: np.sin(omega * x), lambda x: omega * np.cos(omega * x), (), 1 / max(1.0, abs(omega)))


def cos(*, omega: float = 1.0) -> Shape:
    """The cosine of omega x."""
    return Shape(lambda x: np.cos(omega * x), lambda x: -omega * np.sin(omega * x), (), 1 / max(1.0, abs(omega)))


def square() -> Shape:
    """phi(x) = x^2."""
    return Shape(np.square, lambda x: 2 * x)


SHAPES: dict[str, Callable[..., Shape]] = {
    "identity": identity, "relu": relu, "leaky_relu": leaky_relu, "prelu": prelu, "rrelu": rrelu, "abs": absolute,
    "elu": elu, "celu": celu, "selu": selu, "gelu": gelu, "silu": silu, "mish": mish, "tanh": tanh, "sigmoid": sigmoid,
    "softplus": softplus, "logsigmoid": logsigmoid, "softsign": softsign, "hardtanh": hardtanh, "relu6": relu6,
    "hardsigmoid": hardsigmoid, "hardswish": hardswish, "hardshrink": hardshrink, "softshrink": softshrink,
    "tanhshrink": tanhshrink, "threshold": threshold, "erf": erf, "sin": sin, "cos": cos, "square": square,
}  # fmt: skip
ALIASES = {
    "linear": "identity", "none": "identity", "swish": "silu", "log_sigmoid": "logsigmoid", "hard_tanh": "hardtanh",
    "hard_sigmoid": "hardsigmoid", "hard_swish": "hardswish", "hard_shrink": "hardshrink", "soft_shrink": "softshrink",
    "tanh_shrink": "tanhshrink", "relu_6": "relu6", "sine": "sin", "r_relu": "rrelu", "p_relu": "prelu",
}  # fmt: skip
