"""Schemes that measure or learn start from the law of their base: the same values, but for the factors that they find."""

import pytest
import torch
from torch import nn

from initbench.init.initialize import initialize
from initbench.nn.seeds import generator
from initbench.question.config import parse_ref

IMAGES = torch.randn(64, 12, generator=generator(0, "test"))


def batch(size, index):
    return IMAGES.roll(index, 0)[:size], torch.arange(len(IMAGES))[:size] % 3


def started(scheme, seed=0):
    model = nn.Sequential(nn.Linear(12, 40), nn.Tanh(), nn.Linear(40, 20), nn.Tanh(), nn.Linear(20, 3))
    initialize(model, parse_ref(scheme), seed=seed, inputs=IMAGES[:2], batch=batch)
    return [layer.weight.detach() for layer in model if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize("base", ["lecun", "xavier", "kaiming:mode=fan_out"])
def test_the_first_layer_that_the_jacobian_leaves_alone_is_exactly_that_of_the_base(base):
    mine, plain = started(f"autoinit_jacobian:base={base}"), started(base)
    assert torch.equal(mine[0], plain[0])


@pytest.mark.parametrize(
    "scheme", ["autoinit_jacobian:base=xavier", "gradinit:base=xavier,iterations=2", "metainit:base=xavier,steps=2", "lsuv:base=xavier"]
)
def test_every_weight_is_a_positive_multiple_of_that_of_the_base(scheme):
    for mine, plain in zip(started(scheme), started("xavier"), strict=True):
        ratio = mine / plain
        assert ratio.mean() > 0
        torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("base", ["kaiming", "kaiming:mode=fan_out"])
def test_one_step_of_metainit_moves_each_norm_by_its_rate(base):
    for mine, plain in zip(started(f"metainit:base={base},steps=1,lr=0.001"), started(base), strict=True):
        assert abs(mine.norm() - plain.norm()) < 0.0011


@pytest.mark.parametrize("base", ["kaiming", "kaiming:mode=fan_out"])
def test_one_step_of_gradinit_moves_each_factor_by_its_rate(base):
    for mine, plain in zip(started(f"gradinit:base={base},iterations=1,lr=0.001"), started(base), strict=True):
        assert (mine / plain - 1).abs().max() < 0.0011
