"""The flat optimizers against torch.optim, and the learning rate of each step."""

import copy
import math

import pytest
import torch
from torch import nn

from initbench.question.config import TrainConfig
from initbench.training.optimizers import Optimizer, learning_rate

INPUTS = torch.randn(16, 3, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(16) % 4


def network(layout=torch.contiguous_format):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(80, 4))
    return model.to(memory_format=layout)


def twin(model, config, multipliers):
    groups = [{"params": [p], "lr": config.lr * multipliers.get(name, 1.0)} for name, p in model.named_parameters() if p.requires_grad]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay, nesterov=config.nesterov)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind(groups, betas=config.betas, weight_decay=config.weight_decay)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"momentum": 0.0},
        {"momentum": 0.0, "weight_decay": 0.1},
        {"weight_decay": 0.1},
        {"nesterov": True, "weight_decay": 0.1},
        {"clip_norm": 0.1},
        {"clip_norm": 100.0},
        {"clip_norm": 0.1, "nesterov": True},
        {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.1},
        {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.99)},
        {"optimizer": "adam", "lr": 0.01, "clip_norm": 0.1},
    ],
    ids=str,
)
def test_ten_steps_are_those_of_torch_optim(settings, layout):
    config, multipliers = TrainConfig(**{"lr": 0.1, **settings}), {"3.weight": 0.5}
    ours = network(layout)
    theirs = copy.deepcopy(ours)
    optimizer, reference = Optimizer(ours, config, multipliers), twin(theirs, config, multipliers)
    for _ in range(10):
        optimizer.before_backward()
        nn.functional.cross_entropy(ours(INPUTS), LABELS).backward()
        optimizer.update(config.lr)
        reference.zero_grad()
        nn.functional.cross_entropy(theirs(INPUTS), LABELS).backward()
        if config.clip_norm:
            nn.utils.clip_grad_norm_(theirs.parameters(), config.clip_norm)
        reference.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(ours[3].weight, network()[3].weight)


def test_frozen_parameters_stay_as_they_are():
    model = network()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    optimizer = Optimizer(model, TrainConfig(weight_decay=0.1), {})
    optimizer.before_backward()
    nn.functional.cross_entropy(model(INPUTS), LABELS).backward()
    optimizer.update(0.1)
    assert torch.equal(model[0].weight, before)
    assert model[0].weight.grad is None


def test_tied_parameters_stay_tied():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    optimizer = Optimizer(model, TrainConfig(), {})
    optimizer.before_backward()
    model(torch.ones(2, 4)).sum().backward()
    optimizer.update(0.1)
    assert model[0].weight is model[1].weight


def test_the_objects_of_the_model_and_their_values_are_kept():
    model = network(torch.channels_last)
    parameters, values = list(model.parameters()), [p.clone() for p in model.parameters()]
    Optimizer(model, TrainConfig(), {})
    assert all(mine is other for mine, other in zip(model.parameters(), parameters, strict=True))
    assert all(torch.equal(mine, value) for mine, value in zip(model.parameters(), values, strict=True))
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


def rates(steps=10, **settings):
    config = TrainConfig(lr=1.0, steps=steps, **settings)
    return [learning_rate(config, step, steps) for step in range(steps)]


def test_a_constant_rate_is_constant():
    assert rates() == [1.0] * 10


def test_a_linear_schedule_falls_evenly_from_the_full_rate():
    assert rates(schedule="linear") == pytest.approx([1 - step / 10 for step in range(10)])


def test_a_cosine_schedule_is_half_way_down_in_the_middle():
    found = rates(schedule="cosine")
    assert found[0] == 1.0
    assert found[5] == pytest.approx(0.5)
    assert found[9] == pytest.approx(0.5 * (1 + math.cos(0.9 * math.pi)))


def test_a_warm_up_rises_evenly_and_the_schedule_begins_after_it():
    found = rates(schedule="linear", warmup_steps=4)
    assert found[:4] == [0.25, 0.5, 0.75, 1.0]
    assert found[4] == 1.0
    assert found[4:] == pytest.approx([1 - step / 6 for step in range(6)])


def test_a_warm_up_longer_than_the_run_never_ends():
    assert rates(steps=2, warmup_steps=10) == [0.1, 0.2]
