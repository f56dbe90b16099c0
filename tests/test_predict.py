import math

import numpy as np
import pytest
import torch
from torch import nn

from initbench.init.initialize import initialize
from initbench.measure import predict, probes
from initbench.question.config import Ref
from initbench.results.record import LayerStats, Setter
from initbench.theory.network import Add, Apply, Flatten, Norm, Pool, Scale, Unknown, Weight


@pytest.fixture(scope="module")
def batch():
    source = torch.Generator().manual_seed(3)
    labels = torch.arange(80) % 10
    centers = torch.randn(10, 1, 8, 8, generator=source)
    return 0.5 * torch.randn(80, 1, 8, 8, generator=source) + 0.8 * centers[labels] + 0.3, labels


def predicted(model, batch, scheme="kaiming", **params):
    inputs, labels = batch
    report, layers = initialize(model, Ref(name=scheme, params=params), seed=0, inputs=inputs[:4])
    return predict.predictions(model, layers, report, inputs, labels), layers, report


def nodes_of(model, batch):
    inputs, _ = batch
    report, layers = initialize(model, Ref(name="kaiming"), seed=0, inputs=inputs[:4])
    return predict.theory_network(model, predict.layer_specs(layers, report), inputs).network.nodes


def mlp(activation, *, width=64, depth=4, inputs=64):
    parts = [nn.Flatten()]
    for size in [inputs] + [width] * (depth - 1):
        parts += [nn.Linear(size, width), activation()]
    return nn.Sequential(*parts, nn.Linear(width, 10))


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(x) + 0.1 * x


class Skip(nn.Module):
    def __init__(self, *parts):
        super().__init__()
        self.branch = nn.Sequential(*parts)

    def forward(self, x):
        return x + 0.5 * self.branch(x)


@pytest.mark.heavy
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU, Sine])
@pytest.mark.parametrize("scheme", ["kaiming", "torch_default", "orthogonal"])
def test_most_measurements_of_an_initialized_model_lie_in_the_band(batch, activation, scheme):
    inputs, labels = batch
    model = mlp(activation)
    found, layers, _ = predicted(model, batch, scheme)
    stats = probes.to_stats(layers, [probes.ProbeAtStep(0, probes.measure(model, layers, inputs, labels))])
    inside = 0
    for entry in predict.filled(stats, found):
        inside += (
            entry.predicted_pre_activation_variance_low <= entry.pre_activation_variance <= entry.predicted_pre_activation_variance_high
        )
        inside += entry.predicted_gradient_variance_low <= entry.gradient_variance <= entry.predicted_gradient_variance_high
        assert entry.prediction_note is None
    assert inside >= 6


def test_only_step_zero_is_filled_in(batch):
    found, layers, _ = predicted(mlp(nn.ReLU), batch)
    stats = [LayerStats(step=step, layer=layers[0].name, position=0) for step in (0, 10)]
    first, later = predict.filled(stats, found)
    assert first.predicted_pre_activation_variance == pytest.approx(found[layers[0].name].pre_activation.line, rel=1e-5)
    assert later == stats[1]


def test_the_prediction_follows_the_scheme_and_its_gain(batch):
    one, layers, _ = predicted(mlp(nn.ReLU), batch, "normal", std=0.1)
    two, _, _ = predicted(mlp(nn.ReLU), batch, "normal", std=0.2)
    name = layers[0].name
    assert two[name].pre_activation.line == pytest.approx(4 * one[name].pre_activation.line)


def test_the_laws_come_from_the_report(batch):
    _, layers, report = predicted(mlp(nn.ReLU), batch, "torch_default")
    spec = predict.layer_specs(layers, report)[layers[1].parameter]
    assert (spec.law, spec.bias_law) == ("uniform", "uniform")
    assert spec.std == pytest.approx(1 / math.sqrt(3 * 64))
    assert spec.bias_std == pytest.approx(1 / math.sqrt(3 * 64))


def test_weights_that_nothing_describes_are_measured(batch):
    _, layers, report = predicted(mlp(nn.ReLU), batch)
    bare = report.model_copy(
        update={"parameters": tuple(e.model_copy(update={"law": None, "setter": Setter.KEPT}) for e in report.parameters)}
    )
    spec = predict.layer_specs(layers, bare)[layers[1].parameter]
    assert spec.law == "measured"
    assert spec.std == pytest.approx(math.sqrt(2 / 64), rel=0.05)
    assert spec.mean == 0


def test_the_network_is_written_down_as_it_is_run(batch):
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.GroupNorm(1, 6), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Dropout(0.5), Skip(nn.Linear(6, 6)), nn.Linear(6, 10),
    )  # fmt: skip
    kinds = [type(node) for node in nodes_of(model, batch)]
    assert kinds == [Weight, Apply, Pool, Weight, Norm, Apply, Pool, Flatten, Weight, Scale, Add, Weight]


def test_a_function_that_is_not_known_ends_the_prediction_with_its_name(batch):
    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(64, 32), nn.Linear(32, 10)

        def forward(self, x):
            return self.head(torch.cumsum(self.first(x.flatten(1)), 1))

    model = Sorted()
    assert any(isinstance(node, Unknown) for node in nodes_of(model, batch))
    found, _, _ = predicted(model, batch)
    assert found["first"].pre_activation is not None
    assert found["first"].gradient is None
    assert "cumsum" in found["head"].note


def test_tracing_leaves_the_model_and_the_random_state_as_they_were(batch):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10)).train()
    initialize(model, Ref(name="kaiming"), seed=0, inputs=batch[0][:4])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    predicted(model, batch)
    assert model.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("scheme", "sentence"), [("uniform", "mean 0.5"), ("identity", "weights of the law 'identity'")]
)  # fmt: skip
def test_schemes_outside_the_theory_say_so(batch, scheme, sentence):
    found, _, _ = predicted(mlp(nn.ReLU), batch, scheme)
    assert all(sentence in entry.note and entry.pre_activation is None for entry in found.values())


def test_a_model_whose_forward_fails_costs_the_prediction_and_not_the_run(batch):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(64, 10)

        def forward(self, x):
            if not torch.is_grad_enabled():
                raise RuntimeError("out of luck")
            return self.head(x.flatten(1))

    inputs, labels = batch
    model = Broken()
    report, layers = initialize(model, Ref(name="kaiming"), seed=0)
    found = predict.predictions(model, layers, report, inputs, labels)
    assert found["head"].note == "no prediction: the model could not be followed (out of luck)"


def test_a_layer_used_twice_has_no_prediction(batch):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.head = nn.Linear(64, 64), nn.Linear(64, 10)

        def forward(self, x):
            return self.head(torch.relu(self.inner(torch.relu(self.inner(x.flatten(1))))))

    found, _, _ = predicted(Twice(), batch)
    assert "more than once" in found["inner"].note


def test_without_labels_only_activations_are_predicted(batch):
    model = mlp(nn.ReLU)
    report, layers = initialize(model, Ref(name="kaiming"), seed=0)
    found = predict.predictions(model, layers, report, batch[0])
    assert all(entry.pre_activation is not None and entry.gradient is None for entry in found.values())
    assert all(entry.note == "no prediction: there are no labels" for entry in found.values())


def test_a_signal_added_to_a_function_of_itself_is_not_taken_for_independent(batch):
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.head = nn.Linear(64, 32), nn.LayerNorm(32), nn.Linear(32, 10)

        def forward(self, x):
            h = self.first(x.flatten(1))
            return self.head(h + self.norm(h))

    found, _, _ = predicted(Doubled(), batch)
    assert found["first"].pre_activation is not None
    assert "adds two functions of one signal" in found["head"].note


class Learned(nn.Module):
    def __init__(self):
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return x * torch.sigmoid(self.beta * x)


class Activated(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.act, self.first, self.head = act, nn.Linear(64, 48), nn.Linear(48, 10)

    def forward(self, x):
        return self.head(self.act(self.first(x.flatten(1))))


WRITTEN = {
    "relu": [lambda x: x.clamp(min=0), lambda x: x * (x > 0), lambda x: x * (x > 0).float()],
    "leaky_relu": [lambda x: torch.where(x > 0, x, 0.01 * x)],
    "sin:omega=30": [lambda x: torch.sin(30 * x)],
    None: [Learned(), lambda x: torch.tanh(x + 0.3), lambda x: torch.relu(x) * 1.7, lambda x: torch.relu(x) - torch.relu(-x)],
}
"""Name of a known activation (None: of no known one) -> ways to write it."""


@pytest.mark.parametrize("name", WRITTEN)
def test_the_prediction_applies_the_activation_that_the_layers_name(batch, name):
    inputs, labels = batch
    for act in WRITTEN[name]:
        model = Activated(act)
        found, layers, report = predicted(model, batch)
        nodes = predict.theory_network(model, predict.layer_specs(layers, report), inputs).network.nodes
        (applied,) = [node.activation for node in nodes if isinstance(node, Apply)]
        if name is not None:
            assert applied == layers[0].activation == name
        else:
            assert applied.name == layers[0].activation
            grid = np.linspace(-3, 3, 24)
            with torch.no_grad():
                np.testing.assert_allclose(applied.value(grid), layers[0].activation_fn(torch.from_numpy(grid)).numpy(), rtol=1e-6)
        stats = probes.to_stats(layers, [probes.ProbeAtStep(0, probes.measure(model, layers, inputs, labels))])
        for entry in predict.filled(stats, found):
            assert entry.prediction_note is None
            low, high = entry.predicted_pre_activation_variance_low, entry.predicted_pre_activation_variance_high
            assert 0.7 * low <= entry.pre_activation_variance <= 1.4 * high


def test_a_multiple_of_the_signal_goes_into_a_known_activation_by_its_name(batch):
    kinds = [type(node) for node in nodes_of(Activated(lambda x: torch.relu(0.5 * x)), batch)]
    assert kinds == [Weight, Scale, Apply, Weight]


def test_a_maximum_that_something_else_takes_as_well_does_not_trade_places(batch):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.side, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 10)

        def forward(self, x):
            pooled = nn.functional.max_pool2d(self.conv(x), 2)
            return self.head((torch.relu(pooled) + self.side(pooled)).mean((2, 3)))

    nodes = nodes_of(Shared(), batch)
    assert isinstance(nodes[1], Pool)
    assert [nodes[node.source] for node in nodes if isinstance(node, Apply)] == [nodes[1]]


def test_a_bias_that_the_layer_does_not_own_is_not_taken_for_zero(batch):
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.shift, self.head = nn.Linear(64, 32, bias=False), nn.Parameter(torch.ones(32)), nn.Linear(32, 10)

        def forward(self, x):
            return self.head(torch.relu(self.first(x.flatten(1)) + self.shift))

    found, layers, _ = predicted(Late(), batch)
    assert layers[0].bias == "shift"
    assert found["head"].note == "no prediction: 'add' has no formula"


def test_an_activation_that_two_paths_take_is_applied_once(batch):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.inner, self.head = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)
            self.shift = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            x = torch.relu(self.first(x.flatten(1)))
            return self.head(x + self.inner(x + self.shift))

    assert [type(node) for node in nodes_of(Fixed(), batch)] == [Weight, Apply, Weight, Add, Weight]


@pytest.mark.parametrize("count", [60, 17, 33, 100])
def test_groups_of_inputs_have_equal_shares(count):
    """Of a batch whose length is no multiple of the groups as of one in which every input is there as often as there are groups."""
    squares = torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(count))
    often = squares.repeat_interleave(predict.STRATA).sort().values.reshape(predict.STRATA, count).mean(1)
    torch.testing.assert_close(predict._strata(squares), often)
    torch.testing.assert_close(predict._strata(squares).mean(), squares.mean())
