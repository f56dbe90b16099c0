"""The zoo: for every model of it, what initbench reports is what is there, what it says is true, and it leaves the model alone."""

from __future__ import annotations

import re

import naive
import of_timm
import pytest
import torch
from entry import Entry
from law import expected_std, matrices, off_by
from looked_at import labels_of, look
from zoo import ENTRIES

import initbench
from initbench.probing.health import health
from initbench.probing.verdicts import Ending, judge
from initbench.results.record import Setter

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")]

CLOSE = 1e-3
BROKEN = 1e6
"""By so much the signal of a network that is known to be broken changes; tiny models of others that train may lose it by less."""
PARAMETER = re.compile(r"\.(parametrizations\..*|weight(_[gv]|_orig)?)$")
"""What a layer's name lacks of its parameter's."""


def each(prop: str, *, only=lambda entry: True):
    return pytest.mark.parametrize("entry", [entry.param(prop) for entry in ENTRIES if only(entry)])


@each("measured")
def test_what_is_measured_is_what_naive_hooks_measure(entry: Entry):
    seen = look(entry)
    reported = {layer.layer: layer for layer in seen.probe.runs[0].layers}
    both = seen.naive.layers.keys() & reported.keys()
    assert len(both) >= entry.least
    wrong = {}
    for name in both:
        differences = list(_differences(seen.naive.layers[name], reported[name], gradients=entry.logits))
        if differences:
            wrong[name] = differences
    assert not wrong


def _differences(true: naive.Seen, said, *, gradients: bool):
    if not _same(said.pre_activation_variance, true.pre_activation, true.square):
        yield f"pre-activation {said.pre_activation_variance} for {true.pre_activation}"
    possible = [true.direct] if true.direct is not None else [true.pre_activation, *true.candidates]
    if not any(_same(said.activation_variance, value, true.square) for value in possible):
        yield f"activation {said.activation_variance} for {possible}"
    if gradients and true.gradient is not None and not _same(said.gradient_variance, true.gradient, true.gradient_square):
        yield f"gradient {said.gradient_variance} for {true.gradient}"


def _same(said: float | None, true: float, square: float) -> bool:
    """Within a thousandth; a variance far below the mean square is as exact as float32 sums allow."""
    return said is not None and abs(said - true) <= CLOSE * true + 1e-6 * square + 1e-60


@each("covered")
def test_each_layer_that_hooks_see_is_reported_or_named(entry: Entry):
    seen = look(entry)
    reported = {layer.layer for layer in seen.probe.runs[0].layers}
    assert not [name for name in seen.naive.layers if name not in reported and f"'{name}'" not in seen.said]


@pytest.mark.parametrize("scheme", ["kaiming", "xavier"])
@each("law")
def test_weights_follow_the_law(entry: Entry, scheme: str):
    assert not _off(entry, scheme)


@each("law", only=lambda entry: not entry.quick)
def test_weights_are_orthogonal(entry: Entry):
    assert not _off(entry, "orthogonal")


def _off(entry: Entry, scheme: str) -> dict[str, str]:
    """What is wrong with each weight after a scheme."""
    model, inputs = entry.model(), entry.inputs()
    report = initbench.init_network(model, scheme, inputs=inputs)
    with torch.no_grad():
        naive.run(model.eval(), inputs)  # norms of the older kind compute their weights in a pass
    said = {item.parameter: item for item in report.parameters}
    wrong = {}
    for matrix in matrices(model):
        item = said.get(matrix.parameter)
        if item is not None and item.setter is Setter.EXCLUDED:
            assert "embedding" in matrix.parameter
            continue
        if not _is_met(matrix.layer, report.notes):
            continue
        problem = off_by(scheme, matrix)
        if item is not None and item.target_std is not None and item.law == "normal":
            right = expected_std(scheme, matrix)
            if not matrix.kind and abs(item.target_std / right - 1) > 1e-6:
                problem = f"says std {item.target_std:.4g} where {right:.4g} is right"
        if problem:
            wrong[matrix.parameter] = problem
    return wrong


def _is_met(layer: str, notes: tuple[str, ...]) -> bool:
    return not any(f"'{layer}" in note and "not met" in note for note in notes)


@each("lsuv", only=lambda entry: not entry.quick)
def test_lsuv_gives_every_output_unit_variance(entry: Entry):
    model, inputs, labels = entry.model(), entry.inputs(), labels_of(entry)
    zeros = torch.zeros(len(next(naive.tensors(inputs), [0])), dtype=torch.int64)
    report = initbench.init_network(model, "lsuv", inputs=inputs, batch=lambda size, index: (inputs, zeros if labels is None else labels))
    set_ = {PARAMETER.sub("", item.parameter) for item in report.parameters if item.setter is Setter.SCHEME}
    seen = naive.passed(model, inputs, labels)
    excused = " ".join(report.notes)
    wrong = {
        name: layer.pre_activation
        for name, layer in seen.layers.items()
        if name in set_ and abs(layer.pre_activation - 1) > 0.11 and f"'{name}'" not in excused
    }
    assert not wrong
    assert set_ & seen.layers.keys()


@each("untouched")
def test_the_model_computes_what_it_computed_before(entry: Entry):
    assert not look(entry).changed


@each("verdict", only=lambda entry: entry.healthy or entry.broken)
def test_the_verdict_on_a_known_network_is_right(entry: Entry):
    probe = look(entry).probe
    verdict = judge(health(entry.name, probe.runs), ())
    far = verdict.ending is Ending.CHANGES and verdict.pace is not None and verdict.total >= BROKEN
    lost = verdict.ending in {Ending.OVERFLOWS, Ending.VANISHES} or far
    assert lost is entry.broken, str(probe)


@each("words")
def test_every_sentence_is_true(entry: Entry):
    seen = look(entry)
    if seen.naive.finite:
        assert "overflow" not in seen.said
    met = seen.naive.layers
    wrong = [note for note in seen.notes if "not met" in note and any(f"'{name}'" in note for name in met)]
    for note in seen.notes:
        count = re.match(r"'(.+)' is used (\d+) times", note)
        if count and count[1] in met and met[count[1]].calls != int(count[2]):
            wrong.append(f"{note} In truth {met[count[1]].calls}.")
        if "learns at first" in note:
            wrong.append(note)
    assert not wrong


def test_the_table_holds_every_family_of_timm():
    timm = pytest.importorskip("timm")
    known = {family for family, *_ in of_timm.FAMILIES} | of_timm.LEFT_OUT.keys()
    there = set(timm.list_modules())
    assert known == there if timm.__version__ == of_timm.VERSION else known & there


def test_no_entry_is_there_twice():
    names = [entry.name for entry in ENTRIES]
    assert len(names) == len(set(names))
