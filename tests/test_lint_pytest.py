"""The pytest plugin: what a test of a wrong start fails with, and that pytest starts without torch."""

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLUGIN = "initbench.linting.pytest_plugin"
TESTS = """
import torch
from torch import nn

import initbench


def wrong():
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5))
    model[0].weight.data.fill_(float("nan"))
    return model


def right():
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5))


def test_by_fixture(lint_init):
    lint_init(wrong(), inputs=torch.randn(8, 16))


def test_by_report():
    initbench.lint(wrong, inputs="16").raise_for("error")


def test_right(lint_init):
    assert lint_init(right, inputs="16").of("error") == ()


def test_another_failure():
    assert 1 == 2
"""


def run(folder, *words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.heavy
def test_a_failure_is_the_findings_and_no_traceback(tmp_path):
    (tmp_path / "test_start.py").write_text(TESTS)
    ran = run(tmp_path, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider")
    assert "3 failed, 1 passed" in ran.stdout, ran.stdout + ran.stderr
    by_fixture, by_report, other = (
        ran.stdout.partition(f"_ {name} _")[2].partition("\n____")[0]
        for name in ("test_by_fixture", "test_by_report", "test_another_failure")
    )
    for told in (by_fixture, by_report):
        assert "error IB102 not finite" in told
        assert "fix: nn.init" in told
        assert told.count("error IB102 not finite") == 1
        assert "linting/run.py" not in told
        assert "def test_" not in told
    assert "def test_another_failure" in other


def test_pytest_starts_without_torch():
    code = f"import sys; import {PLUGIN}; assert not {{'torch', 'numpy', 'pandas', 'pydantic'}} & set(sys.modules)"
    ran = run(ROOT, "-c", code)
    assert ran.returncode == 0, ran.stderr


def test_the_package_names_the_plugin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (name,) = project["entry-points"]["pytest11"].values()
    assert name == PLUGIN
    assert hasattr(import_module(name), "lint_init")
