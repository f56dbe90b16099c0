"""Sums of the signal: exact at any magnitude, memory format and size, and taken at the right tensor."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initbench.measure.capture import captured
from initbench.measure.probes import COLUMNS, MEASURED, measure
from initbench.measure.sums import CHUNK, MeasuredTensor, Scratch, columns, quick_sums, sums
from initbench.nn.layers import weight_layers
from initbench.quantities.moments import mean, variance
from initbench.quantities.zeros import living


def moments(total, norm, count):
    taken, counts = torch.stack([total, norm]), torch.tensor([count], dtype=torch.float64)
    return mean(taken, counts), variance(taken, counts)


def mean_and_variance(values):
    return moments(*sums(values, Scratch()))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("shape", [(40, 30), (7, 3, 5, 5), (2, CHUNK // 2 + 77)])
def test_moments_are_exact_at_any_magnitude(scale, shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).mul(scale).add(3 * scale)
    for seen in (values, values.transpose(0, -1), values.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else values):
        mean, variance = mean_and_variance(seen)
        assert mean.item() == pytest.approx(values.double().mean().item(), rel=1e-12)
        assert variance.item() == pytest.approx(values.double().var(correction=0).item(), rel=1e-9)


def test_moments_of_half_precision_are_summed_in_float64():
    values = torch.randn(5000, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    mean, variance = mean_and_variance(values)
    assert mean.dtype == variance.dtype == torch.float64
    assert variance.item() == pytest.approx(values.double().var(correction=0).item(), rel=1e-9)


def test_what_is_not_finite_stays_so():
    assert not torch.stack(mean_and_variance(torch.tensor([1.0, torch.inf]))).isfinite().any()
    assert torch.stack(mean_and_variance(torch.tensor([1.0, torch.nan]))).isnan().all()


def test_a_channel_is_dead_when_it_is_zero_at_every_position_of_every_image():
    values = torch.ones(3, 4, 2, 2)
    values[:, 1] = 0
    values[1:, 2] = -0.0
    (alive, dead), counts = living(MeasuredTensor(values, Scratch(), unit_dim=1))
    assert (alive.item(), dead.item(), counts) == (2 * 12 + 4, 1, (48, 4))
    (alive, dead), counts = living(MeasuredTensor(values[:, :, 0, 0], Scratch()))
    assert (alive.item(), dead.item(), counts) == (3 + 3 + 1, 1, (12, 4))


def run(model, x):
    layers = weight_layers(model, x)
    with torch.no_grad(), captured(model, layers, x) as forward:
        return forward.output, columns(forward.statistics, x, MEASURED)


def test_what_works_in_place_after_a_layer_does_not_change_what_was_measured():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            y = F.relu(self.a(x), inplace=True)
            y.mul_(2)
            z = self.b(y)
            z += y
            z.add_(5)
            return self.c(z)

    torch.manual_seed(0)
    model, x = Net(), torch.randn(16, 4)
    _, found = run(model, x)
    with torch.no_grad():
        a = model.a(x)
        y = 2 * F.relu(a)
        b = model.b(y)
    expected = torch.stack([a.double().var(correction=0), b.double().var(correction=0)])
    torch.testing.assert_close(found["pre_activation_variance"][:2], expected, rtol=1e-6, atol=0)
    assert found["activation_variance"][0].item() == pytest.approx(y.double().var(correction=0).item(), rel=1e-6)
    assert found["activation_variance"][1].item() == pytest.approx(b.double().var(correction=0).item(), rel=1e-6)


def test_an_activation_of_ones_own_is_measured_as_a_whole():
    class Act(nn.Module):
        def forward(self, x):
            return torch.sigmoid(x * self.training) * 0 + F.relu(x - 0.5)

    torch.manual_seed(1)
    model, x = nn.Sequential(nn.Linear(4, 5), Act(), nn.Linear(5, 2)), torch.randn(32, 4)
    model[1].training = False
    _, found = run(model, x)
    expected = F.relu(model[0](x) - 0.5)
    assert found["activation_mean"][0].item() == pytest.approx(expected.mean().item(), rel=1e-5)
    assert found["zero_fraction"][0].item() == pytest.approx((expected == 0).double().mean().item())


def test_batch_norm_uses_the_batch_and_keeps_its_buffers_and_dropout_is_off():
    model, x = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.9), nn.Tanh(), nn.Linear(4, 2)), 5 * torch.randn(64, 3)
    model.eval()
    _, found = run(model, x)
    expected = torch.tanh(F.batch_norm(model[0](x), None, None, training=True))
    assert found["activation_variance"][0].item() == pytest.approx(expected.double().var(correction=0).item(), rel=1e-5)
    assert model[1].running_mean.eq(0).all()
    assert not model[1].training


def test_attention_and_recurrent_layers_are_measured_where_they_can_be_seen():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.rnn, self.head = nn.RNN(8, 6, batch_first=True), nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.rnn(self.attention(x, x, x)[0])[0][:, -1])

    torch.manual_seed(2)
    model, x = Net(), torch.randn(5, 7, 8)
    _, found = run(model, x)
    names = [layer.name for layer in weight_layers(model, x)]
    assert names == ["attention.in_proj_weight", "attention.out_proj", "rnn.weight_ih_l0", "rnn.weight_hh_l0", "head"]
    packed = F.linear(x, model.attention.in_proj_weight, model.attention.in_proj_bias).double()
    states = model.rnn(model.attention(x, x, x)[0])[0].double()
    variance = found["pre_activation_variance"]
    assert variance[0].item() == pytest.approx(packed.var(correction=0).item(), rel=1e-6)
    assert variance.isnan().tolist() == [False, False, True, True, False]
    assert found["activation_variance"][3].item() == pytest.approx(states.var(correction=0).item(), rel=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_probe_on_a_gpu_agrees_with_the_cpu():
    torch.manual_seed(3)
    model, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)), torch.randn(16, 3, 8, 8)
    _, cpu = run(model, x)
    _, gpu = run(model.cuda(), x.cuda())
    for name in ("pre_activation_variance", "activation_variance", "zero_fraction"):
        torch.testing.assert_close(gpu[name].cpu(), cpu[name], rtol=1e-2, atol=1e-3)


def test_a_model_that_draws_and_keeps_things_is_left_alone():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.shift = nn.Linear(4, 4, bias=False), nn.Parameter(torch.full((4,), 7.0))
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            self.kept = self.a(x + torch.randn_like(x)) + self.shift
            return self.kept.tanh()

    model, x = Noisy(), torch.randn(8, 4)
    layers = weight_layers(model, x)
    state = torch.get_rng_state()
    with captured(model, layers, x) as forward:
        found = columns(forward.statistics, x, MEASURED)
    assert torch.equal(state, torch.get_rng_state())
    assert model.calls == 0
    assert not model.kept._backward_hooks
    assert found["pre_activation_mean"].item() == pytest.approx(model.kept.mean().item(), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1.0, 1e8, 1e30])
@pytest.mark.parametrize("shift", [0.0, 1e-3, 3.0])
@pytest.mark.parametrize("shape", [(40, 30), (200, 3, 8, 8), (300, 1000), (11,), (2, 400_000), (3, 16411), (2, 3, 300, 301)])
def test_quick_sums_are_right_at_any_magnitude(scale, shift, shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).add(shift).mul(scale)
    for seen in (values, values.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else values):
        total, norm, count = quick_sums(seen, Scratch())
        _, variance = moments(total, norm, count)
        assert count == values.numel()
        assert norm.item() == pytest.approx(values.double().norm().item(), rel=1e-6)
        assert variance.item() == pytest.approx(values.double().var(correction=0).item(), rel=2e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, -7.3, -3e30])
def test_equal_values_have_no_variance_at_all(value):
    total, norm, count = quick_sums(torch.full((640, 33), value), Scratch())
    assert moments(total, norm, count)[1].item() == 0


def test_the_gradient_before_an_activation_that_changes_a_view_in_place_is_measured():
    def measured(inplace):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(inplace), nn.Linear(6, 4), nn.Flatten())
        x = torch.randn(7, 3, 5, generator=torch.Generator().manual_seed(1))
        layers = weight_layers(model, x)
        return measure(model, layers, x, torch.arange(7))[:, COLUMNS.index("gradient_variance")]

    assert measured(inplace=True).isfinite().all()
    assert torch.equal(measured(inplace=True), measured(inplace=False))
