"""The rule `reset_differs`."""

import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from initbench.errors import InitbenchError, reason_of
from initbench.linting.builds import generators, is_constant, tensors_of, unset_marked, unset_share
from initbench.linting.chance import deviations
from initbench.linting.finding import CannotTell, Finding, Severity
from initbench.linting.samples import differ, spread
from initbench.linting.subject import Subject
from initbench.nn.naming import modules_of

FAMILY = "state"
CODE = "IB106"
NEEDS = ("factory",)
FEWEST = 64
"""Of fewer numbers a std says little."""
OF_THE_WHOLE = ("reset_parameters", "_init_weights", "init_weights", "initialize_weights")
"""What models call the method that draws all of their weights again; one that takes a module is applied to each."""


def check(subject: Subject) -> Iterator[Finding]:
    """Built on the meta device and reset, as large models are, it has another law than when it is built at once, or parts are never set.

    Measured: the model is built on the meta device, given memory that torch fills with NaN, and reset: by the `reset_parameters` of
    every module, then by the model's own methods for the whole. What is still NaN, and what has another std or another distribution.
    Looked at are the modules that have such a method of their own, with all that they hold; nobody else says that a reset is enough.
    Expected: nothing is left, and the laws are those of construction.
    Remedy:
        def reset_parameters(self):      # of every module that draws numbers in __init__
            nn.init.trunc_normal_(self.cls_token, std=0.02)

    Source: the PyTorch documentation of torch.nn.utils.skip_init and of FSDP's `param_init_fn`: modules must have a
    reset_parameters that sets all they own.
    """
    offering = _offering(subject.model)
    if not offering:
        return
    again, by, whole = _reset(subject)
    here, there = tensors_of(subject.model), tensors_of(again)
    how = "reset by " + (", then ".join(["the reset_parameters of its modules", *by]))
    unset = subject.builds.unset
    left = tuple(name for name, tensor in there.items() if name.startswith(offering) and unset_share(tensor) and name not in unset)
    if left:
        yield Finding(
            severity=Severity.WARNING if whole and subject.parameters.first.keys() & left else Severity.INFO,
            parameters=left,
            message="not set again after to_empty",
            measured=f"built on the meta device and {how}, it is still unset",
            effect="a model that is built on the meta device starts with whatever was in memory there",
            fix=f"# set model.{left[0]} in a method reset_parameters of its module, too",
        )
    limit = deviations(len(subject.parameters.first))
    other = tuple(
        name
        for name in subject.parameters.first
        if name.startswith(offering)
        and name in there
        and name in here
        and name not in {*left, *unset}
        and _is_other(here[name], there[name], limit, varies=subject.builds.digests.get(name) != subject.builds.other.get(name))
    )
    if other:
        yield Finding(
            severity=Severity.INFO,
            parameters=other,
            message="another law after to_empty and reset than after construction",
            measured=f"{other[0]}: {spread(here[other[0]])} when built, {spread(there[other[0]])} when {how}",
            effect="a model that is built on the meta device starts differently",
            fix=f"# draw model.{other[0]} in reset_parameters of its module as __init__ does",
        )


def _offering(model: nn.Module) -> tuple[str, ...]:
    """How the names begin of all that is in modules with a method of their own, not torch's, that draws weights again."""
    return tuple(
        f"{name}." if name else ""
        for name, module in modules_of(model)
        if any(not getattr(method, "__module__", "torch.").startswith("torch.") for method in _methods(module))
    )


def _methods(module: nn.Module) -> list[Any]:
    return [getattr(type(module), name) for name in OF_THE_WHOLE if callable(getattr(type(module), name, None))]


def _reset(subject: Subject) -> tuple[nn.Module, list[str], bool]:
    """The model from the meta device, reset, its own methods that did it, and whether one of them is for the whole.

    Raises: CannotTell where it cannot be built so.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is loaded or computed in the constructor does nothing there
            model = subject.build(0, "meta")
        with unset_marked(), generators(0), torch.no_grad():
            model = model.to_empty(device="cpu")
            for module in reversed(list(model.modules())[1:]):
                _call(module, "reset_parameters")
            is_torchs = type(model).__module__.startswith("torch.")
            called = {name: _call(model, name) for name in (OF_THE_WHOLE[:1] if is_torchs else OF_THE_WHOLE)}
    except (InitbenchError, RuntimeError, TypeError, ValueError, AttributeError, KeyError, NotImplementedError) as error:
        reason = str(error).rstrip(".") if isinstance(error, InitbenchError) else reason_of(error)
        raise CannotTell(f"it cannot be built on the meta device and reset: {reason}") from error
    own = [] if is_torchs else [name for name, how in called.items() if how]
    return model, own, any(called[name] == "whole" and not name.startswith("_") for name in own)


def _call(module: nn.Module, name: str) -> str:
    """Calls a method without arguments (`whole`), or applies one that takes a module (`each`); empty where there is none."""
    method = getattr(module, name, None)
    if not callable(method):
        return ""
    wanted = [value for value in inspect.signature(method).parameters.values() if value.default is value.empty and value.kind < 2]
    if len(wanted) > 1:
        return ""
    if wanted:
        module.apply(method)
    else:
        method()
    return "each" if wanted else "whole"


def _is_other(built: Tensor, reset: Tensor, limit: float, *, varies: bool) -> bool:
    if built.shape != reset.shape or not built.is_floating_point():
        return False
    if is_constant(built) or is_constant(reset):
        return not torch.equal(built, reset) and not (varies and built.numel() == 1)
    return built.numel() >= FEWEST and differ(built, reset, limit)
