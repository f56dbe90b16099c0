"""What the pages show as printed is printed: their commands are run anew. Another processor rounds differently, so numbers are
compared by their intervals, all else letter by letter."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import initbench
from initbench.cli.app import app

pytestmark = pytest.mark.heavy
ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```sh\n([^`]*?)```\n\n(?:[^`]+\n\n)?```text\n(.*?)```", README, re.DOTALL)
NUMBER = re.compile(r"[-\d][\d.,]*(e[+-]\d+)?")
ESTIMATE = re.compile(r"^(\w+) +([\d.]+) % .*\n +\[([\d.]+), ([\d.]+)\]", re.MULTILINE)


def sentences(text):
    """The words of the lines below the table, without numbers: the same on every processor, but for the order of two that tie."""
    below = text.partition("\n\n")[2]
    return [sorted(NUMBER.sub("#", line).split()) for line in below.splitlines() if line and "p = " in line]


def test_the_readme_shows_what_is_printed():
    assert len(SHOWN) == 2


@pytest.mark.parametrize(("commands", "shown"), SHOWN, ids=[f"block-{number}" for number in range(len(SHOWN))])
def test_a_block_is_what_its_command_prints(commands, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    words = commands.strip().splitlines()[-1].split()
    assert words[0] == "initbench"
    ran = CliRunner().invoke(app, words[1:])
    assert ran.exit_code == 0, ran.output
    printed = re.sub(r" +$", "", ran.stdout, flags=re.MULTILINE)
    heading, shown_heading = ([line.split() for line in text[text.index("Median") :].splitlines()[:4]] for text in (printed, shown))
    assert heading == shown_heading
    assert heading[-1][0] == "scheme"
    assert sentences(printed) == sentences(shown)
    here = {name: (float(low), float(high)) for name, _, low, high in ESTIMATE.findall(printed)}
    there = {name: float(value) for name, value, _, _ in ESTIMATE.findall(shown)}
    assert here.keys() == there.keys() != set()
    for name, value in there.items():
        low, high = here[name]
        assert low - 1 <= value <= high + 1, f"{name}: README says {value} %, here it is {low} to {high} %"


def test_the_verdict_on_the_page_of_probes_is_what_a_probe_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = " ".join((ROOT / "docs/probe.md").read_text(encoding="utf-8").split())
    (verdict,) = re.findall(r"A verdict reads: `(.*?)`", page)
    said = initbench.probe(model="mlp:depth=30", schemes=["torch_default", "kaiming"], seeds=8)
    assert verdict in str(said)


def test_the_lesson_says_after_how_many_layers_float32_has_nothing_left():
    page = (ROOT / "docs/course.md").read_text(encoding="utf-8")
    deep, deeper = (initbench.probe(model=f"mlp:depth={depth}", schemes=["xavier"]).schemes[0] for depth in (130, 260))
    for depth in (130, 260):
        assert f"initbench probe xavier --model mlp:depth={depth}\n" in page
    (power,) = re.findall(r"a signal of some \$2 \\cdot 10\^{-(\d+)}\$", page)
    (layer,) = re.findall(r"`constant at linear(\d+)`", page)
    assert 0.1 < deep.activations / (2 * 10.0 ** -int(power)) < 10
    assert 0 < deep.activations < 2.0**-126, "float32 holds no such number, and it is measured"
    assert abs(int(re.search(r"constant at linear(\d+)", deeper.verdict)[1]) - int(layer)) <= 4
    assert abs(int(layer) - 2 * 126) <= 4


def test_published_figures_stand_beside_those_of_the_commands_in_the_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked, shown = re.findall(r"^initbench ((?:compare -c glorot2010_gradients|report --against)[^#\n]*)", README, re.MULTILINE)
    for words in (asked, shown):
        ran = CliRunner().invoke(app, words.split())
        assert ran.exit_code == 0, ran.output


READING = re.findall(
    r"```sh\n(initbench probe .*)\n[^`]*```\n\nThe probe says of it:\n\n```text\n(.*)\n```",
    (ROOT / "docs/reading.md").read_text(encoding="utf-8"),
)


def test_every_chapter_on_reading_shows_a_verdict():
    assert len(READING) == (ROOT / "docs/reading.md").read_text(encoding="utf-8").count("\n## ")


@pytest.mark.parametrize(("command", "shown"), READING, ids=[command.split()[2] for command, _ in READING])
def test_the_verdict_of_a_chapter_is_what_its_probe_says(command, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, command.split()[1:])
    assert ran.exit_code == 0, ran.output
    scheme = shown.partition(": ")[0]
    (said,) = (line for line in ran.stdout.splitlines() if line.startswith(f"{scheme}: "))
    assert NUMBER.sub("#", said) == NUMBER.sub("#", shown)
