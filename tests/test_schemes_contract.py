"""What every shipped scheme owes beside what `check-scheme` examines: words for people, chance by the seed alone, any model."""

import copy
from functools import cache

import pytest
import torch
from torch import nn

from initbench.errors import DoesNotApply
from initbench.init.initialize import build_scheme, initialize
from initbench.nn.seeds import generator
from initbench.question import catalog
from initbench.question.config import Ref

torch.set_num_threads(1)
NAMES = [entry.name for entry in catalog.entries("scheme")]
REQUIRED = {"constant": {"value": 0.5}}
QUICK = {"metainit": {"steps": 2, "batch_size": 4}, "gradinit": {"iterations": 2, "batch_size": 8}, "lsuv": {"batch_size": 32}}
IMAGES = torch.randn(64, 1, 8, 8, generator=generator(0, "test"))
CHANCE_FREE = {"zeros", "ones", "constant", "identity", "dirac", "zero_hadamard", "sinusoidal"}


def batch(size, index):
    labels = torch.arange(size) % 5
    return IMAGES.roll(index, 0)[:size], labels


def conv_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 5)
    )


def plain_net(activation=nn.ReLU):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), activation(), nn.Linear(16, 16), activation(), nn.Linear(16, 5))


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(30 * x)


@cache
def shipped_models():
    torch.manual_seed(0)
    chosen = [("residual_mlp", {"norm": "none"}), ("resnet", {"norm": "none", "depth": 8}), ("resnet", {"norm": "batch", "depth": 8})]
    chosen += [("vit", {"norm": norm, "depth": 2, "width": 32}) for norm in ("none", "pre", "post")]
    return [catalog.load("model", name)((1, 8, 8), 5, **params) for name, params in chosen]


def models():
    return [plain_net(), conv_net(), plain_net(nn.Tanh), plain_net(Sine), *(copy.deepcopy(model) for model in shipped_models())]


def start(scheme, model, seed=0):
    ref = Ref(name=scheme, params=REQUIRED.get(scheme, {}) | QUICK.get(scheme, {}))
    return initialize(model, ref, seed=seed, inputs=IMAGES[:2], batch=batch)[0]


@cache
def suited(scheme):
    """The index of the first model that the scheme applies to, and its report; refusals before it left no trace."""
    for index, model in enumerate(models()):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        try:
            return index, model, start(scheme, model)
        except DoesNotApply as error:
            message = str(error)
        assert message.endswith(".")
        after = model.state_dict()
        assert list(after) == list(before), f"{scheme} changed the model before it refused"
        assert all(torch.equal(after[name], value) for name, value in before.items())
    raise AssertionError(f"no model here suits {scheme}")


@pytest.mark.parametrize("scheme", NAMES)
def test_a_scheme_says_what_it_is_where_it_applies_and_where_it_comes_from(scheme):
    entry = next(entry for entry in catalog.entries("scheme") if entry.name == scheme)
    assert entry.family
    assert 20 < len(entry.summary) < 130
    assert entry.summary.endswith(".")
    assert len(entry.source) > 15
    assert len(entry.doc.strip().splitlines()) >= 4
    made = build_scheme(Ref(name=scheme, params=REQUIRED.get(scheme, {})))
    assert made.name == scheme


@pytest.mark.heavy
@pytest.mark.parametrize("scheme", NAMES)
def test_the_deviation_that_a_scheme_promises_is_the_one_it_reaches(scheme):
    _, _, report = suited(scheme)
    for entry in report.parameters:
        count = torch.Size(entry.shape).numel()
        if entry.target_std is not None and count >= 256:
            assert entry.std == pytest.approx(entry.target_std, rel=max(0.06, 5 / count**0.5), abs=1e-7), entry
            assert entry.mean == pytest.approx(entry.target_mean, abs=6 * entry.std / count**0.5 + 1e-6), entry


@pytest.mark.heavy
@pytest.mark.parametrize("scheme", NAMES)
def test_a_scheme_depends_on_the_seed_alone(scheme):
    index, model, report = suited(scheme)
    again = models()[index]
    torch.manual_seed(12345)
    state = torch.get_rng_state()
    assert start(scheme, again) == report
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first, second) for first, second in zip(model.parameters(), again.parameters(), strict=True))
    other = models()[index]
    start(scheme, other, seed=1)
    same = all(torch.equal(first, second) for first, second in zip(model.parameters(), other.parameters(), strict=True))
    assert same == (scheme in CHANCE_FREE)


def test_no_name_or_alias_is_given_twice():
    entries = catalog.entries("scheme")
    names = [*(entry.name for entry in entries), *(alias for entry in entries for alias in entry.aliases)]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)
    for entry in entries:
        for alias, implied in entry.aliases.items():
            assert set(implied) <= {parameter.name for parameter in entry.parameters}, alias


class Nothing(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(64))

    def forward(self, x):
        return x.flatten(1) * self.scale


@pytest.mark.parametrize("scheme", NAMES)
def test_a_model_without_weights_is_no_accident(scheme):
    try:
        report = start(scheme, Nothing())
    except DoesNotApply as error:
        assert scheme in str(error)  # noqa: PT017
    else:
        assert [entry.parameter for entry in report.parameters] == ["scale"]


def test_a_recurrent_model_gets_what_can_be_done():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 5)

        def forward(self, x):
            return self.head(self.lstm(x.flatten(1, 2))[0][:, -1])

    for scheme in ("lsuv", "krahenbuhl", "autoinit_jacobian", "kaiming", "orthogonal", "gaussian_gain", "metainit", "gradinit"):
        report = start(scheme, Reader())
        assert report.untouched == ()
        assert all(entry.std is not None for entry in report.parameters)
