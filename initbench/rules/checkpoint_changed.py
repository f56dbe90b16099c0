"""The rule `checkpoint_changed`."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from initbench.linting.builds import is_constant
from initbench.linting.chance import deviations
from initbench.linting.finding import CannotTell, Finding, Severity, alike
from initbench.linting.samples import correlation, differ, spread
from initbench.linting.subject import Subject

FAMILY = "state"
CODE = "IB109"
NEEDS = ("checkpoint",)
PREFIXES = ("", "module.", "_orig_mod.", "model.")
"""What wrappers put before each name."""
FEWEST = 32
"""Of fewer numbers a correlation says little."""


class Change(NamedTuple):
    """What became of a tensor, how bad that is, and what shows it."""

    message: str
    severity: Severity
    measured: str


def check(subject: Subject) -> Iterator[Finding]:
    """The model does not hold what its checkpoint does: weights were drawn anew after it was loaded, or it never reached them.

    Measured: every tensor of the checkpoint beside the parameter or buffer of its name: equal or not, how far both go together
    (correlation), and whether they are of one law.
    Expected: equal numbers, but for a change of precision; the same names on both sides, a tied parameter under one of its names.
    Remedy:
        model.apply(init_weights)            # first
        model.load_state_dict(checkpoint)    # then, and with strict=True

    Source: torch's `load_state_dict(strict=False)` says nothing where names do not match; what draws weights after loading undoes it.
    """
    own = {name: tensor.detach() for name, tensor in subject.model.state_dict(keep_vars=True).items() if isinstance(tensor, Tensor)}
    saved = _named(subject, own)
    shared = [name for name in own if name in saved]
    parameters = subject.parameters.by_name
    limit = deviations(len(shared))
    changes: dict[tuple[str, Severity], dict[str, str]] = {}
    for name in shared:
        change = _change(own[name], saved[name], limit, is_parameter=name in parameters)
        if change is not None:
            changes.setdefault((change.message, change.severity), {})[name] = change.measured
    for (message, severity), measured in changes.items():
        for names in alike(measured):
            learned = any(name in parameters for name in names)
            yield Finding(
                severity=severity,
                parameters=names,
                message=message,
                measured=f"{names[0]}: {measured[names[0]]}",
                effect=f"what was learned is lost in {len(names)} of {len(shared)} tensors"
                if learned
                else "a buffer is not what was saved",
                fix="model.load_state_dict(checkpoint)      # after everything that draws weights",
            )
    yield from _one_sided(subject, own, saved)


def _one_sided(subject: Subject, own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> Iterator[Finding]:
    """What is missing in the checkpoint, and what is there alone."""
    parameters = subject.parameters
    missing = [
        name for name, value in parameters.first.items() if name in own and not any(other in saved for other in parameters.names[id(value)])
    ]
    extra = [name for name in saved if name not in own]
    for names, message, effect, severity in (
        (missing, "not in the checkpoint", "it stays as it was initialized", Severity.WARNING),
        (extra, "in the checkpoint, and not in the model", "what was learned there is not used", Severity.INFO),
    ):
        for same in alike(names):
            yield Finding(
                severity=severity,
                parameters=same,
                message=message,
                measured=f"{len(names)} of {len(parameters.first) if names is missing else len(saved)} names have no partner",
                effect=effect,
                fix="model.load_state_dict(checkpoint, strict=True)      # says which names do not match",
            )


def _named(subject: Subject, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the checkpoint by the names of the model. Raises: CannotTell where none of them fits."""
    saved = {name: tensor for name, tensor in (subject.checkpoint or {}).items() if isinstance(tensor, Tensor)}
    ways = [{name.removeprefix(prefix): tensor for name, tensor in saved.items()} for prefix in PREFIXES]
    ways += [{prefix + name: tensor for name, tensor in saved.items()} for prefix in PREFIXES]
    best = max(ways, key=lambda way: len(own.keys() & way.keys()))
    if not own.keys() & best.keys():
        raise CannotTell("no name in the checkpoint is one of the model's")
    return best


def _change(here: Tensor, there: Tensor, limit: float, *, is_parameter: bool) -> Change | None:
    """How a tensor differs from what was saved; None where it does not."""
    if here.shape != there.shape:
        shapes = f"{tuple(there.shape)} in the checkpoint, {tuple(here.shape)} in the model"
        return Change("another shape than in the checkpoint", Severity.WARNING, shapes)
    left, right = here.cpu(), there.cpu()
    if _same(left, right):
        return None
    severity = Severity.ERROR if is_parameter else Severity.WARNING
    if left.is_complex() or right.is_complex() or left.numel() < FEWEST or not (left.is_floating_point() and right.is_floating_point()):
        return Change("not what the checkpoint holds", severity, "other numbers")
    together = correlation(left, right)
    numbers = f"{spread(right)} in the checkpoint and {spread(left)} in the model, correlation {together:.2f}"
    if abs(together) > limit / left.numel() ** 0.5 or is_constant(left) or is_constant(right):
        return Change("not what the checkpoint holds", severity, numbers)
    anew = not differ(left, right, limit)
    return Change(
        "drawn anew: " + ("the law of the checkpoint, other numbers" if anew else "unrelated to the checkpoint"), severity, numbers
    )


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, in the less precise of their types."""
    if one.dtype != other.dtype and one.is_floating_point() and other.is_floating_point():
        coarse = max((one.dtype, other.dtype), key=lambda kind: torch.finfo(kind).eps)
        one, other = one.to(coarse), other.to(coarse)
    return bool(((one == other) | (one != one) & (other != other)).all())
