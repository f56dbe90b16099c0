import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from initbench.theory import meanfield
from initbench.theory.network import (
    INPUT,
    Add,
    Apply,
    Flatten,
    InputStats,
    LayerSpec,
    NetworkSpec,
    Norm,
    Pool,
    Scale,
    Unknown,
    Weight,
)
from initbench.theory.prediction import predict

CLASSES = (0.1,) * 10
ALIKE = InputStats(np.ones(16), 0.5, 0.4, 0.5, 256, CLASSES)


def network_of(specs, activations):
    """A network without branches: each layer is followed by its activation, where it has one."""
    nodes = []
    for spec, activation in zip(specs, activations, strict=True):
        nodes.append(Weight(len(nodes) - 1, spec))
        if activation is not None:
            nodes.append(Apply(len(nodes) - 1, activation))
    return NetworkSpec(tuple(nodes))


def chain(activation, depth, width, sigma_w2, *, sigma_b2=0.0, features=50, law="normal", inputs=ALIKE, replicas=None):
    sizes = [features, *[width] * depth, 10]
    specs = tuple(
        LayerSpec(f"layer{i}", a, b, law, (sigma_w2 / a) ** 0.5, bias_std=sigma_b2**0.5) for i, (a, b) in enumerate(pairwise(sizes))
    )
    return predict(network_of(specs, (activation,) * depth + (None,)), inputs, replicas=replicas)


def draw(activation, depth, width, sigma_w2, networks, *, features=50, seed=0):
    """The naive twin: pre-activation and gradient variances of real networks, (networks, layers)."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((1, features))
    x = 0.6**0.5 * rng.standard_normal((64, features)) + 0.4**0.5 * shared
    x *= (features / np.square(x).sum(axis=1, keepdims=True)) ** 0.5
    labels = np.eye(10)[np.arange(64) % 10]
    gram = x @ x.T / features
    same = labels @ labels.T > 0
    shares = tuple(labels.mean(axis=0).tolist())
    inputs = InputStats(np.ones(16), float(np.square(gram).mean() ** 0.5), float(gram.mean()), float(gram[same].mean()), 64, shares)
    value, slope = activation
    sizes = [features, *[width] * depth, 10]
    forward, backward = [], []
    for _ in range(networks):
        weights = [rng.standard_normal((b, a)) * (sigma_w2 / a) ** 0.5 for a, b in pairwise(sizes)]
        signal, pre = x, []
        for weight in weights:
            pre.append(signal @ weight.T)
            signal = value(pre[-1])
        delta = np.exp(pre[-1] - pre[-1].max(axis=1, keepdims=True))
        delta = delta / delta.sum(axis=1, keepdims=True) - labels
        found = [delta.var()]
        for h, weight in zip(pre[-2::-1], weights[:0:-1], strict=True):
            delta = delta @ weight * slope(h)
            found.append(delta.var())
        forward.append([h.var() for h in pre])
        backward.append(found[::-1])
    return inputs, np.array(forward), np.array(backward)


def test_the_line_is_the_recursion_of_infinite_width():
    found = chain("tanh", 6, 100_000, 1.7, sigma_b2=0.05)
    qs = meanfield.lengths("tanh", 1.7 + 0.05, 7, 1.7, 0.05)
    for layer, q in zip(found[:-1], qs, strict=False):
        assert layer.pre_activation.line == pytest.approx(q, rel=2e-4)
    factors = meanfield.gradient_factors("tanh", qs[:-1], 1.7)
    for layer, factor in zip(found, factors, strict=False):
        assert layer.gradient.line / found[5].gradient.line == pytest.approx(factor, rel=5e-4)


def test_relu_with_the_default_of_torch_loses_gradient_variance_sixfold():
    found = chain("relu", 8, 256, 1 / 3)
    assert found[5].gradient.line / found[4].gradient.line == pytest.approx(6)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "functions", "sigma_w2"),
    [
        ("relu", (lambda h: np.maximum(h, 0), lambda h: (h > 0) * 1.0), 2.0),
        ("tanh", (np.tanh, lambda h: 1 - np.tanh(h) ** 2), 1.0),
    ],
)
def test_the_band_holds_what_real_networks_do(name, functions, sigma_w2):
    inputs, forward, backward = draw(functions, 8, 48, sigma_w2, 120)
    found = chain(name, 8, 48, sigma_w2, inputs=inputs, replicas=2000)
    for values, key in ((forward, "pre_activation"), (backward, "gradient")):
        low, high = (np.array([getattr(getattr(layer, key), end) for layer in found]) for end in ("low", "high"))
        assert 0.9 <= ((values >= low) & (values <= high)).mean() <= 0.99
        measured, predicted = (
            np.log(np.quantile(values, 0.9, axis=0) / np.quantile(values, 0.1, axis=0)),
            np.log(high / low) * 2.563 / 3.92,
        )
        np.testing.assert_allclose(measured, predicted, rtol=0.45)


def test_the_band_narrows_with_the_root_of_the_width():
    narrow, wide = (chain("relu", 5, width, 2.0, replicas=2000)[4].pre_activation for width in (100, 1600))
    assert np.log(narrow.high / narrow.low) / np.log(wide.high / wide.low) == pytest.approx(4, rel=0.12)


def test_relu_spreads_as_hanin_and_rolnick_say():
    inputs = InputStats(np.ones(16), 1.0, 1.0, 1.0, 256, CLASSES)
    band = chain("relu", 20, 256, 2.0, inputs=inputs, replicas=4000)[19].pre_activation
    assert np.log(band.high / band.low) / 3.92 == pytest.approx((19 * 5 / 256 + 2 / 256) ** 0.5, rel=0.08)


def test_orthogonal_weights_narrow_the_band_of_a_nearly_linear_network():
    plain, tied = (chain("tanh", 10, 100, 1.0, law=law, features=100)[9].pre_activation for law in ("normal", "orthogonal"))
    assert np.log(tied.high / tied.low) < 0.3 * np.log(plain.high / plain.low)


def test_the_same_question_has_the_same_answer():
    assert chain("gelu", 3, 64, 2.0) == chain("gelu", 3, 64, 2.0)
    other = dataclasses.replace(ALIKE, squares=np.full(16, 2.0))
    assert chain("gelu", 3, 64, 2.0, inputs=other) != chain("gelu", 3, 64, 2.0)


@pytest.mark.heavy
def test_a_very_deep_network_is_predicted_as_a_shallow_one_is():
    fast, slow = chain("tanh", 90, 128, 1.3), chain("tanh", 90, 128, 1.3, replicas=500)
    for a, b in zip(fast, slow, strict=True):
        assert a.pre_activation.line == pytest.approx(b.pre_activation.line, rel=0.02)
        assert a.gradient.line == pytest.approx(b.gradient.line, rel=0.06)
        for one, two in ((a.pre_activation, b.pre_activation), (a.gradient, b.gradient)):
            assert np.log(one.high / one.low) == pytest.approx(np.log(two.high / two.low), rel=0.35)


def test_a_thousand_layers_have_a_prediction_each():
    found = chain("relu", 999, 64, 2.0)
    assert len(found) == 1000
    assert found[-2].pre_activation.line == pytest.approx(2.0, rel=0.02)


def test_zero_padding_takes_its_share_of_the_border():
    spec = LayerSpec("conv", 9, 1000, std=1 / 3, kernel=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1))
    inputs = InputStats(np.ones((4, 5, 5)), 0.5, 0.4, 0.4, 100, CLASSES, channels=1)
    (found,) = predict(NetworkSpec((Weight(INPUT, spec),), has_loss=False), inputs)
    border = (9 * 9 + 12 * 6 + 4 * 4) / (25 * 9)
    assert found.pre_activation.line == pytest.approx(border * (1 - 0.4 / 1000))
    assert found.note == "no prediction: there are no labels"


def test_residual_sums_add_lengths_and_layer_norm_resets_them():
    wide = LayerSpec("a", 500, 500, std=(2 / 500) ** 0.5)
    nodes = (
        Weight(INPUT, wide),
        Apply(0, "relu"),
        Weight(1, wide),
        Add(0, 2),
        Norm(3, "layer"),
        Weight(4, wide),
        Scale(5, 3.0),
        Weight(6, wide),
    )
    inputs = InputStats(np.ones(8), 0.5, 0.0, 0.0, 256, CLASSES)
    lines = [layer.pre_activation.line for layer in predict(NetworkSpec(nodes, has_loss=False), inputs)]
    assert lines == pytest.approx([2, 2, 2, 36], rel=0.01)


def test_pooling_keeps_means_and_maxima_apart():
    conv = LayerSpec("conv", 4, 256, std=0.7, kernel=(1, 1), stride=(1, 1), padding=(0, 0), dilation=(1, 1))
    end = LayerSpec("end", 256 * 4, 10, std=0.01)
    inputs = InputStats(np.ones((4, 4, 4)), 0.3, 0.2, 0.2, 100, CLASSES, (0.5, 0.4), (0.2, 0.2, 0.3), channels=4)
    lines = {}
    for kind in ("avg", "max"):
        nodes = (Weight(INPUT, conv), Apply(0, "relu"), Pool(1, kind, (2, 2), (2, 2), (0, 0)), Flatten(2), Weight(3, end))
        lines[kind] = predict(NetworkSpec(nodes), inputs)[1].pre_activation.line
    plain = predict(
        NetworkSpec((Weight(INPUT, conv), Apply(0, "relu"), Flatten(1), Weight(2, dataclasses.replace(end, fan_in=256 * 16)))), inputs
    )
    unpooled = plain[1].pre_activation.line / 4
    assert lines["avg"] < unpooled < lines["max"]


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ((Weight(INPUT, LayerSpec("a", 9, 9, std=1, mean=0.5)),), "mean 0.5"),
        ((Weight(INPUT, LayerSpec("a", 9, 9, std=1, why="no formula for dreams")),), "no formula for dreams"),
        ((Unknown((INPUT,), "'fft' has no formula"), Weight(0, LayerSpec("a", 9, 9, std=1))), "'fft' has no formula"),
        ((Apply(INPUT, "relu"), Weight(0, LayerSpec("a", 9, 9, std=1))), "is not Gaussian"),
    ],
)
def test_what_has_no_formula_gets_the_reason(nodes, why):
    (found,) = predict(NetworkSpec(nodes), InputStats(np.ones(4), 0.5, 0.4, 0.4, 64, CLASSES))
    assert found.pre_activation is None
    assert found.gradient is None
    assert found.note.startswith("no prediction: ")
    assert why in found.note


def test_gradients_below_a_batch_norm_get_no_band():
    spec = LayerSpec("a", 64, 64, std=0.2)
    nodes = (Weight(INPUT, spec), Norm(0, "batch"), Apply(1, "relu"), Weight(2, LayerSpec("head", 64, 10, std=0.2)))
    first, head = predict(NetworkSpec(nodes), InputStats(np.ones(4), 0.5, 0.4, 0.4, 64, CLASSES))
    assert first.pre_activation is not None
    assert first.gradient is None
    assert "batch norm" in first.note
    assert head.gradient is not None


def log_width(found):
    return np.log(found.high / found.low)


@pytest.mark.heavy
def test_a_small_batch_counts_each_image_with_itself():
    few, many = (
        chain("tanh", 12, 64, 2.0, inputs=dataclasses.replace(ALIKE, samples=samples), replicas=2000)[0] for samples in (16, 100_000)
    )
    assert log_width(few.gradient) > 1.2 * log_width(many.gradient)


def test_a_head_with_uniform_weights_passes_a_steadier_gradient():
    uniform, normal = (chain("identity", 3, 256, 1 / 9, law=law, replicas=2000)[-2] for law in ("uniform", "normal"))
    assert 0.55 < log_width(uniform.gradient) / log_width(normal.gradient) < 0.8


@pytest.mark.heavy
@pytest.mark.parametrize("depth", [60, 160])
def test_lengths_are_followed_as_far_down_as_float32_goes(depth):
    found = chain("tanh", depth, 64, 0.4)
    for before, after in pairwise(found[20:-1]):
        assert after.pre_activation.line == pytest.approx(0.4 * before.pre_activation.line, rel=1e-3)
