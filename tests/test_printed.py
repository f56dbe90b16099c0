"""What the pages show as printed is printed: their commands are run anew. Probes are compared word by word, with numbers to their last
digit; training enlarges what a processor rounds, so medians over seeds are compared by their intervals."""

import functools
import os
import re

import pytest
from pages_support import NUMBER, TEXTS, blocks, commands, shown, stands_in, tables
from typer.testing import CliRunner

import initbench
from initbench.cli.app import app
from initbench.statistics.inference import seeds_needed, signed_ranks

SHOWN = [
    pytest.param(each, id=f"{page.removeprefix('docs/').removesuffix('.md')}-{number}")
    for page, text in TEXTS.items()
    if page != "docs/results.md"
    for number, each in enumerate(shown(text))
]
ESTIMATE = re.compile(r"^ *(\w+) +([\d.]+) % .*\n +\[([\d.]+), ([\d.]+)\]", re.MULTILINE)
AT_BEST = re.compile(r"^ *(\w+) .* ([\d.]+) % \[([\d.]+), ([\d.]+)\] +\d+ of \d+$", re.MULTILINE)
QUIET = {"plot"}
"""Commands of which no page shows what they print."""


@functools.cache
def printed(words, folder):
    """What a command prints on a terminal of 80 columns, in a folder of its own."""
    os.chdir(folder)
    ran = CliRunner().invoke(app, [*words])
    assert ran.exit_code == 0, ran.output
    return re.sub(r" +$", "", ran.stdout, flags=re.MULTILINE)


@pytest.fixture
def said(tmp_path_factory, monkeypatch):
    """Runs the commands above what is shown, each once however often pages show it, and gives what they print together."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(".")
    for code in (code for text in TEXTS.values() for code in blocks(text, "python")):
        if (named := re.match(r"# (\w+\.py)\n", code)) and "np.savez(" not in code:
            (tmp_path_factory.getbasetemp() / named[1]).write_text(code, encoding="utf-8")
    return lambda each: "\n".join(printed(tuple(words), tmp_path_factory.getbasetemp()) for words in each.commands if words[0] not in QUIET)


def test_all_that_is_shown_has_its_command():
    assert {each.values[0].commands[0][0] for each in SHOWN} == {"probe", "compare"}


@pytest.mark.heavy
@pytest.mark.parametrize("each", SHOWN)
def test_what_is_shown_is_what_the_command_prints(each, said):
    ours = said(each)
    if each.commands[0][0] == "compare":
        as_trained(each.text, ours)
    else:
        assert [piece for piece in each.text.split("...") if not stands_in(piece, ours)] == [], ours


def as_trained(text, ours):
    """Compares a table of medians over seeds, and the sentences below it, with what is printed here."""
    found = AT_BEST if "at its best" in text else ESTIMATE
    if found is ESTIMATE:
        heading, shown_heading = ([line.split() for line in part[part.index("Median") :].splitlines()[:4]] for part in (ours, text))
        assert heading == shown_heading
        assert heading[-1][0] == "scheme"
        assert sentences(ours) == sentences(text)
    else:
        assert stands_in(text.splitlines()[0], ours)
    here = {name: (float(low), float(high)) for name, _, low, high in found.findall(ours)}
    there = {name: float(value) for name, value, _, _ in found.findall(text)}
    assert here.keys() == there.keys() != set()
    for name, value in there.items():
        low, high = here[name]
        assert low - 1 <= value <= high + 1, f"{name}: the page says {value} %, here it is {low} to {high} %"


def sentences(text):
    """The words of the lines below the table, without numbers: the same on every processor, but for the order of two that tie."""
    below = text.partition("\n\n")[2]
    return [sorted(NUMBER.sub("#", line).split()) for line in below.splitlines() if line and "p = " in line]


@pytest.mark.heavy
def test_published_figures_stand_beside_those_of_the_commands_in_the_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in commands(TEXTS["README.md"]):
        if words[:3] == ["compare", "-c", "glorot2010_gradients"] or words[:2] == ["report", "--against"]:
            ran = CliRunner().invoke(app, words)
            assert ran.exit_code == 0, ran.output


COMMENT = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)
SAYS_WHAT = re.compile(r"(a|every) ")
"""A comment that is about what is printed, and not what is printed."""
SNIPPETS = [
    pytest.param(code, id=f"{page}-{number}")
    for page, text in TEXTS.items()
    for number, code in enumerate(blocks(text, "python"))
    if any(not SAYS_WHAT.match(comment) for comment in COMMENT.findall(code))
]


@pytest.mark.parametrize("code", SNIPPETS)
def test_a_snippet_prints_what_stands_beside_it(code, capsys):
    exec(compile(code, "snippet", "exec"), {})
    comments = COMMENT.findall(code)
    assert capsys.readouterr().out.splitlines() == comments


DESCRIBED = ("curves", "layers", "layers", "init", "summary", "comparisons", "cells", "runs")
"""The files whose columns the tables of docs/results.md are about, in their order."""


@pytest.mark.heavy
def test_a_results_folder_holds_the_files_and_columns_that_the_page_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = {"dataset": "synthetic", "steps": 1, "seeds": 2, "engine": "serial", "device": "cpu"}
    initbench.compare(["xavier", "kaiming"], **asked, output="compared")
    initbench.sweep(["xavier", "kaiming"], **asked, grid={"model.depth": [1, 2]}, output="swept")
    page = TEXTS["docs/results.md"]
    (tree,) = shown(page)
    lines = tree.text.replace("<job id>", "*").splitlines()
    named = [name for line in lines for name in re.split(" {2,}", re.split(" {4,}", line)[0])]
    assert [name for name in named if not [*(tmp_path / "compared").glob(name.removesuffix("/"))]] == []
    assert {path.name for path in (tmp_path / "compared").iterdir()} == {name.partition("/")[0] for name in named}
    of_columns = [rows for heads, rows in tables(page) if heads[0].startswith("column")]
    said = [(file, name, row[1]) for file, rows in zip(DESCRIBED, of_columns, strict=True) for row in rows for name in named_in(row)]
    for file in DESCRIBED:
        (found,) = tmp_path.glob(f"*/tables/{file}.csv")
        there = set(found.read_text(encoding="utf-8").splitlines()[0].split(","))
        assert {name for each, name, meaning in said if each == file and "of a probe" not in meaning} <= there, file
        assert {name for name in there if not name.startswith(("predicted_", "model."))} <= {name for each, name, _ in said if each == file}


def named_in(row):
    """The columns that a row of a table is about."""
    return re.findall(r"`(\w+)`", row[0])


def test_every_chapter_on_reading_shows_a_verdict():
    assert len(shown(TEXTS["docs/reading.md"])) == TEXTS["docs/reading.md"].count("\n## ")


WORDS = {"two": 2, "three": 3, "five": 5}


def test_the_seeds_that_a_comparison_takes_are_those_that_the_pages_say():
    page = " ".join(TEXTS["docs/comparing.md"].split())
    asked = re.findall(r"(two|three|five)(?: schemes)? need (\d+)", page)
    assert len(asked) == len(WORDS)
    for word, seeds in asked:
        schemes = WORDS[word]
        assert seeds_needed(schemes * (schemes - 1) // 2) == int(seeds)
    (smallest, of_fifty) = re.findall(
        r"smallest p of 8 seeds is ([\d.]+), and over 50 tests ([\d.]+)\.", " ".join(TEXTS["docs/statistics.md"].split())
    )[0]
    p = signed_ranks([1.0 + seed for seed in range(8)]).p
    assert (f"{p:.3f}", f"{50 * p:.1f}") == (smallest, of_fifty)


def test_a_number_that_is_off_by_more_than_its_last_digit_is_found():
    assert stands_in("gradients 1.1x, 107,000x in all", "kaiming: gradients 1.2x, 106,000x\n in all; more")
    assert not stands_in("gradients 1.1x", "gradients 1.3x")
    assert not stands_in("107,000x", "105,000x")
    assert not stands_in("4.1e-05", "4.3e-05")
    assert not stands_in("activations vanish at linear14", "gradients vanish at linear14")
