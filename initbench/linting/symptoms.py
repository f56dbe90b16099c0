"""What goes wrong in a pass through a model as it starts: units that are dead or saturated, a signal that is lost, and their like."""

from __future__ import annotations

import math
from collections.abc import Collection
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from initbench.linting.finding import CannotTell
from initbench.linting.units import equal_rows
from initbench.nn.inputs import first_tensor
from initbench.nn.layers import EMBEDDINGS, Role
from initbench.nn.naming import modules_of
from initbench.probing.verdicts import ALIKE, MOSTLY
from initbench.results.propagation import INSIDE

if TYPE_CHECKING:
    from initbench.linting.start import Start
    from initbench.linting.subject import Subject
    from initbench.probing.health import LayerHealth
    from initbench.results.probe_run import ProbedLayer

MANY_DEAD = 0.75
"""The share of a layer's units from which on they are most of it."""
FEWEST_INPUTS, FEWEST_UNITS = 8, 8
SMOOTH = {"tanh", "sigmoid", "erf", "softsign", "hardtanh", "hardsigmoid"}
"""Those that are at their ends for no input that is of size one; ReLU6 and its like are zero for half of them."""
APART = 0.9
"""A correlation below which inputs are different to begin with."""
ROUNDING = 1e-6
"""A gradient is rounding below this share of the largest of its module."""
FAR_LOSS = 2.5
"""So many times the loss of guessing is far from it."""
NO_SIGNAL = "every number of the input is zero, so that no signal enters: give a batch as the model is trained on"


class Kind(StrEnum):
    """What goes wrong; silent parameters get no gradient, shut ones none either once every zero that gets one has moved."""

    DEAD = "dead"
    SATURATED = "saturated"
    LOST = "lost"
    ALIKE = "alike"
    LOSS = "loss"
    SILENT = "silent"
    SHUT = "shut"


class Symptom(NamedTuple):
    """What goes wrong, and with which parameter; empty where it is about the model."""

    kind: Kind
    about: str = ""


def symptoms(subject: Subject, kinds: Collection[Kind] = tuple(Kind)) -> frozenset[Symptom]:
    """All that goes wrong in a model, of some kinds; what others need is not measured."""
    found: set[Symptom] = set()
    if Kind.DEAD in kinds:
        found |= {Symptom(Kind.DEAD, name) for name in dead(subject)}
    if Kind.SATURATED in kinds:
        found |= {Symptom(Kind.SATURATED, name) for name in saturated(subject)}
    if Kind.LOST in kinds and subject.health.lost:
        found.add(Symptom(Kind.LOST))
    if Kind.ALIKE in kinds and first_alike(subject):
        found.add(Symptom(Kind.ALIKE))
    if Kind.LOSS in kinds and subject.start is not None and is_far(subject.start):
        found.add(Symptom(Kind.LOSS))
    if Kind.SILENT in kinds:
        found |= {Symptom(Kind.SILENT, name) for name in silent(subject)}
    if Kind.SHUT in kinds and silent(subject):
        found |= {Symptom(Kind.SHUT, name) for name, norm in subject.settled[1].items() if norm == 0}
    return frozenset(found)


def dead(subject: Subject) -> dict[str, float]:
    """Hidden weights that are not zero with the share of their units that are zero on the whole batch, where these are most."""
    if subject.given is None or len(subject.given.inputs) < FEWEST_INPUTS:
        return {}
    shares: dict[str, float] = {}
    for name, layer in _in_the_loss(subject).items():
        share, own = layer.dead_fraction or 0.0, subject.layer_of[name]
        if layer.overflowed:  # what is not finite is no zero
            continue
        if share > MANY_DEAD and own.fan_out >= FEWEST_UNITS and own.role is not Role.HEAD and own.weight.any():
            shares[name] = share
    return shares


def saturated(subject: Subject) -> dict[str, float]:
    """Weights with the share of the activations behind that are at an end of a bounded function, where these are most."""
    shares: dict[str, float] = {}
    for name, measured in _in_the_loss(subject).items():
        share, activation = measured.saturated_fraction or 0.0, (subject.layer_of[name].activation or "").partition(":")[0]
        if share > MOSTLY and activation in SMOOTH:
            shares[name] = share
    return shares


def _in_the_loss(subject: Subject) -> dict[str, ProbedLayer]:
    """What was measured of each weight but those that have no gradient of the loss at all, which are rule IB310's."""
    return {name: measured for name, measured in subject.measured.items() if name not in subject.outside}


def on_the_way(subject: Subject) -> list[LayerHealth]:
    """The hidden layers that the signal passes once, outside of branches, with the correlation of inputs there."""
    once = {subject.layer_of[name].name for name in _in_the_loss(subject) if subject.layer_of[name].surroundings.uses == 1}
    return [layer for layer in subject.health.hidden if layer.place not in INSIDE and layer.correlation is not None and layer.layer in once]


def first_alike(subject: Subject) -> LayerHealth | None:
    """The first layer from which on inputs that differ are one; None where there is none, or they are alike to begin with.

    Ids are where the first layer says so, but for an embedding that makes one of them.
    """
    if subject.given is None or len(subject.given.inputs) < FEWEST_INPUTS:
        return None
    layers, begin = on_the_way(subject), subject.input_correlation
    flat = begin is None and any(map(equal_rows, embeddings(subject)))
    if len(layers) < (1 if flat else 2) or (not flat and ((layers[0].correlation or 0.0) if begin is None else begin) > APART):
        return None
    return next((layer for layer in layers if (layer.correlation or 0.0) > ALIKE), None)


def embeddings(subject: Subject) -> list[nn.Embedding | nn.EmbeddingBag]:
    """Each once, in the order of the model."""
    return list(dict.fromkeys(module for _, module in modules_of(subject.model) if isinstance(module, EMBEDDINGS)))


def is_far(start: Start) -> bool:
    """Whether a first loss is far from that of guessing."""
    return not math.isfinite(start.loss) or (start.loss > FAR_LOSS * start.chance and start.loss - start.chance > 1)


def silent(subject: Subject) -> tuple[str, ...]:
    """The parameters whose gradient is exactly zero; none where the loss has no gradient."""
    try:
        return tuple(name for name, norm in subject.gradients.items() if norm == 0)
    except CannotTell:
        return ()


def within_rounding(subject: Subject, kinds: Collection[Kind]) -> frozenset[Symptom]:
    """Gradients that are no more than rounding beside those of the same module, as of what a softmax takes out again: as good as none."""
    found: set[Symptom] = set()
    for kind in {Kind.SILENT, Kind.SHUT} & set(kinds):
        try:
            gradients = subject.gradients if kind is Kind.SILENT else subject.settled[1]
        except CannotTell:
            return frozenset()
        largest: dict[str, float] = {}
        for name, norm in gradients.items():
            module = name.rpartition(".")[0]
            largest[module] = max(largest.get(module, 0.0), norm or 0.0)
        found |= {Symptom(kind, name) for name, norm in gradients.items() if norm and norm < ROUNDING * largest[name.rpartition(".")[0]]}
    return frozenset(found)


def is_without_signal(subject: Subject) -> bool:
    """Whether the input is all zeros."""
    values = None if subject.given is None else first_tensor(subject.given.inputs)
    return values is not None and values.is_floating_point() and not values.any()
