"""Activation functions and norms by name, for the models of `initbench.models`."""

import ast
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import activation as _torch

from initbench.errors import ConfigError, unknown_name
from initbench.question.config import parse_value

MOST_UNITS, MOST_LAYERS = 1_000_000, 10_000
"""Of a layer, and of a model of ours."""


class Sin(nn.Module):
    """sin(omega x): the activation of SIREN, whose omega is 30."""

    def __init__(self, omega: float = 30.0) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return torch.sin(self.omega * x)


NOT_ELEMENTWISE = {"MultiheadAttention", "GLU", "Softmax", "Softmin", "Softmax2d", "LogSoftmax"}
"""Modules of torch.nn's activation file that mix units or change their number."""
ACTIVATIONS: dict[str, type[nn.Module]] = {
    name.lower(): getattr(_torch, name) for name in _torch.__all__ if name not in NOT_ELEMENTWISE
} | {"identity": nn.Identity, "none": nn.Identity, "linear": nn.Identity, "swish": nn.SiLU, "selu": nn.SELU, "sin": Sin}
NON_DECREASING = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.SELU, nn.CELU, nn.Softplus, nn.Softsign, nn.LogSigmoid,
    nn.Hardtanh, nn.Hardsigmoid, nn.Softshrink, nn.Hardshrink, nn.Tanhshrink, nn.Identity,
)  # fmt: skip
"""Functions that a maximum can be taken before instead of after, with the same values and gradients."""


Maker = Callable[[], nn.Module]
"""Makes a new activation module at each call."""


def activation(text: str) -> Maker:
    """A maker of the activation that `text` names, as torch.nn or in snake case, with parameters where wanted.

    `relu`, `LeakyReLU`, `LeakyReLU(0.2)`, `leaky_relu:negative_slope=0.2` and `elu(alpha=0.5)` are all understood.
    Raises: ConfigError for unknown names and parameters.
    """
    name, positional, named = _read(str(text))
    kind = ACTIVATIONS.get(name.replace("_", "").lower())
    if kind is None:
        known = [other.__name__ for other in ACTIVATIONS.values()]
        raise unknown_name("activation", name, [*ACTIVATIONS, *known], "Any element-wise activation of torch.nn can be named, and sin.")
    try:
        kind(*positional, **named)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The activation '{text}' cannot be made: {str(error).removeprefix(kind.__name__ + '.__init__() ')}.") from error
    return lambda: kind(*positional, **named)


def _read(text: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Takes `name`, `name(1, key=2)` or `name:key=1,key=2` apart."""
    if text.endswith(")"):
        try:
            call = ast.parse(text, mode="eval").body
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                named = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
                return call.func.id, [ast.literal_eval(item) for item in call.args], named
        except (SyntaxError, ValueError):
            pass
        raise ConfigError(f"Cannot read the activation '{text}'. Write it as LeakyReLU(0.2) or leaky_relu:negative_slope=0.2.")
    name, _, tail = text.partition(":")
    pairs = [part.partition("=") for part in tail.split(",") if part]
    return name, [], {key.strip(): parse_value(value.strip()) for key, _, value in pairs}


def is_non_decreasing(module: nn.Module) -> bool:
    """Whether taking a maximum before this activation gives the same as taking it after."""
    if isinstance(module, nn.LeakyReLU):
        return module.negative_slope >= 0
    if isinstance(module, nn.ELU | nn.CELU):
        return module.alpha >= 0
    return type(module) in NON_DECREASING


def one_of(what: str, given: str, allowed: tuple[str, ...]) -> str:
    """The given word. Raises: ConfigError unless it is allowed."""
    if given not in allowed:
        raise unknown_name(what, given, allowed, f"Allowed: {', '.join(allowed)}.")
    return given


def whole_numbers(what: str, given: Any, *, smallest: int, largest: int = MOST_UNITS) -> list[int]:
    """The given list, or a single number as a list of one. Raises: ConfigError unless all are whole and within the limits."""
    numbers = list(given) if isinstance(given, list | tuple) else [given]
    if any(isinstance(number, bool) or not isinstance(number, int) or not smallest <= number <= largest for number in numbers):
        raise ConfigError(f"{what} is {given}. Allowed: whole numbers from {smallest} to {largest}.")
    return numbers


def share(what: str, given: float) -> float:
    """The given number. Raises: ConfigError unless it is in [0, 1)."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < 1:
        raise ConfigError(f"{what} is {given}. Allowed: at least 0 and less than 1.")
    return float(given)
