"""docs/own.md as its reader follows it: the files of the page, written as it says, and its commands, carried out in order."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "own.md").read_text(encoding="utf-8")
SMALL = {"compare": ["--steps", "2", "--seeds", "2", "--engine", "serial"], "probe": [], "data": [], "config": [], "check-scheme": []}
"""What is added so that a command takes seconds."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """The folder of a reader, with the files of the page."""
    folder = tmp_path_factory.mktemp("own")
    for kind, ending in (("python", "py"), ("yaml", "yaml")):
        for name, code in re.findall(rf"```{kind}\n# (\w+\.{ending})\n(.*?)```", PAGE, re.DOTALL):
            (folder / name).write_text(code, encoding="utf-8")
    subprocess.run([sys.executable, "digits.py"], cwd=folder, check=True)
    return folder


def commands():
    lines = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("initbench ")]


def test_every_command_of_the_page_runs_on_the_files_of_the_page(desk):
    typed = commands()
    assert len(typed) >= 9
    for words in typed:
        given = [*words, *SMALL[words[0]]]
        ran = subprocess.run(
            [sys.executable, "-m", "initbench", *given],
            cwd=desk,
            env={"PATH": "", "INITBENCH_DATA": str(desk / "data"), "HOME": str(desk)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, (given, ran.stdout, ran.stderr)
