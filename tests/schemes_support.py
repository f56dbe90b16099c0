"""Modules with their fans in plain numbers, and the tests of a law, shared by the tests of schemes."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from initbench.init.initialize import initialize
from initbench.nn.layers import weight_layers
from initbench.question.config import InitRules, parse_ref
from initbench.results.record import InitReport

TINY_PROBABILITY = 1e-6

torch.set_num_threads(1)  # many small products: threads only get in one another's way


@dataclass(frozen=True)
class Case:
    """A module, the weight to look at, the fans of one part and one group, and the number of parts."""

    module: nn.Module
    fan_in: int
    fan_out: int
    weight: str = "weight"
    parts: int = 1


def cases() -> dict[str, Case]:
    """Layers of every kind, wide to narrow and narrow to wide; fans by counting connections by hand."""
    return {
        "linear narrowing": Case(nn.Linear(400, 50), 400, 50),
        "linear widening": Case(nn.Linear(50, 400), 50, 400),
        "conv1d": Case(nn.Conv1d(40, 120, 5), 200, 600),
        "conv2d": Case(nn.Conv2d(64, 32, 3), 576, 288),
        "conv2d dilated": Case(nn.Conv2d(32, 64, 3, dilation=2, padding=2), 288, 576),
        "conv3d": Case(nn.Conv3d(16, 48, 3), 432, 1296),
        "grouped": Case(nn.Conv2d(64, 128, 3, groups=4), 144, 288),
        "depthwise": Case(nn.Conv2d(1024, 2048, 3, groups=1024), 9, 18),
        "transposed": Case(nn.ConvTranspose2d(64, 16, 4), 1024, 256),
        "transposed strided": Case(nn.ConvTranspose2d(64, 16, 4, stride=2), 256, 256),
        "transposed grouped": Case(nn.ConvTranspose2d(64, 128, 3, groups=4), 144, 288),
        "attention, packed": Case(nn.MultiheadAttention(96, 4), 96, 96, "in_proj_weight", 3),
        "lstm, input": Case(nn.LSTM(60, 90), 60, 90, "weight_ih_l0", 4),
        "lstm, hidden": Case(nn.LSTM(60, 90), 90, 90, "weight_hh_l0", 4),
        "gru, input": Case(nn.GRU(120, 60), 120, 60, "weight_ih_l0", 3),
        "raw (in, out)": Case(Raw(300, 80), 300, 80),
    }


class Raw(nn.Module):
    """A layer with its own weight, stored (in, out)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def init(model: nn.Module, scheme: str, seed: int = 0, **rules: object) -> InitReport:
    """Initializes by the text of a reference, as users write it."""
    if isinstance(model, Raw):
        rules.setdefault("in_out", ("weight",))
    report, _ = initialize(model, parse_ref(scheme), seed=seed, rules=InitRules(**rules))
    return report


def layer_of(model: nn.Module, parameter: str = "weight"):
    """The weight layer of a parameter."""
    return next(layer for layer in weight_layers(model) if layer.parameter == parameter)


def weight_of(case: Case) -> Tensor:
    """The weight of a case, as float64."""
    return dict(case.module.named_parameters())[case.weight].detach().double()


def assert_law(values: Tensor, law: str, std: float, mean: float = 0.0) -> None:
    """The values are independent draws of a law: its second moment, its mean, its support and its distribution function."""
    z = (values.detach().double().flatten() - mean).numpy() / std
    count = z.size
    assert count >= 9000, "too few values for a test that notices 5 %"
    reference = {
        "normal": stats.norm(),
        "uniform": stats.uniform(-math.sqrt(3), 2 * math.sqrt(3)),
        "trunc_normal": stats.truncnorm(-2, 2, scale=1 / 0.87962566103423978),
    }[law]
    square = float(np.sum(z**2))
    if law == "normal":
        tail = min(stats.chi2.cdf(square, count), stats.chi2.sf(square, count))
    else:
        fourth = float(reference.moment(4))
        tail = stats.norm.sf(abs(square / count - 1) / math.sqrt((fourth - 1) / count))
        assert reference.support()[0] * 1.0001 <= z.min()
        assert z.max() <= reference.support()[1] * 1.0001
    assert 2 * tail > TINY_PROBABILITY, f"sum of squares {square / count:.4f} of what it should be"
    assert 2 * stats.norm.sf(abs(z.mean()) * math.sqrt(count)) > TINY_PROBABILITY, f"mean {z.mean():.4f} std"
    assert stats.kstest(z, reference.cdf).pvalue > TINY_PROBABILITY, f"not {law}"
