"""The tree of modules that pages show."""

import torch
from torch import nn

import initbench
from initbench.reporting.network import network


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(6, 12), nn.Linear(12, 6)

    def forward(self, x):
        return x + self.down(self.up(x).relu())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(6))
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.blocks(x + self.shift))


def test_every_module_says_its_parameters_and_where_it_stands():
    model = Net()
    run = initbench.probe(model, ["kaiming"], inputs=torch.randn(16, 6)).runs[0]
    tree = network(run.init, run.layers)
    assert tree.own == ["shift 6"]
    assert list(tree.within) == ["blocks", "head"]
    assert tree.numbers == sum(parameter.numel() for parameter in model.parameters())
    block = tree.within["blocks"].within["1"]
    assert block.numbers == sum(parameter.numel() for parameter in model.blocks[1].parameters())
    assert block.within["up"].own == ["weight 12 x 6, fan in 6, fan out 12", "bias 12"]
    assert [each.role for each in block.within.values()] == ["in a residual branch", "end of a residual branch"]
    assert tree.within["head"].role == "head"
