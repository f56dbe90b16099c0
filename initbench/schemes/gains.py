"""Gains that follow the activation after a layer: torch's where torch has one, otherwise the exact Gaussian one."""

import math
from functools import cache

from initbench.config import parse_ref
from initbench.errors import ConfigError, DoesNotApply
from initbench.nn.layers import WeightLayer
from initbench.schemes.arguments import number
from initbench.schemes.suitability import Check, refuse_where
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
    return gain_of((layer.activation or "linear") if given == "auto" else given)


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


def known_activations(scheme: str) -> Check:
    """A check that every activation after a layer is one whose moments are known."""

    def reason(layer: WeightLayer) -> str | None:
        try:
            gain_of(layer.activation or "linear")
        except ConfigError:
            return f"the activation after it, {layer.activation}, is not a known one. Name one that is like it, or give a number"
        return None

    return refuse_where(scheme, reason)


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
