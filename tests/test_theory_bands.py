"""The band of networks in which layers follow each other, or are summed, with no activation between, and of norms and convolutions."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import polygamma
from torch import nn

from initbench.init.initialize import initialize
from initbench.measure.predict import predictions
from initbench.question.config import Ref
from initbench.theory.network import INPUT, Add, Apply, InputStats, LayerSpec, NetworkSpec, Norm, Scale, Weight
from initbench.theory.prediction import predict

ONE_INPUT = InputStats(np.ones(16), 1.0, 0.0, 0.0, 1_000_000, (0.1,) * 10)
"""All images are one and the same as far as the noise goes; the mean over units counts as zero."""
NETWORKS = 150


def lecun(name, fan_in, units, law="normal"):
    return LayerSpec(name, fan_in, units, law, std=fan_in**-0.5)


def log_spread(found):
    """The standard deviation of the logarithm that a band stands for."""
    return np.log(found.high / found.low) / (2 * stats.norm.ppf(0.975))


@pytest.mark.parametrize(("width", "depth"), [(50, 4), (200, 12), (100, 30)])
def test_a_linear_chain_strays_as_products_of_chi_squares_do(width, depth):
    """log q of layer l is the sum of l independent logs of chi-squares of `width` degrees of freedom: variance l psi'(width / 2)."""
    nodes = tuple(Weight(i - 1, lecun(f"linear{i}", width, width)) for i in range(depth))
    found = predict(NetworkSpec(nodes, has_loss=False), ONE_INPUT, replicas=4000)
    for index, layer in enumerate(found):
        expected = ((index + 1) * polygamma(1, width / 2)) ** 0.5
        assert log_spread(layer.pre_activation) == pytest.approx(expected, rel=0.06)
        assert layer.pre_activation.line == pytest.approx(1.0, rel=1e-12)


def test_the_first_layer_is_all_the_noise_of_an_orthogonal_chain():
    """A projection of 400 on 60 dimensions keeps a share of Beta(30, 170); square orthogonal layers keep it exactly."""
    nodes = (Weight(INPUT, LayerSpec("first", 400, 60, "orthogonal", 400**-0.5)),)
    nodes += tuple(Weight(i, LayerSpec(f"square{i}", 60, 60, "orthogonal", 60**-0.5)) for i in range(6))
    expected = (polygamma(1, 30) - polygamma(1, 200)) ** 0.5
    for layer in predict(NetworkSpec(nodes, has_loss=False), ONE_INPUT, replicas=4000):
        assert log_spread(layer.pre_activation) == pytest.approx(expected, rel=0.06)


def test_a_narrow_layer_between_wide_ones_makes_most_of_the_noise():
    nodes = (Weight(INPUT, lecun("down", 512, 8)), Weight(0, lecun("up", 8, 512)), Weight(1, lecun("on", 512, 512)))
    expected = (polygamma(1, 4) + 2 * polygamma(1, 256)) ** 0.5
    assert log_spread(predict(NetworkSpec(nodes, has_loss=False), ONE_INPUT, replicas=4000)[2].pre_activation) == pytest.approx(
        expected, rel=0.06
    )


def sums_with_linear_branches(width, blocks, scale, networks):
    """Lengths after x + scale W x, `blocks` times, of one input: what one more Gaussian layer makes of them, drawn with real matrices."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(networks):
        x = rng.standard_normal(width)
        for _ in range(blocks):
            x = x + scale * rng.standard_normal((width, width)) @ x / width**0.5
        found.append(np.square(rng.standard_normal((width, width)) @ x / width**0.5).mean())
    return np.array(found)


def test_a_sum_strays_by_the_product_of_what_is_added():
    width, blocks, scale = 60, 6, 0.5
    nodes = [Weight(INPUT, lecun("first", width, width))]
    for block in range(blocks):
        x = len(nodes) - 1
        nodes += [Weight(x, lecun(f"branch{block}", width, width)), Scale(x + 1, scale), Add(x, x + 2)]
    nodes.append(Weight(len(nodes) - 1, lecun("last", width, width)))
    found = predict(NetworkSpec(tuple(nodes), has_loss=False), ONE_INPUT, replicas=4000)[-1].pre_activation
    real = sums_with_linear_branches(width, blocks, scale, 1500)
    assert found.line == pytest.approx((1 + scale**2) ** blocks)
    assert log_spread(found) == pytest.approx(np.log(real).std(), rel=0.07)


def test_after_a_layer_norm_neither_length_nor_mean_of_an_input_is_noise():
    """Mean relu(z)^2 at fixed mean z and mean z^2 has the relative variance (3 - 8 / pi) / n; the next layer's units add 2 / n."""
    n = 100
    nodes = (Weight(INPUT, lecun("a", n, n)), Norm(0, "layer"), Apply(1, "relu"), Weight(2, lecun("b", n, n)))
    found = predict(NetworkSpec(nodes, has_loss=False), ONE_INPUT, replicas=4000)[1].pre_activation
    assert log_spread(found) == pytest.approx(((3 - 8 / np.pi) / n + 2 / n) ** 0.5, rel=0.06)


class TanhBranches(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(2 * depth))
        self.head = nn.Linear(width, 10, bias=False)

    def forward(self, x):
        for into, inner in zip(self.layers[::2], self.layers[1::2], strict=True):
            x = into(x)
            x = x + 0.5 * torch.tanh(inner(x))
        return self.head(x)


def linear_chain():
    parts = [nn.Linear(32, 32, bias=False) for _ in range(7)]
    return nn.Sequential(nn.Linear(64, 32, bias=False), *parts, nn.Linear(32, 10, bias=False))


def low_rank():
    sizes = ((64, 8), (8, 64))
    parts = [part for _ in range(4) for part in (*(nn.Linear(*size, bias=False) for size in sizes), nn.Tanh())]
    return nn.Sequential(*parts, nn.Linear(64, 10, bias=False))


def layer_norms():
    parts = [part for _ in range(6) for part in (nn.Linear(64, 64, bias=False), nn.LayerNorm(64), nn.ReLU())]
    return nn.Sequential(*parts, nn.Linear(64, 10, bias=False))


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = [1, 16, 16, 16]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairwise(sizes))
        self.head = nn.Linear(16 * 64, 10, bias=False)

    def forward(self, x):
        x = x.view(-1, 1, 8, 8)
        for convolution in self.convolutions:
            x = torch.relu(convolution(x))
        return self.head(x.flatten(1))


def batch():
    source = torch.Generator().manual_seed(3)
    labels = torch.arange(64) % 10
    centers = torch.randn(10, 64, generator=source)
    return 0.6 * torch.randn(64, 64, generator=source) + 0.6 * centers[labels] + 0.5, labels


def drawn_again(weight, law, source):
    """The naive twin of a scheme: a Gaussian of variance 1 / fan_in, or orthogonal rows or columns by torch."""
    if law == "orthogonal":
        nn.init.orthogonal_(weight, generator=source)
    else:
        nn.init.normal_(weight, 0.0, weight[0].numel() ** -0.5, generator=source)


def inside(model, law):
    """Of each layer, how many of `NETWORKS` lie in the bands of pre-activations and of gradients: two lists."""
    x, y = batch()
    report, layers = initialize(model, Ref(name=law, params={}), seed=0, inputs=x[:4])
    expected = predictions(model, layers, report, x, y)
    source, outputs = torch.Generator().manual_seed(11), {}
    for layer in layers:
        layer.module.register_forward_hook(lambda _module, _given, output, name=layer.name: outputs.update({name: output}))
    counts = np.zeros((2, len(layers)), dtype=int)
    for _ in range(NETWORKS):
        for layer in layers:
            drawn_again(layer.module.weight, law, source)
        loss = nn.functional.cross_entropy(model(x), y, reduction="sum")
        signals = [outputs[layer.name] for layer in layers]
        for row, (values, quantity) in enumerate(((signals, "pre_activation"), (torch.autograd.grad(loss, signals), "gradient"))):
            for place, (layer, value) in enumerate(zip(layers, values, strict=True)):
                band = getattr(expected[layer.name], quantity)
                counts[row, place] += band.low <= value.var(correction=0).item() <= band.high
    return counts


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("make", "law"),
    [
        (linear_chain, "lecun"),
        (linear_chain, "orthogonal"),
        (low_rank, "lecun"),
        (low_rank, "orthogonal"),
        (lambda: TanhBranches(64, 4), "lecun"),
        (layer_norms, "lecun"),
        (Convolutions, "lecun"),
    ],
)
def test_the_band_holds_what_real_networks_do(make, law):
    """Each layer's count is binomial: as for a share of at least 92 %, at most 98.5 %, of all, and each bound is missed once in 2,000."""
    torch.manual_seed(0)
    low, high = stats.binom.ppf(0.0005, NETWORKS, 0.92), stats.binom.ppf(0.9995, NETWORKS, 0.985)
    for counts in inside(make(), law):
        assert counts.min() >= low, counts
        assert counts.mean() <= high, counts
        assert counts.mean() / NETWORKS >= 0.92 - 0.025, counts


def test_what_follows_a_layer_norm_directly_has_the_length_it_gives():
    """Square orthogonal weights keep it exactly, so there is nothing to stray."""
    square = LayerSpec("square", 64, 64, "orthogonal", 64**-0.5)
    nodes = (Weight(INPUT, lecun("first", 64, 64)), Norm(0, "layer"), Weight(1, square))
    found = predict(NetworkSpec(nodes, has_loss=False), ONE_INPUT)[1].pre_activation
    assert found.low == pytest.approx(1.0, abs=1e-4)
    assert found.high == pytest.approx(1.0, abs=1e-4)
