"""The linter as its users meet it: the command, its formats, baseline and settings, the report in Python, bad input."""

import json
import math
import textwrap
from xml.etree import ElementTree

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from initbench import lint
from initbench.cli.app import app
from initbench.errors import ConfigError, GateFailed
from initbench.linting.finding import Finding, Severity, folded
from initbench.linting.run import chosen, rules

NET = """
import math
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.enter = nn.Linear(16, width)
        self.shift = nn.Parameter(torch.empty(width))
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        return self.head(torch.relu(self.enter(x) + self.shift))


class Fine(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5))


def broken():
    raise RuntimeError("no disk")


def meta():
    with torch.device("meta"):
        return Fine()
"""


@pytest.fixture
def desk(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(textwrap.dedent(NET))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def run(*words):
    ran = CliRunner().invoke(app, ["lint", *words])
    assert not isinstance(ran.exception, Exception) or isinstance(ran.exception, SystemExit), ran.exception
    return ran


def test_a_fault_is_told_with_its_place_and_the_exit_code_says_so(desk):
    ran = run("./net.py:Net", "--input", "16")
    assert ran.exit_code == 4
    line = next(number for number, text in enumerate((desk / "net.py").read_text().splitlines(), 1) if "self.shift" in text)
    assert f"net.py:{line}  shift  error IB101 never initialized" in ran.stdout
    assert run("./net.py:Fine", "--input", "16").exit_code == 0


def test_parameters_of_a_model_are_given_as_elsewhere(desk):
    assert run("./net.py:Net:width=8", "--input", "16").exit_code == 4


def test_rules_are_selected_and_ignored_by_code_beginning_or_name(desk):
    assert run("./net.py:Net", "--ignore", "IB101").exit_code == 0
    assert run("./net.py:Net", "--select", "IB3", "--input", "16").exit_code == 0
    assert run("./net.py:Net", "--select", "never_initialized").exit_code == 4
    assert {rule.code for rule in chosen(["IB30"])} == {rule.code for rule in rules() if rule.code.startswith("IB30")}
    assert "Did you mean 'never_initialized'" in run("./net.py:Net", "--select", "never_initialised").stderr


@pytest.mark.heavy
def test_every_rule_has_a_code_a_group_and_the_parts_that_explain_it(desk):
    codes = [rule.code for rule in rules()]
    assert len(set(codes)) == len(codes) >= 27
    for rule in rules():
        said = run("--explain", rule.code).stdout
        assert said.startswith(f"{rule.code} {rule.name}")
        assert all(label in said for label in ("Measured:", "Expected:", "Remedy:", "Source:")), rule.code


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "There is no model to look at"),
        (["./net.py:broken"], "The model './net.py:broken' cannot be built: RuntimeError: no disk"),
        (["./net.py:meta"], "is on the meta device"),
        (["./net.py:Gone"], "has no 'Gone'"),
        (["./gone.py:Net"], "There is no file"),
        (["./net.py:Fine", "--input", "17"], "17"),
        (["./net.py:Fine", "--input", "sixteen"], "Cannot read the input 'sixteen'"),
        (["./net.py:Fine", "--format", "html"], "Allowed: text, json, github, sarif, junit"),
        (["./net.py:Fine", "--fail-on", "never"], "Allowed: error, warning, info"),
        (["./net.py:Fine", "--baseline", "gone.json"], "There is no baseline gone.json"),
        (["./net.py:Fine", "--checkpoint", "gone.pt"], "There is no checkpoint"),
        (["--explain", "IB999"], "Unknown rule 'IB999'"),
        (["./net.py:Fine", "--input", "int:0:8"], "asks for whole numbers below 0, from 0 on: there are none"),
        (["./net.py:Fine", "--input", "int:8:0"], "The input 'int:8:0' has no numbers"),
        (["./net.py:Fine", "--json", "--format", "sarif"], "There are two formats: --json and --format sarif. Leave one of them out."),
    ],
)
def test_bad_input_is_one_sentence(desk, words, said):
    ran = run(*words)
    text = " ".join((ran.stderr + ran.stdout).split())
    assert said in text
    assert "Traceback" not in text
    if "17" not in words:
        assert ran.exit_code in {2, 5}


def test_an_input_that_does_not_fit_is_one_sentence(desk):
    ran = run("./net.py:Net", "--input", "17")
    assert ran.exit_code == 2
    assert "The model cannot be run on the input, whose shape is (32, 17)" in " ".join(ran.stderr.split())
    assert not ran.stdout


def test_a_baseline_tells_only_what_is_new(desk):
    assert run("./net.py:Net", "--write-baseline", "known.json").exit_code == 0
    ran = run("./net.py:Net", "--baseline", "known.json")
    assert ran.exit_code == 0
    assert "more in the baseline" in ran.stdout
    (desk / "known.json").write_text("{")
    assert "is no baseline" in run("./net.py:Net", "--baseline", "known.json").stderr


def test_a_project_says_what_is_meant_and_from_where_on_it_fails(desk):
    (desk / "pyproject.toml").write_text(
        '[tool.initbench.lint]\nignore = ["IB106"]\nexceptions = [{rule = "IB101", at = "shift", reason = "it is set by the loader"}]\n'
    )
    assert run("./net.py:Net", "--input", "16").exit_code == 0
    (desk / "pyproject.toml").write_text('[tool.initbench.lint]\nexceptions = [{rule = "IB101", at = "head.*", reason = "no"}]\n')
    assert run("./net.py:Net", "--input", "16").exit_code == 4
    (desk / "pyproject.toml").write_text('[tool.initbench.lint]\nexceptions = [{rule = "IB101", at = "shift"}]\n')
    assert "reason" in run("./net.py:Net", "--input", "16").stderr
    for line in ('exceptions = [{rule = "IB999", reason = "no"}]', 'ignore = ["IB999"]', 'select = ["IB999"]'):
        (desk / "pyproject.toml").write_text(f"[tool.initbench.lint]\n{line}\n")
        ran = run("./net.py:Net", "--input", "16")
        said = " ".join(ran.stderr.split())
        assert ran.exit_code == 2
        assert f"pyproject.toml, {line.partition(' ')[0]}: Unknown rule 'IB999'." in said
        assert "initbench list rules" in said
    (desk / "pyproject.toml").write_text("[tool.initbench.lint]\nselekt = []\n")
    assert "selekt" in run("./net.py:Net", "--input", "16").stderr


def test_json_sarif_github_and_junit_are_what_their_readers_take(desk):
    document = json.loads(run("./net.py:Net", "--json").stdout)
    (error,) = (finding for finding in document["findings"] if finding["severity"] == "error")
    assert (error["code"], error["parameters"], error["file"]) == ("IB101", ["shift"], "net.py")
    sarif = json.loads(run("./net.py:Net", "--format", "sarif").stdout)
    (made,) = sarif["runs"]
    assert sarif["version"] == "2.1.0"
    known = {rule["id"] for rule in made["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in made["results"]} <= known
    assert {result["level"] for result in made["results"]} <= {"error", "warning", "note"}
    place = next(result for result in made["results"] if result["ruleId"] == "IB101")["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "net.py"
    lines = run("./net.py:Net", "--format", "github").stdout.splitlines()
    assert next(line for line in lines if "IB101" in line).startswith("::error file=net.py,line=")
    suite = ElementTree.fromstring(run("./net.py:Net", "--format", "junit").stdout)
    assert suite.get("failures") == "1"
    assert len(suite.findall("testcase")) == len(rules()) == int(suite.get("tests"))
    assert run("./net.py:Net", "--format", "junit", "--out", "report.xml").exit_code == 4
    assert ElementTree.parse(desk / "report.xml").getroot().get("failures") == "1"


def test_sarif_keeps_the_rules_of_its_structure(desk):
    below = desk / "my models"
    below.mkdir()
    (below / "net.py").write_text((desk / "net.py").read_text())
    document = json.loads(run("./my models/net.py:Net", "--input", "16", "--format", "sarif").stdout)
    assert document["version"] in document["$schema"]
    assert len(document["runs"]) == 1
    listed = document["runs"][0]["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in listed] == [rule.code for rule in rules()]
    assert all(rule["name"] and rule["shortDescription"]["text"] for rule in listed)
    results = document["runs"][0]["results"]
    assert {"error"} <= {result["level"] for result in results} <= {"none", "note", "warning", "error"}
    for result in results:
        assert listed[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        assert all(result["partialFingerprints"].values())
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"] == {"uri": "my%20models/net.py"}
        assert location["physicalLocation"]["region"]["startLine"] >= 1


def test_a_file_elsewhere_has_a_uri_with_its_scheme(desk, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    document = json.loads(run(f"{desk}/net.py:Net", "--format", "sarif").stdout)
    found = {result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in document["runs"][0]["results"]}
    assert found == {(desk / "net.py").as_uri()}


class Plain(nn.Sequential):
    """A healthy small network."""

    def __init__(self):
        super().__init__(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5))


def test_in_python_a_class_a_function_and_a_module_are_looked_at():
    batch = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))
    for model in (Plain, lambda: Plain(), Plain()):
        report = lint(model, inputs=batch)
        report.raise_for("warning")
        assert "nothing found" in repr(report) or all(found.severity is Severity.INFO for found in report.findings)
    assert "IB101" in {each.code for each in lint(Plain()).not_told}


def test_a_module_is_afterwards_as_it_was():
    model = Plain()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    lint(model, inputs=torch.randn(8, 16, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_raise_for_tells_what_was_found():
    def make():
        model = Plain()
        model[2].weight.data.fill_(math.nan)
        return model

    with pytest.raises(GateFailed, match="IB102 not finite"):
        lint(make).raise_for()
    assert "<td>IB102</td>" in lint(make)._repr_html_()
    with pytest.raises(ConfigError, match="Allowed: error, warning, info"):
        lint(Plain).raise_for("fatal")


def test_a_sentence_is_a_reason_as_it_is(monkeypatch):
    import initbench.rules.first_loss as rule

    def refuses(_subject):
        raise ConfigError("The model gives no logits.")

    monkeypatch.setattr(rule, "check", refuses)
    (told,) = (each for each in lint(Plain, inputs="16").not_told if each.code == "IB304")
    assert told.reason == "The model gives no logits"


def test_a_rule_that_fails_is_one_that_cannot_tell(monkeypatch):
    import initbench.rules.first_loss as rule

    def fails(_subject):
        raise ZeroDivisionError("of course")

    monkeypatch.setattr(rule, "check", fails)
    report = lint(Plain, inputs="16")
    (told,) = (each for each in report.not_told if each.code == "IB304")
    assert "ZeroDivisionError" in told.reason


def test_names_that_differ_in_numbers_alone_are_one_pattern():
    assert folded(("blocks.0.w.weight", "blocks.1.w.weight", "head.weight")) == ("blocks.*.w.weight", "head.weight")
    assert folded(("a.1",)) == ("a.1",)
    finding = Finding(severity=Severity.INFO, parameters=("blocks.0.w", "blocks.1.w"), message="m")
    assert finding.about == "blocks.*.w (2 parameters)"


def test_an_input_that_does_not_fit_is_refused_and_passes_nothing():
    """Rules that need the input would else find nothing, and a broken model pass."""

    def dead():
        model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
        nn.init.constant_(model[0].weight, 0.1)
        return model

    for inputs in ("9", torch.randn(32, 9), "int:10:8"):
        with pytest.raises(ConfigError, match=r"The model cannot be run on the input, whose shape is \("):
            lint(dead, inputs=inputs)
    assert lint(dead, inputs="8").of("warning")
