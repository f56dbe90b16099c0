"""The statistics of a probe, each once more by plain autograd, and training that does not notice it was measured."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initbench.measure.probes import COLUMNS, ProbeAtStep, copy_weights, measure, to_stats, update_ratios
from initbench.nn.layers import weight_layers
from initbench.quantities import QUANTITIES


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Plain(nn.Module):
    """The same nets written so that every pre-activation and activation can be kept: a list of (layer, what follows)."""

    def __init__(self, *stages):
        super().__init__()
        self.stages = nn.ModuleList(nn.ModuleList(stage) for stage in stages)

    def forward(self, x, kept=None):
        for layer, *after in self.stages:
            x = layer(x)
            before = x
            if kept is not None and x.requires_grad:
                x.retain_grad()
            acts = [x]
            for module in after:
                x = module(x)
                if isinstance(module, nn.ReLU | nn.Tanh | nn.GELU):
                    acts.append(x)
            if kept is not None:
                kept.append((before, acts[-1]))
        return x


def mlp():
    return Plain([nn.Linear(12, 16), nn.ReLU()], [nn.Linear(16, 8), nn.Tanh()], [nn.Linear(8, 5)])


def cnn():
    return Plain(
        [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)],
        [nn.Conv2d(6, 4, 3, groups=2), nn.GELU(), nn.Flatten()],
        [nn.Linear(4, 5)],
    )


def normed():
    return Plain(
        [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()],
        [nn.Linear(96, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Dropout(0.2)],
        [nn.Linear(7, 5)],
    )


def twin(model, x, y):
    """Each statistic the slow way, in the model's own training mode but without dropout."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    kept = []
    loss = F.cross_entropy(model(x, kept), y, reduction="sum")
    model.zero_grad()
    loss.backward()
    rows = []
    for (before, after), (layer, *after_layer) in zip(kept, model.stages, strict=True):
        units = after.transpose(0, 1).flatten(1) if "Conv" in type(layer).__name__ else after.flatten(0, -2).T
        acts = [module for module in after_layer if isinstance(module, nn.Tanh)]
        rows.append(
            [
                before.mean(), before.var(correction=0), after.mean(), after.var(correction=0), (after == 0).double().mean(),
                (units == 0).all(dim=1).double().mean(), before.grad.var(correction=0), layer.weight.var(correction=0),
                layer.weight.grad.norm() / len(x), *numpy_quantiles(after), *numpy_quantiles(before.grad),
                (after.abs() >= 0.98).double().mean() if acts else torch.tensor(math.nan),
                *[torch.tensor(math.nan)] * 3, *numpy_quantiles(layer.weight),
            ]
        )  # fmt: skip
    return torch.tensor([[cell.item() for cell in row] for row in rows], dtype=torch.float64)


def numpy_quantiles(values):
    return np.quantile(values.detach().double().numpy(), [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])


SHAPES = {mlp: (12,), cnn: (3, 6, 6), normed: (3, 6, 6)}


@pytest.mark.parametrize("build", SHAPES)
@pytest.mark.parametrize("inplace", [False, True])
def test_every_statistic_equals_its_naive_twin(build, inplace):
    torch.manual_seed(3)
    model, x, y = build().double(), torch.randn(32, *SHAPES[build], dtype=torch.float64), torch.randint(0, 5, (32,))
    with torch.no_grad():
        model.stages[0][0].bias[0] = -100.0
    expected = twin(model, x, y)
    if inplace:
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = True
    found = measure(model, weight_layers(model, x), x, y)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12, equal_nan=True)
    if build is not normed:
        assert found[0, COLUMNS.index("dead_fraction")] > 0
    assert found[0, COLUMNS.index("zero_fraction")] > 0.2


def test_float32_statistics_agree_with_float64_to_a_millionth():
    torch.manual_seed(4)
    model, x, y = mlp(), torch.randn(64, 12), torch.randint(0, 5, (64,))
    found = measure(model, weight_layers(model, x), x, y)
    expected = twin(model.double(), x.double(), y)
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=1e-8, equal_nan=True)


def test_a_residual_net_is_measured_as_its_formula_says():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.inner, self.outer, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x):
            h = self.stem(x)
            h = h + self.outer(F.relu_(self.inner(torch.tanh(h))))
            return self.head(F.relu(h))

    torch.manual_seed(5)
    model, x, y = Residual().double(), torch.randn(20, 6, dtype=torch.float64), torch.randint(0, 3, (20,))
    found = measure(model, weight_layers(model, x), x, y)
    stem = model.stem(x)
    inner = model.inner(torch.tanh(stem))
    outer = model.outer(F.relu(inner))
    head = model.head(F.relu(stem + outer))
    tensors = (stem, inner, outer, head)
    grads = torch.autograd.grad(F.cross_entropy(head, y, reduction="sum"), tensors)
    after = (torch.tanh(stem), F.relu(inner), F.relu(stem + outer), head)
    for column, values in (("pre_activation_variance", tensors), ("activation_variance", after), ("gradient_variance", grads)):
        expected = torch.stack([value.var(correction=0) for value in values])
        torch.testing.assert_close(found[:, COLUMNS.index(column)], expected, rtol=1e-6, atol=0)


def train(model, x, y, probe_steps):
    torch.manual_seed(0)
    layers, losses = weight_layers(model, x) if probe_steps else (), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(6):
        if step in probe_steps:
            measure(model, layers, x, y)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model.state_dict()


@pytest.mark.parametrize("build", SHAPES)
def test_losses_and_state_are_bit_equal_with_probes_on_and_off(build):
    torch.manual_seed(6)
    first, second = build(), build()
    second.load_state_dict(first.state_dict())
    x, y = torch.randn(16, *SHAPES[build]), torch.randint(0, 5, (16,))
    without, with_probes = train(first, x, y, ()), train(second, x, y, range(6))
    assert without[0] == with_probes[0]
    for name, value in without[1].items():
        assert torch.equal(value, with_probes[1][name]), name


def test_a_probe_leaves_gradients_buffers_flags_hooks_and_random_state_alone():
    torch.manual_seed(7)
    model, x, y = normed(), torch.randn(16, 3, 6, 6), torch.randint(0, 5, (16,))
    F.cross_entropy(model(x), y).backward()
    model.stages[1].eval()
    grads = [parameter.grad.clone() for parameter in model.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    flags = [module.training for module in model.modules()]
    layers = weight_layers(model, x)
    state = torch.get_rng_state()
    measure(model, layers, x, y)
    assert torch.equal(state, torch.get_rng_state())
    assert flags == [module.training for module in model.modules()]
    assert all(now is buffer and torch.equal(now, before) for now, (buffer, before) in zip(model.buffers(), buffers, strict=True))
    assert all(torch.equal(parameter.grad, before) for parameter, before in zip(model.parameters(), grads, strict=True))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not x.__dict__


def test_a_probe_that_fails_leaves_the_model_as_it_was():
    model = normed()
    layers = weight_layers(model, torch.randn(4, 3, 6, 6))
    with pytest.raises(RuntimeError):
        measure(model, layers, torch.randn(4, 3, 5, 5), torch.zeros(4, dtype=torch.long))
    assert all(module.training for module in model.modules())
    assert model.stages[0][1].num_batches_tracked == 0


def test_exploding_and_vanishing_signals_are_still_numbers():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].weight.mul_(1e25)
        model[2].weight.mul_(1e-30)
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    found = measure(model, weight_layers(model, x), x, torch.zeros(16, dtype=torch.long))
    assert found[0, COLUMNS.index("pre_activation_variance")] > 1e48
    assert 0 < found[0, COLUMNS.index("gradient_variance")] < 1e-50
    model[0].weight.data.fill_(math.inf)
    broken = to_stats(
        weight_layers(model, x), [ProbeAtStep(0, measure(model, weight_layers(model, x), x, torch.zeros(16, dtype=torch.long)))]
    )
    assert broken[0].pre_activation_variance is None


def test_constants_have_no_variance():
    model = nn.Linear(5, 4)
    nn.init.zeros_(model.weight)
    nn.init.constant_(model.bias, 0.3)
    x = torch.randn(300, 5)
    found = measure(model, weight_layers(model, x), x, None)
    assert found[0, COLUMNS.index("pre_activation_variance")] == 0
    assert found[0, COLUMNS.index("pre_activation_mean")].item() == pytest.approx(0.3)


def test_without_labels_only_the_gradients_are_missing():
    model, x = mlp(), torch.randn(8, 12)
    found = measure(model, weight_layers(model, x), x, None)
    missing = {column for column in COLUMNS if found[:, COLUMNS.index(column)].isnan().all()}
    absent = {"gradient", "weight_gradient", "stream", "stream_gradient"}
    assert missing == {quantity.name for quantity in QUANTITIES if quantity.of in absent}


def test_bfloat16_models_are_measured_in_full_precision():
    torch.manual_seed(8)
    model, x, y = mlp(), torch.randn(64, 12), torch.randint(0, 5, (64,))
    full = measure(model, weight_layers(model, x), x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = measure(model, weight_layers(model, x), x, y)
    torch.testing.assert_close(half, full, rtol=0.05, atol=0.02, equal_nan=True)
    assert half.dtype == torch.float64


def test_update_ratios_are_the_relative_change_of_each_weight():
    model, x = mlp(), torch.randn(8, 12)
    layers = weight_layers(model, x)
    before = copy_weights(layers)
    with torch.no_grad():
        model.stages[1][0].weight.mul_(1.5)
    ratios = update_ratios(layers, before)
    torch.testing.assert_close(ratios, torch.tensor([[0.0], [0.5], [0.0]], dtype=torch.float64), rtol=1e-6, atol=0)
    stats = to_stats(layers, [ProbeAtStep(3, measure(model, layers, x, None), ratios), ProbeAtStep(4, measure(model, layers, x, None))])
    assert [(entry.step, entry.position, entry.update_ratio) for entry in stats[1::3]] == [(3, 1, pytest.approx(0.5)), (4, 1, None)]


def test_frozen_shared_and_unused_layers_have_what_there_is():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.frozen, self.shared, self.unused, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
            self.frozen.requires_grad_(False)

        def forward(self, x):
            x = F.relu(self.frozen(x))
            return self.head(torch.tanh(self.shared(torch.tanh(self.shared(x)))))

    torch.manual_seed(9)
    model, x, y = Odd(), torch.randn(8, 6), torch.zeros(8, dtype=torch.long)
    layers = weight_layers(model, x)
    stats = {entry.layer: entry for entry in to_stats(layers, [ProbeAtStep(0, measure(model, layers, x, y))])}
    assert stats["frozen"].weight_gradient_norm is None
    assert stats["frozen"].gradient_variance is None
    assert stats["unused"].pre_activation_mean is None
    assert stats["unused"].weight_variance is not None
    first_use = model.shared(F.relu(model.frozen(x)))
    assert stats["shared"].pre_activation_variance == pytest.approx(first_use.var(correction=0).item(), rel=1e-5)
