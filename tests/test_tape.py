"""A pass that is measured again without being followed gives the very same numbers, and another pass is noticed."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initbench.fast.tape import Tape, is_plain
from initbench.measure import capture
from initbench.measure.probes import measure
from initbench.nn.build import build_model
from initbench.nn.layers import weight_layers
from initbench.question.config import parse_ref

SHIPPED = {
    "mlp:depth=3,width=12": (1, 4, 4),
    "mlp:depth=2,activation=selu": (1, 4, 4),
    "mlp:depth=2,activation=sin": (1, 4, 4),
    "cnn:channels=[4,6],norm=batch,dropout=0.2": (3, 8, 8),
    "resnet:depth=8,width=4": (3, 8, 8),
    "residual_mlp:depth=2,width=8": (1, 4, 4),
    "vit:depth=1,width=8,heads=2": (3, 8, 8),
}


@pytest.fixture
def follows(monkeypatch):
    """How often a pass was followed so far."""
    calls, run_traced = [], capture.run_traced
    monkeypatch.setattr(capture, "run_traced", lambda *given: calls.append(1) or run_traced(*given))
    return lambda: len(calls)


def change(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.25)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_are_followed_once_and_measured_the_same(follows, name):
    model = build_model(parse_ref(name), SHIPPED[name], 10, 0)
    x, y, tape = torch.randn(6, *SHIPPED[name], generator=torch.Generator().manual_seed(0)), torch.arange(6), Tape()
    layers = weight_layers(model, x)
    for probe in range(3):
        before = follows()
        found = measure(model, layers, x, y, tape)
        assert follows() - before == (probe == 0)
        torch.testing.assert_close(found, measure(model, layers, x, y), rtol=0, atol=0, equal_nan=True)
        change(model)


def small(*layers):
    return nn.Sequential(nn.Linear(5, 6), *layers)


def test_the_second_pass_is_not_followed(follows):
    model, x, y, tape = small(nn.ReLU(), nn.Linear(6, 3)), torch.randn(4, 5), torch.zeros(4, dtype=torch.long), Tape()
    layers = weight_layers(model, x)
    for _ in range(4):
        measure(model, layers, x, y, tape)
    assert follows() == 1


class Routed(nn.Module):
    """Takes one of two equal ways, as its mood says."""

    def __init__(self):
        super().__init__()
        self.ways = nn.ModuleList([nn.Linear(5, 5), nn.Linear(5, 5)])
        self.head = nn.Linear(5, 3)
        self.way, self.twice, self.bent = 0, False, True

    def forward(self, x):
        for _ in range(1 + self.twice):
            x = self.ways[self.way](x)
            x = F.relu(x) if self.bent else torch.tanh(x)
        return self.head(x)


@pytest.mark.parametrize("change_of_mood", [{"way": 1}, {"twice": True}, {"bent": False}])
def test_a_model_that_goes_another_way_is_followed_again(follows, change_of_mood):
    model, x, y, tape = Routed(), torch.randn(4, 5), torch.zeros(4, dtype=torch.long), Tape()
    layers = weight_layers(model, x)
    measure(model, layers, x, y, tape)
    vars(model).update(change_of_mood)
    for expected in (2, 2):
        found = measure(model, layers, x, y, tape)
        assert follows() == expected
    torch.testing.assert_close(found, measure(model, layers, x, y), rtol=0, atol=0, equal_nan=True)
    assert not found.isnan().all(1)[[layer.name for layer in layers].index("head")]


def test_a_model_that_does_less_than_before_is_followed_again(follows):
    model, x, y, tape = Routed(), torch.randn(4, 5), torch.zeros(4, dtype=torch.long), Tape()
    model.twice = True
    layers = weight_layers(model, x)
    measure(model, layers, x, y, tape)
    model.twice = False
    found = measure(model, layers, x, y, tape)
    assert follows() == 2
    torch.testing.assert_close(found, measure(model, layers, x, y), rtol=0, atol=0, equal_nan=True)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRU(5, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


def test_what_is_measured_outside_of_torchs_functions_is_followed_each_time(follows):
    model, x, y, tape = Recurrent(), torch.randn(4, 2, 5), torch.zeros(4, dtype=torch.long), Tape()
    layers = weight_layers(model, x)
    first = measure(model, layers, x, y, tape)
    assert not tape.complete
    torch.testing.assert_close(measure(model, layers, x, y, tape), first, rtol=0, atol=0, equal_nan=True)
    assert follows() == 2


def test_only_models_without_users_code_are_taken_to_do_the_same_each_time():
    assert is_plain(build_model(parse_ref("cnn"), (1, 8, 8), 10, 0))
    assert is_plain(build_model(parse_ref("vit:depth=1"), (1, 8, 8), 10, 0))
    assert is_plain(small(nn.Tanh()))
    assert not is_plain(Routed())
    assert not is_plain(small(Routed()))
    changed = small(nn.Tanh())
    changed[1].forward = torch.sin
    assert not is_plain(changed)
