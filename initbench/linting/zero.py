"""Parameters that are zero as a whole: which of them never learn, and which are factors of one product."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from initbench.linting.finding import CannotTell, alike
from initbench.nn.seeds import generator

if TYPE_CHECKING:
    from initbench.linting.subject import Subject

MOVED = 0.02
"""The standard deviation of what takes a zero away from zero."""
ONE_BY_ONE = 16
"""Stuck weights that are moved one by one; of more, those of one kind together."""


@dataclass(frozen=True)
class Stuck:
    """Weights that stay zero; those in `products` feed one another, or would learn if another of them were not zero.

    `silent` are all parameters whose gradient is zero and stays so.
    """

    names: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


def is_vector(values: Tensor) -> bool:
    """Whether all numbers lie along one axis."""
    return max(values.shape, default=1) == values.numel()


def is_zero_factor(name: str, values: Tensor) -> bool:
    """Whether a parameter is a vector of zeros and no bias: something is multiplied with it."""
    return is_vector(values) and not values.any() and not name.rpartition(".")[2].startswith("bias")


def zero_parameters(subject: Subject) -> dict[str, nn.Parameter]:
    """The parameters that are zero as a whole, frozen ones too."""
    return {name: value for name, value in subject.parameters.first.items() if value.numel() and not value.detach().any()}


def stuck(subject: Subject) -> Stuck:
    """Trained zero weights without a gradient, also once every other zero parameter that gets a gradient has moved.

    So a branch behind a zero head is none of them: it learns as soon as the head has. The model is afterwards as it was.
    """
    moved, gradients = subject.settled
    zero = {name: value for name, value in zero_parameters(subject).items() if name in gradients}
    silent = tuple(name for name, norm in gradients.items() if norm == 0)
    names = tuple(name for name in silent if name in zero and zero[name].dim() > 1)
    products = _in_a_row(subject, names)
    for group in [(name,) for name in names] if len(names) <= ONE_BY_ONE else alike(names):
        after = _gradients_after(subject, moved | {name: zero[name] for name in group})
        others = {name for name in names if name not in group and after[name]}
        products |= {*others, *(group if others else ())}
    return Stuck(names, tuple(name for name in names if name in products), silent)


def settled(subject: Subject) -> tuple[dict[str, nn.Parameter], dict[str, float | None]]:
    """The zero parameters that get a gradient, or do when others of them have moved, and the gradients when all of these have."""
    gradients = subject.gradients
    zero = {name: value for name, value in zero_parameters(subject).items() if name in gradients}
    moved: dict[str, nn.Parameter] = {}
    while any(norm == 0 for norm in gradients.values()) and (
        freed := {name: value for name, value in zero.items() if name not in moved and gradients[name]}
    ):
        moved |= freed
        gradients = _gradients_after(subject, moved)
    return moved, gradients


def _in_a_row(subject: Subject, names: tuple[str, ...]) -> set[str]:
    """Those of some weights of which one feeds another in the pass."""
    layers = [subject.layer_of[name] for name in names if name in subject.layer_of]
    found: set[str] = set()
    for layer in layers:
        sources = {other.parameter for other in layers if other.name in layer.surroundings.sources}
        found |= {layer.parameter, *sources} if sources else sources
    return found


def _gradients_after(subject: Subject, zero: Mapping[str, nn.Parameter]) -> dict[str, float | None]:
    with _away_from_zero(zero):
        return subject.backward({})


@contextmanager
def _away_from_zero(zero: Mapping[str, nn.Parameter]) -> Iterator[None]:
    try:
        for name, value in zero.items():
            noise = torch.randn(value.shape, generator=generator(0, f"lint {name}"), dtype=torch.float32, device="cpu")
            value.data.copy_(noise * MOVED)
        yield
    finally:
        for value in zero.values():
            value.data.zero_()


def drawn_factors(subject: Subject, names: Iterable[str]) -> tuple[str, ...]:
    """As few of zero weights as let all of them learn once they are drawn: the first in the pass of each product.

    Where there are no gradients the one of each pair of low rank that takes the input.
    """
    given = set(names)
    named = tuple(name for name in subject.parameters.first if name in given)
    try:
        moved = dict(subject.settled[0])
    except CannotTell:
        firsts = {first for first, _ in pairs(subject)}
        return tuple(name for name in named if name in firsts)
    left = dict.fromkeys([*(layer.parameter for layer in subject.layers if layer.parameter in given), *named])
    drawn = dict[str, None]()
    while left:
        together = _of_one_place if len(left) > ONE_BY_ONE else str
        drawn |= {name: None for name in left if together(name) == together(next(iter(left)))}
        moved |= {name: subject.parameters.first[name] for name in drawn}
        gradients = _gradients_after(subject, moved)
        left = {name: None for name in left if name not in drawn and not gradients.get(name)}
    return tuple(name for name in named if name in drawn)


def _of_one_place(name: str) -> str:
    """The name without its first number, that of the block."""
    return re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", name, count=1)


def factors(subject: Subject) -> tuple[str, ...]:
    """Zero weights in pairs of low rank."""
    found = {name for pair in pairs(subject) for name in pair}
    return tuple(name for name in zero_parameters(subject) if name in found)


def pairs(subject: Subject) -> tuple[tuple[str, str], ...]:
    """Pairs of zero weights side by side in one module: the first makes as many outputs as the second takes, fewer than around."""
    zero = {name: value for name, value in zero_parameters(subject).items() if value.dim() > 1}
    return tuple(
        (name, second)
        for name, one in zero.items()
        for second, other in zero.items()
        if one is not other
        and (one.requires_grad or other.requires_grad)
        and _near(name, second)
        and _low_rank(_sizes(subject, name), _sizes(subject, second))
    )


def _near(one: str, other: str) -> bool:
    """Whether two names differ in one part alone: `q.lora_A.default` and `q.lora_B.default`."""
    left, right = one.split("."), other.split(".")
    return len(left) == len(right) and sum(a != b for a, b in zip(left, right, strict=True)) == 1


def _low_rank(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether the first makes what the second takes, and fewer than it takes itself, and the second makes."""
    return first[0] == second[1] and first[0] < min(first[1], second[0])


def _sizes(subject: Subject, name: str) -> tuple[int, int]:
    """Outputs and inputs."""
    layer = subject.layer_of.get(name)
    first, second = (layer.shape if layer is not None else subject.parameters.first[name].shape)[:2]
    return (second, first) if layer is not None and layer.transposed else (first, second)
