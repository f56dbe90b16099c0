"""The orthogonal family keeps what it promises to keep, and refuses where it cannot."""

import math
from itertools import pairwise

import pytest
import torch
from schemes_support import init
from torch import nn

from initbench.errors import DoesNotApply
from initbench.init.initialize import initialize
from initbench.nn.seeds import generator
from initbench.question.config import parse_ref


def normal(*shape):
    return torch.randn(shape, generator=generator(0, "test", str(shape)))


@pytest.mark.parametrize("gain", [1.0, math.sqrt(2.0)])
@pytest.mark.parametrize("groups", [1, 4])
def test_a_delta_orthogonal_convolution_multiplies_the_norm_of_every_image_by_its_gain(gain, groups):
    layer = nn.Conv2d(16, 24, 3, padding=1, padding_mode="circular", groups=groups, bias=False)
    report = init(layer, f"delta_orthogonal:gain={gain!r}")
    x = normal(5, 16, 7, 7)
    torch.testing.assert_close(layer(x).flatten(1).norm(dim=1), gain * x.flatten(1).norm(dim=1))
    assert layer.weight.count_nonzero() == 24 * 16 // groups
    assert report.parameters[0].std == pytest.approx(report.parameters[0].target_std, rel=1e-3)


def test_delta_orthogonal_works_in_one_and_three_dimensions_and_turned_round():
    for layer, x in (
        (nn.Conv1d(6, 8, 5, padding=2, padding_mode="circular", bias=False), normal(3, 6, 11)),
        (nn.Conv3d(4, 4, 3, padding=1, padding_mode="circular", bias=False), normal(3, 4, 5, 5, 5)),
        (nn.ConvTranspose2d(6, 8, 3, padding=1, bias=False), normal(3, 6, 5, 5)),
    ):
        init(layer, "delta_orthogonal")
        torch.testing.assert_close(layer(x).flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))


def test_a_linear_layer_under_delta_orthogonal_is_the_orthogonal_one():
    first, second = nn.Linear(20, 30), nn.Linear(20, 30)
    init(first, "delta_orthogonal:gain=2")
    init(second, "orthogonal:gain=2")
    assert torch.equal(first.weight, second.weight)


@pytest.mark.parametrize(
    ("layer", "scheme", "words"),
    [
        (nn.Conv2d(4, 8, 2), "delta_orthogonal", "2 x 2 has no centre"),
        (nn.Conv2d(8, 4, 3), "delta_orthogonal", "narrows from 8 to 4"),
        (nn.Conv2d(8, 8, (3, 4)), "scaled_orthogonal", "3 x 4 has no centre"),
        (nn.ConvTranspose2d(4, 8, 3, stride=2), "delta_orthogonal", "stride"),
        (nn.Conv2d(4, 8, 2), "zero_hadamard", "no centre"),
        (nn.Conv2d(4, 8, 3), "identity", "only matrices"),
        (nn.Conv2d(4, 8, 3), "identity_noise", "only matrices"),
        (nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)), "looks_linear", "width of 5 is odd"),
    ],
)
def test_a_layer_that_does_not_suit_is_refused_before_anything_changes(layer, scheme, words):
    before = [parameter.clone() for parameter in layer.parameters()]
    with pytest.raises(DoesNotApply, match=words):
        init(layer, scheme)
    assert all(torch.equal(first, second) for first, second in zip(before, layer.parameters(), strict=True))


def test_a_layer_that_a_pattern_takes_away_is_not_asked():
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 2))
    init(model, "delta_orthogonal", layers={"1": "kaiming"})
    with pytest.raises(DoesNotApply, match="no centre"):
        init(model, "kaiming", layers={"1": "delta_orthogonal"})


def test_narrowing_convolutions_can_be_allowed():
    layer = nn.Conv2d(8, 4, 3)
    init(layer, "delta_orthogonal:narrowing=semi")
    middle = layer.weight[:, :, 1, 1]
    torch.testing.assert_close(middle @ middle.T, torch.eye(4), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("inputs", "outputs"), [(256, 512), (512, 256), (256, 256)])
def test_scaled_orthogonal_keeps_the_mean_square_of_widening_and_narrowing_layers(inputs, outputs):
    layer, x = nn.Linear(inputs, outputs), normal(300, inputs)
    init(layer, "scaled_orthogonal")
    assert (layer(x).square().mean() / x.square().mean()).item() == pytest.approx(1.0, rel=0.02)
    init(layer, "orthogonal")
    assert (layer(x).square().mean() / x.square().mean()).item() == pytest.approx(min(1.0, inputs / outputs), rel=0.02)


@pytest.mark.parametrize("kernel", ["delta", "flat"])
def test_scaled_orthogonal_convolutions_keep_the_mean_square(kernel):
    layer, x = nn.Conv2d(8, 24, 3), normal(40, 8, 12, 12)
    init(layer, f"scaled_orthogonal:kernel={kernel},gain=2")
    assert (layer(x).square().mean() / x.square().mean()).item() == pytest.approx(4.0, rel=0.03)


def plain(widths):
    parts = [part for first, second in pairwise(widths) for part in (nn.Linear(first, second), nn.ReLU())]
    return nn.Sequential(*parts[:-1])


def test_a_relu_network_that_looks_linear_keeps_norms_and_angles_through_two_hundred_layers():
    model, x = plain([16, *[32] * 200, 20]), normal(10, 16)
    initialize(model, parse_ref("looks_linear"), seed=1, inputs=x)
    with torch.no_grad():
        y = model(x)
    torch.testing.assert_close(y @ y.T, x @ x.T, rtol=1e-4, atol=1e-3)


def test_a_convolutional_network_can_look_linear():
    model = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 25, 400)
    )
    x = normal(6, 2, 5, 5)
    initialize(model, parse_ref("looks_linear:gain=1"), seed=1, inputs=x)
    torch.testing.assert_close(model(x).norm(dim=1), x.flatten(1).norm(dim=1))
    torch.testing.assert_close(model(-x), -model(x))


def test_looks_linear_refuses_other_activations_groups_and_residual_blocks():
    x = torch.randn(2, 4, 5, 5)
    tanh = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3))
    grouped = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 4, 3))
    for model, words in ((tanh, "tanh follows it"), (grouped, "groups")):
        with pytest.raises(DoesNotApply, match=words):
            initialize(model, parse_ref("looks_linear"), seed=0, inputs=x)
