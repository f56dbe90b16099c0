"""The critical schemes put networks where they say: gradients keep their size, signals their variance."""

import math

import pytest
import torch
from schemes_support import assert_law, cases, init, weight_of
from torch import nn

from initbench.errors import DoesNotApply
from initbench.init.data_driven import layer_outputs
from initbench.init.initialize import initialize
from initbench.nn.seeds import generator
from initbench.question.config import InitRules, parse_ref
from initbench.schemes.autoinit_signal import largest_of
from initbench.schemes.edge_of_chaos import _critical_variances
from initbench.theory import meanfield


def normal(*shape):
    return torch.randn(shape, generator=generator(0, "test", str(shape)))


def traced(model, scheme, x, seed=0, **more):
    return initialize(model, parse_ref(scheme), seed=seed, inputs=x[:2], **more)


def deep(width, depth, activation):
    return nn.Sequential(*[part for _ in range(depth) for part in (nn.Linear(width, width), activation())], nn.Linear(width, width))


POINTS = [
    ("tanh", 1.0, 2.15330, 0.15096),
    ("relu", 1.0, 2.0, 0.0),
    ("gelu", 1.0, 2.19370, 0.06719),
    ("tanh", 0.25, 1.39396, 0.00813),
    ("erf", 1.0, 1.75620, 0.18414),
]


@pytest.mark.parametrize(("name", "q", "weight", "bias"), POINTS)
def test_the_critical_point_is_the_published_one(name, q, weight, bias):
    assert _critical_variances(name, q) == pytest.approx((weight, bias), abs=2e-5)
    assert _critical_variances(name, q) == meanfield.edge_of_chaos(name, q)


@pytest.mark.parametrize("name", ["linear", "conv2d", "none"])
def test_without_an_activation_weights_of_variance_one_over_fan_in_are_critical(name):
    assert _critical_variances(name, 0.7) == (1.0, 0.0)


def test_an_activation_without_a_critical_point_is_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 4))
    with pytest.raises(DoesNotApply, match="'sigmoid' has no edge of chaos at q = 1"):
        traced(model, "edge_of_chaos", normal(2, 4))


@pytest.mark.parametrize("distribution", ["normal", "uniform", "orthogonal"])
def test_weights_and_biases_at_the_edge_of_chaos_have_their_variances(distribution):
    model = deep(200, 2, nn.Tanh)
    report, _ = traced(model, f"edge_of_chaos:distribution={distribution}", normal(2, 200))
    for layer in (model[0], model[2], model[4]):
        assert layer.weight.square().mean().item() * 200 == pytest.approx(2.15330, rel=0.03)
        if distribution != "orthogonal":
            assert_law(layer.weight, distribution, math.sqrt(2.15330 / 200))
    biases = torch.cat([layer.bias for layer in (model[0], model[2], model[4])]).detach()
    assert biases.square().mean().item() == pytest.approx(0.15096, rel=0.25)
    assert report.parameters[1].target_std == pytest.approx(math.sqrt(0.15096), abs=1e-4)


@pytest.mark.parametrize("name", ["linear narrowing", "linear widening", "grouped", "conv1d", "transposed strided", "lstm, input"])
def test_at_the_edge_of_chaos_the_fan_is_what_a_unit_sums_over(name):
    case = cases()[name]
    init(case.module, "edge_of_chaos:nonlinearity=tanh,distribution=trunc_normal")
    assert_law(weight_of(case), "trunc_normal", math.sqrt(2.15330 / case.fan_in))


def test_at_the_edge_of_chaos_variance_stays_at_q_and_gradients_keep_their_size():
    squares, ratios = [], []
    for seed in range(5):
        model, x = deep(300, 15, nn.Tanh), normal(30, 300)
        traced(model, "edge_of_chaos:q=0.5,first_layer=on_q", x, seed)
        outputs = [x := x.requires_grad_()]
        for module in model:
            outputs.append(module(outputs[-1]))
            outputs[-1].retain_grad()
        outputs[-1].backward(normal(30, 300))
        squares += [outputs[index].square().mean().item() for index in (1, 11, 21, 31)]
        ratios.append((outputs[1].grad.square().mean() / outputs[31].grad.square().mean()).item())
        x.grad = None
    assert sum(squares) / len(squares) == pytest.approx(0.5, rel=0.1)
    assert math.exp(sum(map(math.log, ratios)) / 5) == pytest.approx(1.0, rel=0.25)


def test_a_layer_is_set_for_what_feeds_it():
    model = nn.Sequential(nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 300))
    report, _ = traced(model, "edge_of_chaos", normal(2, 300))
    stds = [entry.target_std**2 * 300 for entry in report.parameters if entry.shape == (300, 300)]
    assert stds == pytest.approx([2.15330, 2.15330, 2.0], abs=1e-4)


def test_a_constant_bias_beats_the_schemes_own():
    model = deep(20, 2, nn.Tanh)
    traced(model, "edge_of_chaos", normal(2, 20), rules=InitRules(bias=0.3))
    assert (model[0].bias == 0.3).all()


MIXED = {
    "tanh": lambda: deep(300, 10, nn.Tanh),
    "sigmoid": lambda: deep(300, 10, nn.Sigmoid),
    "gelu": lambda: deep(300, 10, nn.GELU),
    "pooled": lambda: nn.Sequential(
        *(nn.Conv2d(3, 200, 1), nn.AvgPool2d(2), nn.SiLU()),
        *(nn.Conv2d(200, 200, 1), nn.MaxPool2d(2), nn.Tanh()),
        *(nn.Flatten(), nn.Linear(800, 50)),
    ),
    "global": lambda: nn.Sequential(nn.Conv2d(3, 200, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(200, 50)),
    "norm": lambda: nn.Sequential(nn.Linear(300, 300), nn.ELU(), nn.LayerNorm(300), nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 50)),
}  # fmt: skip


@pytest.mark.heavy
@pytest.mark.parametrize("name", MIXED)
def test_autoinit_signal_keeps_every_output_at_variance_one(name):
    shape = (200, 3, 8, 8) if name in {"pooled", "global"} else (200, 300)
    sums: dict[str, float] = {}
    for seed in range(4):
        model = MIXED[name]()
        traced(model, "autoinit_signal", normal(*shape), seed)
        for key, output in layer_outputs(model, normal(*shape)).items():
            sums[key] = sums.get(key, 0.0) + output.square().mean().item() / 4
    assert list(sums.values()) == pytest.approx([1.0] * len(sums), rel=0.2)


def test_autoinit_signal_allows_for_dropout_and_for_the_inputs_moments():
    model = nn.Sequential(nn.Linear(400, 400), nn.ReLU(), nn.Dropout(0.5), nn.Linear(400, 400))
    report, _ = traced(model, "autoinit_signal:input_mean=1,input_variance=3,distribution=normal", normal(2, 400))
    assert report.parameters[0].target_std ** 2 * 400 == pytest.approx(1 / 4)
    assert report.parameters[2].target_std ** 2 * 400 == pytest.approx(1 / (0.5 / 0.5))
    assert_law(model[3].weight, "normal", 0.05)


def test_the_largest_of_normal_numbers_has_the_known_moments():
    assert largest_of(1) == pytest.approx((0.0, 1.0), abs=1e-5)
    assert largest_of(2) == pytest.approx((1 / math.sqrt(math.pi), 1 - 1 / math.pi), abs=1e-5)
    assert largest_of(4)[0] == pytest.approx(1.029375, abs=1e-5)


def test_autoinit_signal_refuses_sums_unknown_functions_and_unseen_models():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.b(x + self.a(x).relu())

    with pytest.raises(DoesNotApply, match="autoinit_signal"):
        traced(Sum(), "autoinit_signal", normal(2, 4))
    with pytest.raises(DoesNotApply, match="Give an example batch"):
        initialize(nn.Linear(3, 4), parse_ref("autoinit_signal"), seed=0)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.SiLU])
def test_autoinit_jacobian_brings_every_layers_jacobian_to_one(activation):
    model, x = deep(30, 3, activation), normal(64, 30)
    report, _ = traced(model, "autoinit_jacobian:base=normal", x, batch=lambda size, index: (x[:size], None))
    for index in range(0, 6, 2):
        h = model[: index + 1](x).detach().requires_grad_()
        (slopes,) = torch.autograd.grad(model[index + 1](h).sum(), h)
        squares = slopes.square() @ model[index + 2].weight.square().T
        assert squares.mean().item() == pytest.approx(1.0, rel=0.12)
    assert report.parameters[0].std == pytest.approx(1.0, rel=0.1)
    assert report.parameters[2].target_std is None
