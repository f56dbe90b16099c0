"""The rule `equal_units`."""

from collections.abc import Iterator

import torch
from torch import Tensor

from initbench.linting.finding import Finding, Severity, alike
from initbench.linting.subject import Subject
from initbench.nn.layers import Role, WeightLayer
from initbench.nn.parametrized import weight_of

FAMILY = "state"
CODE = "IB104"
MOST_ROWS = 4096
"""Rows that are compared."""


def check(subject: Subject) -> Iterator[Finding]:
    """Units of a layer that start with the same incoming weights: they compute the same and get the same gradient, so they stay one.

    Measured: the rows of every weight (what one unit sums with) and its columns; how many are different, and how many are zero.
    Expected: rows that differ. A weight that is zero as a whole is left to rule IB105 and to the gradients (IB310): heads and branch
    ends start so on purpose.
    Remedy:
        nn.init.kaiming_normal_(layer.weight)

    Source: Goodfellow, Bengio & Courville 2016, Deep Learning, section 8.4: initial parameters need to break the symmetry between
    different units.
    """
    found: dict[str, list[str]] = {}
    for layer in subject.layers:
        message = _message(layer)
        if message is not None:
            found.setdefault(message, []).append(layer.parameter)
    for message, names in found.items():
        for same in alike(names):
            yield Finding(
                severity=Severity.ERROR,
                parameters=same,
                message="units that start equal and stay equal",
                measured=message,
                effect="they compute the same and, where what follows treats them alike, get the same gradient",
                fix=f"nn.init.kaiming_normal_(model.{same[0]})",
            )


def _message(layer: WeightLayer) -> str | None:
    """What shows that units are equal; None where they are not, or where it is meant."""
    weight = weight_of(layer)
    if weight.dim() < 2 or min(weight.shape[:2]) < 2 or layer.role is Role.HEAD or layer.axes:
        return None
    rows = (weight.transpose(0, 1) if layer.transposed else weight).flatten(1)[:MOST_ROWS]
    if rows.shape[1] < 2 or not rows.any():
        return None
    zero = int((rows == 0).all(1).sum())
    alive = rows[(rows != 0).any(1)]
    different = _different(alive)
    if different < len(alive):
        return f"{len(alive)} units with {different} different rows of weights"
    dead = zero / len(rows)
    return (
        f"{zero} of {len(rows)} units have no incoming weight but zero"
        if zero and dead < 1 and layer.groups == 1 and not _sparse(rows)
        else None
    )


def _different(rows: Tensor) -> int:
    """How many rows differ, by two random projections of them."""
    values = torch.view_as_real(rows).flatten(1) if rows.is_complex() else rows
    generator = torch.Generator(device="cpu").manual_seed(0)
    directions = torch.randn(values.shape[1], 2, generator=generator, dtype=torch.float64, device="cpu").to(values.device)
    return len(torch.unique(values.double() @ directions, dim=0))


def _sparse(rows: Tensor) -> bool:
    """Whether most weights are zero on purpose, as in sparse initialization and in kernels that are the identity."""
    return (rows == 0).double().mean().item() > 0.5
