"""Biases follow their law as closely as weights do, where a scheme draws them."""

import math

import pytest
import torch
from schemes_support import assert_law, init
from torch import nn

from initbench import build_model

WIDE = 20_000
LAWS = {
    "edge_of_chaos:nonlinearity=tanh": ("normal", math.sqrt(0.150961)),
    "torch_default": ("uniform", 1 / math.sqrt(3 * 5)),
    "siren:omega=30": ("uniform", 1 / math.sqrt(3 * 5)),
}


@pytest.mark.parametrize("scheme", LAWS)
@pytest.mark.parametrize("make", [lambda: nn.Linear(5, WIDE), lambda: nn.Conv1d(5, WIDE, 1)])
def test_biases_follow_their_law(scheme, make):
    law, std = LAWS[scheme]
    layer = make()
    report = init(layer, scheme)
    assert_law(layer.bias, law, std)
    assert report.parameters[1].target_std == pytest.approx(std, rel=1e-4)


def test_the_biases_of_a_randomized_asymmetric_layer_have_their_share_of_positive_entries():
    layer = nn.Linear(5, WIDE)
    init(layer, "rai")
    std = 0.6007 / math.sqrt(5)
    beta = layer.bias.detach().double()
    share = 1 / 6
    second = (1 - share) * std**2 + share * 0.5
    assert beta.square().mean().item() == pytest.approx(second, rel=0.04)
    assert beta.mean().item() == pytest.approx(share * 2 / 3, rel=0.04)


def test_the_mlp_biases_of_jax_vision_transformers_are_tiny_and_normal():
    model = build_model("vit:depth=8,width=512", (1, 8, 8), 5)
    init(model, "vit_jax")
    named = {name: parameter.detach() for name, parameter in model.named_parameters() if name.endswith("bias") and "embedding" not in name}
    drawn = torch.cat([values for values in named.values() if values.std() > 0])
    assert_law(drawn, "normal", 1e-6)


def test_the_forget_gate_of_keras_is_one():
    layer = nn.LSTM(3, 7)
    init(layer, "keras_default")
    assert [part.unique().tolist() for part in layer.bias_ih_l0.detach().chunk(4)] == [[0.0], [1.0], [0.0], [0.0]]
    assert not layer.bias_hh_l0.any()
