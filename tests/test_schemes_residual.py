"""The residual schemes do what their papers say: laws, identity at start, growth with depth, learning rates, refusals."""

import copy
import math

import pytest
import torch
from schemes_support import assert_law
from torch import nn

from initbench.errors import ConfigError, DoesNotApply
from initbench.init.initialize import initialize
from initbench.models import mlp, residual_mlp, resnet, vit
from initbench.nn import hooks
from initbench.nn.hooks import Slot
from initbench.nn.layers import weight_layers
from initbench.nn.residual import branches
from initbench.question.config import InitRules, parse_ref
from initbench.results.record import Setter

RESIDUAL = ["fixup", "skipinit", "rezero", "depth_scaled", "stable_resnet", "zero_gamma"]
SHAPE = (3, 16, 16)


def images(count=4):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def net(norm="none", depth=20, **params):
    return resnet.build(SHAPE, 10, depth=depth, norm=norm, **params)


def start(model, scheme, seed=0, **rules):
    report, _ = initialize(model, parse_ref(scheme), seed=seed, inputs=images(2), rules=InitRules(**rules))
    return report


def blocks(model):
    return [block for block in model.modules() if type(block).__name__ == "Residual"]


def traced(model, block_list, x):
    """(input, output) of each block."""
    found = []
    handles = [block.register_forward_hook(lambda _, args, output: found.append((args[0], output))) for block in block_list]
    model(x)
    for handle in handles:
        handle.remove()
    return found


def pooled(model, names, fan):
    """All weights of those names, each times sqrt(its fan)."""
    weights = dict(model.named_parameters())
    return torch.cat([(weights[layer.parameter] * math.sqrt(fan(layer))).detach().flatten() for layer in names])


@pytest.mark.parametrize(
    ("scheme", "norm", "shortcut"),
    [
        ("fixup", "none", "A"),
        ("skipinit", "none", "B"),
        ("rezero", "none", "A"),
        ("rezero", "batch", "A"),
        ("zero_gamma", "batch", "B"),
        ("zero_gamma", "layer", "A"),
    ],
)
def test_each_block_is_its_skip_path_at_start(scheme, norm, shortcut):
    model = net(norm, shortcut=shortcut, depth=14)
    start(model, scheme)
    for block, (x, output) in zip(blocks(model), traced(model, blocks(model), images()), strict=True):
        torch.testing.assert_close(output, torch.relu(block.shortcut(x)))


def test_fixup_starts_with_equal_logits_and_he_elsewhere():
    model = net()
    start(model, "fixup")
    assert model(images()).abs().max() == 0
    assert_law(pooled(model, inner(model), lambda layer: layer.fan_out / 2), "normal", 9**-0.5)
    assert model.stem[0].weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 16)), rel=0.15)


def inner(model):
    return [layer for branch in branches(model, weight_layers(model)) for layer in branch.layers[:-1]]


@pytest.mark.parametrize(("depth", "layers"), [(9, 2), (4, 3)])
def test_fixup_scales_inner_layers_by_the_negative_power_of_depth(depth, layers):
    model = residual_mlp.build((48,), 10, depth=depth, width=96, branch_layers=layers)
    report, _ = initialize(model, parse_ref("fixup:mode=fan_in"), seed=0, inputs=torch.randn(2, 48))
    std = math.sqrt(2) * depth ** (-1 / (2 * layers - 2))
    assert_law(pooled(model, inner(model), lambda layer: layer.fan_in), "normal", std)
    entry = next(entry for entry in report.parameters if entry.parameter == "blocks.0.branch.1.weight")
    assert entry.target_std == pytest.approx(std / math.sqrt(96))
    for branch in branches(model, weight_layers(model)):
        assert branch.last.weight.abs().max() == 0


def test_fixup_has_the_scalars_of_the_authors_network():
    model = net(depth=20, bias=False)
    report = start(model, "fixup")
    scalars = [entry for entry in report.parameters if hooks.is_slot(entry.parameter)]
    scales = [entry for entry in scalars if entry.parameter.endswith("output_scale")]
    assert len(scales) == 9
    assert len(scalars) == 9 * 5 + 2, "a multiplier and four biases a block, one after the stem, one before the head"
    assert all(entry.mean == (1.0 if entry in scales else 0.0) and entry.setter is Setter.SCHEME for entry in scalars)
    assert report.lr_multipliers == {entry.parameter: 0.1 for entry in scalars}
    assert not report.untouched
    assert [entry.parameter for entry in report.parameters] == [name for name, _ in model.named_parameters()]


def test_fixup_learns_from_the_first_step():
    model = net(depth=8)
    start(model, "fixup")
    for _ in range(2):
        nn.functional.cross_entropy(model(images()), torch.arange(4)).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
    assert model(images()).abs().max() > 0
    assert all(block.branch[2].weight.abs().max() > 0 for block in blocks(model))


@pytest.mark.parametrize(
    ("scheme", "value"), [("skipinit", 0.0), ("skipinit:alpha=null", 3**-0.5), ("skipinit:alpha=0.2", 0.2), ("rezero", 0.0)]
)
def test_one_alpha_a_branch_learns_from_its_start(scheme, value):
    model = net(depth=8)
    report = start(model, scheme)
    alphas = {name: parameter for name, parameter in model.named_parameters() if name.endswith("output_scale")}
    assert len(alphas) == 3
    assert all(alpha.item() == pytest.approx(value) and alpha.shape == () for alpha in alphas.values())
    model(images()).square().sum().backward()
    assert all(alpha.grad.abs() > 0 for alpha in alphas.values())
    assert {entry.parameter for entry in report.parameters} >= alphas.keys()
    assert report.lr_multipliers == {}


def test_rezero_can_slow_its_alphas():
    report = start(net(depth=8), "rezero:alpha_lr=0.1")
    assert set(report.lr_multipliers.values()) == {0.1}
    assert len(report.lr_multipliers) == 3


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("scheme", "std", "fan"),
    [
        ("skipinit", math.sqrt(2), lambda layer: layer.fan_in),
        ("rezero", 2.0, lambda layer: layer.fan_in + layer.fan_out),
        ("rezero:gain=1", math.sqrt(2), lambda layer: layer.fan_in + layer.fan_out),
        ("stable_resnet", math.sqrt(2), lambda layer: layer.fan_in),
        ("zero_gamma", math.sqrt(2), lambda layer: layer.fan_out),
        ("skipinit:base=xavier", math.sqrt(2), lambda layer: layer.fan_in + layer.fan_out),
    ],
)
def test_the_weights_of_branches_have_their_law(scheme, std, fan):
    model = net("batch")
    start(model, scheme)
    layers = [layer for branch in branches(model, weight_layers(model)) for layer in branch.layers]
    assert_law(pooled(model, layers, fan), "normal", std)


@pytest.mark.parametrize(("rule", "factor"), [("sqrt_l", 1), ("sqrt_2l", 2)])
def test_depth_scaled_divides_the_ends_of_branches_only(rule, factor):
    plain, scaled = net(), net()
    start(plain, "kaiming")
    report = start(scaled, f"depth_scaled:rule={rule}")
    ends = {branch.last.parameter for branch in branches(plain, weight_layers(plain))}
    for (name, before), (_, after) in zip(plain.named_parameters(), scaled.named_parameters(), strict=True):
        torch.testing.assert_close(after, before / math.sqrt(9 * factor) if name in ends else before)
    entry = next(entry for entry in report.parameters if entry.parameter in ends)
    assert entry.target_std == pytest.approx(math.sqrt(2 / 144 / 9 / factor))


def growth(scheme, depth):
    """Variance after over variance before `depth` blocks of a wide residual MLP, averaged over the batch."""
    model = residual_mlp.build((64,), 10, depth=depth, width=256, branch_layers=1)
    initialize(model, parse_ref(scheme), seed=0, inputs=torch.randn(2, 64))
    with torch.no_grad():
        before = model.stem(torch.randn(16, 64))
        return (model.blocks(before).square().mean() / before.square().mean()).item()


@pytest.mark.heavy
def test_the_variance_doubles_at_each_block_with_he_and_stays_below_e_when_scaled():
    assert math.log2(growth("kaiming", 50)) == pytest.approx(50, abs=5)
    for scheme in ("depth_scaled", "stable_resnet"):
        assert growth(scheme, 50) == pytest.approx((1 + 1 / 50) ** 50, rel=0.25)
    assert growth("depth_scaled:rule=sqrt_2l", 50) == pytest.approx((1 + 1 / 100) ** 50, rel=0.15)
    assert growth("rezero", 50) == pytest.approx(1)


def test_stable_resnet_keeps_its_multipliers_in_the_forward_pass():
    model = net(depth=20)
    start(model, "stable_resnet")
    assert [hooks.number(block.branch, Slot.OUTPUT_SCALE) for block in blocks(model)] == pytest.approx([1 / 3] * 9)
    start(model, "stable_resnet:scaling=decreasing")
    wanted = [1 / (math.sqrt(index) * math.log(index + 1)) for index in range(1, 10)]
    assert [hooks.number(block.branch, Slot.OUTPUT_SCALE) for block in blocks(model)] == pytest.approx(wanted)
    assert not [name for name, _ in model.named_parameters() if "scale" in name]


def test_zero_gamma_leaves_the_other_norms_and_sets_the_head():
    model = net("batch")
    report = start(model, "zero_gamma")
    by = {entry.parameter: entry for entry in report.parameters}
    for block in blocks(model):
        assert block.branch[4].weight.abs().max() == 0
        assert (block.branch[1].weight == 1).all()
    assert by["blocks.0.branch.4.weight"].setter is Setter.SCHEME
    assert by["head.weight"].target_std == 0.01
    assert by["head.weight"].std == pytest.approx(0.01, rel=0.15)
    start(model, "zero_gamma:head_std=null")
    assert model.head.weight.std().item() == pytest.approx(math.sqrt(2 / 10), rel=0.15)


@pytest.mark.parametrize("scheme", RESIDUAL)
def test_a_plain_mlp_is_refused_and_left_alone(scheme):
    model = mlp.build(SHAPE, 10)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(DoesNotApply, match=f"'{scheme}' is for residual networks"):
        start(model, scheme)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("scheme", "model", "words"),
    [
        ("fixup", net("batch", depth=8), "without norm layers"),
        ("fixup", vit.build(SHAPE, 10, depth=1, width=16, norm="none"), "t_fixup"),
        ("zero_gamma", net("none", depth=8), "blocks.0"),
        ("zero_gamma", vit.build(SHAPE, 10, depth=1, width=16), "norm with a weight"),
    ],
)
def test_a_model_that_does_not_suit_is_refused_with_the_reason(scheme, model, words):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(DoesNotApply) as error:
        start(model, scheme)
    assert words in str(error.value)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_base_that_needs_the_whole_model_is_refused():
    with pytest.raises(ConfigError, match="base is 'fixup'"):
        start(net(depth=8), "skipinit:base=fixup")
