"""Each fault of the linter's benchmark is found in one model, and that model is silent without it; the whole table is the benchmark's."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import lint_faults
import lint_public
from lint_models import MODELS

from initbench import lint
from initbench.linting.run import rules


def one_model(fault):
    """The first model for which a fault makes sense."""
    return next(name for name, (make, _) in MODELS.items() if fault.spoil(make()))


@pytest.mark.heavy
@pytest.mark.parametrize("fault", lint_faults.FAULTS, ids=[fault.kind for fault in lint_faults.FAULTS])
def test_a_fault_is_found_at_a_parameter_that_was_spoiled(fault):
    report, names = lint_faults.tried(fault, one_model(fault))
    assert lint_faults.is_found(report, fault, names)
    assert [str(finding) for finding in report.findings if not finding.fix] == []


@pytest.mark.heavy
@pytest.mark.parametrize("name", list(MODELS))
def test_a_healthy_twin_has_no_error_and_no_warning(name):
    make, shape = MODELS[name]
    report = lint(make, inputs=shape)
    assert [str(finding) for finding in report.of("warning")] == []
    assert not [each for each in report.not_told if "the rule failed" in each.reason]


def test_every_rule_has_a_fault_but_those_that_are_told_of_elsewhere():
    found = {code for fault in lint_faults.FAULTS for code in fault.codes}
    told_elsewhere = {"IB106": "tests/test_rules_builds.py", "IB202": "below", "IB205": "below"}
    assert {rule.code for rule in rules()} - found == set(told_elsewhere)


@pytest.mark.heavy
def test_a_gain_that_does_not_fit_is_told_where_the_signal_is_lost():
    report = lint("mlp:depth=30", inputs="1x28x28", select=["IB202"])
    (finding,) = report.findings
    assert finding.message == "the gain does not fit what follows, relu"
    assert len(finding.parameters) == 29
    assert "where relu needs 2" in finding.measured


def test_classes_that_are_not_alike_frequent_are_told_of_a_head_without_their_prior():
    import torch

    make, _ = MODELS["MLP"]
    inputs = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(64, dtype=torch.int64)
    labels[:4] = torch.arange(4)
    (finding,) = lint(make, inputs=inputs, labels=labels, select=["IB205"]).findings
    assert finding.parameters == ("head.bias",)
    assert lint(make, inputs=inputs, labels=torch.arange(64) % 10, select=["IB205"]).findings == ()


PUBLIC = {case.name: case for case in lint_public.CASES}


@pytest.mark.heavy
@pytest.mark.parametrize("name", list(PUBLIC))
def test_a_fault_from_the_public_is_found_and_its_twin_is_silent(name):
    finding = lint_public.found(PUBLIC[name], lint_public.looked_at(PUBLIC[name], faulty=True))
    assert finding is not None
    assert [str(each) for each in lint_public.looked_at(PUBLIC[name], faulty=False).of("warning")] == []


def test_the_page_has_a_row_for_every_fault_from_the_public():
    page = (Path(__file__).parent.parent / "docs" / "lint.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in page.splitlines() if line.startswith("| ")]
    assert [case.name for case in lint_public.CASES if [case.name, case.source] not in rows] == []
