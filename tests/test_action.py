"""action.yml and .pre-commit-hooks.yaml do what they say: read as YAML, their steps run by bash in the environment that a runner gives."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
ACTION = YAML(typ="safe").load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = {step.get("id") or step.get("name") or step["uses"].partition("@")[0]: step for step in ACTION["runs"]["steps"]}
INPUT = re.compile(r"\$\{\{ (?:inputs\.([\w-]+)|github\.(action_path)) \}\}")
TINY = "--model mlp:depth=1,width=8 --dataset synthetic:n=64,test=40,shape=[1,4,4] --steps 4 --engine serial --device cpu"
TINY += " --set train.batch_size=16 --set probe.batch_size=16"


def test_it_is_a_composite_action_whose_scripts_hold_no_input():
    assert ACTION["runs"]["using"] == "composite"
    assert {"name", "description", "inputs", "outputs", "runs"} <= set(ACTION)
    for step in STEPS.values():
        assert ("run" in step) != ("uses" in step)
        assert "run" not in step or step["shell"] == "bash"
        assert "${{" not in step.get("run", ""), "what somebody writes in an input would run as code"
    used = set(re.findall(r"inputs\.([\w-]+)", (ROOT / "action.yml").read_text(encoding="utf-8")))
    assert used == set(ACTION["inputs"])
    assert all(each["description"] and "default" in each for each in ACTION["inputs"].values())
    assert ACTION["outputs"]["folder"]["value"] == "${{ steps.run.outputs.folder }}"


def test_python_is_set_up_first_and_the_results_are_uploaded_whatever_happened():
    names = list(STEPS)
    assert names == ["actions/setup-python", "Install initbench", "run", "actions/upload-artifact"]
    assert STEPS["actions/upload-artifact"]["if"] == "${{ always() && inputs.artifact != '' }}"
    assert STEPS["actions/upload-artifact"]["with"]["path"] == "${{ inputs.results }}"


@pytest.fixture
def runner(tmp_path):
    """Runs a step as a runner does; `python -m pip` only says what it was called with."""
    tools, work = tmp_path / "tools", tmp_path / "work"
    tools.mkdir()
    work.mkdir()
    python = shlex.quote(sys.executable)
    (tools / "python").write_text(
        f'#!/bin/bash\nif [ "$1 $2" = "-m pip" ]; then printf "%s\\n" "${{@:3}}" > {tmp_path}/pip.txt; else exec {python} "$@"; fi\n'
    )
    (tools / "initbench").write_text(f'#!/bin/bash\nexec {python} -m initbench "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)

    def run(name, **inputs):
        given = {key: each["default"] for key, each in ACTION["inputs"].items()} | {
            key.replace("_", "-"): text for key, text in inputs.items()
        }
        values = {
            key: INPUT.sub(lambda match: given[match[1]] if match[1] else "/the/action", text) for key, text in STEPS[name]["env"].items()
        }
        script = tmp_path / "step.sh"
        script.write_text(STEPS[name]["run"])
        environment = {
            "PATH": f"{tools}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(work),
            "GITHUB_OUTPUT": str(tmp_path / "output.txt"),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
            **values,
        }
        words = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)]
        return subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True, check=False, timeout=200)

    run.folder = tmp_path
    return run


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, ["/the/action"]),
        ({"package": "initbench[parquet]==1.0"}, ["initbench[parquet]==1.0"]),
        ({"pip_arguments": "--find-links 'my wheels' --no-cache-dir"}, ["--find-links", "my wheels", "--no-cache-dir", "/the/action"]),
        ({"package": "x; touch hacked", "pip_arguments": "$(touch hacked)"}, ["$(touch", "hacked)", "x; touch hacked"]),
    ],
)  # fmt: skip
def test_pip_gets_the_words_that_are_meant(inputs, words, runner):
    done = runner("Install initbench", **inputs)
    assert done.returncode == 0, done.stderr
    assert (runner.folder / "pip.txt").read_text().splitlines() == ["install", "--quiet", *words]
    assert list((runner.folder / "work").iterdir()) == []


@pytest.mark.heavy
def test_a_comparison_has_its_summary_in_the_job(runner):
    done = runner("run", arguments=f"kaiming 'normal:std=2' --seeds 2 {TINY}", results="out here")
    assert done.returncode == 0, done.stderr
    assert (runner.folder / "output.txt").read_text() == "folder=out here\n"
    summary = (runner.folder / "summary.md").read_text()
    assert summary == (runner.folder / "work" / "out here" / "summary.md").read_text()
    assert "normal:std=2.0" in summary
    assert (runner.folder / "work" / "out here" / "report.html").is_file()


@pytest.mark.heavy
def test_a_config_of_the_repository_is_compared(runner):
    (runner.folder / "work" / "my config.yaml").write_text(
        "schemes: [kaiming, xavier]\nmodel: mlp:depth=1,width=8\nseeds: 1\ndataset: synthetic:n=64,test=40,shape=[1,4,4]\n"
        "train: {steps: 2, batch_size: 16}\nprobe: {batch_size: 16}\n"
    )
    done = runner("run", config="my config.yaml", arguments="--engine serial --device cpu")
    assert done.returncode == 0, done.stderr
    assert (runner.folder / "work" / "initbench-results" / "report.html").is_file()


@pytest.mark.heavy
def test_a_gate_says_in_the_job_what_is_worse_and_fails(runner):
    words = f"--method kaiming --seeds 2 {TINY}"
    assert runner("run", baseline="gate.json", arguments=f"{words} --bless").returncode == 0
    assert runner("run", baseline="gate.json", arguments=words).returncode == 0
    assert (runner.folder / "summary.md").read_text().count("## initbench: ") == 1
    path = runner.folder / "work" / "gate.json"
    from initbench.statistics import gate

    written = gate.read(path)
    changed = written.model_copy(
        update={"schemes": {name: each.model_copy(update={"parameters": 3}) for name, each in written.schemes.items()}}
    )
    gate.write(path, changed)
    done = runner("run", baseline="gate.json", arguments=words)
    assert done.returncode == 4
    assert "::error" in done.stdout + done.stderr
    assert "## initbench: fail" in (runner.folder / "summary.md").read_text()
    assert (runner.folder / "work" / "initbench-results" / "report.html").is_file()


NET = """
import torch
from torch import nn


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5))
        nn.init.constant_(self[0].weight, float("nan"))
"""


@pytest.mark.heavy
def test_a_model_is_looked_at_and_its_findings_are_annotations(runner):
    (runner.folder / "work" / "net.py").write_text(NET)
    done = runner("run", lint="./net.py:Net", arguments="--input 16 --fail-on warning")
    assert done.returncode == 4, done.stderr
    assert "::error file=net.py,line=" in done.stdout
    assert "IB102" in done.stdout
    assert not (runner.folder / "work" / "initbench-results").exists()
    assert runner("run", lint="./net.py:Net", arguments="--input 16 --select IB101").returncode == 0
    done = runner("run", lint="./net.py:Net", baseline="gate.json")
    assert done.returncode == 2
    assert "goes without config and baseline" in done.stdout


@pytest.mark.heavy
@pytest.mark.parametrize("arguments", ["kaiming --modle mlp", "'", "kaiming --model $(touch hacked)", "; touch hacked"])
def test_what_cannot_be_run_fails_and_runs_nothing_else(arguments, runner):
    done = runner("run", arguments=arguments)
    assert done.returncode != 0
    assert list((runner.folder / "work").iterdir()) == []
    assert not (runner.folder / "summary.md").exists()


HOOKS = YAML(typ="safe").load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
HOOK = HOOKS[0]
RIGHT = "schemes: [kaiming, xavier]\nseeds: 2\n"
WRONG = "schemes: [kaimign]\nseeds: 2\n"


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("initbench.yaml", True),
        ("initbench-deep.yml", True),
        ("ci/initbench/deep.yaml", True),
        ("a/initbench.d/b/c.yml", True),
        ("docker-compose.yaml", False),
        ("my-initbench.yaml", False),
        ("initbench.yaml.txt", False),
    ],
)
def test_the_hook_takes_files_by_their_names(name, taken):
    assert bool(re.search(HOOK["files"], name)) is taken


@pytest.mark.heavy
def test_the_hook_of_the_linter_runs_as_the_page_says(tmp_path):
    (hook,) = (each for each in HOOKS if each["id"] == "initbench-lint")
    assert hook["pass_filenames"] is False, "a model is no file"
    (tmp_path / "net.py").write_text(NET)
    page = (ROOT / "docs" / "lint.md").read_text(encoding="utf-8")
    args = YAML(typ="safe").load(re.search(r"id: initbench-lint\s+(args: .*)", page)[1])["args"]
    words = [sys.executable, "-m", *hook["entry"].split(), *("16" if "x" in word and word[0].isdigit() else word for word in args)]
    done = subprocess.run(
        words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 4, done.stderr
    assert "IB102" in done.stdout


@pytest.mark.exports
def test_pre_commit_runs_the_hook(tmp_path):
    pytest.importorskip("pre_commit", reason="pre-commit is not installed: make test-exports installs it")
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("it takes a git repository")
    tools, hooks, work = tmp_path / "tools", tmp_path / "hooks", tmp_path / "work"
    for folder in (tools, hooks, work):
        folder.mkdir()
    (tools / "initbench").write_text(f'#!/bin/bash\nexec {shlex.quote(sys.executable)} -m initbench "$@"\n')
    (tools / "initbench").chmod(0o755)
    shutil.copy(ROOT / ".pre-commit-hooks.yaml", hooks)
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "PRE_COMMIT_HOME": str(tmp_path / "cache"),
        **{f"GIT_{who}_{what}": "somebody@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }

    def call(*words, cwd):
        return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=200)

    for folder in (hooks, work):
        assert call("git", "init", "-q", cwd=folder).returncode == 0
    assert call("git", "add", ".", cwd=hooks).returncode == 0
    assert call("git", "commit", "-qm", "hooks", cwd=hooks).returncode == 0
    (work / "initbench.yaml").write_text(RIGHT)
    (work / "other.yaml").write_text(WRONG)
    call("git", "add", ".", cwd=work)
    words = [sys.executable, "-m", "pre_commit", "try-repo", str(hooks), HOOK["id"], "--all-files"]
    done = call(*words, cwd=work)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Passed" in done.stdout
    (work / "initbench.yaml").write_text(WRONG)
    call("git", "add", ".", cwd=work)
    done = call(*words, cwd=work)
    assert done.returncode == 1
    assert "initbench.yaml:1" in done.stdout
    assert "Did you mean 'kaiming'" in done.stdout
