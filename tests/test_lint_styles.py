"""Models in styles of their own: healthy they are silent, and a fault is told at the parameter that has it; both fixes clear it."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initbench import lint

WIDTH = 32


class Heads(nn.Module):
    """Attention of stacked raw parameters, in the model itself."""

    def __init__(self):
        super().__init__()
        self.enter, self.norm, self.head = nn.Linear(16, WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)
        self.wq, self.wk, self.wv = (nn.Parameter(torch.randn(4, WIDTH, 8) / WIDTH**0.5) for _ in range(3))
        self.wo = nn.Parameter(torch.randn(4, 8, WIDTH) / WIDTH**0.5)

    def forward(self, x):
        x = self.enter(x)
        q, k, v = (torch.einsum("btd,hde->bhte", self.norm(x), weight) for weight in (self.wq, self.wk, self.wv))
        mixed = (q @ k.mT / 8**0.5).softmax(-1) @ v
        return self.head((x + torch.einsum("bhte,hed->btd", mixed, self.wo)).mean(1))


class Mixed(nn.Module):
    """Two ways in, joined by one layer, and two heads in a dict."""

    def __init__(self):
        super().__init__()
        self.ways = nn.ModuleDict({"left": nn.Linear(8, WIDTH), "right": nn.Linear(8, WIDTH)})
        self.mix = nn.Linear(2 * WIDTH, WIDTH)
        self.heads = nn.ModuleDict({"a": nn.Linear(WIDTH, 3), "b": nn.Linear(WIDTH, 2)})

    def forward(self, x):
        h = F.relu(self.mix(F.relu(torch.cat([self.ways["left"](x[:, :8]), self.ways["right"](x[:, 8:])], 1))))
        return {name: head(h) for name, head in self.heads.items()}


class Fourier(nn.Module):
    """A complex weight between two Fourier transforms, beside a layer."""

    def __init__(self):
        super().__init__()
        self.lift, self.skip, self.head = nn.Linear(1, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)
        self.modes = nn.Parameter(torch.randn(WIDTH, WIDTH, 6, dtype=torch.cfloat) / WIDTH)

    def forward(self, x):
        h = self.lift(x.unsqueeze(-1))
        spectrum = torch.fft.rfft(h, dim=1)
        kept = torch.zeros_like(spectrum)
        kept[:, :6] = torch.einsum("bki,iok->bko", spectrum[:, :6], self.modes)
        return self.head(F.gelu(torch.fft.irfft(kept, n=x.shape[1], dim=1) + self.skip(h)))


class Experts(nn.Module):
    """The best two of stacked experts for each input."""

    def __init__(self):
        super().__init__()
        self.enter, self.router, self.norm = nn.Linear(16, WIDTH), nn.Linear(WIDTH, 4, bias=False), nn.LayerNorm(WIDTH)
        self.w1 = nn.Parameter(torch.randn(4, WIDTH, 2 * WIDTH) / WIDTH**0.5)
        self.w2 = nn.Parameter(torch.randn(4, 2 * WIDTH, WIDTH) / (2 * WIDTH) ** 0.5)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x):
        x = self.enter(x)
        y = self.norm(x)
        weights, chosen = self.router(y).softmax(-1).topk(2, -1)
        h = F.gelu(torch.einsum("bd,bkdf->bkf", y, self.w1[chosen]))
        return self.head(x + (weights.unsqueeze(-1) * torch.einsum("bkf,bkfd->bkd", h, self.w2[chosen])).sum(1))


class StateSpace(nn.Module):
    """A selective state space model: small steps, and a way past the states."""

    def __init__(self):
        super().__init__()
        self.enter, self.out, self.head = nn.Linear(12, 2 * WIDTH), nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, 6)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, 9.0).repeat(WIDTH, 1)))
        self.D = nn.Parameter(torch.ones(WIDTH))
        self.chosen, self.step = nn.Linear(WIDTH, 20, bias=False), nn.Linear(4, WIDTH)
        steps = torch.exp(torch.linspace(math.log(0.001), math.log(0.1), WIDTH))
        self.step.bias.data.copy_(steps + torch.log(-torch.expm1(-steps)))

    def forward(self, u):
        x, gate = self.enter(u).chunk(2, -1)
        x = F.silu(x)
        step, enters, leaves = self.chosen(x).split([4, 8, 8], -1)
        step = F.softplus(self.step(step)).unsqueeze(-1)
        state, outputs = x.new_zeros(len(x), WIDTH, 8), []
        for t in range(x.shape[1]):
            state = torch.exp(-step[:, t] * torch.exp(self.A_log)) * state + step[:, t] * enters[:, t, None] * x[:, t, :, None]
            outputs.append((state * leaves[:, t, None]).sum(-1))
        return self.head(self.out((torch.stack(outputs, 1) + self.D * x) * F.silu(gate)).mean(1))


class Windows(nn.Module):
    """Blocks that begin as the identity by the norm behind their attention; one number is added to all of a softmax, and learns nothing."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(3))
        self.shift = nn.ModuleList(nn.Linear(4, 1) for _ in range(3))
        self.norm = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))
        self.head = nn.Linear(WIDTH, 6)
        for norm in self.norm:
            nn.init.zeros_(norm.weight)

    def forward(self, x):
        for qkv, shift, norm in zip(self.qkv, self.shift, self.norm, strict=True):
            q, k, v = qkv(x).chunk(3, -1)
            places = torch.linspace(-1, 1, 12 * 12 * 4, device=x.device, dtype=x.dtype).view(12, 12, 4)
            x = x + norm(torch.softmax(q @ k.transpose(1, 2) / WIDTH**0.5 + shift(places)[..., 0], -1) @ v)
        return self.head(x.mean(1))


class Loose(nn.Module):
    """Blocks that begin as the identity, and among them one whose branch ends in a product that no number can be put on."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Conv2d(3, 16, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(8))
        self.norms = nn.ModuleList(nn.BatchNorm2d(16) for _ in self.convs)
        self.values, self.normed = nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 6)
        for norm in self.norms:
            nn.init.zeros_(norm.weight)

    def forward(self, x):
        x = self.enter(x)
        for place, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = x + norm(conv(x))
            if place == 1:
                values = self.normed(self.values(x)).flatten(2)
                x = x + (torch.softmax(values.transpose(1, 2) @ values / 16, -1) @ values.transpose(1, 2)).transpose(1, 2).view_as(x)
        return self.head(F.relu(x).mean((2, 3)))


INPUTS = {Heads: "12x16", Mixed: "16", Fourier: "24", Experts: "16", StateSpace: "14x12", Windows: "12x32", Loose: "3x8x8"}


def told(make):
    """Errors and warnings: the rule, and the parameters."""
    return [(each.code, each.parameters) for each in lint(make, inputs=INPUTS[make.kind]).of("warning")]


def built(kind, change=None):
    """What builds a model of a kind, spoiled where it is to be."""

    def build():
        model = kind()
        if change is not None:
            with torch.no_grad():
                change(model)
        return model

    build.kind = kind
    return build


@pytest.mark.parametrize("kind", INPUTS, ids=lambda kind: kind.__name__)
def test_healthy_ones_are_silent(kind):
    torch.manual_seed(0)
    assert told(built(kind)) == []


def test_norms_at_the_ends_of_branches_are_known_though_one_branch_can_carry_no_number():
    assert "IB112" not in {each.code for each in lint(built(Loose), inputs=INPUTS[Loose], select=["IB112"]).not_told}


@pytest.mark.parametrize(
    ("kind", "change", "code", "parameters"),
    [
        (Heads, lambda model: model.wq.mul_(60), "IB308", ("wq", "wk")),
        (Mixed, lambda model: model.mix.weight.zero_(), "IB301", ("mix.weight",)),
        (Fourier, lambda model: model.modes.fill_(complex(math.nan, 0)), "IB102", ("modes",)),
        (Experts, lambda model: model.w1.fill_(0.1), "IB104", ("w1",)),
        (Experts, lambda model: model.w2.copy_(model.w2[:, :, :1].clone().expand_as(model.w2)), "IB104", ("w2",)),
    ],
)
def test_a_fault_is_told_once_where_it_is_and_both_fixes_clear_it(kind, change, code, parameters):
    torch.manual_seed(0)
    make = built(kind, change)
    assert told(make) == [(code, parameters)]
    report = lint(make, inputs=INPUTS[kind])
    assert all(finding.fix for finding in report.findings)
    for how in ("torch", "initbench"):
        assert report.fix(how).after.of("warning") == ()
