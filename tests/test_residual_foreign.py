"""Residual branches of other people's code: gates, factors, one layer with an activation; and the numbers that schemes put on them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import initbench
from initbench.errors import DoesNotApply
from initbench.nn.hooks import Slot
from initbench.nn.layers import Role, weight_layers
from initbench.nn.residual import branches


class Base(nn.Module):
    """Blocks of width 8 whose modules are made by `parts` and used by `forward`."""

    def __init__(self):
        super().__init__()
        for name, part in self.parts().items():
            setattr(self, name, part)


class OneLayer(Base):
    """The network of ReZero's section 3."""

    ends, last, added = ["l"], "l", "relu"

    def parts(self):
        return {"l": nn.Linear(8, 8)}

    def forward(self, x):
        return x + torch.relu(self.l(x))


class OneLayerModule(OneLayer):
    def parts(self):
        return {"l": nn.Linear(8, 8), "act": nn.ReLU()}

    def forward(self, x):
        return x + self.act(self.l(x))


class LayerScale(Base):
    ends, last = ["b"], "b"

    def parts(self):
        return {"n": nn.LayerNorm(8), "a": nn.Linear(8, 16), "b": nn.Linear(16, 8), "gamma": nn.Parameter(torch.full((8,), 0.1))}

    def forward(self, x):
        return x + self.gamma * self.b(F.gelu(self.a(self.n(x))))


class Gated(Base):
    ends, last = ["f"], "f"

    def parts(self):
        return {"g": nn.Linear(8, 8), "f": nn.Linear(8, 8)}

    def forward(self, x):
        return x + torch.sigmoid(self.g(x)) * self.f(x)


class GatedByItself(Base):
    ends, last = ["f"], "f"

    def parts(self):
        return {"a": nn.Linear(8, 8), "f": nn.Linear(8, 8), "g": nn.Linear(8, 8)}

    def forward(self, x):
        y = self.f(torch.relu(self.a(x)))
        return (y * torch.sigmoid(self.g(y))) + x


class StochasticDepth(Base):
    ends, last = ["b"], "b"

    def parts(self):
        return {"a": nn.Linear(8, 16), "b": nn.Linear(16, 8)}

    def forward(self, x):
        y = self.b(torch.tanh(self.a(x)))
        if self.training:
            y = y * (torch.rand(len(x), 1) > 0.2) / 0.8
        return x + y


class SwiGLU(Base):
    ends, last = ["down"], "down"

    def parts(self):
        return {"n": nn.LayerNorm(8), "gate": nn.Linear(8, 16), "up": nn.Linear(8, 16), "down": nn.Linear(16, 8)}

    def forward(self, x):
        y = self.n(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


BLOCKS = [OneLayer, OneLayerModule, LayerScale, Gated, GatedByItself, StochasticDepth, SwiGLU]


def net(block):
    return nn.Sequential(nn.Linear(6, 8), block(), block(), nn.Linear(8, 3))


@pytest.mark.parametrize("block", BLOCKS)
def test_the_branch_and_its_end_are_found(block):
    model, x = net(block), torch.randn(4, 6)
    layers = weight_layers(model, x)
    inside = {name for name, module in block().named_modules() if isinstance(module, nn.Linear)}
    for index in (1, 2):
        mine = {layer.name.removeprefix(f"{index}.") for layer in layers if layer.block == index - 1}
        assert mine == inside
        assert [layer.name for layer in layers if layer.block == index - 1 and layer.role is Role.BRANCH_END] == [f"{index}.{block.last}"]
    found = branches(model, layers)
    assert [branch.last.name for branch in found] == [f"1.{block.last}", f"2.{block.last}"]
    assert all("g" not in layer.name for branch in found for layer in branch.layers if block in {Gated, GatedByItself})


@pytest.mark.parametrize("block", BLOCKS)
def test_under_rezero_a_block_is_the_identity_and_its_number_learns(block):
    model, x = net(block).eval(), torch.randn(16, 6)
    report = initbench.init_network(model, "rezero", inputs=x)
    numbers = [entry.parameter for entry in report.parameters if entry.parameter.endswith(("output_scale", "branch_scale"))]
    assert len(numbers) == 2
    y = model[0](x)
    assert torch.equal(model[1](y), y)
    model(x).square().sum().backward()
    assert all(dict(model.named_parameters())[name].grad.abs() > 0 for name in numbers)
    again = initbench.init_network(model, "rezero", inputs=x)
    assert [entry.parameter for entry in again.parameters] == [entry.parameter for entry in report.parameters]
    initbench.init_network(model, "skipinit:alpha=0.5", inputs=x)
    scaled = model[1](y) - y
    plain = net(block).eval()
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if not name.endswith("scale")})
    assert torch.allclose(scaled, 0.5 * (plain[1](y) - y), atol=1e-5) or block is GatedByItself


def test_a_number_around_a_block_scales_what_it_adds():
    model, x = net(OneLayer), torch.randn(5, 6)
    assert [branch.slot for branch in branches(model, weight_layers(model, x))] == [Slot.BRANCH_SCALE] * 2
    initbench.init_network(model, "stable_resnet", inputs=x)
    y = model[0](x)
    assert torch.allclose(model[1](y), y + 2**-0.5 * torch.relu(model[1].l(y)), atol=1e-6)


def test_a_branch_that_nothing_can_be_put_on_is_refused_with_the_remedy():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.layers = nn.Linear(6, 8), nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

        def forward(self, x):
            x = self.enter(x)
            for layer in self.layers:
                x = x + torch.relu(layer(x))
            return x

    with pytest.raises(DoesNotApply, match=r"'layers\.0' goes through relu .*Make the last of these a module, or the block"):
        initbench.init_network(Loop(), "rezero", inputs=torch.randn(3, 6))


@pytest.mark.parametrize("scheme", ["fixup", "zero_gamma"])
def test_a_branch_that_would_stay_at_zero_is_not_started_there(scheme):
    with pytest.raises(DoesNotApply, match=r"before the relu that ends the one of '1\.l', and it would stay there"):
        initbench.init_network(net(OneLayer), scheme, inputs=torch.randn(3, 6))


class Excite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(channels, 2), nn.ReLU(), nn.Linear(2, channels), nn.Sigmoid())

    def forward(self, x):
        gate = self.fc(x.mean((2, 3))).view(*x.shape[:2], 1, 1)
        return x * gate.expand_as(x)


class SqueezeExcite(nn.Module):
    def __init__(self, excite):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.se = Excite(8) if excite == "module" else nn.ModuleList([nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)])

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if isinstance(self.se, Excite):
            return F.relu(self.se(y) + x)
        return F.relu(y * torch.sigmoid(self.se[1](torch.relu(self.se[0](F.adaptive_avg_pool2d(y, 1))))) + x)


@pytest.mark.parametrize("excite", ["module", "written out"])
def test_squeeze_and_excite_leaves_a_branch_a_branch(excite):
    blocks = [SqueezeExcite(excite) for _ in range(2)]
    model, x = nn.Sequential(nn.Conv2d(3, 8, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)), torch.randn(4, 3, 6, 6)
    found = branches(model, weight_layers(model, x))
    assert [[layer.name for layer in branch.layers] for branch in found] == [["1.conv1", "1.conv2"], ["2.conv1", "2.conv2"]]
    assert [branch.last_norm for branch in found] == [block.bn2 for block in blocks]
    initbench.init_network(model, "zero_gamma", inputs=x)
    assert [(block.bn1.weight.min().item(), block.bn2.weight.abs().max().item()) for block in blocks] == [(1.0, 0.0)] * 2
    y = model[0](x)
    assert torch.equal(blocks[0](y), F.relu(y))
    report = initbench.init_network(model, "depth_scaled", inputs=x)
    stds = {entry.parameter: entry.target_std for entry in report.parameters}
    assert stds["1.conv2.weight"] < stds["1.conv1.weight"]


def test_the_memory_of_an_attention_is_in_the_block_but_not_what_made_it():
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.enter, self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(6))

        def forward(self, x):
            memory, y = torch.tanh(self.stem(x.flip(1))), self.enter(x)
            return y + self.o((self.q(y) @ self.k(memory).mT).softmax(-1) @ self.v(memory))

    layers = {layer.name: layer for layer in weight_layers(Decoder(), torch.randn(3, 4, 8))}
    assert {name for name, layer in layers.items() if layer.block == 0} == {"q", "k", "v", "o"}
    assert layers["stem"].role is Role.STEM


class Parallel(nn.Module):
    """Branches beside each other on one stream, added one after the other, in either order (PaLM, GPT-J as others write it)."""

    def __init__(self, blocks: int, branches: int, *, branch_first: bool) -> None:
        super().__init__()
        self.enter, self.head, self.branch_first = nn.Linear(8, 32), nn.Linear(32, 5), branch_first
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(blocks))
        self.branches = nn.ModuleList(
            nn.ModuleList(nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)) for _ in range(branches)) for _ in range(blocks)
        )

    def forward(self, x):
        x = self.enter(x)
        for norm, block in zip(self.norms, self.branches, strict=True):
            y = norm(x)
            for branch in block:
                x = branch(y) + x if self.branch_first else x + branch(y)
        return self.head(x)


@pytest.mark.parametrize("branch_first", [False, True])
@pytest.mark.parametrize("branches", [1, 2, 3])
def test_branches_beside_each_other_are_branches(branches, branch_first):
    layers = weight_layers(Parallel(4, branches, branch_first=branch_first), torch.randn(8, 8))
    roles = {layer.name: layer.role for layer in layers}
    assert {name for name, role in roles.items() if role is Role.BRANCH_END} == {
        f"branches.{block}.{branch}.2" for block in range(4) for branch in range(branches)
    }
    assert {name for name, role in roles.items() if role is Role.BRANCH} == {
        f"branches.{block}.{branch}.0" for block in range(4) for branch in range(branches)
    }
    assert roles["enter"] is Role.STEM
    assert roles["head"] is Role.HEAD


class AnyOrder(nn.Module):
    """A residual block whose modules are registered in an order of their own."""

    def __init__(self, order: tuple[str, ...]) -> None:
        super().__init__()
        for name in order:
            self.add_module(name, nn.BatchNorm1d(8) if name.startswith("norm") else nn.Linear(8, 8, bias=False))

    def forward(self, x):
        return F.relu(self.norm2(self.last(F.relu(self.norm1(self.first(x))))) + x)


@pytest.mark.parametrize(
    "order",
    [("norm2", "last", "norm1", "first"), ("norm1", "norm2", "first", "last"), ("first", "last", "norm1", "norm2")],
)
def test_the_last_norm_of_a_branch_is_the_one_that_runs_last(order):
    blocks = [AnyOrder(order) for _ in range(2)]
    model, x = nn.Sequential(nn.Linear(6, 8), *blocks, nn.Linear(8, 3)), torch.randn(8, 6)
    assert [branch.last_norm for branch in branches(model, weight_layers(model, x))] == [block.norm2 for block in blocks]
    found = [finding.parameters for finding in initbench.lint(zeroed(model, "norm2"), inputs=x, select=["IB112"]).findings]
    assert found == []
    (finding,) = initbench.lint(zeroed(model, "norm1"), inputs=x, select=["IB112"]).findings
    assert finding.parameters == ("1.norm1.weight", "2.norm1.weight")


def zeroed(model: nn.Module, norm: str) -> nn.Module:
    """The model with the weights of these norms at zero, and no others."""
    for block in model[1:3]:
        nn.init.ones_(block.norm1.weight)
        nn.init.ones_(block.norm2.weight)
        nn.init.zeros_(getattr(block, norm).weight)
    return model
