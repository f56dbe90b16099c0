"""A torch whose private functions are gone or behave otherwise trains on, with the same numbers within rounding."""

import copy

import pytest
import torch
from onednn_support import needs_onednn, random
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.modules import module as module_file

from initbench.fast import onednn, torch_private
from initbench.fast.layers import FastLayers

CHECKS = (torch_private.has_linear_product, torch_private.has_layout, torch_private._tells)


class Without:
    """A module of torch as this package sees it, with one function changed (or gone, where `value` is None)."""

    def __init__(self, whole, path, value=None):
        self._whole, (self._name, *self._rest), self._value = whole, path, value

    def __getattr__(self, name):
        if name != self._name:
            return getattr(self._whole, name)
        if self._rest:
            return Without(getattr(self._whole, name), self._rest, self._value)
        if self._value is None:
            raise AttributeError(name)
        return self._value


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch):
    """Each test asks anew, on a machine where oneDNN is faster."""
    monkeypatch.setattr(onednn, "LEAST_PRODUCTS", 0)
    monkeypatch.setattr(onednn, "multiplies_faster", lambda: True)
    for check in CHECKS:
        check.cache_clear()
    yield
    for check in CHECKS:
        check.cache_clear()


def losses_of(model, *, fast):
    """Three steps of plain gradient descent."""
    model, layers = copy.deepcopy(model), None
    if fast:
        layers = FastLayers(model)
    losses = []
    for step in range(3):
        x, labels = random(6, 1, 8, 8, seed=step), torch.arange(6) % 5
        if layers is None:
            loss = functional.cross_entropy(model(x), labels)
            loss.backward()
        else:
            with layers:
                loss = functional.cross_entropy(model(x), labels)
                loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(0.1 * parameter.grad)
                parameter.grad = None
    return losses


def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 5)
    )


def wrong_product(x, weight, bias, *_):
    return functional.linear(x, weight, bias) + 1


def other_arguments(x, weight):
    raise TypeError("takes 2 arguments")


def fails(*_):
    raise RuntimeError("not for this processor")


PRODUCT = ("ops", "mkldnn", "_linear_pointwise")
TRANSFORMS = ("_C", "_are_functorch_transforms_active")
BROKEN = {
    "product gone": ("torch", torch, PRODUCT, None),
    "product wrong": ("torch", torch, PRODUCT, wrong_product),
    "product with other arguments": ("torch", torch, PRODUCT, other_arguments),
    "product fails": ("torch", torch, PRODUCT, fails),
    "transforms gone": ("torch", torch, TRANSFORMS, None),
    "transforms always no": ("torch", torch, TRANSFORMS, lambda: False),
    "transforms always yes": ("torch", torch, TRANSFORMS, lambda: True),
    "tracing gone": ("torch", torch, ("_C", "_get_tracing_state"), None),
    "forward mode gone": ("forward_ad", forward_ad, ("_current_level",), None),
    "forward mode always off": ("forward_ad", forward_ad, ("_current_level",), -1),
    "forward mode of another kind": ("forward_ad", forward_ad, ("_current_level",), "none"),
    **{f"{name} gone": ("module_file", module_file, (name,), None) for name in torch_private.GLOBAL_HOOKS},
    "global hooks elsewhere": ("module_file", module_file, ("_global_forward_hooks",), {}),
}


@needs_onednn
def test_an_unbroken_torch_goes_the_fast_way(monkeypatch):
    taken, product = [], onednn.linear_product
    monkeypatch.setattr(onednn, "linear_product", lambda *given: taken.append(1) or product(*given))
    assert losses_of(model(), fast=True) == pytest.approx(losses_of(model(), fast=False), rel=1e-5)
    assert taken
    assert FastLayers(model()).chains
    assert all(check() for check in CHECKS)
    assert not torch_private.is_watched()
    assert not torch_private.all_are_hooked()


@pytest.mark.heavy
@needs_onednn
@pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")  # of torch's own forward-mode derivatives
@pytest.mark.parametrize("name", BROKEN)
def test_training_goes_on_with_the_same_numbers(monkeypatch, name):
    plain = losses_of(model(), fast=False)
    place, whole, path, value = BROKEN[name]
    monkeypatch.setattr(torch_private, place, Without(whole, path, value))
    assert losses_of(model(), fast=True) == pytest.approx(plain, rel=1e-5)
    if name != "tracing gone":
        assert not torch_private.has_linear_product() if "product" in name else torch_private.is_watched()
    x, weight = random(2, 3, 5), random(4, 5, seed=1)
    assert torch.vmap(lambda one: onednn.linear(one, weight))(x).shape == (2, 3, 4)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x[0], x[1])
        slope = forward_ad.unpack_dual(onednn.linear(dual, weight)).tangent
    torch.testing.assert_close(slope, x[1] @ weight.T)


@needs_onednn
@pytest.mark.parametrize("name", torch_private.HOOKS)
def test_where_modules_do_not_show_their_hooks_convolutions_go_torchs_way(monkeypatch, name):
    plain = losses_of(model(), fast=False)
    monkeypatch.setattr(torch_private, "HOOKS", (*torch_private.HOOKS, f"{name}_of_tomorrow"))
    assert not FastLayers(model()).chains
    assert losses_of(model(), fast=True) == pytest.approx(plain, rel=1e-5)


@pytest.mark.heavy
@needs_onednn
@pytest.mark.parametrize(("where", "way"), [("max_pool2d", fails), ("gelu", lambda x: x + 1), ("conv2d", other_arguments)])
def test_where_the_layout_is_not_what_it_was_convolutions_go_torchs_way(monkeypatch, where, way):
    plain, real = losses_of(model(), fast=False), getattr(functional, where)
    monkeypatch.setattr(functional, where, lambda x, *more, **named: way(x, *more) if x.is_mkldnn else real(x, *more, **named))
    assert not FastLayers(model()).chains
    assert losses_of(model(), fast=True) == pytest.approx(plain, rel=1e-5)


def test_the_first_question_may_be_asked_anywhere():
    answers = []
    torch.vmap(lambda x: answers.append(torch_private.is_watched()) or x)(torch.zeros(2))
    torch_private._tells.cache_clear()
    with forward_ad.dual_level():
        answers.append(torch_private.is_watched())
    assert answers == [True, True]
    assert not torch_private.is_watched()


def test_asking_leaves_no_hook_behind():
    assert torch_private._tells()
    assert not any(getattr(module_file, name) for name in torch_private.GLOBAL_HOOKS)
