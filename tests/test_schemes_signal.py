"""Through real modules, each scheme keeps what its paper says it keeps; and its noise is paired and its own."""

import math

import pytest
import torch
from schemes_support import init
from torch import nn

from initbench.nn.seeds import generator

WIDTH = 64


def relu_input(*shape):
    return torch.randn(shape, generator=generator(0, "test", str(shape))).relu()


RECTIFIED = {
    "linear": (nn.Linear(400, 300), relu_input(400, 400)),
    "conv1d": (nn.Conv1d(WIDTH, 96, 5), relu_input(64, WIDTH, 40)),
    "conv2d strided": (nn.Conv2d(WIDTH, 128, 3, stride=2), relu_input(32, WIDTH, 15, 15)),
    "conv3d": (nn.Conv3d(24, 40, 3), relu_input(16, 24, 8, 8, 8)),
    "grouped": (nn.Conv2d(128, 256, 3, groups=4), relu_input(32, 128, 9, 9)),
    "depthwise": (nn.Conv2d(1024, 2048, 3, groups=1024), relu_input(32, 1024, 5, 5)),
    "dilated": (nn.Conv2d(WIDTH, 96, 3, dilation=3), relu_input(32, WIDTH, 12, 12)),
    "transposed": (nn.ConvTranspose2d(WIDTH, 96, 3, padding=2), relu_input(32, WIDTH, 9, 9)),
    "transposed strided": (nn.ConvTranspose2d(WIDTH, 96, 4, stride=2, padding=3), relu_input(32, WIDTH, 9, 9)),
    "transposed grouped": (nn.ConvTranspose2d(128, 128, 3, groups=4, padding=2), relu_input(32, 128, 9, 9)),
}


def mean_square_ratio(module, x, scheme, seeds=6):
    """E[y^2] / E[x^2], averaged over seeds and units, away from borders (the modules' padding sees to that)."""
    ratios = []
    for seed in range(seeds):
        init(module, scheme, seed)
        with torch.no_grad():
            ratios.append((module(x).square().mean() / x.square().mean()).item())
    return sum(ratios) / seeds


@pytest.mark.parametrize("name", RECTIFIED)
def test_kaiming_keeps_the_second_moment_of_rectified_signals(name):
    module, x = RECTIFIED[name]
    assert mean_square_ratio(module, x, "kaiming") == pytest.approx(2.0, rel=0.06)


def test_kaiming_fan_out_keeps_the_gradient_of_rectified_layers():
    ratios = []
    for seed in range(6):
        layer = nn.Linear(300, 500)
        init(layer, "kaiming:mode=fan_out", seed)
        x = torch.randn(200, 300, generator=generator(seed, "test")).requires_grad_()
        after = layer(x)
        gradient = torch.randn(after.shape, generator=generator(seed, "test", "gradient"))
        after.relu().backward(gradient)
        ratios.append((x.grad.square().mean() / gradient.square().mean()).item())
    assert sum(ratios) / 6 == pytest.approx(1.0, rel=0.05)


def test_xavier_keeps_signal_and_gradient_of_square_linear_layers_and_compromises_on_others():
    x = torch.randn(400, 400, generator=generator(0, "test"))
    assert mean_square_ratio(nn.Linear(400, 400), x, "xavier") == pytest.approx(1.0, rel=0.04)
    assert mean_square_ratio(nn.Linear(400, 100), x, "xavier_uniform") == pytest.approx(1.6, rel=0.04)


def test_lecun_keeps_the_second_moment_of_linear_and_selu_layers():
    x = torch.randn(300, 400, generator=generator(0, "test"))
    assert mean_square_ratio(nn.Linear(400, 300), x, "lecun") == pytest.approx(1.0, rel=0.04)
    assert mean_square_ratio(nn.Sequential(nn.Linear(400, 400), nn.SELU(), nn.Linear(400, 400)), x, "lecun") == pytest.approx(1.0, rel=0.05)


def test_kaiming_keeps_the_signal_through_thirty_layers_and_a_gain_of_5_percent_more_does_not():
    x = torch.randn(64, 256, generator=generator(0, "test"))

    def log_growth(scheme):
        logs = []
        for seed in range(6):
            model = nn.Sequential(*[part for _ in range(30) for part in (nn.Linear(256, 256, bias=False), nn.ReLU())])
            init(model, scheme, seed)
            logs.append(math.log((model(x).square().mean() / x.square().mean() * 2).item()))
        return sum(logs) / 6

    assert abs(log_growth("kaiming")) < 1.0
    assert log_growth("variance_scaling:scale=2.205,distribution=normal") > 1.5


def test_orthogonal_layers_are_isometries():
    x = torch.randn(50, 128, generator=generator(0, "test"))
    layer = nn.Linear(128, 300)
    init(layer, "orthogonal")
    torch.testing.assert_close(layer(x).norm(dim=1), x.norm(dim=1))
    layer = nn.Linear(300, 128)
    init(layer, "orthogonal:gain=2")
    torch.testing.assert_close(torch.linalg.svdvals(layer.weight), torch.full((128,), 2.0), rtol=1e-5, atol=0)


def test_each_gate_each_of_qkv_and_each_group_is_orthogonal_on_its_own():
    lstm, attention, grouped = nn.LSTM(40, 30), nn.MultiheadAttention(32, 4), nn.Conv2d(32, 64, 3, groups=4)
    for model in (lstm, attention, grouped):
        init(model, "orthogonal")
    blocks = [*lstm.weight_hh_l0.chunk(4), *attention.in_proj_weight.chunk(3), *grouped.weight.flatten(1).chunk(4)]
    for block in blocks:
        smaller = min(block.shape)
        gram = block @ block.T if block.shape[0] == smaller else block.T @ block
        torch.testing.assert_close(gram, torch.eye(smaller), rtol=0, atol=1e-5)


def test_two_schemes_with_the_same_seed_draw_the_same_noise_at_another_scale():
    layer = nn.Conv2d(8, 12, 3)
    drawn = {}
    for scheme in ("normal", "kaiming", "xavier", "lecun", "kaiming:mode=fan_out"):
        init(layer, scheme, seed=4)
        drawn[scheme] = layer.weight.detach().clone()
    noise = drawn.pop("normal")
    for scheme, weight in drawn.items():
        torch.testing.assert_close(weight / weight.std(), noise / noise.std(), rtol=1e-5, atol=1e-6), scheme


@pytest.mark.parametrize("scheme", ["normal", "xavier", "trunc_normal", "orthogonal", "torch_default"])
def test_weights_depend_on_seed_and_name_only(scheme):
    def weight(seed, before=0, threads=1):
        torch.set_num_threads(threads)
        torch.randn(before)
        model = nn.ModuleDict({"a": nn.Linear(20, 30), "b": nn.Linear(20, 30)} if before else {"b": nn.Linear(20, 30)})
        init(model, scheme, seed)
        torch.set_num_threads(1)
        return model["b"].weight.detach().clone(), model

    first, _ = weight(0)
    again, model = weight(0, before=7, threads=2)
    assert torch.equal(first, again)
    assert not torch.equal(first, weight(1)[0])
    assert not torch.equal(model["a"].weight, model["b"].weight)
    assert len(set(model["a"].weight.flatten().tolist()) & set(model["b"].weight.flatten().tolist())) <= 3


def test_the_global_generator_is_neither_read_nor_advanced():
    layer = nn.Linear(30, 40)
    state = torch.get_rng_state()
    init(layer, "kaiming")
    assert torch.equal(torch.get_rng_state(), state)
