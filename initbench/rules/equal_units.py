"""The rule `equal_units`."""

from collections.abc import Iterator

import torch
from torch import Tensor

from initbench.linting.builds import is_constant, looks_random
from initbench.linting.finding import CannotTell, Finding, Link, Severity, alike
from initbench.linting.samples import spread
from initbench.linting.subject import Subject
from initbench.linting.symptoms import embeddings
from initbench.linting.units import all_one, arranged, count_of, equal_rows, labels_of, repeated
from initbench.nn.inputs import first_tensor
from initbench.nn.layers import Role, WeightLayer
from initbench.nn.parametrized import weight_of

FAMILY = "state"
CODE = "IB104"
CLOSE = 1e-4
"""Gradients of two units that differ by less, beside the largest of the layer, are equal but for rounding."""
SPARSE = 0.5
"""Where more of a weight is zero, it is so on purpose: sparse initialization, kernels that are the identity."""


def check(subject: Subject) -> Iterator[Finding]:
    """Units that start with equal weights and get equal gradients stay one unit; a hidden layer of zeros shuts the signal off for good.

    Measured: how many rows of a weight (what one unit sums with) differ within a group and a gate, and, with an input, whether equal
    ones get equal gradients; weights of zeros without a gradient, also when every other zero that gets one has moved.
    So, too, the rows of an embedding that are all equal, of ids that then begin as one.
    Expected: rows that differ. Zero as a whole is fine where it learns: heads, ends of branches, one factor of a product. Equal rows are
    fine where each goes to a place of its own: heads, and kernels in front of a pixel shuffle.
    Remedy:
        nn.init.kaiming_normal_(layer.weight)

    Source: Goodfellow, Bengio & Courville 2016, Deep Learning, section 8.4: initial parameters need to break the symmetry between
    different units.
    """
    yield from _shut_off(subject)
    suspects = {layer.parameter: rows for layer in subject.layers if (rows := _rows(layer)) is not None}
    labels = {name: labels_of(rows) for name, rows in suspects.items()}
    equal = {name: own for name, own in labels.items() if count_of(own) < len(own) and not repeated(own, suspects[name].shape[1])}
    gradients: dict[str, Tensor | None] = dict.fromkeys(equal)
    if equal and subject.given is not None:
        norms = subject.backward(gradients)
        equal = {name: own for name, own in equal.items() if norms[name] is not None}  # the others are not part of the loss: IB310
    found: dict[tuple[bool, bool | None], list[str]] = {}
    for name, own in equal.items():
        parted = _parted(subject, subject.layer_of[name], own, gradients[name])
        found.setdefault((all_one(own, suspects[name].shape[1]), parted), []).append(name)
    for (whole, parted), names in found.items():
        for same in alike(names):
            yield _finding(same, count_of(labels[same[0]]), len(labels[same[0]]), whole=whole, parted=parted)
    yield from _zero_rows(suspects)
    yield from _equal_embeddings(subject)


def _finding(names: tuple[str, ...], different: int, count: int, *, whole: bool, parted: bool | None) -> Finding:
    stay = parted is False
    effect = {
        True: f"{count} units begin as {different}; their first gradients differ, so that they part from there",
        False: f"{count} units get the gradients of {different}, and stay {different}",
        None: f"{count} units begin as {different}, and stay so where what follows treats them alike",
    }[parted]
    return Finding(
        severity=Severity.ERROR if stay or (whole and parted is None) else Severity.WARNING,
        parameters=names,
        message="units that start equal" + (" and stay equal" if stay else ""),
        measured=f"{different} different rows of weights in {count}" + (", and equal rows get equal gradients" if stay else ""),
        effect=effect,
        link=Link.CAUSE,
    )


def _equal_embeddings(subject: Subject) -> Iterator[Finding]:
    """Embeddings whose rows, that of padding aside, are one; rows of ones and zeros may be gains and shifts of classes."""
    found: dict[tuple[int, bool], list[str]] = {}
    by_id = subject.given is not None and not first_tensor(subject.given.inputs).is_floating_point()
    for module in embeddings(subject):
        names = subject.parameters.names.get(id(module.weight), [])
        count = equal_rows(module)
        if names and count and module.weight.requires_grad:
            gains = bool(((module.weight == 0) | (module.weight == 1)).all()) and not by_id
            found.setdefault((count, gains), []).append(names[0])
    for (count, gains), names in found.items():
        for same in alike(names):
            yield Finding(
                severity=Severity.INFO if gains else Severity.WARNING,
                parameters=same,
                message="an embedding whose rows are all equal",
                measured=f"1 different row in {count}: {spread(subject.parameters.first[same[0]].detach())}",
                effect="all ids begin as one: what they index is told apart only once their first gradients have parted the rows",
                link=Link.CAUSE,
            )


def _rows(layer: WeightLayer) -> Tensor | None:
    """The weights of each unit, (groups and gates, units, inputs), where units may be equal by mistake; None where there are none."""
    weight = weight_of(layer)
    if weight.dim() < 2 or layer.role is Role.HEAD or not weight.any() or not layer.weight.requires_grad:
        return None
    return arranged(layer, weight)


def _parted(subject: Subject, layer: WeightLayer, labels: Tensor, gradient: Tensor | None) -> bool | None:
    """Whether the first gradients of equal units differ; None where that is not known."""
    if gradient is None:
        bias = subject.parameters.by_name.get(layer.bias or "")
        return True if bias is not None and bias.numel() == len(labels) and not is_constant(bias.detach()) else None
    rows = arranged(layer, gradient)
    if rows is None:
        return None
    flat = rows.flatten(0, 1)
    first = torch.full((int(labels.max()) + 1,), len(labels), device=labels.device).scatter_reduce(
        0, labels, torch.arange(len(labels), device=labels.device), "amin"
    )
    return bool((flat - flat[first[labels]]).abs().max() > CLOSE * flat.abs().max())


def _zero_rows(suspects: dict[str, Tensor]) -> Iterator[Finding]:
    """Units without any incoming weight, in a weight that is not sparse."""
    dead = {name: int((rows == 0).all(2).sum()) for name, rows in suspects.items() if _meant_dense(rows)}
    for names in alike(name for name, count in dead.items() if count):
        count = suspects[names[0]].shape[0] * suspects[names[0]].shape[1]
        yield Finding(
            severity=Severity.WARNING,
            parameters=names,
            message="units without any incoming weight",
            measured=f"all weights of {dead[names[0]]} of {count} units are zero",
            effect=f"{100 * dead[names[0]] / count:.2g} % of the units say the same for every input",
        )


def _meant_dense(rows: Tensor) -> bool:
    """Whether most weights are there, and drawn."""
    return (rows == 0).double().mean().item() < SPARSE and looks_random(rows[(rows != 0).any(2)])


def _shut_off(subject: Subject) -> Iterator[Finding]:
    """Hidden layers of zeros that are no factor of a zero product (rule IB105), and never get a gradient."""
    try:
        stuck = subject.stuck
    except CannotTell:
        return
    names = tuple(name for name in stuck.names if name not in stuck.products)
    if not names:
        return
    silent = sum(norm == 0 for norm in subject.gradients.values())
    yield Finding(
        severity=Severity.ERROR,
        parameters=names,
        message="a layer of zeros shuts the signal off for good",
        measured="all numbers are zero, and so is their gradient, also once every zero that gets one has moved",
        effect=f"{silent} of {len(subject.gradients)} parameters that are trained get no gradient",
        link=Link.CAUSE,
    )
