"""The rule `checkpoint_changed`."""

from collections.abc import Iterator

import torch
from torch import Tensor

from initbench.linting.finding import CannotTell, Finding, Severity, alike
from initbench.linting.subject import Subject

FAMILY = "state"
CODE = "IB109"
NEEDS = ("checkpoint",)
PREFIXES = ("", "module.", "_orig_mod.", "model.")
"""What wrappers put before each name."""


def check(subject: Subject) -> Iterator[Finding]:
    """The model does not hold what its checkpoint does: weights were drawn anew after it was loaded, or it never reached them.

    Measured: every tensor of the checkpoint beside the parameter or buffer of its name.
    Expected: equal numbers, but for a change of precision; every parameter of the model in the checkpoint.
    Remedy:
        model.apply(init_weights)            # first
        model.load_state_dict(checkpoint)    # then, and with strict=True

    Source: the order of `post_init` and loading has undone checkpoints in several libraries; torch's `load_state_dict(strict=False)`
    says nothing where names do not match.
    """
    saved = _named(subject)
    own = {name: tensor.detach() for name, tensor in subject.model.state_dict(keep_vars=True).items() if isinstance(tensor, Tensor)}
    parameters = set(subject.parameters.by_name)
    changed = [name for name, tensor in own.items() if name in saved and not _same(tensor, saved[name])]
    missing = [name for name in own if name in parameters and name not in saved]
    for names in alike(changed):
        first, there = own[names[0]], saved[names[0]]
        sizes = (
            f"std {_std(there):.4g} there and {_std(first):.4g} here"
            if there.shape == first.shape
            else f"shape {tuple(there.shape)} there and {tuple(first.shape)} here"
        )
        yield Finding(
            severity=Severity.ERROR,
            parameters=names,
            message="not what the checkpoint holds",
            measured=sizes,
            effect="what was learned is lost" if any(name in parameters for name in names) else "a buffer differs from the checkpoint's",
            fix="model.load_state_dict(checkpoint)      # after everything that draws weights",
        )
    for names in alike(missing):
        yield Finding(
            severity=Severity.WARNING,
            parameters=names,
            message="not in the checkpoint",
            measured=f"{len(saved)} tensors in the checkpoint, none of this name",
            effect="it stays as it was initialized",
            fix="model.load_state_dict(checkpoint, strict=True)      # says which names do not match",
        )


def _named(subject: Subject) -> dict[str, Tensor]:
    """The tensors of the checkpoint by the names of the model. Raises: CannotTell where none of them fits."""
    saved = {name: tensor for name, tensor in (subject.checkpoint or {}).items() if isinstance(tensor, Tensor)}
    own = set(subject.model.state_dict())
    for prefix in PREFIXES:
        for turned in (
            {name.removeprefix(prefix): tensor for name, tensor in saved.items()},
            {prefix + name: tensor for name, tensor in saved.items()},
        ):
            if own & turned.keys():
                return turned
    raise CannotTell("no name in the checkpoint is one of the model's")


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, in the less precise of their types."""
    if one.shape != other.shape:
        return False
    left, right = one.cpu(), other.cpu()
    if left.dtype != right.dtype and left.is_floating_point() and right.is_floating_point():
        coarse = min((left.dtype, right.dtype), key=lambda kind: -torch.finfo(kind).eps)
        left, right = left.to(coarse), right.to(coarse)
    return torch.equal(left, right) or bool(((left == right) | (left != left) & (right != right)).all())


def _std(tensor: Tensor) -> float:
    return tensor.double().std(correction=0).item() if not tensor.is_complex() and tensor.numel() else 0.0
