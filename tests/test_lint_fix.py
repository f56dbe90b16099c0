"""`initbench lint --fix` writes initialize(model), which clears the findings; the whole table is benchmarks/lint_fix.py's."""

import copy
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import lint_faults
import lint_fix

from initbench import lint
from initbench.cli.app import app
from initbench.errors import ConfigError

FAULTS = {fault.kind: fault for fault in lint_faults.FAULTS}
NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter = nn.Linear(16, 32)
        self.shift = nn.Parameter(torch.empty(32))
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        return self.head(torch.relu(self.enter(x) + self.shift))
"""


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["torch", "initbench"])
@pytest.mark.parametrize(
    ("fault", "model"),
    [("w3 scaled, not w2", "GPT"), ("far too small", "MLP"), ("gates as one matrix", "LSTM"), ("norm shut", "CNN"), ("padding row", "GPT")],
)
def test_a_fault_is_cleared_and_the_mended_model_trains(kind, fault, model):
    fix = lint_fix.fixed(FAULTS[fault], model, kind)
    assert set(FAULTS[fault].codes) & {each.code for each in fix.cleared}
    assert [str(each) for each in fix.after.of("warning")] == []
    assert lint_fix.trains(FAULTS[fault], model, fix) == ""
    assert set(re.findall(r"IB\d{3}", fix.code)) <= {each.code for each in fix.cleared}


@pytest.mark.heavy
def test_one_line_stands_for_the_parameters_of_all_blocks():
    fix = lint_fix.fixed(FAULTS["w3 scaled, not w2"], "GPT", "torch")
    assert fix.code.count("nn.init.") == 2
    assert 'fnmatchcase(name, "blocks.*.mlp.w2.weight")' in fix.code


def test_what_numbers_cannot_clear_remains_with_the_reason():
    fix = lint_fix.fixed(FAULTS["detached"], "MLP", "torch")
    reasons = {each.code: why for each, why in fix.remains}
    assert "in the structure" in reasons["IB310"]
    assert "remains: warning IB310" in fix.told()
    assert fix.after.findings == fix.before.findings
    assert "IB310" in {each.code for each in fix.after.findings}


def test_a_module_is_mended_in_a_copy_of_its_numbers_and_left_as_it_was():
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5))
    model[0].weight.data.fill_(0.1)
    before = copy.deepcopy(model.state_dict())
    fix = lint(model, inputs="16", select=["IB104"]).fix()
    assert [each.code for each in fix.cleared] == ["IB104"]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(ConfigError, match="Allowed: torch, initbench"):
        lint(model, select=["IB104"]).fix("jax")


@pytest.fixture
def desk(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, ["lint", "./net.py:Net", "--input", "16", *words])


def test_the_command_writes_the_file_and_says_what_is_found_afterwards(desk):
    ran = run("--fix", "torch", "--out", "start.py")
    assert ran.exit_code == 0, ran.output
    assert "cleared: error IB101 never initialized (shift)" in ran.stderr
    assert "Afterwards: ./net.py:Net: " in ran.stderr
    names = {}
    exec((desk / "start.py").read_text(), names)
    model = nn.Module()
    model.shift = nn.Parameter(torch.full((4,), 7.0))
    names["initialize"](model)
    assert not model.shift.any()


def test_what_is_meant_is_left_as_it_is(desk):
    (desk / "net.py").write_text(NET.replace("self.head = nn", "self.gate = nn.Parameter(torch.empty(32))\n        self.head = nn"))
    (desk / "pyproject.toml").write_text(
        '[tool.initbench.lint]\nexceptions = [{rule = "IB101", at = "gate", reason = "the loader sets it"}]\n'
    )
    ran = run("--fix", "torch")
    assert ran.exit_code == 0, ran.output
    assert '"shift"' in ran.stdout
    assert "gate" not in ran.stdout


def test_a_file_that_is_there_is_replaced_only_if_asked(desk):
    (desk / "start.py").write_text("mine")
    ran = run("--fix", "torch", "--out", "start.py")
    assert ran.exit_code == 2
    assert "start.py is there already" in " ".join(ran.stderr.split())
    assert (desk / "start.py").read_text() == "mine"
    assert run("--fix", "torch", "--out", "start.py", "--fresh").exit_code == 0
    assert "def initialize" in (desk / "start.py").read_text()
    assert "Allowed: torch, initbench" in run("--fix", "jax").stderr


def test_without_a_file_the_code_alone_is_printed(desk):
    ran = run("--fix", "initbench", "--select", "IB1")
    assert ran.stdout.startswith('"""Initializes')
    compile(ran.stdout, "printed", "exec")
    assert "no code is written" in run("--fix", "torch", "--select", "IB102").stderr


class Table(nn.Module):
    """A head of zeros, behind which nothing learns at first, and a buffer that nobody wrote."""

    def __init__(self):
        super().__init__()
        self.inside, self.head = nn.Linear(16, 16), nn.Linear(16, 4)
        nn.init.zeros_(self.head.weight)
        self.register_buffer("table", torch.empty(16))

    def forward(self, x):
        return self.head(torch.relu(self.inside(x)) + 0 * self.table.nan_to_num())


def test_what_no_remedy_clears_is_said_in_words():
    """Each finding says what to do: a buffer is no parameter, and a zero that can learn is left to the reader."""
    by_code = {each.code: each for each in lint(Table, inputs="16").findings}
    assert by_code["IB101"].parameters == ("table",)
    assert "buffer model.table" in by_code["IB101"].fix
    assert "model.head.weight is meant" in by_code["IB310"].fix
    assert all(each.fix for each in by_code.values())
    assert "table" not in lint(Table, inputs="16", select=["IB101"]).fix().code
