"""Each optimizer against torch.optim or its authors' code, alone and stacked; and the learning rate of each step."""

import copy
import math

import pytest
import torch
from torch import nn

from initbench.errors import ConfigError
from initbench.nn.layers import weight_layers
from initbench.optimizers import build_rule
from initbench.optimizers.muon import orthogonalized
from initbench.question import catalog
from initbench.question.config import TrainConfig
from initbench.stacking.optimizer import stacked_optimizer
from initbench.stacking.stack import Stack
from initbench.training.learning_rate import learning_rate
from initbench.training.optimizer import hidden_matrices, optimizer_of

INPUTS = torch.randn(16, 3, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(16) % 4
CASES = [
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
    {"optimizer": "adagrad", "lr": 0.05},
    {"optimizer": "adagrad:lr_decay=0.1,initial=0.2", "lr": 0.05, "weight_decay": 0.1},
    {"optimizer": "rmsprop", "lr": 0.01},
    {"optimizer": "rmsprop:alpha=0.9,momentum=0.8,centered=true,epsilon=0.001", "lr": 0.01, "weight_decay": 0.1},
    {"optimizer": "rmsprop:centered=true", "lr": 0.01, "clip_norm": 0.1},
    {"optimizer": "lion", "lr": 0.003, "weight_decay": 0.1},
    {"optimizer": "lion:beta1=0.95,beta2=0.98", "lr": 0.003, "clip_norm": 0.1},
    {"optimizer": "muon", "lr": 0.02},
    {"optimizer": "muon:momentum=0.9,adam_lr=0.01", "lr": 0.02, "weight_decay": 0.1},
    {"optimizer": "muon:nesterov=false", "lr": 0.02, "clip_norm": 0.1},
]
"""Settings of the training."""


def network(layout=torch.contiguous_format, seed=0):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 5, 3), nn.Tanh(), nn.Conv2d(5, 6, 3, bias=False), nn.Tanh(), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(24, 9), nn.Tanh(), nn.Linear(9, 4))
    return model.to(memory_format=layout)


def own_optimizer(model, config, multipliers=None, steps=10):
    return optimizer_of(model, weight_layers(model, INPUTS[:2]), config, multipliers or {}, steps)


def step(model, optimizer, number=0):
    optimizer.before_backward(number)
    nn.functional.cross_entropy(model(INPUTS), LABELS).backward()
    optimizer.update()


class Lion(torch.optim.Optimizer):
    """Algorithm 2 of Chen et al. 2023, line by line."""

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                c = group["beta1"] * m + (1 - group["beta1"]) * p.grad
                p -= group["lr"] * (torch.sign(c) + group["weight_decay"] * p)
                m.copy_(group["beta2"] * m + (1 - group["beta2"]) * p.grad)


class Muon(torch.optim.Optimizer):
    """Muon as Jordan et al. 2024 write it, in float64, a matrix at a time; a kernel is flattened."""

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p, dtype=torch.float64))
                g, beta = p.grad.double(), group["momentum"]
                m.copy_(beta * m + (1 - beta) * g)
                u = ((1 - beta) * g + beta * m if group["nesterov"] else m).reshape(len(p), -1)
                x = u / (u.norm() + 1e-7)
                for _ in range(5):
                    gram = x @ x.T
                    x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
                p *= 1 - group["lr"] * group["weight_decay"]
                p -= (group["lr"] * max(1, x.shape[0] / x.shape[1]) ** 0.5 * x).view_as(p)


HIDDEN = {"2.weight", "5.weight"}
"""The weights of `network` between its first layer and its head."""


class Twin:
    """What torch or the authors have in the place of the optimizer that a configuration names."""

    def __init__(self, model, config, multipliers):
        named = [(name, p, config.lr * multipliers.get(name, 1.0)) for name, p in model.named_parameters() if p.requires_grad]
        params, decay = config.optimizer.params, {"weight_decay": config.weight_decay}
        groups = [{"params": [p], "lr": rate, **decay} for _, p, rate in named]
        name = config.optimizer.name
        if name == "sgd":
            made = [torch.optim.SGD(groups, momentum=config.momentum, nesterov=config.nesterov)]
        elif name in {"adam", "adamw"}:
            made = [{"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name](groups, betas=config.betas)]
        elif name == "adagrad":
            start = params.get("initial", 0.0)
            made = [torch.optim.Adagrad(groups, lr_decay=params.get("lr_decay", 0.0), initial_accumulator_value=start)]
        elif name == "rmsprop":
            theirs = {"eps" if key == "epsilon" else key: value for key, value in params.items()}
            made = [torch.optim.RMSprop(groups, **theirs)]
        elif name == "lion":
            made = [Lion(groups, {"beta1": 0.9, "beta2": 0.99, **params})]
        else:
            matrices = [{"params": [p], "lr": rate, **decay} for name, p, rate in named if name in HIDDEN]
            factor = params.get("adam_lr", 3e-4) / config.lr
            others = [{"params": [p], "lr": rate * factor, **decay} for name, p, rate in named if name not in HIDDEN]
            mine = {"momentum": params.get("momentum", 0.95), "nesterov": params.get("nesterov", True)}
            made = [Muon(matrices, mine), torch.optim.AdamW(others, betas=(0.9, 0.95), eps=1e-10)]
        self.optimizers = made

    def zero_grad(self):
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()


@pytest.mark.heavy
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("settings", CASES, ids=str)
def test_ten_steps_are_those_of_torch_or_of_the_authors(settings, layout):
    config, multipliers = TrainConfig(**{"lr": 0.1, **settings}), {"5.weight": 0.5}
    ours = network(layout)
    theirs = copy.deepcopy(ours)
    optimizer, reference = own_optimizer(ours, config, multipliers), Twin(theirs, config, multipliers)
    for number in range(10):
        step(ours, optimizer, number)
        reference.zero_grad()
        nn.functional.cross_entropy(theirs(INPUTS), LABELS).backward()
        if config.clip_norm:
            nn.utils.clip_grad_norm_(theirs.parameters(), config.clip_norm)
        reference.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-6)
    for mine, before in zip(ours.parameters(), network().parameters(), strict=True):
        assert not torch.allclose(mine, before)


@pytest.mark.heavy
@pytest.mark.parametrize("settings", CASES, ids=str)
def test_a_stack_takes_the_steps_of_each_run_alone(settings):
    """Each run with a learning rate, a decay and factors of its own."""
    usual = TrainConfig(**{"lr": 0.1, **settings})
    configs = [
        usual,
        usual.model_copy(update={"lr": usual.lr / 3, "weight_decay": 0.2, "schedule": "cosine", "warmup_steps": 3}),
        usual.model_copy(update={"lr": usual.lr * 1.5}),
    ]
    factors = [{}, {"5.weight": 0.5, "0.bias": 2.0}, {"2.weight": 0.3}]
    models = [network(torch.channels_last, seed) for seed in range(3)]
    alone = copy.deepcopy(models)
    for model, config, own in zip(alone, configs, factors, strict=True):
        optimizer = own_optimizer(model, config, own)
        for number in range(10):
            step(model, optimizer, number)
    rules = [build_rule(config) for config in configs]
    stack = Stack(models, first=hidden_matrices(weight_layers(models[0], INPUTS[:2])) if rules[0].others else ())
    optimizer = stacked_optimizer(stack, rules, configs, factors, 10)
    for number in range(10):
        optimizer.before_backward(torch.tensor([number]))
        for run, model in enumerate(models):
            gradients = torch.autograd.grad(nn.functional.cross_entropy(model(INPUTS), LABELS), list(model.parameters()))
            for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True):
                stack.gradient_views[name][run].add_(gradient)
        optimizer.update()
    for model, expected in zip(models, alone, strict=True):
        for mine, other in zip(model.parameters(), expected.parameters(), strict=True):
            assert torch.allclose(mine, other, rtol=1e-4, atol=1e-6)


def test_every_optimizer_is_compared():
    assert {TrainConfig(**case).optimizer.name for case in CASES} == {entry.name for entry in catalog.entries("optimizer")}


def test_every_optimizer_says_its_formula_and_source():
    for entry in catalog.entries("optimizer"):
        assert "w -= lr" in entry.doc or "w *= 1 - lr" in entry.doc, entry.name
        assert entry.source, entry.name


def test_muon_is_torchs_where_both_round_alike(monkeypatch):
    """torch.optim.Muon rounds to bfloat16; without that, and for matrices, it takes our steps."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 12), nn.Tanh(), nn.Linear(12, 20, bias=False), nn.Linear(20, 4))
    theirs = copy.deepcopy(model)
    config = TrainConfig(optimizer="muon:adam_lr=0", lr=0.02, weight_decay=0.1)
    optimizer = own_optimizer(model, config)
    reference = torch.optim.Muon([theirs[3].weight], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="original")
    for number in range(10):
        step(model, optimizer, number)
        reference.zero_grad()
        nn.functional.cross_entropy(theirs(INPUTS), LABELS).backward()
        reference.step()
    assert torch.allclose(model[3].weight, theirs[3].weight, rtol=1e-4, atol=1e-6)
    assert torch.equal(model[1].weight, theirs[1].weight)


@pytest.mark.parametrize("shape", [(20, 8), (8, 20), (3, 10, 10)])
def test_orthogonalized_matrices_keep_their_singular_vectors_and_have_singular_values_near_one(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    left, values, right = torch.linalg.svd(orthogonalized(matrices), full_matrices=False)
    assert values.min() > 0.3
    assert values.max() < 1.3
    their_left, _, their_right = torch.linalg.svd(matrices, full_matrices=False)
    turned = their_left.mT @ left @ torch.diag_embed(values) @ right @ their_right.mT
    assert torch.allclose(turned, torch.diag_embed(turned.diagonal(dim1=-2, dim2=-1)), atol=1e-4)


def test_muon_leaves_a_network_without_hidden_matrices_to_adamw():
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.Tanh(), nn.Linear(8, 4))
    theirs = copy.deepcopy(model)
    optimizer, reference = (
        own_optimizer(model, TrainConfig(optimizer="muon")),
        torch.optim.AdamW(theirs.parameters(), lr=3e-4, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0),
    )
    step(model, optimizer)
    nn.functional.cross_entropy(theirs(INPUTS), LABELS).backward()
    reference.step()
    for mine, other in zip(model.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-7)


def test_an_optimizer_of_ones_own_is_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from initbench.optimizers import Rule\n"
        "def build(train, *, pace: float = 1.0):\n"
        '    """Signs of gradients."""\n'
        "    class Signs(Rule):\n"
        "        def numbers(self, step, rate):\n"
        "            return (rate * pace,)\n"
        "        def update(self, part, numbers):\n"
        "            part.move(part.gradients.sign_(), *numbers)\n"
        "    return Signs()\n"
    )
    model = network()
    before = model[0].weight.detach().clone()
    step(model, own_optimizer(model, TrainConfig(optimizer=f"{path}:pace=0.5", lr=0.1)))
    assert torch.allclose((model[0].weight - before).abs(), torch.tensor(0.05))
    path.write_text("def build(train):\n    return 3\n")
    with pytest.raises(ConfigError, match=r"gives an int. Its build\(train\) must return a Rule"):
        build_rule(TrainConfig(optimizer=str(path)))


@pytest.mark.parametrize(
    ("optimizer", "says"),
    [("lion:beta1=2", "beta1 is 2. Give a number"), ("rmsprop:alpha=-1", "alpha is -1"), ("muon:adam_lr=-1", "adam_lr is -1")],
)
def test_a_parameter_that_makes_no_sense_is_a_sentence(optimizer, says):
    with pytest.raises(ConfigError, match=says):
        build_rule(TrainConfig(optimizer=optimizer))


def test_frozen_parameters_stay_as_they_are():
    model = network()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    step(model, own_optimizer(model, TrainConfig(weight_decay=0.1)))
    assert torch.equal(model[0].weight, before)
    assert model[0].weight.grad is None


def test_tied_parameters_stay_tied():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    optimizer = optimizer_of(model, (), TrainConfig(), {}, 1)
    optimizer.before_backward(0)
    model(torch.ones(2, 4)).sum().backward()
    optimizer.update()
    assert model[0].weight is model[1].weight


def test_the_objects_of_the_model_and_their_values_are_kept():
    model = network(torch.channels_last)
    parameters, values = list(model.parameters()), [p.clone() for p in model.parameters()]
    own_optimizer(model, TrainConfig())
    assert all(mine is other for mine, other in zip(model.parameters(), parameters, strict=True))
    assert all(torch.equal(mine, value) for mine, value in zip(model.parameters(), values, strict=True))
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_parameter_without_dimensions_is_trained():
    model = nn.Linear(4, 4)
    model.register_parameter("gain", nn.Parameter(torch.tensor(2.0)))
    optimizer = optimizer_of(model, (), TrainConfig(lr=0.1), {}, 1)
    optimizer.before_backward(0)
    (model.gain * model(torch.ones(2, 4)).detach().sum() * 0 + 3 * model.gain).backward()
    optimizer.update()
    assert model.gain.item() == pytest.approx(1.7)


def rates(steps=10, **settings):
    config = TrainConfig(lr=1.0, steps=steps, **settings)
    return [learning_rate(config, step, steps) for step in range(steps)]


def test_a_constant_rate_is_constant():
    assert rates() == [1.0] * 10


def test_a_linear_schedule_falls_evenly_from_the_full_rate():
    assert rates(schedule="linear") == pytest.approx([1 - step / 10 for step in range(10)])


def test_a_cosine_schedule_is_half_way_down_in_the_middle():
    given = rates(schedule="cosine")
    assert given[0] == 1.0
    assert given[5] == pytest.approx(0.5)
    assert given[9] == pytest.approx(0.5 * (1 + math.cos(0.9 * math.pi)))


def test_a_warm_up_rises_evenly_and_the_schedule_begins_after_it():
    given = rates(schedule="linear", warmup_steps=4)
    assert given[:4] == [0.25, 0.5, 0.75, 1.0]
    assert given[4] == 1.0
    assert given[4:] == pytest.approx([1 - step / 6 for step in range(6)])


def test_a_warm_up_longer_than_the_run_never_ends():
    assert rates(steps=2, warmup_steps=10) == [0.1, 0.2]
