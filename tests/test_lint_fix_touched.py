"""What `--fix` touches: what a finding is about and no more; zeros that are meant stay zero; what is printed is a lint of the result."""

import copy
import math
import textwrap

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from initbench import lint
from initbench.linting.mending import initializer
from initbench.linting.run import FIXES

BOTH = pytest.mark.parametrize("kind", FIXES)


class Adapter(nn.Module):
    """A layer with an adapter of low rank."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.base = nn.Linear(inputs, outputs).requires_grad_(False)
        self.lora_A, self.lora_B = nn.Linear(inputs, 4, bias=False), nn.Linear(4, outputs, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x):
        return self.base(x) + self.lora_B(self.lora_A(x))


class Block(nn.Module):
    """A branch that ends in zero."""

    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 32)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Net(nn.Module):
    """Healthy zeros of several kinds; `spoil` makes one fault."""

    def __init__(self):
        super().__init__()
        self.enter = Adapter(16, 32)
        self.shift = nn.Parameter(torch.ones(32))
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.Linear(32, 5)
        self.spoil()

    def spoil(self):
        pass

    def forward(self, x):
        x = torch.relu(self.enter(x)) + self.shift
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Unset(Net):
    def spoil(self):
        self.shift = nn.Parameter(torch.empty(32))


class ZeroHead(Unset):
    def spoil(self):
        super().spoil()
        nn.init.zeros_(self.head.weight)


class LargeHead(Net):
    def spoil(self):
        self.head.weight.data.mul_(100)


class BothZero(Net):
    def spoil(self):
        nn.init.zeros_(self.enter.lora_A.weight)


class NotFinite(Net):
    def spoil(self):
        self.blocks[1].up.weight.data.fill_(math.nan)


class Copied(Net):
    def spoil(self):
        for block in self.blocks[:2]:
            block.up.weight.data.copy_(self.blocks[2].up.weight)


def touched(make, code):
    """The names of the parameters that the code changes, and the model afterwards."""
    torch.manual_seed(0)
    model = make()
    if make in {Unset, ZeroHead}:
        model.shift.data.fill_(7.0)  # as if memory had held it
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    initializer(code)(model)
    return {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}, model


@pytest.mark.heavy
@BOTH
@pytest.mark.parametrize(
    ("make", "names"),
    [
        (Unset, {"shift"}),
        (ZeroHead, {"shift"}),
        (LargeHead, {"head.weight"}),
        (BothZero, {"enter.lora_A.weight"}),
        (NotFinite, {"blocks.1.up.weight"}),
        (Copied, {"blocks.0.up.weight", "blocks.1.up.weight", "blocks.2.up.weight"}),
    ],
)
def test_only_what_a_finding_is_about_is_touched(make, names, kind):
    report = lint(make, inputs="16")
    fix = report.fix(kind)
    found, model = touched(make, fix.code)
    assert found == names
    assert names <= {name for finding in report.findings for name in finding.parameters}
    assert not any(block.down.weight.any() for block in model.blocks)
    assert not model.enter.lora_B.weight.any()


class Products(nn.Module):
    """Zero factors that are multiplied number by number, that stand in a row, three in a row, and raw matrices."""

    def __init__(self):
        super().__init__()
        self.enter, self.head = nn.Linear(16, 32), nn.Linear(32, 5)
        self.gate, self.value = nn.Linear(32, 32, bias=False), nn.Linear(32, 32, bias=False)
        self.rows = nn.Sequential(*(nn.Linear(32, 32, bias=False) for _ in range(3)))
        self.left, self.right = nn.Parameter(torch.zeros(32, 4)), nn.Parameter(torch.zeros(4, 32))
        for layer in (self.gate, self.value, *self.rows):
            nn.init.zeros_(layer.weight)

    def forward(self, x):
        x = torch.relu(self.enter(x))
        x = x + self.gate(x) * self.value(x)
        x = x + self.rows(x)
        return self.head(x + x @ self.left @ self.right)


@pytest.mark.heavy
@pytest.mark.parametrize("make", [Unset, LargeHead, BothZero, NotFinite, Copied])
def test_what_a_finding_says_is_what_the_fix_does(make):
    report = lint(make, inputs="16")
    finding = report.findings[0]
    torch.manual_seed(1)
    told, written = make(), make()
    written.load_state_dict(told.state_dict())
    for model, code in ((told, f"def initialize(model):\n{textwrap.indent(finding.fix, '    ')}"), (written, report.fix("torch").code)):
        names = {"nn": nn, "torch": torch}
        exec(code, names)
        torch.manual_seed(2)
        names["initialize"](model)
    assert finding.fix
    assert all(torch.equal(one, other) for one, other in zip(told.parameters(), written.parameters(), strict=True))


def test_what_is_said_of_a_copied_layer_names_the_copies():
    (finding,) = lint(Copied, inputs="16").of("warning")
    assert "modules()" not in finding.fix
    assert all(name in finding.fix for name in finding.parameters)


@BOTH
def test_of_a_product_of_zeros_one_factor_stays_zero_and_all_learn(kind):
    fix = lint(Products, inputs="16").fix(kind)
    found, model = touched(Products, fix.code)
    assert found == {"gate.weight", "rows.0.weight", "rows.1.weight", "left"}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    start = copy.deepcopy(model.state_dict())
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 16)).square().mean().backward()
        optimizer.step()
    assert not [name for name, value in model.state_dict().items() if torch.equal(value, start[name])]


@BOTH
def test_without_an_input_a_pair_of_low_rank_is_drawn_at_its_first_factor(kind):
    assert touched(BothZero, lint(BothZero).fix(kind).code)[0] == {"enter.lora_A.weight"}


def normed(how, spoil):
    def make():
        model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5))
        how(model[2])
        spoil(dict(model[2].named_parameters()))
        return model

    return make


def equal_rows(parameters):
    for value in parameters.values():
        if value.dim() > 1:
            value.data.fill_(0.1)


def no_length(parameters):
    for value in parameters.values():
        if value.shape == (32, 1):
            value.data.fill_(math.nan)


def no_length_and_equal_rows(parameters):
    equal_rows(parameters)
    no_length(parameters)


@pytest.mark.heavy
@BOTH
@pytest.mark.parametrize("how", [parametrizations.weight_norm, nn.utils.weight_norm], ids=["parametrization", "hook"])
@pytest.mark.parametrize("spoil", [equal_rows, no_length, no_length_and_equal_rows])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_length_in_a_weight_norm_is_that_of_its_direction(kind, how, spoil):
    make = normed(how, spoil)
    fix = lint(make, inputs="16").fix(kind)
    _, model = touched(make, fix.code)
    length, direction = (next(value for value in model[2].parameters() if value.shape == shape) for shape in ((32, 1), (32, 32)))
    assert torch.allclose(length, direction.norm(dim=1, keepdim=True))
    assert not fix.after.of("warning")


def recurrent(kind):
    def make():
        core = kind(16, 24)
        for name, value in core.named_parameters():
            if name.startswith("bias"):
                value.data[24:48].fill_(1.0)
        return core

    return make


@pytest.mark.heavy
@BOTH
@pytest.mark.parametrize("layer", [nn.LSTM, nn.LSTMCell, nn.GRU, nn.GRUCell])
def test_the_forget_bias_stays_in_one_of_two_biases_and_other_gates_as_they_are(kind, layer):
    make = recurrent(layer)
    torch.manual_seed(0)
    before = dict(make().named_parameters())
    _, model = touched(make, lint(make).fix(kind).code)
    for name, value in model.named_parameters():
        expected = before[name].detach().clone()
        if name.startswith("bias_hh"):
            expected[24:48] = 0
        assert torch.equal(value, expected), name


@pytest.mark.heavy
@BOTH
@pytest.mark.parametrize("make", [BothZero, Unset, Products, NotFinite])
def test_what_is_said_to_be_found_afterwards_is_what_lint_finds(make, kind):
    report = lint(make, inputs="16", ignore=["IB106"])
    fix = report.fix(kind)

    def mended():
        model = make()
        initializer(fix.code)(model)
        return model

    found = {(each.code, each.parameters) for each in lint(mended, inputs="16", ignore=["IB106"]).findings}
    assert {(each.code, each.parameters) for each in fix.after.findings} == found
    assert {each.code for each, _ in fix.remains} <= {code for code, _ in found}


class Fewer(Net):
    """Two of three blocks have a fault, at names that a glob would take more of."""

    def spoil(self):
        for block in self.blocks[1:]:
            block.up.weight.data.fill_(math.nan)


def test_the_pattern_of_a_finding_takes_in_no_more_than_was_found():
    (finding,) = (each for each in lint(Fewer).findings if each.code == "IB102")
    assert finding.about == "blocks.{1,2}.up.weight (2 parameters)"
    assert "blocks.*.up.weight (3 parameters)" in {each.about for each in lint(Copied).findings}


@pytest.mark.heavy
@BOTH
def test_patterns_in_the_code_match_no_more_than_was_found(kind):
    report = lint(Fewer, inputs="16")
    assert touched(Fewer, report.fix(kind).code)[0] == {"blocks.1.up.weight", "blocks.2.up.weight"}


class Bracketed(nn.Module):
    """Names that a glob takes for its own."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({"a[0]": nn.Linear(16, 32), "a0": nn.Linear(16, 32)})
        nn.init.constant_(self.parts["a[0]"].weight, math.nan)
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        return self.head(torch.relu(self.parts["a[0]"](x) + self.parts["a0"](x)))


@BOTH
def test_names_that_hold_what_a_glob_takes_for_its_own_are_meant_as_they_are(kind):
    assert touched(Bracketed, lint(Bracketed, inputs="16").fix(kind).code)[0] == {"parts.a[0].weight"}
