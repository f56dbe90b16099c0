"""DKS and TAT on real networks: variance and angles at the end of deep networks are what the conditions promise."""

import copy
import math

import pytest
import torch
from torch import nn

from initbench.errors import ConfigError, DoesNotApply
from initbench.init.initialize import initialize
from initbench.models import mlp, residual_mlp, resnet, vit
from initbench.nn import hooks
from initbench.nn.hooks import Slot
from initbench.question.config import parse_ref

FEATURES = 256


def start(model, scheme, x=None):
    inputs = torch.randn(2, FEATURES) if x is None else x
    return initialize(model, parse_ref(scheme), seed=0, inputs=inputs)[0]


def deep(activation, depth=24, width=256):
    return mlp.build((FEATURES,), 10, depth=depth, width=width, activation=activation)


def pairs(cosine, count=64):
    """Pairs of inputs of mean square 1 at an angle."""
    source = torch.Generator().manual_seed(3)
    first, other = (nn.functional.normalize(torch.randn(count, FEATURES, generator=source)) for _ in range(2))
    other = nn.functional.normalize(other - (other * first).sum(dim=1, keepdim=True) * first)
    scale = math.sqrt(FEATURES)
    return scale * first, scale * (cosine * first + math.sqrt(1 - cosine**2) * other)


def measured(model, cosine):
    """Mean square and mean cosine of the last hidden pre-activations."""
    before_head = model[:-1]
    with torch.no_grad():
        one, two = (before_head(x) for x in pairs(cosine))
    return one.square().mean().item(), nn.functional.cosine_similarity(one, two).mean().item()


@pytest.mark.heavy
@pytest.mark.parametrize("activation", ["tanh", "gelu", "leaky_relu", "leaky_relu:negative_slope=0.3"])
def test_a_dks_network_keeps_variance_and_orthogonality(activation):
    model = deep(activation)
    start(model, "dks:inputs=none")
    square, cosine = measured(model, 0.0)
    assert square == pytest.approx(1, abs=0.1)
    assert abs(cosine) < 0.1


@pytest.mark.heavy
@pytest.mark.parametrize(("scheme", "slope"), [("dks:inputs=none", 1.5), ("dks:inputs=none,slope=3", 3.0), ("tat:inputs=none", 1.0)])
def test_close_inputs_move_apart_as_the_target_slope_says(scheme, slope):
    model = deep("tanh", depth=20, width=384)
    start(model, scheme)
    _, cosine = measured(model, 0.999)
    assert (1 - cosine) / 0.001 == pytest.approx(slope, rel=0.1)


@pytest.mark.heavy
@pytest.mark.parametrize(("activation", "depth"), [("relu", 24), ("leaky_relu", 24)])
def test_a_tailored_rectifier_network_has_its_target_at_orthogonal_inputs(activation, depth):
    model = deep(activation, depth)
    start(model, "tat:inputs=none,c_at_zero=0.7")
    square, cosine = measured(model, 0.0)
    assert square == pytest.approx(1, abs=0.3)
    assert cosine == pytest.approx(0.7, abs=0.05)


def test_a_leaky_relu_gets_another_slope_and_a_relu_a_note():
    leaky, relu = deep("leaky_relu", depth=30, width=8), deep("relu", depth=30, width=8)
    assert not any("authors" in note for note in start(leaky, "dks").notes)
    slopes = {module.negative_slope for module in leaky if isinstance(module, nn.LeakyReLU)}
    assert len(slopes) == 1
    assert 0.5 < slopes.pop() < 0.9
    notes = start(relu, "dks").notes
    assert any("Q'(1) = 1" in note and "the authors advise leaky ReLU" in note for note in notes)


def test_a_dks_network_of_relus_keeps_variance_and_orthogonality():
    model = deep("relu", depth=10)
    start(model, "dks:inputs=none")
    square, cosine = measured(model, 0.0)
    assert square == pytest.approx(1, abs=0.25)
    assert abs(cosine) < 0.1


@pytest.mark.parametrize("scheme", ["dks", "tat"])
def test_an_activation_without_moments_is_refused_in_a_sentence_of_the_scheme(scheme):
    with pytest.raises(DoesNotApply, match=f"^'{scheme}' does not apply: the activation .* has no moments: .*[.]$"):
        start(mlp.build((FEATURES,), 10, depth=2, width=8, activation="sin"), scheme)


class Atan(nn.Module):
    def forward(self, x):
        return torch.atan(x)


class Asinh(nn.Module):
    def forward(self, x):
        return torch.asinh(x)


class BentIdentity(nn.Module):
    def forward(self, x):
        return (torch.sqrt(x**2 + 1) - 1) / 2 + x


@pytest.mark.heavy
@pytest.mark.parametrize("kind", [Atan, Asinh, BentIdentity])
def test_smooth_activations_of_ones_own_are_transformed_by_their_values(kind):
    layers = [part for _ in range(20) for part in (nn.Linear(256, 256), kind())]
    model = nn.Sequential(*layers, nn.Linear(256, 10))
    start(model, "dks:inputs=none")
    square, cosine = measured(model, 0.0)
    assert square == pytest.approx(1, abs=0.1)
    assert abs(cosine) < 0.1
    start(model, "tat:inputs=none")
    assert (1 - measured(model, 0.999)[1]) / 0.001 == pytest.approx(1.0, rel=0.1)


@pytest.mark.heavy
@pytest.mark.parametrize("scheme", ["dks", "tat"])
def test_a_slope_that_is_learned_or_drawn_is_not_replaced(scheme):
    for kind in (nn.PReLU, nn.RReLU):
        model = nn.Sequential(nn.Linear(8, 8), kind(), nn.Linear(8, 2)).eval()
        with pytest.raises(DoesNotApply):
            start(model, scheme, torch.randn(2, 8))
        assert isinstance(model[1], kind)


def test_a_plain_network_of_that_depth_forgets_its_inputs():
    model = deep("relu")
    start(model, "kaiming")
    assert measured(model, 0.0)[1] > 0.95


def test_relu_modules_become_leaky_and_smooth_ones_get_numbers():
    relu, tanh = deep("relu", depth=30, width=8), deep("tanh", depth=30, width=8)
    start(relu, "tat")
    start(tanh, "tat")
    swapped = [module for module in relu if isinstance(module, nn.LeakyReLU)]
    assert len({id(module) for module in swapped}) == 30
    slope = swapped[0].negative_slope
    assert hooks.number(swapped[0], Slot.OUTPUT_SCALE) == pytest.approx(math.sqrt(2 / (1 + slope**2)))
    assert sum(hooks.number(module, Slot.INPUT_SHIFT) is not None for module in tanh) == 30
    assert not any(isinstance(module, nn.ReLU) for module in relu)


def test_weights_are_scaled_orthogonal_in_both_directions():
    model = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 32))
    start(model, "dks", torch.randn(2, 64))
    wide, narrow = model[0].weight, model[2].weight
    torch.testing.assert_close(wide.T @ wide, 2 * torch.eye(64))
    torch.testing.assert_close(narrow @ narrow.T, torch.eye(32))


def test_kernels_are_orthogonal_at_their_centre_and_zero_elsewhere():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1))
    start(model, "dks", torch.randn(2, 3, 6, 6))
    centre = model[2].weight[:, :, 1, 1]
    torch.testing.assert_close(centre @ centre.T, torch.eye(8))
    assert model[2].weight.count_nonzero() == 64


@pytest.mark.parametrize(
    "build",
    [
        lambda: resnet.build((3, 16, 16), 10, depth=20, norm="none", width=32, activation="tanh", preactivation=True),
        lambda: residual_mlp.build((3, 16, 16), 10, depth=10, activation="tanh"),
    ],
)
def test_residual_sums_are_weighted_so_that_the_mean_square_stays(build):
    model = build()
    x = torch.randn(16, 3, 16, 16)
    start(model, "dks", x)
    last = {}
    model.head.register_forward_pre_hook(lambda _, args: last.update(x=args[0]))
    blocks = [module for module in model.modules() if type(module).__name__ == "Residual"]
    outputs = []
    for block in blocks:
        block.register_forward_hook(lambda _, args, output: outputs.append(output.square().mean().item()))
    model(x)
    assert len(outputs) == len(blocks)
    assert min(outputs) > 0.6
    assert max(outputs) < 1.6
    skip, branch = (hooks.number(module, Slot.OUTPUT_SCALE) for module in (blocks[0].shortcut, blocks[0].branch))
    assert skip**2 + branch**2 == pytest.approx(1)


def test_inputs_are_normalized_by_image_unless_told_otherwise():
    x = 7 * torch.randn(4, FEATURES)
    for scheme, same in (("dks", True), ("dks:inputs=none", False)):
        model = deep("tanh", depth=2)
        start(model, scheme)
        assert torch.allclose(model(x), model(x / 7), atol=1e-4) is same


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.two(torch.tanh(self.one(x)))


@pytest.mark.parametrize("scheme", ["dks", "tat"])
@pytest.mark.parametrize(
    ("model", "shape", "words"),
    [
        (Functional(), (8,), "its own module"),
        (resnet.build((3, 8, 8), 10, depth=8), (3, 8, 8), "without norm layers"),
        (resnet.build((3, 8, 8), 10, depth=8, norm="none"), (3, 8, 8), "preactivation=true"),
        (vit.build((3, 8, 8), 10, depth=1, width=8, heads=1, norm="none"), (3, 8, 8), "has attention"),
        (nn.Sequential(nn.Conv2d(3, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(196, 2)), (3, 8, 8), "kernels with a centre"),
        (nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)), (8,), "activation"),
    ],
)
def test_what_the_theory_does_not_reach_is_refused_and_left_alone(scheme, model, shape, words):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(DoesNotApply) as error:
        start(model, scheme, torch.randn(2, *shape))
    assert words in str(error.value)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_parameters_out_of_range_are_refused():
    for scheme, words in (("dks:slope=1", "slope"), ("dks:branch_share=1", "branch_share"), ("tat:inputs=all", "inputs")):
        with pytest.raises(ConfigError, match=words):
            start(deep("tanh", depth=2), scheme)
