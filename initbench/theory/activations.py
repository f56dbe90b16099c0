"""Gaussian moments of any activation function: named ones (`functions.py`) and any Python function of a numpy array."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import numpy as np

from initbench.errors import ConfigError, suggestion, unknown_name
from initbench.question.config import Ref, parse_ref
from initbench.theory.closed_forms import Moments, closed_moments, closed_pair
from initbench.theory.functions import ALIASES, SHAPES, Array, Function, Shape
from initbench.theory.quadrature import break_points, find_breaks, gaussian

DIFFERENCE = 1e-6
"""Step of the central difference that stands in for the derivative of a user's function."""
HUGE = 1e5
"""A value beyond this next to a break on [-40, 40] is a pole."""
TINIEST = 1e-60
"""The smallest standard deviation of an input: what float32 can hold, and more."""
STRAIGHT = 1e-7
"""Below this sqrt(1 - c^2) two inputs count as one."""


@dataclass(frozen=True)
class Activation:
    """A function with all that its expectations need; `find` and `from_function` make it.

    `value` and `slope` work on arrays of any shape; `breaks` are the points where quadrature splits; `continuous` is
    False where the function jumps, so that its weak derivative is more than its slope.
    """

    name: str
    value: Function
    slope: Function
    breaks: tuple[float, ...] = field(repr=False)
    continuous: bool = True
    key: Ref | None = field(default=None, repr=False)

    def moments(self, q: float, mean: float = 0.0) -> Moments:
        """Expectations over u ~ N(mean, q)."""
        return _moments(self, float(q), float(mean))

    def pair(self, q1: float, q2: float, c: float) -> float:
        """E[phi(u1) phi(u2)] for centred u1, u2 with variances q1, q2 and correlation c."""
        return _pair(self, float(q1), float(q2), float(c), "value")

    def slope_pair(self, q1: float, q2: float, c: float) -> float:
        """E[phi'(u1) phi'(u2)] for centred u1, u2 with variances q1, q2 and correlation c."""
        return _pair(self, float(q1), float(q2), float(c), "slope")


def names() -> tuple[str, ...]:
    """All named activations, sorted."""
    return tuple(sorted(SHAPES))


def find(name: str | None) -> Activation:
    """The activation of a name such as `relu`, `LeakyReLU` or `leaky_relu:negative_slope=0.2`; None is the identity.

    Raises: ConfigError for an unknown name (with the nearest known one) or parameter.
    """
    given = parse_ref("identity" if name is None else name)
    return _named(str(Ref(name=_known(given.name), params=given.params)))


@cache
def _named(text: str) -> Activation:
    given = parse_ref(text)
    known, params = given.name, given.params
    build = SHAPES[known]
    allowed = inspect.signature(build).parameters
    for key in params:
        if key not in allowed:
            has = ", ".join(allowed) or "none"
            raise ConfigError(f"The activation '{known}' has no parameter '{key}'.{suggestion(key, allowed)} It has: {has}.")
    missing = [key for key, parameter in allowed.items() if parameter.default is inspect.Parameter.empty and key not in params]
    if missing:
        raise ConfigError(f"The activation '{known}' needs {', '.join(missing)}: write {known}:{missing[0]}=VALUE.")
    try:
        shape: Shape = build(**params)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"The activation '{given}' cannot be used: {error}.") from error
    full: dict[str, Any] = {key: parameter.default for key, parameter in allowed.items()} | params
    breaks = break_points(shape.kinks, shape.length)
    return Activation(
        name=text,
        value=shape.value,
        slope=shape.slope,
        breaks=breaks,
        continuous=known not in {"hardshrink", "threshold"},
        key=Ref(name=known, params=full),
    )


def from_function(function: Callable[[Array], Array], name: str | None = None) -> Activation:
    """The activation of any Python function of a numpy array; kinks and jumps are found by looking.

    The derivative is a central difference that never reaches over a kink.
    Raises: ConfigError when the function fails, does not give one finite number for each number, or is too rough.
    """
    label = name or str(getattr(function, "__name__", "function"))

    def value(x: Array) -> Array:
        result = np.asarray(function(x), dtype=np.float64)
        if result.shape != np.shape(x):
            raise ValueError(f"it gives shape {result.shape} for shape {np.shape(x)}")
        if not np.isfinite(result).all():
            raise ValueError("it is not finite everywhere on [-40, 40]")
        return result

    try:
        breaks, bends = find_breaks(value)
        poles = [kink for kink in bends if np.abs(value(np.array([kink - DIFFERENCE, kink + DIFFERENCE]))).max() > HUGE]
        if poles:
            raise ValueError(f"it has a pole at {poles[0]:.6g}")
    except (ArithmeticError, AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"The activation '{label}' has no moments: {error}.") from error
    kinks = np.array(bends)

    def slope(x: Array) -> Array:
        moved = np.asarray(x, dtype=np.float64)
        for kink in kinks:
            moved = np.where(np.abs(moved - kink) < DIFFERENCE, kink + np.copysign(2 * DIFFERENCE, moved - kink), moved)
        return (value(moved + DIFFERENCE) - value(moved - DIFFERENCE)) / (2 * DIFFERENCE)

    jumps = np.abs(value(kinks + DIFFERENCE) - value(kinks - DIFFERENCE)) if len(kinks) else np.zeros(0)
    far = tuple(sign * 40.0 * 3.0**power for sign in (-1, 1) for power in range(1, 6))
    return Activation(label, value, slope, tuple(sorted((*breaks, *far))), continuous=not (jumps > 1e-3).any())


def activation(given: "str | Activation | Callable[[Array], Array] | None") -> Activation:
    """The activation itself, of a name, or of a Python function."""
    if given is None or isinstance(given, str):
        return find(given)
    return given if isinstance(given, Activation) else from_function(given)


def _known(name: str) -> str:
    squeezed = "".join(letter for letter in name.lower() if letter.isalnum())
    table = {key.replace("_", ""): key for key in SHAPES} | {key.replace("_", ""): value for key, value in ALIASES.items()}
    if squeezed in table:
        return table[squeezed]
    raise unknown_name("activation", name, [*SHAPES, *ALIASES], f"Named ones: {', '.join(names())}.")


@lru_cache(maxsize=4096)
def _moments(phi: Activation, q: float, mean: float) -> Moments:
    if phi.key is not None:
        closed = closed_moments(phi.key, q, mean)
        if closed is not None:
            return closed
    std = max(np.sqrt(q), TINIEST)
    z, weight = gaussian(phi.breaks, mean, std)
    u = mean + std * z
    value, slope = phi.value(u), phi.slope(u)
    square = value * value
    by_q = weight @ (value * slope * z) / std if phi.continuous else weight @ (square * (z * z - 1)) / (2 * std * std)
    return Moments(
        mean=float(weight @ value),
        second=float(weight @ square),
        fourth=float(weight @ (square * square)),
        slope=float(weight @ slope),
        slope_second=float(weight @ (slope * slope)),
        slope_fourth=float(weight @ slope**4),
        second_by_q=float(by_q),
    )


@lru_cache(maxsize=4096)
def _pair(phi: Activation, q1: float, q2: float, c: float, what: str) -> float:
    c = min(1.0, max(-1.0, c))
    if phi.key is not None:
        closed = closed_pair(phi.key, q1, q2, c, what)
        if closed is not None:
            return closed
    function = phi.value if what == "value" else phi.slope
    std1, std2 = max(np.sqrt(q1), TINIEST), max(np.sqrt(q2), TINIEST)
    across = np.sqrt(max(0.0, 1 - c * c))
    breaks = np.asarray(phi.breaks)
    if across < STRAIGHT:
        z, weight = gaussian(np.concatenate([breaks / std1, np.sign(c) * breaks / std2]))
        return float(weight @ (function(std1 * z) * function(np.sign(c) * std2 * z)))
    bends = breaks[:, None] / (std2 * c) + across * np.array([-6.0, -2.0, 0.0, 2.0, 6.0]) if abs(c) > 0.5 else np.zeros((1, 1))
    z, weight = gaussian(np.concatenate([breaks / std1, bends.ravel()]))
    keep = weight > 1e-40
    z, weight = z[keep], weight[keep]
    inner = np.empty_like(z)
    for start in range(0, len(z), 256):
        part = z[start : start + 256]
        z2, weight2 = gaussian(breaks, std2 * c * part, np.full_like(part, std2 * across))
        inner[start : start + 256] = (weight2 * function(std2 * (c * part[:, None] + across * z2))).sum(axis=-1)
    return float(weight @ (function(std1 * z) * inner))
