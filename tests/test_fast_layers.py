"""Layers by oneDNN: the same values and gradients as torch's own, where they apply, and nothing changed elsewhere."""

import copy

import pytest
import torch
from onednn_support import needs_onednn, random
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from initbench.fast import layers as fast
from initbench.fast import onednn
from initbench.fast.layers import FastLayers, fast_layers
from initbench.nn.build import build_model
from initbench.question.config import Ref

MODELS = {
    "mlp:depth=2,width=16": (1, 8, 8),
    "cnn:channels=[4,6],kernel=3,pooling=max": (1, 12, 12),
    "cnn:channels=[4,6,8],kernel=5,pooling=max,activation=gelu": (3, 16, 16),
    "cnn:channels=[4,6],pooling=avg": (1, 12, 12),
    "cnn:channels=[4,6],pooling=max,norm=batch": (1, 12, 12),
    "cnn:channels=[4,6],pooling=max,dropout=0.3,head=global": (1, 12, 12),
    "resnet:depth=8,width=4": (3, 8, 8),
    "vit:depth=1,width=16": (3, 8, 8),
}


@needs_onednn
@pytest.mark.parametrize("name", MODELS)
def test_a_models_loss_and_gradients_are_the_same_within(by_onednn, name):
    head, _, tail = name.partition(":")
    plain = build_model(Ref.model_validate({"name": head, "params": _params(tail)}), MODELS[name], 10, 0)
    if any(isinstance(module, nn.Conv2d) for module in plain.modules()):
        plain = plain.to(memory_format=torch.channels_last)
    ours, x, labels = copy.deepcopy(plain), random(6, *MODELS[name]), torch.arange(6)
    losses = []
    for model, context in ((plain, None), (ours, fast_layers(ours, torch.device("cpu"), "float32"))):
        torch.manual_seed(3)
        if context is None:
            losses.append(functional.cross_entropy(model(x), labels))
        else:
            with context:
                losses.append(functional.cross_entropy(model(x), labels))
        losses[-1].backward()
    assert by_onednn() > 0
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-6)
    for (parameter, one), two in zip(plain.named_parameters(), ours.parameters(), strict=True):
        scale = one.grad.abs().max().item()
        torch.testing.assert_close(
            two.grad, one.grad, rtol=1e-4, atol=1e-5 * scale + 1e-6, msg=lambda text, parameter=parameter: f"{parameter}: {text}"
        )
    for one, two in zip(plain.buffers(), ours.buffers(), strict=True):
        torch.testing.assert_close(two, one)


def _params(text):
    from initbench.question.config import parse_ref

    return parse_ref(f"x:{text}").params


def chain(model):
    """The modules that run in oneDNN's layout, by their class names."""
    return [type(module).__name__ for inside, group in fast._stretches(list(model)) if inside for module in group]


def conv(channels, out=4):
    return nn.Conv2d(channels, out, 3, padding=1)


def test_a_chain_goes_from_the_images_to_the_last_pooling():
    pool, relu = nn.MaxPool2d(2), nn.ReLU()
    assert chain([conv(1), pool, relu, conv(4), pool, relu, nn.Flatten()]) == ["Conv2d", "MaxPool2d", "ReLU"] * 2
    assert chain([conv(1), relu, conv(4), relu, pool, conv(4), relu, nn.Flatten()]) == ["Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d"]
    assert chain([nn.Identity(), conv(3), pool, nn.BatchNorm2d(4), pool]) == ["Conv2d", "MaxPool2d"]


@pytest.mark.parametrize(
    "model",
    [
        [],
        [nn.Flatten(), nn.Linear(4, 4)],
        [conv(1), nn.ReLU(), conv(4), nn.ReLU()],
        [conv(16), nn.MaxPool2d(2)],
        [nn.Conv2d(16, 16, 3, groups=16), nn.MaxPool2d(2)],
        [conv(1), nn.BatchNorm2d(4), nn.MaxPool2d(2)],
        [conv(1), nn.AvgPool2d(2)],
        [conv(1), nn.MaxPool2d(2, ceil_mode=True)],
        [conv(1), nn.MaxPool2d(2, dilation=2)],
        [nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect"), nn.MaxPool2d(2)],
        [nn.Conv2d(1, 4, 2, padding="same"), nn.MaxPool2d(2)],
        [conv(1).double(), nn.MaxPool2d(2)],
    ],
)
def test_what_cannot_or_would_not_gain_is_left_alone(model):
    assert chain(model) == []


def test_what_somebody_watches_or_has_changed_is_left_alone():
    watched = conv(1)
    watched.register_forward_hook(lambda *_: None)
    assert chain([watched, nn.MaxPool2d(2)]) == []

    class Mine(nn.Conv2d):
        pass

    assert chain([Mine(1, 4, 3), nn.MaxPool2d(2)]) == []


CHAINS = {
    "activations in place": [conv(3), nn.MaxPool2d(2), nn.ReLU(inplace=True), conv(4), nn.ReLU(inplace=True), nn.MaxPool2d(2)],
    "strides and groups": [
        nn.Conv2d(3, 9, 3, stride=2, bias=False),
        nn.ReLU(),
        nn.Conv2d(9, 9, 3, groups=3, dilation=2),
        nn.MaxPool2d(3, 2, 1),
    ],
    "windows that overlap": [nn.Conv2d(3, 8, (3, 5), padding=(1, 2)), nn.MaxPool2d((2, 3), (2, 1), (1, 0)), nn.ReLU()],
    "pooling first": [nn.MaxPool2d(2), conv(3), nn.GELU(), nn.MaxPool2d(2)],
}


@needs_onednn
@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_chain_has_the_values_and_gradients_of_torchs_own(name, frozen):
    plain = nn.Sequential(*copy.deepcopy(CHAINS[name]))
    next(module for module in plain if isinstance(module, nn.Conv2d)).requires_grad_(not frozen)
    ours, x = copy.deepcopy(plain), random(3, 3, 20, 22)
    assert chain(ours)
    one = plain(x)
    with FastLayers(ours):
        two = ours(x)
    torch.testing.assert_close(two, one)
    if one.requires_grad:
        one.square().sum().backward()
        two.square().sum().backward()
    for left, right in zip(plain.parameters(), ours.parameters(), strict=True):
        assert (left.grad is None) == (right.grad is None)
        if left.grad is not None:
            torch.testing.assert_close(right.grad, left.grad, rtol=1e-4, atol=1e-4)


@needs_onednn
def test_derivatives_by_the_images_and_transformations_are_torchs_own():
    model, x = nn.Sequential(conv(1), nn.MaxPool2d(2), nn.ReLU()), random(2, 1, 6, 6).requires_grad_()
    with FastLayers(model):
        (slope,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        slope.square().sum().backward()
        assert x.grad is not None
        assert torch.vmap(model)(random(3, 2, 1, 6, 6)).shape == (3, 2, 4, 3, 3)
        assert torch.func.grad(lambda images: model(images).sum())(random(2, 1, 6, 6)).shape == (2, 1, 6, 6)
        with torch.inference_mode():
            assert model(random(0, 1, 6, 6)).shape == (0, 4, 3, 3)


@needs_onednn
def test_outside_everything_is_as_it_was(by_onednn):
    model = nn.Sequential(conv(1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 2))
    layers, plain = FastLayers(model), functional.linear
    for _ in range(2):
        with layers:
            assert "forward" in vars(model)
            assert functional.linear is onednn.linear
            assert not model(random(2, 1, 4, 4)).is_mkldnn
        assert functional.linear is plain
        assert not any("forward" in vars(module) for module in model.modules())
    with pytest.raises(ZeroDivisionError), layers:
        raise ZeroDivisionError
    assert functional.linear is plain
    assert not any("forward" in vars(module) for module in model.modules())


@needs_onednn
@pytest.mark.parametrize("pixel", [1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("weight", [1.0, float("nan"), float("inf"), -3e38])
def test_what_is_no_number_stays_none(pixel, weight):
    """oneDNN's ReLU and max pooling would turn NaN into a number."""
    torch.manual_seed(0)  # with some weights -3e38 times them does not overflow
    model, x = nn.Sequential(conv(1), nn.MaxPool2d(2), nn.ReLU(), conv(4), nn.MaxPool2d(2), nn.ReLU()), random(2, 1, 8, 8)
    x[0, 0, 3, 3] *= pixel
    with torch.no_grad():
        model[0].weight[1] *= weight
    expected = model(x)
    with FastLayers(model):
        found = model(x)
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert found.isfinite().all() == (pixel == weight == 1)


class Net(nn.Module):
    """A user's model: what its forward does is its own affair."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(conv(1), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        inner = checkpoint(self.body, x, use_reentrant=False)
        return copy.deepcopy(self.head)(input=inner) + self.head(inner)


@needs_onednn
def test_in_users_models_only_linear_layers_go_another_way(by_onednn):
    model, x = Net(), random(4, 1, 4, 4)
    twin = copy.deepcopy(model)
    layers = FastLayers(model)
    assert not layers.chains
    with layers:
        model(x).square().sum().backward()
    twin(x).square().sum().backward()
    assert by_onednn() > 0
    assert not any("forward" in vars(module) for module in model.modules())
    for ours, plain in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-4, atol=1e-5)


@needs_onednn
def test_images_without_a_batch_and_other_types_go_torchs_own_way():
    model = nn.Sequential(conv(1), nn.MaxPool2d(2))
    with FastLayers(model):
        assert model(random(1, 4, 4)).shape == (4, 2, 2)
    with FastLayers(wide := copy.deepcopy(model)):
        assert wide.double()(random(2, 1, 4, 4).double()).dtype == torch.float64


def test_other_devices_and_precisions_are_left_alone():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, device="meta"), nn.MaxPool2d(2))
    assert not isinstance(fast_layers(model, torch.device("meta"), "float32"), FastLayers)
    assert not isinstance(fast_layers(model, torch.device("cpu"), "bfloat16"), FastLayers)
