"""Which parameters spoil the signal: what becomes of it when the start of one that looks spoiled is taken back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from initbench.linting.finding import CannotTell, alike
from initbench.linting.samples import spread
from initbench.linting.symptoms import Kind, Symptom, symptoms, within_rounding
from initbench.linting.units import equal_rows
from initbench.linting.zero import is_vector, is_zero_factor
from initbench.nn.layers import EMBEDDINGS, NORMS, Role
from initbench.nn.parametrized import computed
from initbench.nn.seeds import generator

if TYPE_CHECKING:
    from initbench.linting.subject import Subject

BIG, HUGE = 1.0, 10.0
"""Root mean squares from which on a bias, and another vector, is looked at."""
SMALL = 0.02
"""The root mean square that it is brought down to, and the standard deviation of embeddings and raw parameters."""
FAR = 2.0
"""A norm's weight is looked at where its root mean square is off by this factor."""
ONE_BY_ONE = 16
"""Suspects of one kind that are looked at one by one; more are looked at together, and so are zeros behind which gradients only wait."""


@dataclass(frozen=True)
class Causes:
    """The parameters behind each symptom, in the order of the model; `told` are their numbers in words.

    A parameter is behind a symptom that is there when all other suspects are taken back, and gone when it is, too. Where it takes two
    to make it, those are behind it that it goes with when one alone is taken back.
    """

    behind: Mapping[Symptom, tuple[str, ...]]
    told: Mapping[str, str]
    trunk: frozenset[str] = frozenset()
    """Parameters outside of residual branches, but for norms and the head."""

    def of(self, kind: Kind, about: Iterable[str] = ("",)) -> tuple[str, ...]:
        """The parameters behind symptoms of a kind, of some weights."""
        named = {name for each in about for name in self.behind.get(Symptom(kind, each), ())}
        return tuple(name for name in self.told if name in named)

    def parted(self, kind: Kind, about: Iterable[str]) -> dict[tuple[str, ...], list[str]]:
        """Causes that differ in numbers alone, or have the same weights behind them, with these; those of () have no cause."""
        about = list(about)
        by_weights: dict[tuple[str, ...], tuple[str, ...]] = {}
        for names in alike(self.of(kind, about)):
            weights = tuple(each for each in about if {*names} & {*self.of(kind, [each])})
            by_weights[weights] = (*by_weights.get(weights, ()), *names)
        found = {names: list(weights) for weights, names in by_weights.items()}
        alone = [each for each in about if not self.of(kind, [each])]
        return found | ({(): alone} if alone else {})

    def without(self, names: tuple[str, ...], then: str) -> str:
        """Their numbers and what is so without them, as in `; enter.bias: all -50; without it they live`; empty where there are none."""
        more = f" and {len(names) - 2} more" if names[2:] else ""
        told = ", ".join(f"{name}: {self.told[name]}" for name in names[:2])
        return f"; {told}{more}; without {'them' if names[1:] else 'it'} {then}" if names else ""

    def shuts(self, name: str) -> bool:
        """Whether a parameter loses the signal, or takes the gradient of most of what is in no branch: one that shuts a branch does not."""
        quiet = sum(name in self.behind.get(Symptom(Kind.SILENT, other), ()) for other in self.trunk)
        return name in self.behind.get(Symptom(Kind.LOST), ()) or 2 * quiet > len(self.trunk)


def causes_of(subject: Subject) -> Causes:
    """What is behind the symptoms of a model; it is afterwards as it was."""
    suspects = {
        name: suspect for name, value in subject.parameters.first.items() if (suspect := _suspect(subject, name, value)) is not None
    }
    try:
        behind = _behind(subject, suspects) if suspects else {}
    except CannotTell:
        behind = {}
    told = {name: spread(subject.parameters.first[name].detach()) for name in suspects}
    in_order = {symptom: tuple(name for name in suspects if name in names) for symptom, names in behind.items()}
    return Causes(in_order, told, _trunk(subject))


def _trunk(subject: Subject) -> frozenset[str]:
    inside = {
        name for layer in subject.layers if layer.block is not None or layer.role is Role.HEAD for name in (layer.parameter, layer.bias)
    }
    owners = subject.parameters.owner
    return frozenset(
        name for name, value in subject.parameters.first.items() if name not in inside and not isinstance(owners[id(value)], NORMS)
    )


def _behind(subject: Subject, suspects: Mapping[str, Tensor]) -> dict[Symptom, set[str]]:
    there = symptoms(subject)
    curable = there - _left(subject, suspects, _kinds(there)) if there else frozenset()
    behind: dict[Symptom, set[str]] = {}
    for group in alike(suspects) if curable else ():
        mine = curable & _left(subject, _but(suspects, group), _kinds(curable)) if len(group) < len(suspects) else curable
        one_by_one = 1 < len(group) <= ONE_BY_ONE and any(symptom.kind is not Kind.SILENT for symptom in mine)
        for part in [(name,) for name in group] if one_by_one else [group]:
            for symptom in curable & _left(subject, _but(suspects, part), _kinds(mine)) if one_by_one else mine:
                behind.setdefault(symptom, set()).update(part)
    together = curable - set(behind)
    for group in alike(suspects) if together else ():
        for symptom in together - _left(subject, {name: suspects[name] for name in group}, _kinds(together)):
            behind.setdefault(symptom, set()).update(group)
    return behind


def _kinds(found: Iterable[Symptom]) -> set[Kind]:
    return {symptom.kind for symptom in found}


def _but(suspects: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    return {name: suspect for name, suspect in suspects.items() if name not in names}


def _left(subject: Subject, taken_back: Mapping[str, Tensor], kinds: Collection[Kind]) -> frozenset[Symptom]:
    """The symptoms that are there when some parameters are set to what they could have been."""
    with _taken_back(subject, taken_back):
        anew = subject.anew(pairs=Kind.ALIKE in kinds)
        return symptoms(anew, kinds) | within_rounding(anew, kinds)


@contextmanager
def _taken_back(subject: Subject, suspects: Mapping[str, Tensor]) -> Iterator[None]:
    parameters = {name: subject.parameters.first[name] for name in suspects}
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        for name, parameter in parameters.items():
            parameter.data.copy_(suspects[name])
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.data.copy_(before[name])
        for layer in subject.layers:
            through = computed(layer.module, layer.weight) if {layer.parameter, layer.length} & set(suspects) else None
            if through is not None and through.is_weight_norm:
                through.refresh()


def _suspect(subject: Subject, name: str, value: nn.Parameter) -> Tensor | None:
    """What a parameter could have been, where it looks spoiled."""
    if value.is_meta or not value.is_floating_point() or not value.numel() or not value.isfinite().all():
        return None
    values, owner, short = value.detach(), subject.parameters.owner[id(value)], name.rpartition(".")[2]
    zero, size = not values.any(), values.double().square().mean().sqrt().item()
    direction = next((layer.weight for layer in subject.layers if layer.length == name), None)
    if direction is not None:
        length = direction.detach().norm(dim=tuple(range(1, direction.dim())), keepdim=True)
        fits = zero and length.shape == values.shape
        return length if fits else None
    is_norm = isinstance(owner, NORMS) and short == "weight"
    if is_norm or (zero and is_vector(values)):
        spoiled = not 1 / FAR < size < FAR if is_norm and not zero else is_zero_factor(name, values)
        return torch.ones_like(values) if spoiled else None
    if is_vector(values) and name not in subject.layer_of:
        large = size >= (BIG if short.startswith("bias") else HUGE)
        return values * (SMALL / size) if large else None
    flat = isinstance(owner, EMBEDDINGS) and equal_rows(owner) > 0
    if zero or flat:
        layer = None if isinstance(owner, EMBEDDINGS) else subject.layer_of.get(name)
        std = SMALL if layer is None else (2 / layer.fan_in) ** 0.5
        noise = torch.randn(values.shape, generator=generator(0, f"lint {name}"), dtype=torch.float32, device="cpu") * std
        return noise.to(values)
    return None
