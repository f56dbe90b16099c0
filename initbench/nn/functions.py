"""Activation functions as modules, by the name that the theory knows them by: `relu`, `leaky_relu:negative_slope=0.2`, `sin`."""

import inspect

import torch
from torch import Tensor, nn

from initbench.config import parse_ref
from initbench.errors import ConfigError, suggestion, unknown_name


class Sin(nn.Module):
    """phi(x) = sin(omega x)."""

    def __init__(self, omega: float = 1.0) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return torch.sin(self.omega * x)


class Erf(nn.Module):
    """phi(x) = erf(x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return torch.erf(x)


MODULES: dict[str, type[nn.Module]] = {
    "identity": nn.Identity, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "prelu": nn.PReLU, "elu": nn.ELU, "celu": nn.CELU,
    "selu": nn.SELU, "gelu": nn.GELU, "silu": nn.SiLU, "mish": nn.Mish, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus, "softsign": nn.Softsign, "hardtanh": nn.Hardtanh, "relu6": nn.ReLU6,
    "hardsigmoid": nn.Hardsigmoid, "hardswish": nn.Hardswish, "erf": Erf, "sin": Sin,
}  # fmt: skip
"""Name -> module; the module's arguments are the name's parameters."""


def activation_module(text: str) -> nn.Module:
    """A new module for a name such as `relu` or `leaky_relu:negative_slope=0.2`.

    Raises: ConfigError for an unknown name (with the nearest known one) or parameter.
    """
    ref = parse_ref(text)
    if ref.name not in MODULES:
        raise unknown_name("activation", ref.name, MODULES, f"A model's activation is one of: {', '.join(sorted(MODULES))}.")
    kind = MODULES[ref.name]
    allowed = [name for name in inspect.signature(kind).parameters if name not in {"inplace", "device", "dtype", "args", "kwargs"}]
    for key in ref.params:
        if key not in allowed:
            has = ", ".join(allowed) or "none"
            raise ConfigError(f"The activation '{ref.name}' has no parameter '{key}'.{suggestion(key, allowed)} It has: {has}.")
    return kind(**ref.params)
