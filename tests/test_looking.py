"""Looking at a folder runs none of the code in it: names are resolved as text, code is imported by what trains or probes."""

import json
import subprocess
import sys
import textwrap

import pytest

from initbench.question.user_files import module_file

SCHEME = """
from pathlib import Path
Path("ran.txt").open("a").write(__name__ + " ")
"""
BUILD = """
from initbench.schemes import kaiming
def build(*, gain: float = 1.0):
    return kaiming.build()
"""
SMALL = ["--model", "mlp:depth=1,width=8", "--steps", "2", "--engine", "serial", "--device", "cpu", "--set", "probe.batch_size=16"]


@pytest.fixture
def call(tmp_path, monkeypatch):
    """The command in a process of its own, which as the installed one does not begin with the working folder on its path."""
    monkeypatch.chdir(tmp_path)

    def called(*arguments, code=0):
        words = [sys.executable, "-P", "-m", "initbench", *map(str, arguments)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done

    return called


@pytest.fixture
def folder(tmp_path):
    """A package, and beside it a module that libraries import where it is there."""
    (tmp_path / "theirs" / "inner").mkdir(parents=True)
    for name in ("theirs/__init__.py", "theirs/inner/__init__.py"):
        (tmp_path / name).write_text(SCHEME)
    (tmp_path / "theirs" / "inner" / "own.py").write_text(SCHEME + BUILD)
    (tmp_path / "dill.py").write_text(SCHEME)
    return tmp_path


@pytest.mark.heavy
def test_looking_runs_no_code_and_training_does(call, folder):
    call("run", "--method", "theirs.inner.own:build", *SMALL, "--out", "out")
    assert (folder / "ran.txt").read_text() == "theirs theirs.inner theirs.inner.own "
    (folder / "ran.txt").unlink()
    (folder / "asked.yaml").write_text("schemes: ['theirs.inner.own:build']\nseeds: 1\nmodel: mlp\n")
    call("report", "out")
    call("resume", "out", "--dry-run")
    call("config", "validate", "asked.yaml")
    call("config", "validate", "out/config.yaml")
    call("show", "theirs.inner.own:build")
    call("list", "schemes")
    call("run", "-c", "asked.yaml", "--dry-run")
    code = "import initbench; print(initbench.load_results('out'), initbench.load_results('out').to_pandas('layers').shape)"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
    assert not (folder / "ran.txt").exists(), (folder / "ran.txt").read_text()


@pytest.mark.heavy
def test_parameters_are_read_from_the_text(call, folder):
    refused = call("run", "--method", "theirs.inner.own:build:gian=2", *SMALL, code=2)
    assert "has no parameter 'gian'. Did you mean 'gain'?" in refused.stderr
    assert not (folder / "ran.txt").exists()


@pytest.mark.parametrize("module", ["theirs.nowhere", "theirs.inner.own.deeper", "nowhere", "theirs..own", "../theirs", "theirs.a-b", ""])
def test_what_is_no_module_has_no_file(folder, monkeypatch, module):
    monkeypatch.chdir(folder)
    assert module_file(module) is None


def test_a_module_is_found_where_python_would_find_it(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    assert module_file("theirs") == folder / "theirs" / "__init__.py"
    assert module_file("theirs.inner.own") == folder / "theirs" / "inner" / "own.py"
    (folder / "json").mkdir()
    (folder / "json" / "__init__.py").write_text("")
    assert str(module_file("json")) == json.__file__
    (folder / "spread" / "part").mkdir(parents=True)
    (folder / "spread" / "part" / "one.py").write_text("")
    assert module_file("spread.part.one") == folder / "spread" / "part" / "one.py"
    assert textwrap.__file__ == str(module_file("textwrap"))
