"""The rule `reset_differs`."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from initbench.errors import InitbenchError
from initbench.linting.builds import is_constant, tensors_of, unset_marked, unset_share
from initbench.linting.chance import deviations, error_of_std
from initbench.linting.finding import CannotTell, Finding, Severity
from initbench.linting.subject import Subject

FAMILY = "state"
CODE = "IB106"
NEEDS = ("factory",)
FEWEST = 64
"""Of fewer numbers a std says little."""
OF_THE_WHOLE = ("init_weights", "initialize_weights", "reset_parameters", "_init_weights")
"""What models call the method that draws all of their weights again."""


def check(subject: Subject) -> Iterator[Finding]:
    """Built on the meta device and reset, as large models are, it has another law than when it is built at once, or parts are never set.

    Measured: the model is built on the meta device, given memory that torch fills with NaN, and reset: by its own method for the
    whole where it has one, else by `reset_parameters` of every module. What is still NaN, and whose std is another.
    Expected: nothing is left, and the laws are those of construction.
    Remedy:
        def reset_parameters(self):      # of every module that draws numbers in __init__
            nn.init.trunc_normal_(self.cls_token, std=0.02)

    Source: the PyTorch documentation of torch.nn.utils.skip_init and of FSDP's `param_init_fn`: modules must have a
    reset_parameters that sets all they own.
    """
    again, whole = _reset(subject)
    here, there = tensors_of(subject.model), tensors_of(again)
    parameters = set(subject.parameters.first)
    left = [name for name, tensor in there.items() if name in parameters and unset_share(tensor) and name not in subject.builds.unset]
    by = f"reset by {whole}" if whole else "reset by the reset_parameters of its modules"
    if left:
        yield Finding(
            severity=Severity.INFO,
            parameters=tuple(left),
            message="not set again after to_empty",
            measured=f"built on the meta device and {by}, it is still unset",
            effect="a model that is built on the meta device starts with whatever was in memory there",
            fix=f"# set model.{left[0]} in a method reset_parameters of its module, too",
        )
    limit = deviations(len(parameters))
    other = [
        name
        for name in subject.parameters.first
        if name in there and name not in {*left, *subject.builds.unset} and _is_other(here.get(name), there[name], limit)
    ]
    if other:
        yield Finding(
            severity=Severity.INFO,
            parameters=tuple(other),
            message="another law after to_empty and reset than after construction",
            measured=f"{other[0]}: std {_std(here[other[0]]):.4g} when built, {_std(there[other[0]]):.4g} when {by}",
            effect="a model that is built on the meta device starts differently",
            fix=f"# draw model.{other[0]} in reset_parameters of its module as __init__ does",
        )


def _reset(subject: Subject) -> tuple[nn.Module, str]:
    """The model from the meta device, reset, and the method of the whole that did it. Raises: CannotTell where it cannot be built so."""
    build = subject.build
    try:
        with torch.device("meta"):
            model = build(0)
        with unset_marked():
            model = model.to_empty(device="cpu")
            whole = _reset_whole(model)
            if not whole:
                for module in model.modules():
                    reset = getattr(module, "reset_parameters", None)
                    if callable(reset):
                        reset()
    except (InitbenchError, RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        raise CannotTell(f"it cannot be built on the meta device and reset ({type(error).__name__})") from error
    return model, whole


def _reset_whole(model: nn.Module) -> str:
    """Calls the model's own method for all of its weights; gives its name, empty where there is none."""
    for name in OF_THE_WHOLE:
        method = getattr(model, name, None)
        if not callable(method) or hasattr(nn.Module, name):
            continue
        if name == "_init_weights":
            model.apply(method)
        else:
            method()
        return name
    return ""


def _is_other(built: Tensor | None, reset: Tensor, limit: float) -> bool:
    if built is None or built.shape != reset.shape or not built.is_floating_point() or built.numel() < FEWEST:
        return False
    if is_constant(built) or is_constant(reset):
        return not torch.equal(built, reset) and (
            is_constant(built) != is_constant(reset) or bool(built.flatten()[0] != reset.flatten()[0])
        )
    one, other = _std(built), _std(reset)
    return abs(one / other - 1) > limit * 2**0.5 * error_of_std(built.numel()) if other else True


def _std(tensor: Tensor) -> float:
    return tensor.double().std(correction=0).item() if tensor.numel() > 1 else 0.0
