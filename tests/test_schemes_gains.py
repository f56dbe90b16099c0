"""Gains are torch's where torch has them and exact elsewhere; dropout and the frameworks' defaults are reckoned right."""

import math

import pytest
import torch
from schemes_support import assert_law, cases, init, weight_of
from torch import nn

from initbench.errors import ConfigError, DoesNotApply
from initbench.init.gains import gain_of, gaussian_gain, gradient_gain, torch_gain
from initbench.init.initialize import initialize
from initbench.nn.seeds import generator
from initbench.question.config import parse_ref


@pytest.mark.parametrize("name", ["linear", "conv2d", "conv_transpose3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"])
def test_the_gain_is_torchs_where_torch_has_one(name):
    assert torch_gain(name) == pytest.approx(nn.init.calculate_gain(name))
    assert gain_of(name) == torch_gain(name)


def test_the_slope_of_a_leaky_relu_counts():
    assert gain_of("leaky_relu:negative_slope=0.2") == pytest.approx(nn.init.calculate_gain("leaky_relu", 0.2))


TABLE = [
    ("relu", 1.4142, 1.4142),
    ("elu", 1.2452, 1.2234),
    ("selu", 1.0, 0.9660),
    ("gelu", 1.5335, 1.4811),
    ("silu", 1.6765, 1.6233),
    ("tanh", 1.5925, 1.4674),
]


@pytest.mark.parametrize(("name", "forward", "backward"), TABLE)
def test_the_exact_gains_are_those_of_the_table(name, forward, backward):
    assert gaussian_gain(name) == pytest.approx(forward, abs=6e-5)
    assert gradient_gain(name) == pytest.approx(backward, abs=6e-5)


def test_the_gain_depends_on_the_variance_it_is_for():
    assert gaussian_gain("relu", 9.0) == pytest.approx(math.sqrt(2))
    assert gaussian_gain("tanh", 1e-6) == pytest.approx(1.0, abs=1e-4)
    with pytest.raises(ConfigError, match="Did you mean 'gelu'"):
        gaussian_gain("geluu")


@pytest.mark.heavy
@pytest.mark.parametrize("activation", [nn.GELU, nn.Tanh, nn.Mish, nn.Softplus, nn.Hardswish])
def test_gaussian_gain_holds_the_pre_activation_variance(activation):
    shares = []
    for seed in range(4):
        model = nn.Sequential(*[part for _ in range(6) for part in (nn.Linear(300, 300), activation())], nn.Linear(300, 300))
        initialize(model, parse_ref("gaussian_gain"), seed=seed, inputs=torch.randn(2, 300))
        x = torch.randn(100, 300, generator=generator(seed, "test"))
        first = x / math.sqrt(gaussian_gain_square(activation))
        with torch.no_grad():
            shares.append((model[:11](first).square().mean()).item())
    assert sum(shares) / 4 == pytest.approx(1.0, rel=0.2)


def gaussian_gain_square(activation):
    from initbench.nn.activation import recognized

    return gaussian_gain(recognized(activation())) ** 2


def test_gaussian_gain_can_keep_the_gradient_and_draw_uniform():
    layer = nn.Linear(300, 100)
    init(layer, "gaussian_gain:keep=gradient,nonlinearity=gelu,distribution=uniform")
    assert_law(layer.weight, "uniform", gradient_gain("gelu") / 10)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_kaiming_dropout_keeps_the_signal_through_layers_with_dropout(p):
    logs = []
    for seed in range(6):
        torch.manual_seed(seed)
        model = nn.Sequential(*[part for _ in range(10) for part in (nn.Linear(300, 300), nn.ReLU(), nn.Dropout(p))])
        initialize(model, parse_ref("kaiming_dropout"), seed=seed, inputs=torch.randn(2, 300))
        x = torch.randn(60, 300, generator=generator(seed, "test")).relu()
        with torch.no_grad():
            logs.append(math.log((model.train()(x).square().mean() / x.square().mean()).item()))
    # the first layer has no dropout before it, and the last one has some behind it
    assert sum(logs) / 6 == pytest.approx(-math.log(1 - p), abs=0.2)


def test_kaiming_dropout_without_dropout_is_kaiming_and_finds_dropout_without_a_run():
    first, second = nn.Linear(30, 40), nn.Linear(30, 40)
    init(first, "kaiming_dropout")
    init(second, "kaiming")
    assert torch.equal(first.weight, second.weight)
    model = nn.Sequential(nn.Linear(30, 30), nn.ReLU(), nn.Dropout(0.3), nn.Linear(30, 30))
    for inputs in (None, torch.randn(2, 30)):
        report, _ = initialize(model, parse_ref("kaiming_dropout"), seed=0, inputs=inputs)
        stds = [entry.target_std**2 * 30 for entry in report.parameters if entry.shape == (30, 30)]
        assert stds == pytest.approx([2.0, 1.4])
    report = init(model, "kaiming_dropout:p=0.5")
    assert report.parameters[0].target_std ** 2 * 30 == pytest.approx(1.0)


KERAS = {  # sizes as Keras counts them: the sum of the first two axes of the kernel, times its area
    "linear narrowing": 450, "conv2d": 96 * 9, "grouped": (16 + 128) * 9, "depthwise": (1024 + 2) * 9, "transposed": 80 * 16,
    "transposed strided": 80 * 16, "attention, packed": 192, "lstm, input": 60 + 360, "gru, input": 120 + 180,
}  # fmt: skip


@pytest.mark.parametrize("name", KERAS)
def test_keras_default_is_glorot_uniform_on_the_kernel_as_keras_stores_it(name):
    case = cases()[name]
    init(case.module, "keras_default")
    assert_law(weight_of(case), "uniform", math.sqrt(2 / KERAS[name]))


def test_keras_makes_all_gates_of_a_recurrence_one_orthogonal_matrix_and_the_forget_bias_one():
    lstm = nn.LSTM(20, 30)
    init(lstm, "keras_default")
    torch.testing.assert_close(lstm.weight_hh_l0.T @ lstm.weight_hh_l0, torch.eye(30), rtol=0, atol=1e-5)
    assert (lstm.bias_ih_l0.chunk(4)[1] == 1).all()
    assert lstm.bias_ih_l0.sum() == 30
    assert (lstm.bias_hh_l0 == 0).all()
    table = nn.Embedding(100, 200)
    init(table, "keras_default", exclude=())
    assert_law(table.weight, "uniform", 0.05 / math.sqrt(3))


@pytest.mark.parametrize(
    ("name", "fan"), [("linear widening", 50), ("conv2d", 576), ("grouped", 144), ("transposed strided", 1024), ("gru, input", 120)]
)
def test_flax_default_is_a_truncated_lecun_normal(name, fan):
    case = cases()[name]
    init(case.module, "flax_default")
    assert_law(weight_of(case), "trunc_normal", fan**-0.5)


def test_flax_recurrences_are_orthogonal_gate_by_gate_and_embeddings_scaled():
    gru = nn.GRU(20, 30)
    init(gru, "flax_default")
    for gate in gru.weight_hh_l0.chunk(3):
        torch.testing.assert_close(gate @ gate.T, torch.eye(30), rtol=0, atol=1e-5)
    table = nn.Embedding(100, 200)
    init(table, "flax_default", exclude=())
    assert_law(table.weight, "normal", 200**-0.5)


class Bump(nn.Module):
    def forward(self, x):
        return 3 * torch.exp(-(x**2))


def test_auto_finds_the_gain_of_a_users_own_activation():
    model = nn.Sequential(nn.Linear(40, 40), Bump(), nn.Linear(40, 40))
    for scheme in ("gaussian_gain", "kaiming:nonlinearity=auto", "xavier:gain=auto", "orthogonal:gain=auto"):
        report, layers = initialize(model, parse_ref(scheme), seed=0, inputs=torch.randn(2, 40))
        assert layers[0].activation == "bump"
        assert report.parameters[0].target_std ** 2 * 40 == pytest.approx(math.sqrt(5) / 9, rel=1e-6)


def test_auto_refuses_where_no_gain_can_be_found():
    model = nn.Sequential(nn.Linear(4, 4), nn.Threshold(50.0, 0.0), nn.Linear(4, 4))
    before = model[2].weight.clone()
    for scheme in ("gaussian_gain", "kaiming:nonlinearity=auto", "delta_orthogonal:gain=auto", "scaled_orthogonal:gain=auto"):
        with pytest.raises(DoesNotApply, match="no gain can be found for the activation after it"):
            initialize(model, parse_ref(scheme), seed=0, inputs=torch.randn(2, 4))
    assert torch.equal(model[2].weight, before)
