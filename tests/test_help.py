"""The words of the help of every command, as they were once read; frames, which releases of typer draw anew, are left out."""

import re

import pytest
import typer
from golden_support import assert_golden
from typer.testing import CliRunner

from initbench.cli.app import app

pytestmark = pytest.mark.heavy

GROUP = typer.main.get_command(app)
COMMANDS = [
    words for name, command in GROUP.commands.items() for words in [[name], *([name, below] for below in getattr(command, "commands", {}))]
]


@pytest.mark.golden
@pytest.mark.parametrize("words", [[], *COMMANDS], ids=lambda words: "-".join(words) or "initbench")
def test_the_help_is_as_it_was_read(words):
    done = CliRunner().invoke(app, [*words, "--help"], prog_name="initbench", env={"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"})
    assert done.exit_code == 0
    bare = re.sub(r"[╭╮╰╯─│]", " ", done.output)
    assert not re.search(r"<[\w\[\], ]+>", bare), "a type of Python's"
    lines = [" ".join(line.split()) for line in bare.splitlines()]
    assert_golden(f"help/{'-'.join(words) or 'initbench'}.txt", "\n".join(line for line in lines if line) + "\n")
