"""Fast max pooling: torch's own values and gradients, ties included; only where it is meant."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from initbench.training import pooling
from initbench.training.pooling import fast_pools, halved

CPU = torch.device("cpu")


def last(*shape, ties=False):
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return (images.mul(2).round() if ties else images).contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shape", [(3, 16, 28, 28), (1, 1, 2, 2), (2, 5, 6, 4)])
def test_values_and_gradients_are_those_of_torch(shape, ties):
    images = last(*shape, ties=ties)
    expected, found = functional.max_pool2d(images, 2), halved(images)
    assert torch.equal(found, expected)
    assert "Halved" in found.grad_fn.name()
    gradient = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad(output, images, gradient)[0] for output in (found, expected))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("images", [torch.randn(2, 3, 4, 4), last(2, 3, 5, 4).detach(), last(2, 3, 4, 7).detach(), torch.randn(3, 4, 4)])
def test_other_layouts_and_sizes_go_to_torch(images, monkeypatch):
    monkeypatch.setattr(pooling, "_Halved", None)
    assert torch.equal(halved(images), functional.max_pool2d(images, 2))


def test_whoever_watches_the_functions_sees_torch_s_own():
    seen = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Watch():
        halved(last(2, 3, 4, 4))
    assert functional.max_pool2d in seen


def test_only_plain_pools_of_two_are_replaced_and_only_within():
    class Own(nn.MaxPool2d):
        pass

    pools = nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d((2, 2), 2), nn.MaxPool2d(3), nn.MaxPool2d(2, 1), nn.MaxPool2d(2, padding=1), Own(2))
    with fast_pools(pools, CPU):
        assert [pool.forward is halved for pool in pools] == [True, True, False, False, False, False]
    assert not any("forward" in vars(pool) for pool in pools)
    with fast_pools(pools, torch.device("meta")):
        assert not any("forward" in vars(pool) for pool in pools)
