"""What a model gives back: several heads, losses, structures; what gradients are of, and predictions of them."""

import math
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import initbench
from initbench.errors import ConfigError
from initbench.measure.predict import input_stats
from initbench.nn.outputs import heads, main_output, outputs_in
from initbench.nn.seeds import generator
from initbench.theory import backward


class Net(nn.Module):
    """Two hidden layers; `give` makes the result of logits and the last hidden state, `value` is a second head."""

    def __init__(self, give):
        super().__init__()
        self.first, self.second, self.policy, self.value = nn.Linear(20, 64), nn.Linear(64, 64), nn.Linear(64, 10), nn.Linear(64, 1)
        self.give = give

    def forward(self, x):
        h = torch.relu(self.second(torch.relu(self.first(x))))
        return self.give(self, h)


@dataclass
class Result:
    loss: object = None
    logits: object = None
    hidden: object = None


def net(give):
    torch.manual_seed(2)
    return Net(give)


@pytest.fixture
def x():
    return torch.randn(128, 20, generator=torch.Generator().manual_seed(3))


def gradients(model, x, **more):
    run = initbench.probe(model, as_is=True, inputs=x, **more).runs[0]
    return {layer.layer: layer.gradient_variance for layer in run.layers}, run


def naive(model, x, loss):
    """The variance of the gradient of `loss(result)` by each layer's output, by hooks of its own."""
    kept, handles = {}, []
    for name, module in model.named_children():

        def keep(_module, _args, output, name=name):
            output.retain_grad()
            kept[name] = output

        handles.append(module.register_forward_hook(keep))
    loss(model(x)).backward()
    for handle in handles:
        handle.remove()
    return {name: output.grad.double().var(correction=0).item() for name, output in kept.items() if output.grad is not None}


LABELS = torch.randint(0, 10, (128,), generator=generator(0, "probe labels"))
"""What the objective draws where nobody gives labels."""


@pytest.mark.heavy
@pytest.mark.parametrize(
    "give",
    [
        lambda net, h: (net.policy(h),),
        lambda net, h: [None, {"logits": net.policy(h)}],
        lambda net, h: OrderedDict(logits=net.policy(h), hidden=(h, h)),
        lambda net, h: Result(logits=net.policy(h), hidden=h),
        lambda net, h: (lambda out: (out.argmax(1), out))(net.policy(h)),
        lambda net, h: (lambda out: {"loss": F.cross_entropy(out, LABELS[: len(out)]), "logits": out})(net.policy(h)),
        lambda net, h: (lambda out: (out, out.softmax(1), 3))(net.policy(h)),
    ],
)
def test_one_head_in_any_structure_gives_the_same_numbers(give, x):
    plain, _ = gradients(net(lambda net, h: net.policy(h)), x)
    found, run = gradients(net(give), x)
    assert found == plain
    assert run.objective == "cross entropy with random labels"
    expected = naive(net(lambda net, h: net.policy(h)), x, lambda out: F.cross_entropy(out, LABELS, reduction="sum"))
    assert found == {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()} | {
        name: None for name in found if name not in expected
    }


def test_one_output_is_predicted_in_any_structure(x):
    plain, structured = (
        initbench.probe(net(give), ["kaiming"], inputs=x).runs[0].layers
        for give in (lambda net, h: net.policy(h), lambda net, h: {"loss": h.mean(), "logits": (net.policy(h),)})
    )
    assert [layer.predicted_gradient_variance for layer in plain] == [layer.predicted_gradient_variance for layer in structured]
    assert plain[0].predicted_gradient_variance is not None


def test_every_head_gets_gradients(x):
    model = net(lambda net, h: (net.policy(h), net.value(h)))
    found, run = gradients(model, x)
    assert run.objective == "cross entropy with random labels, and a random projection of output 2 of 2"
    directions = torch.randn(128, 1, generator=generator(0, "probe projection", "1"))
    expected = naive(model, x, lambda out: F.cross_entropy(out[0], LABELS, reduction="sum") + (out[1] * directions).sum())
    assert found == {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()}
    alone, _ = gradients(net(lambda net, h: net.policy(h)), x)
    assert found["policy"] == alone["policy"]
    assert found["value"] == pytest.approx(1, abs=5 * math.sqrt(2 / 128))
    probed = initbench.probe(model, ["kaiming", "xavier"], inputs=x)
    assert "overflow" not in str(probed)
    assert probed.best is not None


def test_labels_are_of_the_first_logits(x):
    labels = torch.arange(128) % 10
    model = net(lambda net, h: {"value": net.value(h), "logits": net.policy(h)})
    found, run = gradients(model, x, labels=labels)
    directions = torch.randn(128, 1, generator=generator(0, "probe projection", "0"))
    expected = naive(model, x, lambda out: F.cross_entropy(out["logits"], labels, reduction="sum") + (out["value"] * directions).sum())
    assert found == {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()}
    assert run.objective == "cross entropy with the labels, and a random projection of output 1 of 2"
    assert run.first_loss == pytest.approx(F.cross_entropy(model(x)["logits"], labels).item(), rel=1e-5)


def test_a_model_that_gives_only_its_loss_is_probed_by_it(x):
    model = net(lambda net, h: F.cross_entropy(net.policy(h), torch.arange(len(h)) % 10))
    found, run = gradients(model, x)
    expected = naive(model, x, lambda loss: 128 * loss)
    assert {name: value for name, value in found.items() if value is not None} == {
        name: pytest.approx(value, rel=1e-5) for name, value in expected.items()
    }
    assert run.objective == "loss that the model gives"
    assert run.first_loss == pytest.approx(model(x).item(), rel=1e-5)
    both, run = gradients(net(lambda net, h: {"a": net.policy(h).square().mean(), "b": net.value(h).square().mean()}), x)
    assert run.objective == "sum of 2 losses that the model gives"
    assert all(both.values())


def test_sequences_of_logits_and_complex_outputs_are_projected(x):
    for give in (lambda net, h: net.policy(h).view(len(h), 5, 2), lambda net, h: torch.fft.fft(net.policy(h))):
        found, run = gradients(net(give), x)
        assert run.objective == "a random projection of the outputs"
        assert found["policy"] > 0


@pytest.mark.parametrize(
    ("give", "said"),
    [
        (lambda net, h: net.policy(h).argmax(1), "gives only int64 numbers, which have no gradient"),
        (lambda _net, _h: None, "gives no tensor"),
        (lambda _net, _h: {"a": None, "b": "text"}, "gives no tensor"),
        (lambda net, h: (net.policy(h) > 0, net.policy(h).argmax(1)), "only bool and int64 numbers"),
    ],
)
def test_outputs_without_a_gradient_are_refused(give, said, x):
    with pytest.raises(ConfigError, match=f"{said}.*logits") as caught:
        initbench.probe(net(give), as_is=True, inputs=x)
    assert "\n" not in str(caught.value)


def test_heads_are_the_outputs_that_reach_more_weights():
    a, b = (torch.ones(3, requires_grad=True) for _ in range(2))
    hidden = 2 * a
    outputs = outputs_in(
        {"logits": hidden.view(3, 1) * 3, "hidden": hidden, "other": (b * a, b), "count": torch.ones(3, dtype=torch.int64)}
    )
    assert [tuple(output.shape) for output in outputs] == [(3, 1), (3,), (3,), (3,)]
    assert heads(outputs, 0) == (0, 2)
    assert main_output((torch.ones(4, 1), torch.ones(4, 3)), labelled=True) == 1
    assert main_output((torch.ones(4, 1), torch.ones(4, 3)), labelled=False) == 0
    assert outputs_in((torch.tensor(1.0), torch.tensor(2))) == (torch.tensor(1.0),)


def test_classes_that_the_batch_lacks_count_as_classes():
    labels = torch.tensor([0, 0, 2, 1])
    stats = input_stats(torch.randn(4, 5), labels, None, classes=5)
    assert stats.class_shares == (0.5, 0.25, 0.25, 0.0, 0.0)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("classes", "labels"), [(10, torch.arange(64) % 9), (10, torch.arange(64) % 3), (1000, None), (100, torch.zeros(64).long())]
)
def test_gradients_are_predicted_where_the_batch_lacks_classes(classes, labels):
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(50, 64), nn.ReLU(), nn.Linear(64, classes))
    x = torch.randn(64, 50)
    entry = initbench.probe(model, ["kaiming"], inputs=x, labels=labels).runs[0].layers
    drawn = torch.randint(0, classes, (64,), generator=generator(0, "probe labels")) if labels is None else labels
    measured = []
    for seed in range(60):
        torch.manual_seed(seed)
        weights = torch.randn(64, 50) * math.sqrt(2 / 50), torch.randn(classes, 64) * math.sqrt(2 / 64)
        first = (x @ weights[0].T).requires_grad_()
        last = torch.relu(first) @ weights[1].T
        last.retain_grad()
        F.cross_entropy(last, drawn, reduction="sum").backward()
        measured.append([first.grad.double().var(correction=0).item(), last.grad.double().var(correction=0).item()])
    for layer, values in zip(entry, np.array(measured).T, strict=True):
        low, line, high = (getattr(layer, f"predicted_gradient_variance{tail}") for tail in ("_low", "", "_high"))
        assert ((values > low) & (values < high)).mean() > 0.85  # of 60 with 0.95 each: 3.5 standard errors below
        assert abs(math.log(line / np.median(values))) < 0.2


def test_the_directions_of_many_classes_are_those_of_equal_probabilities():
    source = np.random.default_rng(0)
    labels = source.integers(0, 200, 64)
    shares = np.bincount(labels, minlength=200) / 64
    delta = np.full((64, 200), 1 / 200)
    delta[np.arange(64), labels] -= 1
    matrix = delta.T @ delta / 64
    expected = np.square(matrix).sum() / np.trace(matrix) ** 2
    assert backward._concentration(np.zeros((3, 1, 200)), shares) == pytest.approx([expected] * 3)
    balanced = backward._concentration(np.zeros((1, 1, 200)), np.full(200, 1 / 200))
    assert balanced == pytest.approx([1 / 199])
