"""Gains that follow the activation after a layer: torch's where torch has one, otherwise the exact Gaussian one."""

import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from initbench.errors import ConfigError, DoesNotApply
from initbench.init.arguments import number
from initbench.init.suitability import Check, refuse_where
from initbench.nn.activation import Function
from initbench.nn.layers import WeightLayer
from initbench.question.config import parse_ref
from initbench.theory import activations
from initbench.theory.functions import SHAPES

LINEAR = {
    "linear", "identity", "none", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
}  # fmt: skip
"""The names under which torch's `calculate_gain` gives 1 for no activation."""


def torch_gain(nonlinearity: str) -> float | None:
    """What torch's `calculate_gain` says; None where it has nothing to say (gelu, silu, ...)."""
    ref = parse_ref(nonlinearity)
    if ref.name in LINEAR or ref.name == "sigmoid":
        return 1.0
    if ref.name == "leaky_relu":
        return math.sqrt(2.0 / (1 + float(ref.params.get("negative_slope", 0.01)) ** 2))
    return {"tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}.get(ref.name)


@cache
def gaussian_gain(nonlinearity: str, q: float = 1.0) -> float:
    """sqrt(q / E[phi(u)^2]) for u ~ N(0, q): with it the pre-activation variance q is a fixed point.

    Raises: ConfigError for an unknown activation, or one that is zero almost everywhere.
    """
    if nonlinearity in LINEAR:
        return 1.0
    second = activations.find(nonlinearity).moments(q).second
    if not second > 0:
        raise ConfigError(f"The activation '{nonlinearity}' has no gain: it is zero on N(0, {q:g}).")
    return math.sqrt(q / second)


@cache
def gain_of(nonlinearity: str) -> float:
    """The gain torch gives the activation, or the exact Gaussian one where torch has none. Raises: ConfigError for an unknown name."""
    known = torch_gain(nonlinearity)
    return gaussian_gain(nonlinearity) if known is None else known


def check_gain(what: str, given: float | str) -> float | str:
    """A gain as users write it: a number, `auto`, or the name of an activation. Raises: ConfigError for anything else."""
    if isinstance(given, str):
        if given != "auto":
            gain_of(given)
        return given
    return number(what, given, least=0.0)


def resolve(given: float | str, layer: WeightLayer) -> float:
    """The number behind a checked gain: `auto` follows the layer's own activation (none that is known: linear)."""
    if not isinstance(given, str):
        return given
    if given != "auto":
        return gain_of(given)
    name = layer.activation or "linear"
    return gain_of(name) if is_named(name) else gain_after(layer)


def gain_after(layer: WeightLayer, q: float = 1.0, *, of_slope: bool = False) -> float:
    """The exact gain for the activation after a layer, also for one that only the user's code has a name for.

    sqrt(q / E[phi^2]), or 1 / sqrt(E[phi'^2]) with `of_slope`. Raises: ConfigError where it has no moments.
    """
    name = layer.activation or "linear"
    if is_named(name):
        return gradient_gain(name, q) if of_slope else gaussian_gain(name, q)
    moments = own_activation(name, layer.activation_fn).moments(q)
    expectation = moments.slope_second if of_slope else moments.second / q
    if not expectation > 0:
        raise ConfigError(f"The activation '{name}' has no gain on N(0, {q:g}).")
    return 1 / math.sqrt(expectation)


def is_named(name: str) -> bool:
    """Whether an activation is one of those known by name."""
    return name in LINEAR or parse_ref(name).name in SHAPES


@cache
def own_activation(name: str, function: Function | None) -> activations.Activation:
    """The activation of a user's own function of a tensor. Raises: ConfigError where it has no moments."""
    if function is None:
        raise ConfigError(f"The activation '{name}' is not a known one.")
    of_tensor = function

    def of_array(x: NDArray[np.float64]) -> NDArray[np.float64]:
        with torch.no_grad():
            values: NDArray[np.float64] = of_tensor(torch.from_numpy(np.ascontiguousarray(x))).double().numpy()
        return values

    return activations.from_function(of_array, name)


def gradient_gain(nonlinearity: str, q: float = 1.0) -> float:
    """1 / sqrt(E[phi'(u)^2]) for u ~ N(0, q): with it and fan_out the gradient's variance is kept.

    Raises: ConfigError for an unknown activation, or one that is flat almost everywhere.
    """
    if nonlinearity in LINEAR:
        return 1.0
    slope = activations.find(nonlinearity).moments(q).slope_second
    if not slope > 0:
        raise ConfigError(f"The activation '{nonlinearity}' has no gain: it is flat on N(0, {q:g}).")
    return 1 / math.sqrt(slope)


def without_gain(layer: WeightLayer) -> str | None:
    """Against layers whose activation has no gain that could be found."""
    try:
        gain_after(layer)
    except ConfigError:
        return f"no gain can be found for the activation after it, {layer.activation}. Name one that is like it, or give a number"
    return None


def auto_check(scheme: str, given: float | str) -> Check | None:
    """The check of a scheme that follows activations: none where the gain is fixed."""
    return refuse_where(scheme, without_gain) if given == "auto" else None


def fed_by(scheme: str, layers: tuple[WeightLayer, ...]) -> dict[str, str]:
    """The activation that feeds each layer, by its parameter: that on the way to it, and for the first its own.

    Where the model has not been run it is that after the layer before. Raises: DoesNotApply for an activation that is not
    a known one.
    """
    feeding: dict[str, str] = {}
    before: WeightLayer | None = None
    for layer in layers:
        on_the_way = [step for step in layer.surroundings.path if parse_ref(step).name in SHAPES]
        first = before is None or (layer.surroundings.uses > 0 and not layer.surroundings.sources)
        if on_the_way:
            feeding[layer.parameter] = on_the_way[-1]
        elif first or before is None:
            feeding[layer.parameter] = layer.activation or "linear"
        else:
            feeding[layer.parameter] = "linear" if layer.surroundings.uses else before.activation or "linear"
        before = layer
    for name in set(feeding.values()) - LINEAR:
        try:
            activations.find(name)
        except ConfigError as error:
            raise DoesNotApply(f"'{scheme}' needs a known activation. {error}") from error
    return feeding
