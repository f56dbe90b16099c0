"""CONTRIBUTING.md: each file that it shows is put into a copy of the package, linted, and used by the commands below it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## Add an? (\w+)[^\n]*: one file\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
KINDS = ("scheme", "model", "dataset", "engine", "optimizer", "metric", "export", "rule", "quantity")
SHELL = 'set -euo pipefail\ninitbench() {{ {python} -m initbench "$@"; }}\n{commands}'
"""Commands, as they are typed where the package is installed."""


def example(kind):
    """The path and the text of the one file of a section, and its commands."""
    ((path, code),) = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", SECTIONS[kind], re.MULTILINE | re.DOTALL)
    (commands,) = re.findall(r"^```sh\n(.*?)^```$", SECTIONS[kind], re.MULTILINE | re.DOTALL)
    return path, code, commands


def test_every_kind_of_addition_has_its_section():
    assert tuple(SECTIONS) == KINDS


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_of_a_kind_is_all_it_takes(kind, tmp_path):
    path, code, commands = example(kind)
    assert not (ROOT / path).exists()
    shutil.copytree(ROOT / "initbench", tmp_path / "initbench")  # compiled files too: they stay valid
    (tmp_path / path).write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "INITBENCH_DATA": str(tmp_path / "data")}
    script = SHELL.format(python=shlex.quote(sys.executable), commands=commands)
    ran = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_of_a_kind_passes_the_linters(kind):
    path, code, _ = example(kind)
    ruff = str(Path(sys.executable).with_name("ruff"))
    for command in (["check"], ["format", "--check"]):
        words = [ruff, *command, "--no-cache", "--stdin-filename", path, "-"]
        ran = subprocess.run(words, input=code, capture_output=True, text=True, cwd=ROOT, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
