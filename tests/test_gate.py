"""The gate of `smoke --baseline`: what it finds, what it leaves alone, what it writes, and each way to use it wrongly."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from simulated_runs import make_config, make_run
from typer.testing import CliRunner

from initbench.cli.app import app
from initbench.errors import ConfigError, NotThereError
from initbench.reporting import gate as gate_report
from initbench.statistics import gate
from initbench.statistics.gate import Verdict

ROOT = Path(__file__).parent.parent
TINY = ["--model", "mlp:depth=1,width=8", "--dataset", "synthetic:n=64,test=40,shape=[1,4,4]", "--steps", "4", "--engine", "serial"]
TINY += ["--device", "cpu", "--set", "train.batch_size=16", "--set", "probe.batch_size=16"]


def state(accuracies, scheme="kaiming", **changes):
    runs = [make_run(scheme, seed, accuracy, **changes) for seed, accuracy in enumerate(accuracies)]
    return gate.baseline_of(make_config(scheme, seeds=len(runs)), runs)


def checked(before, now, **how):
    return {each.rule: each for each in gate.checks(before, now, **how)}


BASE = [0.90, 0.91, 0.92, 0.90, 0.93, 0.91, 0.92, 0.90]


def test_the_same_runs_pass_every_rule():
    found = checked(state(BASE), state(BASE))
    assert list(found) == ["parameters", "coverage", "initialization", "signal", "accuracy"]
    assert {each.verdict for each in found.values()} == {Verdict.PASS}


@pytest.mark.parametrize(
    ("lost", "verdict"), [(0.05, Verdict.FAIL), (0.0, Verdict.PASS), (0.01, Verdict.PASS), (-0.03, Verdict.PASS), (0.021, Verdict.FAIL)]
)
def test_a_loss_fails_only_beyond_what_is_allowed(lost, verdict):
    now = [value - lost + 0.0005 * (index % 3 - 1) for index, value in enumerate(BASE)]
    assert checked(state(BASE), state(now))["accuracy"].verdict == verdict


def test_what_cannot_be_told_is_inconclusive():
    noisy = [value - 0.02 + 0.02 * (-1) ** index for index, value in enumerate(BASE)]
    assert checked(state(BASE), state(noisy))["accuracy"].verdict == Verdict.INCONCLUSIVE
    few = checked(state(BASE[:3]), state([value - 0.3 for value in BASE[:3]]))["accuracy"]
    assert (few.verdict, "3 seeds are too few" in few.found) == (Verdict.INCONCLUSIVE, True)


def test_runs_that_diverge_now_fail_and_those_that_always_did_do_not():
    assert checked(state(BASE), state([None] * 8))["accuracy"].verdict == Verdict.FAIL
    assert checked(state([None] * 8), state([None] * 8))["accuracy"].verdict == Verdict.PASS
    assert checked(state([None] * 8), state(BASE))["accuracy"].verdict == Verdict.PASS


def changed_init(run, **changes):
    entries = tuple(entry.model_copy(update=changes) if entry.parameter == "layers.1.weight" else entry for entry in run.init.parameters)
    return run.model_copy(update={"init": run.init.model_copy(update={"parameters": entries})})


@pytest.mark.parametrize(
    ("changes", "rule"),
    [({"std": 0.0883 * 1.05**0.5}, "initialization"), ({"mean": 0.01}, "initialization"), ({"by": "nothing"}, "coverage")],
)
def test_an_exact_rule_names_the_parameter(changes, rule):
    runs = [changed_init(make_run("kaiming", seed, accuracy), **changes) for seed, accuracy in enumerate(BASE)]
    found = checked(state(BASE), gate.baseline_of(make_config("kaiming", seeds=8), runs))
    assert {name for name, each in found.items() if each.verdict is Verdict.FAIL} == {rule}
    assert "layers.1.weight" in found[rule].found


def test_rounding_of_another_machine_is_no_change():
    runs = [changed_init(make_run("kaiming", seed, accuracy), std=0.0883 * (1 + 1e-6)) for seed, accuracy in enumerate(BASE)]
    assert checked(state(BASE), gate.baseline_of(make_config("kaiming", seeds=8), runs))["initialization"].verdict is Verdict.PASS


def test_another_number_of_parameters_and_another_signal_are_found():
    assert checked(state(BASE), state(BASE, parameters=7))["parameters"].found == "7 trainable parameters instead of 335114"
    assert checked(state(BASE), state(BASE, gain=1.1))["signal"].verdict is Verdict.FAIL


def test_a_failed_run_is_no_state_to_compare_with():
    failed = make_run("kaiming", 0, status="failed", reason="out of memory", train_losses=(), evaluations=(), layers=(), init=None)
    with pytest.raises(ConfigError, match="kaiming, seed 0, failed: out of memory"):
        gate.baseline_of(make_config("kaiming"), [failed])


def test_a_baseline_is_read_as_it_was_written_and_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "base.json"
    gate.write(path, state(BASE))
    assert gate.read(path) == state(BASE)
    content = path.read_bytes()
    gate.write(path, state(BASE))
    assert path.read_bytes() == content
    path.write_bytes(content.replace(b"0.91", b"0.19"))
    with pytest.raises(ConfigError, match="not as --bless wrote it"):
        gate.read(path)
    with pytest.raises(NotThereError, match="--bless"):
        gate.read(tmp_path / "none.json")


def failing():
    return gate.checks(state(BASE), state([value - 0.3 for value in BASE], parameters=7))


def test_junit_says_what_failed(tmp_path):
    suite = ElementTree.fromstring(gate_report.junit(failing(), "mlp on <mnist5k>"))
    assert suite.get("tests") == "5"
    assert suite.get("failures") == "2"
    failures = {
        case.get("name"): case.find("failure").get("message") for case in suite.iter("testcase") if case.find("failure") is not None
    }
    assert set(failures) == {"parameters", "accuracy"}
    assert "-30.00 points of accuracy" in failures["accuracy"]


def test_annotations_escape_what_github_would_read():
    check = gate.Check(scheme="a:b,c", rule="signal", verdict=Verdict.FAIL, found="100 % off\n::error::x")
    assert list(gate_report.annotations([check])) == ["::error title=initbench a%3Ab%2Cc%3A signal::100 %25 off%0A::error::x"]
    inconclusive = replace_verdict(check, Verdict.INCONCLUSIVE)
    assert next(gate_report.annotations([inconclusive])).startswith("::warning ")
    assert not list(gate_report.annotations([replace_verdict(check, Verdict.PASS)]))


def replace_verdict(check, verdict):
    return check.model_copy(update={"verdict": verdict})


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("initbench.reporting.draw.draw", lambda _plot: {".png": b"", ".svg": b"<svg/>"})
    monkeypatch.setattr("initbench.reporting.draw.cores", lambda: 1)
    return lambda *words: CliRunner().invoke(app, ["smoke", *words], env={"COLUMNS": "100"})


@pytest.mark.heavy
def test_a_users_model_is_gated_from_the_command_line(call, tmp_path, monkeypatch):
    asked = [*TINY, "--method", "kaiming", "--baseline", "base.json"]
    missing = call(*asked)
    assert (missing.exit_code, "Make it where all is well, with: --bless" in missing.output) == (5, True)
    assert call(*asked, "--bless").exit_code == 0
    content = (tmp_path / "base.json").read_bytes()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    passed = call(*asked, "--junit", "made/j.xml", "--markdown", "made/m.md")
    assert passed.exit_code == 0, passed.output
    assert "The gate passed." in passed.output
    assert (tmp_path / "base.json").read_bytes() == content
    assert ElementTree.parse(tmp_path / "made" / "j.xml").getroot().get("failures") == "0"
    assert (tmp_path / "made" / "m.md").read_text() == (tmp_path / "summary.md").read_text()
    before = gate.read(tmp_path / "base.json")
    kaiming = before.schemes["kaiming"]
    moved = kaiming.model_copy(update={"init": {seed: dict.fromkeys(own, (0.5, 0.5)) for seed, own in kaiming.init.items()}})
    gate.write(tmp_path / "base.json", before.model_copy(update={"schemes": {"kaiming": moved}}))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    failed = call(*asked, "--json")
    assert failed.exit_code == 4
    assert "::error title=initbench kaiming%3A initialization::" in failed.output
    assert json.loads(failed.stdout)["verdict"] == "fail"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--bless"], 2, "Name a file: --baseline FILE."),
        (["--model", "mlp"], 2, "Name a file: --baseline FILE."),
        (["--baseline", "b.json", "--allow", "-1"], 2, "it must be from 0 to 100 points"),
        (["--baseline", "b.json", "--allow", "nan"], 2, "it must be from 0 to 100 points"),
    ],
)
def test_wrong_ways_to_use_it_get_a_sentence(words, code, sentence, call):
    ran = call(*words)
    assert (ran.exit_code, sentence in " ".join(ran.output.split())) == (code, True), ran.output


@pytest.mark.heavy
def test_a_baseline_of_another_question_is_named(call):
    asked = ["--baseline", "base.json", *TINY]
    assert call(*asked, "--bless").exit_code == 0
    other = call(*asked, "--set", "train.lr=0.5")
    assert (other.exit_code, "another question; it differs in train" in " ".join(other.output.split())) == (2, True)


@pytest.mark.heavy
def test_the_gate_finds_what_it_must_and_leaves_the_rest_alone():
    ran = subprocess.run([sys.executable, "benchmarks/gate.py", "--trials", "3"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
