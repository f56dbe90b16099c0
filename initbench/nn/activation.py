"""Activation functions by name: what a traced function is called, and the function behind a name.

Names are those of `torch.nn` in lower snake case with the parameters that are not at their default:
`relu`, `leaky_relu:negative_slope=0.2`, `gelu:approximate=tanh`, `sin:omega=30`.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  as everybody calls it
from torch import Tensor, nn

from initbench.errors import ConfigError, unknown_name
from initbench.nn.operations import argument
from initbench.question.config import Ref, parse_ref

Function = Callable[[Tensor], Tensor]


def _prelu(x: Tensor, init: float = 0.25) -> Tensor:
    return F.leaky_relu(x, init)


def _rrelu(x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3) -> Tensor:
    return F.leaky_relu(x, (lower + upper) / 2)


def _sin(x: Tensor, omega: float = 1.0) -> Tensor:
    return torch.sin(omega * x)


def _cos(x: Tensor, omega: float = 1.0) -> Tensor:
    return torch.cos(omega * x)


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "identity": torch.clone, "relu": F.relu, "leaky_relu": F.leaky_relu, "prelu": _prelu, "rrelu": _rrelu, "abs": torch.abs,
    "elu": F.elu, "celu": F.celu, "selu": F.selu, "gelu": F.gelu, "silu": F.silu, "mish": F.mish, "tanh": torch.tanh,
    "sigmoid": torch.sigmoid, "softplus": F.softplus, "logsigmoid": F.logsigmoid, "softsign": F.softsign, "hardtanh": F.hardtanh,
    "relu6": F.relu6, "hardsigmoid": F.hardsigmoid, "hardswish": F.hardswish, "hardshrink": F.hardshrink,
    "softshrink": F.softshrink, "tanhshrink": F.tanhshrink, "threshold": F.threshold, "erf": torch.erf, "sin": _sin, "cos": _cos,
    "square": torch.square, "glu": F.glu,
}  # fmt: skip
"""Name -> elementwise function; parameters are keyword arguments (`glu` halves the last dimension)."""

DEFAULTS: dict[str, tuple[tuple[str, Any], ...]] = {
    "leaky_relu": (("negative_slope", 0.01),),
    "elu": (("alpha", 1.0),),
    "celu": (("alpha", 1.0),),
    "gelu": (("approximate", "none"),),
    "softplus": (("beta", 1.0), ("threshold", 20.0)),
    "hardtanh": (("min_val", -1.0), ("max_val", 1.0)),
    "hardshrink": (("lambd", 0.5),),
    "softshrink": (("lambd", 0.5),),
    "threshold": (("threshold", None), ("value", None)),
    "rrelu": (("lower", 1 / 8), ("upper", 1 / 3)),
}
"""The parameters that torch's functions take after the input, in their order, with their defaults."""

SAME = {"absolute": "abs", "expit": "sigmoid", "swish": "silu", "log_sigmoid": "logsigmoid"}
"""Other plain names of the same functions."""


def activation_function(name: str) -> Function:
    """The function behind a name such as `leaky_relu:negative_slope=0.2`; elementwise, on tensors of any shape.

    Raises: ConfigError for an unknown name (with the nearest known one) or parameter.
    """
    ref = parse_ref(name)
    if ref.name not in FUNCTIONS:
        raise unknown_name("activation", ref.name, FUNCTIONS, f"Known ones: {', '.join(sorted(FUNCTIONS))}.")
    function = partial(FUNCTIONS[ref.name], **ref.params)
    try:
        function(torch.zeros(2, dtype=torch.float32, device="cpu"))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"The activation '{name}' cannot be used: {str(error).splitlines()[0]}.") from error
    return function


def known_function(name: str | None) -> Function | None:
    """The function of a known name, else None."""
    return activation_function(name) if name is not None and name.partition(":")[0] in FUNCTIONS else None


def called(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """The full name of a torch function that is an activation, from its plain name and arguments; None where it is none."""
    name = SAME.get(name, name)
    if name not in FUNCTIONS or name == "identity":
        return None
    params: dict[str, Any] = {}
    if name == "prelu":
        slope = argument(args, kwargs, 1, "weight", None).detach().float().mean().item()
        params = {"init": round(slope, 6)} if slope != 0.25 else {}
    for position, (key, default) in enumerate(DEFAULTS.get(name, ())):
        value = argument(args, kwargs, position + 1, key, default)
        if value != default:
            params[key] = value.item() if isinstance(value, Tensor) else value
    if name == "hardtanh" and params == {"min_val": 0.0, "max_val": 6.0}:
        return "relu6"
    return str(Ref(name=name, params=params))


def called_module(module: nn.Module) -> str:
    """The name of one of torch's activation modules with its parameters: `leaky_relu:negative_slope=0.2`."""
    squeezed = {name.replace("_", ""): name for name in FUNCTIONS}
    name = squeezed.get(type(module).__name__.lower())
    if name is None:
        return snake(type(module).__name__)
    if isinstance(module, nn.PReLU):
        return called(name, (None, module.weight), {}) or name
    params = {key: getattr(module, key) for key, _ in DEFAULTS.get(name, ()) if hasattr(module, key)}
    return called(name, (None,), params) or name


def recognized(function: Function) -> str | None:
    """The name of a known activation with the same values on [-8, 8] to 1e-5, else None; `identity` for a straight one."""
    grid = torch.linspace(-8.0, 8.0, 257, dtype=torch.float64, device="cpu")
    try:
        with torch.no_grad():
            values = function(grid.clone()).to(torch.float64)
    except (RuntimeError, TypeError, ValueError, IndexError):
        return None
    if values.shape != grid.shape or not values.isfinite().all():
        return None
    slope = (values[0] / grid[0]).item()
    if torch.allclose(values, torch.where(grid > 0, grid, slope * grid), atol=1e-5):
        slope = round(slope, 6)
        special = {0.0: "relu", -1.0: "abs", 1.0: "identity", 0.01: "leaky_relu"}
        return special.get(slope, f"leaky_relu:negative_slope={slope:g}")
    for name in (*sorted(FUNCTIONS.keys() - {"threshold", "glu"}), "gelu:approximate=tanh"):
        if torch.allclose(values, activation_function(name)(grid), atol=1e-5):
            return name
    return None


def is_elementwise(function: Callable[..., Any]) -> bool:
    """Whether a function of one tensor gives each element its own value, and not a straight line: an activation."""
    grid = torch.linspace(-3.0, 3.0, 24, dtype=torch.float32, device="cpu").reshape(2, 12)
    try:
        with torch.no_grad():
            whole, turned, part = function(grid.clone()), function(grid.flip(1)), function(grid[:, :5].clone())
    except Exception:  # noqa: BLE001 - users' code is tried on numbers that it was not written for
        return False
    if not isinstance(whole, Tensor) or whole.shape != grid.shape or not torch.equal(whole, turned.flip(1)):
        return False
    bend = whole.flatten().diff(n=2).abs().max()
    return torch.equal(whole[:, :5], part) and bool(bend > 1e-5)


def snake(name: str) -> str:
    """`MyAct` -> `my_act`; a name that a known activation has is told from it by `own_`."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.strip("_")).lower()
    known = text.replace("_", "")
    return f"own_{known}" if known in {other.replace("_", "") for other in FUNCTIONS} else text
