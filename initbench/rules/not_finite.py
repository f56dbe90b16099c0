"""The rule `not_finite`."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from initbench.linting.builds import tensors_of
from initbench.linting.finding import Finding, Link, Severity, alike
from initbench.linting.subject import Subject
from initbench.nn.numbers import in_parts

FAMILY = "state"
CODE = "IB102"
ABSURD = 1e4
"""A weight whose root mean square is above it was not meant."""
EFFECTS = {
    "not finite": "what is computed with it is not finite",
    "absurdly large": "what it is multiplied with grows by as much",
    "denormal": "products with it are zero, and slow on many processors",
    "absurdly small": "what it is multiplied with is as good as zero",
}
VANISHING = 1e-20
"""Nor is one that is not zero and has none above it."""


def check(subject: Subject) -> Iterator[Finding]:
    """Numbers that no initialization means: NaN, infinite, so large that one product overflows, or so small that they are denormal.

    Measured: every parameter and floating-point buffer: how many numbers are not finite, the root mean square, the largest size.
    Expected: finite numbers; parameters with a root mean square below 10,000, and not all below 1e-20 or the smallest normal number of
    their type.
    Remedy:
        nn.init.kaiming_normal_(layer.weight)

    Source: IEEE 754 on denormal numbers; what torch.empty leaves is among them.
    """
    parameters = set(subject.parameters.first)
    found: dict[str, list[str]] = {}
    numbers: dict[str, str] = {}
    for name, tensor in tensors_of(subject.model).items():
        told = _wrong(tensor, is_parameter=name in parameters)
        if told is not None:
            found.setdefault(told[0], []).append(name)
            numbers[name] = told[1]
    for message, names in found.items():
        for same in alike(names):
            severity = Severity.WARNING if message in {"denormal", "absurdly small"} else Severity.ERROR
            fix = "" if same[0] in parameters else f"# mend what computes the numbers of the buffer model.{same[0]}"
            effect = EFFECTS[message]
            measured = numbers[same[0]]
            yield Finding(severity=severity, parameters=same, message=message, measured=measured, effect=effect, fix=fix, link=Link.CAUSE)


def _wrong(tensor: Tensor, *, is_parameter: bool) -> tuple[str, str] | None:
    """What is wrong with the numbers, and the numbers that show it."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or not tensor.numel():
        return None
    bad, squares, largest, only_infinite = 0, 0.0, 0.0, True
    for part in in_parts(tensor):
        sizes = part.abs()
        bad += int((~sizes.isfinite()).sum())
        only_infinite = only_infinite and bool((sizes.isposinf() | (sizes == 0)).all())
        squares, largest = squares + sizes.square().sum().item(), max(largest, sizes.max().item())
    if bad:
        mask = not is_parameter and only_infinite
        return None if mask else ("not finite", f"{bad} of {tensor.numel()} numbers are NaN or infinite")
    if not is_parameter:
        return None
    size = math.sqrt(squares / tensor.numel())
    if size > ABSURD:
        return "absurdly large", f"root mean square {size:.3g}, largest {largest:.3g}"
    if 0 < largest < torch.finfo(tensor.dtype).tiny:
        return "denormal", f"largest {largest:.3g}, where {tensor.dtype} is normal from {torch.finfo(tensor.dtype).tiny:.3g} on"
    return ("absurdly small", f"largest {largest:.3g}") if 0 < largest < VANISHING else None
