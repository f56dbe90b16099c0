"""What is found by following the signal: order, activations, raw weights, paths; and that looking changes nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initbench.errors import ConfigError
from initbench.nn.layers import Role, explain, weight_layers
from initbench.nn.watch import trace


def run(forward, **parts):
    """A module with these parts whose forward is a function of (self, x)."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

    Net.forward = forward
    return Net()


def names(layers):
    return [layer.name for layer in layers]


def test_layers_come_in_the_order_of_execution_not_of_registration():
    model = run(lambda self, x: self.a(F.relu(self.c(self.b(x)))), a=nn.Linear(4, 2), b=nn.Linear(4, 4), c=nn.Linear(4, 4))
    assert names(weight_layers(model)) == ["a", "b", "c"]
    found = weight_layers(model, torch.randn(3, 4))
    assert names(found) == ["b", "c", "a"]
    assert [layer.position for layer in found] == [0, 1, 2]
    assert [layer.role for layer in found] == [Role.STEM, Role.HIDDEN, Role.HEAD]
    assert [layer.surroundings.sources for layer in found] == [(), ("b",), ("c",)]


class Swish(nn.Module):
    def __init__(self):
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return x * torch.sigmoid(self.beta * x)


class RootFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.abs().sqrt()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class SignedRoot(nn.Module):
    def forward(self, x):
        return RootFunction.apply(x)


class ReLU(nn.Module):
    def forward(self, x):
        return torch.relu(x) * 1.7


ACTIVATIONS = {
    "relu": [nn.ReLU(), nn.ReLU(inplace=True), F.relu, torch.relu, torch.relu_, lambda x: x.relu(), lambda x: x.clamp(min=0)],
    "relu6": [nn.ReLU6(), F.relu6, lambda x: x.clamp(0, 6)],
    "leaky_relu": [nn.LeakyReLU(), lambda x: torch.where(x > 0, x, 0.01 * x), lambda x: torch.maximum(x, x / 100)],
    "leaky_relu:negative_slope=0.2": [nn.LeakyReLU(0.2), nn.LeakyReLU(0.2, inplace=True), lambda x: F.leaky_relu_(x, 0.2)],
    "prelu": [nn.PReLU()],
    "prelu:init=0.1": [nn.PReLU(6, 0.1)],
    "tanh": [nn.Tanh(), torch.tanh, F.tanh, lambda x: x.tanh_()],
    "sigmoid": [nn.Sigmoid(), torch.special.expit],
    "gelu": [nn.GELU(), lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5))],
    "gelu:approximate=tanh": [nn.GELU("tanh"), lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * torch.pow(x, 3))))],
    "silu": [nn.SiLU(), lambda x: x * torch.sigmoid(x), lambda x: x / (1 + torch.exp(-x))],
    "mish": [nn.Mish(), lambda x: x * torch.tanh(F.softplus(x))],
    "elu": [nn.ELU(), nn.CELU()],
    "elu:alpha=2.0": [nn.ELU(2.0)],
    "celu:alpha=2.0": [nn.CELU(2.0)],
    "selu": [nn.SELU(inplace=True)],
    "softplus": [nn.Softplus()],
    "softplus:beta=2.0": [nn.Softplus(2.0)],
    "softsign": [nn.Softsign(), lambda x: x / (1 + x.abs())],
    "hardtanh": [nn.Hardtanh(), lambda x: x.clamp(-1, 1)],
    "hardswish": [nn.Hardswish()],
    "hardsigmoid": [nn.Hardsigmoid()],
    "hardshrink": [nn.Hardshrink()],
    "softshrink:lambd=0.3": [nn.Softshrink(0.3)],
    "threshold:threshold=0.1,value=20.0": [nn.Threshold(0.1, 20.0)],
    "rrelu": [nn.RReLU().eval()],
    "logsigmoid": [nn.LogSigmoid()],
    "sin": [torch.sin],
    "sin:omega=30": [lambda x: torch.sin(30 * x)],
    "erf": [torch.erf],
    "abs": [torch.abs, lambda x: F.relu(x) + F.relu(-x)],
    "square": [torch.square, lambda x: x**2, lambda x: x * x],
    "glu": [nn.GLU(), F.glu],
    "swish": [Swish()],
    "signed_root": [SignedRoot()],
    "own_relu": [ReLU()],
    "exp_sub": [lambda x: torch.exp(x) - 2],
}
"""The name that must be found -> ways to write the activation."""


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_found_however_it_is_written(name):
    x = torch.randn(5, 4)
    for act in ACTIVATIONS[name]:
        width = 3 if name == "glu" else 6
        model = run(lambda self, x, act=act: self.b(act(self.a(x))), a=nn.Linear(4, 6), b=nn.Linear(width, 2))
        if isinstance(act, nn.Module):
            model.act = act
        first, second = weight_layers(model, x)
        found = first.activation.replace("celu", "elu") if name == "elu" else first.activation
        assert found == name
        assert second.activation is None
        assert second.surroundings.path == (first.activation,)
        assert first.activation_fn is not None
        z = torch.randn(6)
        kept = z.clone()
        if name not in {"glu", "prelu:init=0.1"}:
            torch.testing.assert_close(first.activation_fn(z), act(z.clone()), rtol=1e-5, atol=1e-5)
            assert torch.equal(z, kept)


def test_norm_dropout_pooling_and_reshaping_are_looked_through_and_named():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Dropout2d(0.1), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.25), nn.Linear(16, 6), nn.LayerNorm(6), nn.Unflatten(1, (2, 3)), nn.Tanh(),
        nn.Flatten(), nn.Linear(6, 2), nn.LogSoftmax(-1),
    )  # fmt: skip
    conv, linear, head = weight_layers(model, torch.randn(2, 1, 12, 12))
    assert [conv.activation, linear.activation, head.activation] == ["relu", "tanh", None]
    assert conv.surroundings.between == ("batch_norm", "max_pool2d:kernel_size=2", "dropout2d:p=0.1")
    assert linear.surroundings.path[-3:] == ("relu", "avg_pool2d:kernel_size=2", "dropout:p=0.25")
    assert linear.surroundings.between == ("layer_norm",)
    assert conv.surroundings.output_shape == (4, 10, 10)
    assert head.role is Role.HEAD


def test_raw_parameters_are_found_with_their_orientation_and_bias():
    def forward(self, x):
        x = F.relu(x @ self.in_out + self.shift)
        x = F.relu(F.linear(x, self.out_in))
        x = F.relu(torch.matmul(x, self.turned.T))
        x = F.relu(torch.einsum("bi,ihk->bhk", x, self.heads).flatten(1))
        x = F.relu(torch.addmm(self.late, x, self.mixed))
        return (self.left @ x.T).T

    make = lambda *shape: nn.Parameter(torch.randn(*shape))  # noqa: E731
    model = run(
        forward, left=make(2, 8), mixed=make(6, 8), late=make(8), heads=make(5, 2, 3), turned=make(5, 9), out_in=make(9, 7),
        in_out=make(4, 7), shift=make(7),
    )  # fmt: skip
    found = {layer.name: layer for layer in weight_layers(model, torch.randn(3, 4))}
    assert list(found) == ["in_out", "out_in", "turned", "heads", "mixed", "left"]
    fans = {name: (layer.fan_in, layer.fan_out, layer.transposed) for name, layer in found.items()}
    assert fans == {
        "in_out": (4, 7, True), "out_in": (7, 9, False), "turned": (9, 5, False), "heads": (5, 6, True), "mixed": (6, 8, True),
        "left": (8, 2, False),
    }  # fmt: skip
    assert found["in_out"].bias == "shift"
    assert found["mixed"].bias == "late"
    assert [layer.activation for layer in found.values()] == ["relu"] * 5 + [None]


def test_looking_changes_nothing():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.ReLU(), nn.Linear(6, 2))
    model[1].eval()
    x, state = torch.randn(5, 4), torch.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weight_layers(model, x)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == [True, True, False, True, True, True]
    assert not any(module._forward_hooks for module in model.modules())
    assert not x.__dict__
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_cannot_be_run_gives_one_sentence():
    with pytest.raises(ConfigError, match=r"on a batch of shape 3 x 5 \(float32\): .*3x5 and 4x2.*Give it a batch") as caught:
        trace(nn.Linear(4, 2), torch.randn(3, 5))
    assert "\n" not in str(caught.value)


def test_it_says_what_it_cannot_tell():
    shared = nn.Linear(4, 4)
    norm = nn.utils.parametrizations.spectral_norm

    def forward(self, x):
        x = torch.cummax(self.odd(x), 0).values
        return self.head(torch.tanh(self.again(torch.tanh(self.shared(torch.tanh(self.again(x)))))))

    model = run(forward, odd=nn.Linear(4, 4), shared=norm(nn.Linear(4, 4)), again=shared, unused=nn.Linear(2, 2), head=nn.Linear(4, 2))
    notes = " ".join(explain(model, torch.randn(3, 4)).notes)
    assert "No activation can be told after 'odd': the output goes into cummax." in notes
    assert "'again' is used 2 times" in notes
    assert "'unused' is not met" in notes
    assert "'shared' is computed from 'shared.parametrizations.weight.original' in every pass, through spectral norm." in notes
    assert "has not been run" in explain(model).notes[0]
    assert explain(nn.Linear(3, 2), torch.randn(2, 3)).notes == ()


def test_a_gate_belongs_to_the_half_it_acts_on_and_the_signal_goes_on():
    def forward(self, x):
        a, b = self.up(x).chunk(2, dim=-1)
        return self.down(a * F.silu(b))

    up, down = weight_layers(run(forward, up=nn.Linear(4, 12), down=nn.Linear(6, 4)), torch.randn(3, 4))
    assert up.activation == "silu"
    assert down.surroundings.sources == ("up",)


def test_an_activation_is_a_function_of_vectors_whatever_its_layout():
    def forward(self, x):
        return self.b(torch.relu(self.a(x).unflatten(1, (2, 3))).flatten(1) * 1.5)

    first, _ = weight_layers(run(forward, a=nn.Linear(4, 6), b=nn.Linear(6, 2)), torch.randn(5, 4))
    assert first.activation == "relu_mul"
    assert first.activation_fn(torch.tensor([-1.0, 2.0])).tolist() == [0.0, 3.0]


def test_an_activation_of_ones_own_is_known_as_it_is_in_evaluation_mode():
    class Noisy(nn.Module):
        def forward(self, x):
            return F.dropout(torch.relu(x), 0.5, self.training) * 2

    act = Noisy()
    first, _ = weight_layers(nn.Sequential(nn.Linear(4, 6), act, nn.Linear(6, 2)), torch.randn(5, 4))
    assert first.activation_fn(torch.tensor([-1.0, 2.0])).tolist() == [0.0, 4.0]
    assert act.training


def test_the_graph_has_the_tensors_in_order_and_what_each_comes_from():
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 2))
    graph = trace(model, torch.randn(5, 4))
    assert [(node.name, str(node.kind)) for node in graph.nodes] == [
        ("input", "input"), ("linear", "weight"), ("layer_norm", "anything else"), ("relu", "elementwise function"), ("linear", "weight"),
    ]  # fmt: skip
    assert [node.inputs for node in graph.nodes[1:]] == [(node,) for node in graph.nodes[:-1]]
    assert graph.output is graph.nodes[-1]
    assert graph.uses[0].activation is graph.nodes[3]
    assert graph.uses[0].between == ("layer_norm",)
    assert graph.heads == {1}
