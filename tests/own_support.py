"""A small problem of somebody's own: rows, a network, a dataset that draws from every generator."""

import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

import initbench

SOURCE = torch.Generator().manual_seed(0)
X = torch.randn(300, 6, generator=SOURCE)
Y = (X @ torch.randn(6, 3, generator=SOURCE)).argmax(1)
TRAIN, TEST = (X[:240], Y[:240]), (X[240:], Y[240:])
FAST = {"steps": 8, "seeds": 2, "engine": "serial"}


class Net(nn.Module):
    def __init__(self, outputs=3):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, outputs))

    def forward(self, x):
        return self.net(x)


class Noisy(Dataset):
    """Every example is moved at random, from all three global generators."""

    def __len__(self):
        return len(TRAIN[0])

    def __getitem__(self, place):
        noise = torch.randn(6) + random.random() + float(np.random.rand())
        return TRAIN[0][place] + 0.01 * noise, TRAIN[1][place]


def compared(**asked):
    return initbench.compare(["kaiming", "xavier"], **{"model": Net, **FAST, **asked})


TASK = '''
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from initbench.tasks import Score, Task


def task(*, count: int = 64):
    """Signs of sums."""
    x = torch.randn(count, 5, generator=torch.Generator().manual_seed(0))
    y = (x.sum(1) > 0).long()
    loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
    hits = Score("hits", lambda outputs, targets: (outputs.argmax(1) == targets).float(), "max", (0, 1))
    return Task(loss=functional.cross_entropy, score=hits, data=(loader, (x, y)))


def without():
    return Task(loss=functional.cross_entropy)


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
'''
