"""Builds the model that a reference names, shipped or the user's own, and checks that it fits the data."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from initbench.errors import ConfigError, UserCode, a_or_an
from initbench.nn.inputs import Inputs, called
from initbench.nn.naming import without_wrappers
from initbench.nn.seeds import derived_seed
from initbench.question import catalog
from initbench.question.config import Ref


def own_model(given: object, otherwise: str = "") -> nn.Module:
    """The module that was given; `otherwise` says what else could be. Raises: ConfigError for a class or another thing in its place."""
    if isinstance(given, nn.Module):
        return given
    if isinstance(given, type) and issubclass(given, nn.Module):
        raise ConfigError(f"The model is the class {given.__name__}. Give a module that is built, such as {given.__name__}(...).")
    raise ConfigError(f"The model is {a_or_an(type(given).__name__)}. It must be a torch.nn.Module{otherwise}.")


def build_model(
    ref: Ref, shape: tuple[int, ...], classes: int | Callable[[], int], seed: int = 0, example: Inputs | None = None, device: str = "cpu"
) -> nn.Module:
    """The model, on the CPU (or another device) in float32, without wrappers such as torch.compile's.

    `shape` and `classes` (or what gives them) are passed on to a builder that takes them. What construction draws at random depends on
    `seed` only, and the caller's generator stays as it is. Lazy layers get their shapes from one image of zeros, or from an
    `example` batch.
    Raises: ConfigError when the reference is no model or does not take its parameters.
    """
    function = catalog.load("model", ref.name)
    if isinstance(function, nn.Module):
        raise ConfigError(f"'{ref.shown}' is a model that is built already. Name its class, or a function that builds it.")
    _, implied = catalog.find("model", ref.name)
    arguments = {**_given(function, shape, classes), **implied, **ref.params}
    signature = _signature(function)
    if signature is not None:
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise ConfigError(f"The model '{ref.shown}' cannot be built: {error}.") from error
    with torch.random.fork_rng(devices=[]), _own_defaults(device), UserCode(f"The model '{ref.shown}' cannot be built"):
        torch.manual_seed(derived_seed(seed, "model"))
        model = function(**arguments)
        if isinstance(model, nn.Module) and device == "cpu":
            _fill_lazy(model, torch.zeros(1, *shape, dtype=torch.float32, device="cpu") if example is None else example)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"The model '{ref.shown}' gives {a_or_an(type(model).__name__)}. It must give a torch.nn.Module.")
    return without_wrappers(model)[0]


@contextmanager
def _own_defaults(device: str) -> Iterator[None]:
    """Within, tensors are made on this device in float32, as the data are, whatever a caller has chosen."""
    kind = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(kind)


def _fill_lazy(model: nn.Module, example: Inputs) -> None:
    if any(is_lazy(parameter) for parameter in model.parameters()):
        mode = model.training
        with torch.no_grad():
            called(model.eval(), example)
        model.train(mode)


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _given(function: Callable[..., Any], shape: tuple[int, ...], classes: int | Callable[[], int]) -> dict[str, Any]:
    """`shape` and `classes` (or torchvision's `num_classes`) for a builder that names them or takes any keyword."""
    signature = _signature(function)
    if signature is None:
        return {}
    named = {name for name, entry in signature.parameters.items() if entry.kind is not inspect.Parameter.POSITIONAL_ONLY}
    asked = [name for name in ("classes", "num_classes") if name in named][:1]
    taken: dict[str, Any] = {"shape": shape} if "shape" in named else {}
    return taken | {name: classes() if callable(classes) else classes for name in asked}


@dataclass(frozen=True)
class Wanted:
    """What a model is given and must give, in the words of its data set and task."""

    dataset: str
    shape: tuple[int, ...]
    why: str
    outputs: str = "logits (N, classes)"
    inputs: str = "images"


def check_output(model: nn.Module, ref: Ref, inputs: Tensor, wanted: Wanted) -> None:
    """Runs one batch through the model, without gradients, in evaluation mode.

    Raises: ConfigError with what came out when it is not what is wanted, or with the model's own error.
    """
    mode = model.training
    refused = f"The model '{ref.shown}' does not take the {wanted.inputs} of {wanted.dataset}, which have shape {tuple(inputs.shape[1:])}"
    try:
        with torch.no_grad(), UserCode(refused):
            outputs = model.eval()(inputs)
    finally:
        model.train(mode)
    if not isinstance(outputs, Tensor):
        raise ConfigError(f"The model '{ref.shown}' gives {a_or_an(type(outputs).__name__)}. It must give one tensor of {wanted.outputs}.")
    given = tuple(outputs.shape)
    if given != wanted.shape:
        raise ConfigError(
            f"The model '{ref.shown}' gives shape {given} for a batch of {len(inputs)}, but {wanted.dataset} has {wanted.why}. "
            f"Its output must have shape {wanted.shape}."
        )
