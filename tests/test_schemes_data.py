"""Schemes that look at data or learn: what they reach is measured once more by plain torch."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initbench.errors import DoesNotApply
from initbench.init.contract import InitContext
from initbench.init.initialize import build_scheme, initialize
from initbench.nn.seeds import generator
from initbench.question.config import InitRules, TrainConfig, parse_ref
from initbench.schemes import metainit

torch.set_num_threads(1)
IMAGES = torch.randn(512, 2, 6, 6, generator=generator(0, "test")) * torch.tensor([1.0, 5.0]).view(2, 1, 1) + 1
LABELS = (IMAGES.mean(dim=(1, 2, 3)) > 1).long() + 2 * (IMAGES[:, 0, 0, 0] > 1).long()


def batch(size, index):
    chosen = torch.randperm(len(IMAGES), generator=generator(0, "order", str(index)))[:size]
    return IMAGES[chosen], LABELS[chosen]


def apply(model, scheme, seed=0, **rules):
    train = rules.pop("train", None)
    return initialize(model, parse_ref(scheme), seed=seed, inputs=IMAGES[:2], batch=batch, rules=InitRules(**rules), train=train)[0]


def mlp(depth=4, activation=nn.ReLU):
    hidden = [part for index in range(depth) for part in (nn.Linear(72 if index == 0 else 64, 64), activation())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 4))


def cnn():
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.5), nn.Conv2d(8, 12, 3), nn.Tanh(),
        nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip


def outputs(model, x):
    """The output of each weight layer, dropout off, norms on batch statistics, by plain hooks."""
    seen, flags = [], [module.training for module in model.modules()]
    handles = [
        module.register_forward_hook(lambda _, __, out: seen.append(out.detach()))
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    ]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for module in model.modules():
        module.training = isinstance(module, nn.BatchNorm2d)
    model(x)
    for handle in handles:
        handle.remove()
    model.load_state_dict(buffers, strict=False)
    for module, flag in zip(model.modules(), flags, strict=True):
        module.training = flag
    return seen


@pytest.mark.heavy
@pytest.mark.parametrize("make", [mlp, cnn, lambda: mlp(30), lambda: mlp(3, nn.Tanh)])
def test_lsuv_gives_every_layer_unit_variance_within_its_tolerance(make):
    model = make()
    report = apply(model, "lsuv:tolerance=0.02")
    variances = [out.var(correction=0).item() for out in outputs(model, batch(256, 0)[0])]
    assert variances == pytest.approx([1.0] * len(variances), abs=0.02)
    assert report.notes == ()


def test_lsuv_starts_from_orthogonal_weights_and_keeps_their_directions():
    model = mlp()
    apply(model, "lsuv")
    weight = model[3].weight
    torch.testing.assert_close(weight @ weight.T / weight[0].square().sum(), torch.eye(64), rtol=0, atol=1e-4)
    assert all((part.bias == 0).all() for part in model if isinstance(part, nn.Linear))


def test_lsuv_can_take_the_mean_of_each_unit_out_as_well():
    model = cnn()
    apply(model, "lsuv:centre=true,base=kaiming")
    for out, axes in zip(outputs(model, batch(256, 0)[0]), [(0, 2, 3), (0, 2, 3), (0,)], strict=True):
        assert out.mean(dim=axes).abs().max() < 1e-4


def test_lsuv_goes_by_execution_and_not_by_registration():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(64, 4), nn.Linear(72, 64)

        def forward(self, x):
            return self.last(self.first(x.flatten(1)).relu())

    model = Backwards()
    apply(model, "lsuv:tolerance=0.01")
    assert [out.var(correction=0).item() for out in outputs(model, batch(256, 0)[0])] == pytest.approx([1.0, 1.0], abs=0.01)


@pytest.mark.parametrize("scheme", ["lsuv", "krahenbuhl:filters=random", "autoinit_jacobian"])
def test_an_activation_that_works_in_place_changes_no_weight(scheme):
    def initialized(inplace):
        torch.manual_seed(0)
        convolutions = [nn.Conv2d(3, 8, 3), nn.ReLU(inplace), nn.Conv2d(8, 8, 3), nn.LeakyReLU(0.1, inplace)]
        model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(8 * 16, 5))
        x = torch.randn(64, 3, 8, 8, generator=generator(0, "test"))
        initialize(model, parse_ref(scheme), seed=0, inputs=x[:8], batch=lambda size, index: (x, torch.arange(64) % 5))
        return model, x

    (plain, x), (inplace, _) = initialized(False), initialized(True)
    assert all(torch.equal(one, other) for one, other in zip(plain.parameters(), inplace.parameters(), strict=True))
    if scheme == "lsuv":
        assert inplace[0](x).var(correction=0).item() == pytest.approx(1, abs=0.1)


def test_lsuv_leaves_layers_of_others_alone_and_says_what_it_cannot_do():
    model = mlp()
    report = apply(model, "lsuv", layers={"3.*": "zeros"}, exclude=("9.w",))
    assert (model[3].weight == 0).all()
    assert any("output variance of 0" in note for note in report.notes)
    frozen = mlp()
    frozen[1].weight.requires_grad_(False)
    before = frozen[1].weight.clone()
    apply(frozen, "lsuv")
    assert torch.equal(frozen[1].weight, before)


@pytest.mark.parametrize("scheme", ["lsuv", "krahenbuhl", "gradinit", "autoinit_jacobian"])
def test_schemes_that_need_data_are_refused_without(scheme):
    with pytest.raises(DoesNotApply, match=r"needs .*data"):
        initialize(mlp(), parse_ref(scheme), seed=0, inputs=IMAGES[:2])


@pytest.mark.parametrize("filters", ["random", "pca", "kmeans"])
@pytest.mark.parametrize("make", [mlp, cnn])
def test_krahenbuhl_gives_every_unit_mean_beta_and_variance_one(make, filters):
    model = make()
    apply(model, f"krahenbuhl:filters={filters},balance=false,beta=0.2")
    for out in outputs(model, batch(256, 0)[0]):
        values = out.movedim(1, -1).flatten(0, -2)
        varying = values.std(dim=0) > 1e-3
        assert varying.float().mean() > 0.9
        assert values.mean(dim=0)[varying] == pytest.approx(torch.full_like(values[0], 0.2)[varying], abs=1e-3)
        assert values.std(dim=0, correction=0)[varying] == pytest.approx(torch.ones_like(values[0])[varying], abs=2e-3)


def test_krahenbuhl_balancing_gives_all_layers_one_rate_and_leaves_the_function_as_it_was():
    balanced, plain = mlp(), mlp()
    apply(balanced, "krahenbuhl")
    apply(plain, "krahenbuhl:balance=false")
    x, _ = batch(256, 0)
    torch.testing.assert_close(balanced(x), plain(x), rtol=1e-3, atol=1e-3)

    def spread(model):
        vector = torch.randn(256, 4, generator=generator(9, "test"))
        weights = [part.weight for part in model if isinstance(part, nn.Linear)]
        rates = [
            (gradient.norm() / weight.norm()).item()
            for gradient, weight in zip(torch.autograd.grad(model(x), weights, vector), weights, strict=True)
        ]
        return max(rates) / min(rates)

    assert spread(balanced) < 1.25
    assert spread(plain) > 2


def test_principal_components_are_uncorrelated_and_in_order():
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 20), nn.ReLU(), nn.Linear(20, 4))
    apply(model, "krahenbuhl:filters=pca,balance=false,batch_size=512")
    (first, _) = outputs(model, IMAGES)
    torch.testing.assert_close(torch.cov(first.T), torch.eye(20) * 512 / 511, rtol=0, atol=0.02)
    top = torch.linalg.eigh(torch.cov(IMAGES.flatten(1).T)).eigenvectors[:, -1]
    assert F.cosine_similarity(model[1].weight[0], top, dim=0).abs() > 0.99


@pytest.mark.heavy
def test_metainit_lowers_the_gradient_quotient_and_keeps_directions():
    model = mlp(3, nn.Tanh)
    report = apply(model, "metainit:base=normal,steps=60,lr=0.5")
    before, after = (float(part.split()[-2]) for part in report.notes[0].split(","))
    assert after < before / 2
    first = mlp(3, nn.Tanh)
    apply(first, "normal")
    for index in (1, 3, 5, 7):
        assert F.cosine_similarity(model[index].weight.flatten(), first[index].weight.flatten(), dim=0) > 0.9999


def test_the_gradient_quotient_is_that_of_its_formula():
    from initbench.schemes.metainit import gradient_quotient

    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Tanh(), nn.Linear(2, 2, bias=False)).double()
    weights = list(model.parameters())
    inputs, labels = torch.randn(5, 3, generator=generator(0, "test")).double(), torch.tensor([0.1, 0.6, 0.9, 0.2, 0.4]).double()

    def loss(flat):
        first, second = flat[:6].view(2, 3), flat[6:].view(2, 2)
        return F.cross_entropy((inputs @ first.T).tanh() @ second.T, (labels * 2).long())

    flat = torch.cat([weight.detach().flatten() for weight in weights]).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(flat), flat, create_graph=True)
    hessian = torch.stack([torch.autograd.grad(entry, flat, retain_graph=True)[0] for entry in gradient])
    expected = ((gradient - hessian @ gradient) / (gradient + 1e-5 * gradient.sign()) - 1).abs().mean()
    assert gradient_quotient(model, weights, inputs, labels).item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.heavy
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_gradinit_lowers_the_loss_after_one_step_by_factors_alone(optimizer):
    model, start = mlp(), mlp()
    train = TrainConfig(optimizer=optimizer, lr=0.05 if optimizer == "sgd" else 0.01)
    apply(start, "kaiming")
    report = apply(model, "gradinit:iterations=40,lr=0.05", train=train)
    before, after = (float(part.split()[-2]) for part in report.notes[0].split(","))
    assert after < 0.9 * before
    ratios = model[3].weight / start[3].weight
    assert ratios.std() < 1e-4
    assert ratios.mean() > 0

    def loss_after_step(net):
        x, y = batch(256, 77)
        loss = F.cross_entropy(net(x), y)
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter.sub_(train.lr * (gradient if optimizer == "sgd" else gradient.sign()))
        return F.cross_entropy(net(x), y).item()

    assert loss_after_step(model) < loss_after_step(start)


def test_metainit_refuses_what_torch_cannot_derive_three_times(monkeypatch):
    def refuse(*given):
        raise RuntimeError("batch_norm does not support 3rd+ order derivatives.")  # what torch 2.15 says; 2.11 takes them

    monkeypatch.setattr(metainit, "gradient_quotient", refuse)
    model = cnn()
    before = model[0].weight.clone()
    with pytest.raises(DoesNotApply, match="third derivatives"):
        apply(model, "metainit")
    assert torch.equal(model[0].weight, before)


def factors_target(detach):
    """The derivative of the loss after one step by each factor: autograd in the scheme, differences here."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    scheme = build_scheme(parse_ref(f"gradinit:gamma=1e9,eta=0.7,detach={'true' if detach else 'false'}"))
    inputs, labels = torch.randn(16, 6, dtype=torch.float64), torch.arange(16) % 3
    batches = (inputs, labels, inputs.flip(0), labels.flip(0))
    start = {name: value.detach().clone() for name, value in model.named_parameters() if value.dim() > 1}
    factors = {name: torch.ones((), dtype=torch.float64, requires_grad=True) for name in start}
    target, too_large = scheme._target(model, start, factors, batches, InitContext(seed=0))
    assert not too_large
    mine = torch.stack(torch.autograd.grad(target, list(factors.values())))

    def loss(values, x, y):
        return nn.functional.cross_entropy(torch.func.functional_call(model, values, (x,)), y)

    def gradient(scales):
        weights = {name: (start[name] * scales[name]).requires_grad_() for name in start}
        return dict(zip(start, torch.autograd.grad(loss(weights, inputs, labels), list(weights.values())), strict=True))

    plain = gradient(dict.fromkeys(start, 1.0))

    def after_step(scales):
        steps = plain if detach else gradient(scales)
        return loss({name: start[name] * scales[name] - 0.7 * steps[name] for name in start}, batches[2], batches[3]).item()

    moved = [[after_step({other: 1.0 + (sign * 1e-5 if other == name else 0.0) for other in start}) for sign in (1, -1)] for name in start]
    return mine, torch.tensor([(up - down) / 2e-5 for up, down in moved], dtype=torch.float64)


def test_gradinit_takes_the_step_as_fixed_unless_told_otherwise():
    found = []
    for detach in (True, False):
        mine, by_differences = factors_target(detach)
        torch.testing.assert_close(mine, by_differences, rtol=1e-4, atol=1e-7)
        found.append(mine)
    assert (found[0] - found[1]).abs().max() > 0.01


def test_gradinit_says_when_it_keeps_its_start():
    start, learned = mlp(), mlp()
    apply(start, "kaiming")
    report = apply(learned, "gradinit:iterations=10,lr=1e-12")
    assert all(torch.equal(one, other) for one, other in zip(start.parameters(), learned.parameters(), strict=True))
    (note,) = report.notes
    assert note.startswith("the start is kept: these are the weights of 'kaiming' unchanged")
    assert "in 10 of 10 iterations the gradient's norm was above gamma = 1" in note
    entry = next(entry for entry in report.parameters if len(entry.shape) > 1)
    assert entry.law == "normal"
    assert entry.target_std is not None


@pytest.mark.heavy
@pytest.mark.parametrize("scheme", ["lsuv", "krahenbuhl:filters=kmeans", "autoinit_jacobian", "metainit:steps=3", "gradinit:iterations=3"])
def test_they_are_deterministic_and_leave_the_global_generator_flags_and_buffers_alone(scheme):
    first, second = cnn(), cnn()
    if scheme.startswith("metainit"):
        first[1], second[1] = nn.GroupNorm(2, 8), nn.GroupNorm(2, 8)
    apply(first, scheme)
    state = torch.get_rng_state()
    report = apply(second.train(), scheme)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert second.training
    assert getattr(second[1], "num_batches_tracked", 0) == 0
    assert [entry.parameter for entry in report.parameters] == [name for name, _ in second.named_parameters()]
    assert all(parameter.grad is None for parameter in second.parameters())
    assert all(math.isfinite(parameter.sum().item()) for parameter in second.parameters())
    for entry, parameter in zip(report.parameters, second.parameters(), strict=True):
        assert entry.std == pytest.approx(parameter.std(correction=0).item(), rel=1e-4, abs=1e-7)
