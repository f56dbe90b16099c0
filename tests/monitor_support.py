"""Networks and batches for the tests of `SignalMonitor`, and what measuring must not change."""

import random

import numpy as np
import torch
from torch import nn


def network():
    torch.manual_seed(0)
    first = (nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*first, nn.Linear(256, 16), nn.Dropout(0.5), nn.Tanh(), nn.Linear(16, 5))


def perceptron(depth=3, activation=nn.ReLU, width=16):
    torch.manual_seed(0)
    hidden = [layer for _ in range(depth) for layer in (nn.Linear(width, width), activation())]
    return nn.Sequential(*hidden, nn.Linear(width, 5))


def batch(size=32, shape=(16,), seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(size, *shape, generator=source), torch.randint(0, 5, (size,), generator=source)


def state_of(model):
    """Everything of a model that measuring might change, copied."""
    return {
        "numbers": [tensor.detach().clone() for tensor in (*model.parameters(), *model.buffers())],
        "gradients": [None if each.grad is None else each.grad.clone() for each in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
        "random": [torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()],
    }


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other
