"""The pages in docs that are made from the code are current, and what they show can be pasted."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch
import typer
from simulated_runs import make_run

from initbench.cli import guide
from initbench.cli.app import app
from initbench.init.contract import Need
from initbench.init.initialize import build_scheme
from initbench.probing import map_run
from initbench.probing import tables as probe_tables
from initbench.quantities import QUANTITIES
from initbench.question import catalog
from initbench.question.config import parse_ref
from initbench.reporting import tables
from initbench.statistics.summary import summarize

DOCS = Path(__file__).parent.parent / "docs"
SCHEMES = [entry for entry in catalog.entries("scheme") if entry.path.parent.name == "schemes"]
BY_NAME = {entry.name: entry for entry in SCHEMES}
CORRELATION = ("glossary.md", "probe.md", "results.md")
"""Pages that say what a correlation is."""
TRAINED = {name for name, entry in BY_NAME.items() if "import run" in guide.example(entry)}


def generated(name):
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PAGES[name]()


@pytest.mark.parametrize("name", ["schemes.md", "optimizers.md", "rules.md", "results.md", "commands.md", "config.md"])
def test_a_page_is_what_the_source_says(name):
    assert (DOCS / name).read_text(encoding="utf-8") == generated(name), "make it anew with: make docs"


def test_the_page_of_commands_says_what_each_word_of_a_usage_line_is():
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    for section in text.split("\n## ")[1:]:
        (usage,) = re.findall(r"^Usage: `initbench ([^`]*)`$", section, re.MULTILINE)
        explained = re.findall(r"^\| `([A-Z][^`]*)`[^|]*\| \S", section.replace("\\|", "/"), re.MULTILINE)
        assert explained == [word.strip("[].") for word in usage.replace("|", "/").split() if re.match(r"\[?[A-Z]", word)]
    assert "Usage: `initbench data import FILE.npz`" in text
    assert "Usage: `initbench export FORMAT [FOLDER]`" in text
    assert "Usage: `initbench compare [SCHEME]...`" in text


def test_only_an_option_without_a_value_is_on_or_off():
    whole = typer.main.get_command(app)
    every = [below for command in whole.commands.values() for below in getattr(command, "commands", {"": command}).values()]
    options = [option for command in every for option in command.params if option.param_type_name == "option"]
    assert [option.opts for option in options if bool(option.metavar) == option.is_flag] == []


def test_every_scheme_has_its_section_in_the_page():
    text = (DOCS / "schemes.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (\w+)$", text, re.MULTILINE) == [
        entry.name for entry in sorted(SCHEMES, key=lambda entry: (entry.family, entry.name))
    ]
    assert len(SCHEMES) >= 45


@pytest.mark.parametrize("name", BY_NAME)
def test_a_docstring_says_formula_place_needs_and_source(name):
    page = guide.page(BY_NAME[name])
    assert page.formula
    assert page.applies.endswith(".")
    assert page.needs.endswith(".")
    assert page.source
    needs = page.needs.partition("(")[0]
    made = build_scheme(parse_ref(guide.setting(BY_NAME[name])))
    assert {need for need in Need if re.search(rf"\b{need}\b", needs)} == made.needs
    assert needs.startswith("nothing") == (not made.needs)
    assert ("batch" in BY_NAME[name].needs) == bool(made.needs & {Need.DATA, Need.LABELS, Need.GRADIENTS})


@pytest.mark.parametrize("name", sorted(BY_NAME.keys() - TRAINED))
def test_the_example_of_a_scheme_runs_when_it_is_pasted(name, capsys):
    source = guide.example(BY_NAME[name])
    assert len(source.splitlines()) == 2
    state = torch.get_rng_state()
    exec(compile(source, name, "exec"), {})
    assert capsys.readouterr().out.startswith(name)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.heavy
@pytest.mark.parametrize("name", sorted(TRAINED))
def test_the_example_of_a_scheme_that_needs_data_trains(name, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    source = guide.example(BY_NAME[name])
    assert len(source.splitlines()) == 2
    quick = {"metainit": "metainit:steps=2", "gradinit": "gradinit:iterations=2"}.get(name, name)
    exec(compile(source.replace(f'"{name}"', f'"{quick}"').replace("steps=10", "steps=1"), name, "exec"), {})
    assert capsys.readouterr().out.startswith(name)


def test_the_glossary_knows_every_heading():
    runs = [make_run(scheme, seed, 0.9) for scheme in ("kaiming", "xavier") for seed in range(2)]
    summary = summarize(runs)
    headings = {
        *tables.scheme_table(summary).columns,
        *tables.pair_table(summary).columns,
        *probe_tables.scheme_table(()).columns,
        "band",
    }
    headings |= {quantity.heading for quantity in QUANTITIES if quantity.heading} | {"expected", "band", "layer"}
    page = (DOCS / "glossary.md").read_text(encoding="utf-8")
    words = [row.split(" | ")[0].removeprefix("| ") for row in page.splitlines() if row.startswith("| ")]
    plain = {heading.partition(" (")[0] for heading in headings}
    assert [heading for heading in sorted(plain) if not any(f", {heading}, " in f", {word.partition(' (')[0]}, " for word in words)] == []


ASKED = {
    "sweep",
    "cell",
    "grid",
    "axis",
    "reference",
    "margin",
    "equivalent",
    "gain",
    "edge of chaos",
    "critical",
    "ordered",
    "chaotic",
    "engine",
}
ASKED |= {"baseline", "race", "law", "held-out", "jacobian", "target", "tune", "x", "signal", "correlation"}
"""Words that the pages, options and messages use without a word on what they mean."""


def test_the_glossary_knows_the_words_that_are_used_without_explanation():
    page = (DOCS / "glossary.md").read_text(encoding="utf-8").lower()
    words = {word for row in page.splitlines() if row.startswith("| ") for word in row.split(" | ")[0].removeprefix("| ").split(", ")}
    assert sorted(ASKED - words) == []


def test_correlation_is_of_pre_activations_on_every_page():
    said = [
        re.search(r"^\| `?correlation`? \| (.*) \|$", (DOCS / name).read_text(encoding="utf-8"), re.MULTILINE)[1] for name in CORRELATION
    ]
    assert [text for text in said if "cosine of" not in text or "pre-activations" not in text] == []


def test_the_steps_of_a_trained_map_are_those_of_the_code():
    pages = " ".join(" ".join((DOCS / name).read_text(encoding="utf-8").split()) for name in ("probe.md", "commands.md"))
    assert set(re.findall(r"trained? (?:at each point, )?for (\d+) steps", pages)) == {str(map_run.STEPS)}
    assert len(re.findall(rf"for {map_run.STEPS} steps", pages)) == 2


def test_the_glossary_says_each_word_once_and_in_order():
    page = (DOCS / "glossary.md").read_text(encoding="utf-8")
    words = [row.split(" | ")[0].removeprefix("| ").lower() for row in page.splitlines() if row.startswith("| ")][1:]
    assert words == sorted(set(words))
