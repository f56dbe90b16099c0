"""What the pages say can be done: every link leads somewhere, every file and name is there, every command can be typed and every
snippet is run. tests/test_followed.py and tests/test_contributing.py carry commands out; here they are read, or say what they would do."""

import ast
import inspect
import itertools
import pkgutil
import re
import shlex

import pytest
import typer
from pages_support import ROOT, TEXTS, blocks, commands, readers_folder
from torch import nn
from typer.testing import CliRunner

import initbench
from initbench.cli.app import app
from initbench.question.config import View
from initbench.statistics.inference import seeds_needed

DRY = {"run", "compare", "recommend", "sweep"}
"""Commands that can say what they would do."""
ON_ITS_OWN_FILES = {"CONTRIBUTING.md", "docs/diagnose.md", "docs/own.md", "docs/tasks.md"}
"""Pages whose commands need the files that they show, and are carried out on them."""
FEW = {"CONTRIBUTING.md"}
"""Pages whose commands only show that something is there."""
MADE = {"docs/schemes.md", "docs/optimizers.md"}
"""Pages that are made from the source, as examples by name: tests/test_docs.py and tests/test_guide.py are about them."""
OTHERS = {"mine.py", "net.py", "halved.py", "huber.py", "circle.py", "train.py", "digits.py", "vision_transformer.py"}
"""Files that are not ours: the reader's, torchvision's."""
COMMANDS = sorted({(page, shlex.join(words)) for page, text in TEXTS.items() for words in commands(text)})
MENTIONED = sorted(
    {(page, words) for page, text in TEXTS.items() for words in re.findall(r"`initbench ([a-z-]+(?: (?:get|import|show|validate))?)", text)}
)
"""Commands within sentences: the command, and what of a group it is."""
SNIPPETS = [
    pytest.param(code, id=f"{page}-{number}")
    for page, text in TEXTS.items()
    for number, code in enumerate(blocks(text, "python"))
    if page not in MADE and not code.startswith(("# initbench/", "# mine.py"))
]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder as a reader has it: a mine.py with README's scheme and a model, full datasets, plots that cost nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INITBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("initbench.reporting.draw.draw", lambda _plot: {".png": b"", ".svg": b"<svg/>"})
    monkeypatch.setattr("initbench.reporting.draw.cores", lambda: 1)
    readers_folder(tmp_path)
    return tmp_path


def parse_only(command):
    """Has a command and those below it do nothing but read their words."""
    for below in getattr(command, "commands", {}).values():
        parse_only(below)
        below.callback = lambda **_: None
    return command


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_leads_to_a_file(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", TEXTS[page])
    assert [link for link in links if "://" not in link and not (ROOT / page).parent.joinpath(link).exists()] == []


def headings(page):
    """The anchors of a page's headings, as GitHub and the site make them."""
    plain = re.sub(r"^ *```.*?^ *```$", "", TEXTS[page], flags=re.MULTILINE | re.DOTALL)
    words = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in re.findall(r"^#+ (.*)$", plain, re.MULTILINE))
    return {re.sub(r"[^\w -]", "", text.lower()).strip().replace(" ", "-") for text in words}


@pytest.mark.parametrize("page", TEXTS)
def test_every_anchor_is_a_heading(page):
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", TEXTS[page])
    pages = {(ROOT / name).resolve(): name for name in TEXTS}
    ours = [(pages[(ROOT / page).parent.joinpath(to).resolve() if to else ROOT / page], at) for to, at in links if "://" not in to]
    assert [(to, at) for to, at in ours if at not in headings(to)] == []


@pytest.mark.parametrize("page", TEXTS)
def test_every_python_file_that_is_named_is_there(page):
    sentences = re.sub(r"\[[^\]]*\]\([^)]*\)", "", TEXTS[page])
    named = {name.removeprefix("./") for name in re.findall(r"(?:[\w.]+/)*\w+\.py\b", sentences)} - OTHERS
    added = {line.removeprefix("# ") for code in blocks(TEXTS["CONTRIBUTING.md"], "python") for line in code.splitlines()[:1]}
    folders = (ROOT, ROOT / "initbench")
    assert sorted(name for name in named - added if not any(folder.joinpath(name).is_file() for folder in folders)) == []


@pytest.mark.parametrize("page", sorted(TEXTS.keys() - {"CHANGELOG.md"}))
def test_every_name_in_the_package_is_there(page):
    for name in sorted(set(re.findall(r"\binitbench(?:\.[A-Za-z_]\w*)+", TEXTS[page]))):
        pkgutil.resolve_name(name)


@pytest.mark.parametrize("page", sorted(TEXTS.keys() - {"CHANGELOG.md"}))
def test_a_call_within_a_sentence_has_only_arguments_that_there_are(page):
    for name, given in re.findall(r"`initbench\.(\w+)(\([^`]*?\))[^`()]*`", TEXTS[page]):
        call = ast.parse(f"{name}{given}", mode="eval").body
        signature = inspect.signature(getattr(initbench, name))
        signature.bind_partial(*call.args, **{each.arg: each.value for each in call.keywords})
        for within in (each for each in ast.walk(call) if isinstance(each, ast.Call) and each is not call):
            assert within.func.id == "View"
            View(**{each.arg: ast.literal_eval(each.value) for each in within.keywords})


@pytest.mark.parametrize(("page", "command"), [(page, command) for page, command in COMMANDS if "--seeds" in command and page not in FEW])
def test_a_command_that_compares_has_seeds_enough_to_show_something(page, command):
    words = shlex.split(command)
    seeds = words[words.index("--seeds") + 1]
    if words[0] not in {"compare", "sweep"} or not seeds.isdecimal():
        return
    schemes = list(itertools.takewhile(lambda word: not word.startswith("-"), words[1:]))
    assert int(seeds) >= seeds_needed(len(schemes) * (len(schemes) - 1) // 2 or 1), command


@pytest.mark.heavy
@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_of_a_page_can_be_typed(page, command):
    parse_only(typer.main.get_command(app)).main(shlex.split(command), prog_name="initbench", standalone_mode=False)


@pytest.mark.heavy
@pytest.mark.parametrize(("page", "command"), MENTIONED)
def test_a_command_within_a_sentence_exists(page, command):
    ran = CliRunner().invoke(app, [*command.split(), "--help"])
    assert ran.exit_code == 0, ran.output


@pytest.mark.heavy
@pytest.mark.parametrize(
    "command", sorted({command for page, command in COMMANDS if command.split()[0] in DRY and page not in ON_ITS_OWN_FILES})
)
def test_a_command_that_trains_would_do_so(desk, command):
    words = [word for word in shlex.split(command) if word != "--profile"]
    words = [word for word in words if word != "--dry-run"]
    ran = CliRunner().invoke(app, [*words, "--dry-run", "--device", "cpu", *["--json"] * (words[0] == "sweep")])
    assert ran.exit_code == 0, ran.output


@pytest.mark.heavy
@pytest.mark.parametrize("code", SNIPPETS)
def test_a_snippet_runs_when_it_is_pasted(desk, code):
    if "initbench.export(" in code:
        pytest.importorskip("pyarrow", reason="needs the extra parquet, which `make test-exports` installs")
    if "results/latest" in code:
        initbench.compare(["xavier", "kaiming"], dataset="synthetic", steps=1, seeds=1, engine="serial", device="cpu")
    exec(compile(code, "snippet", "exec"), {"model": nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))})


@pytest.mark.heavy
def test_the_scheme_in_eight_lines_keeps_the_contract(desk):
    (scheme,) = (code for code in blocks(TEXTS["README.md"], "python") if code.startswith("# mine.py"))
    assert len([line for line in scheme.splitlines() if line.strip() and not line.startswith("#")]) == 8
    ran = CliRunner().invoke(app, ["check-scheme", "./mine.py"])
    assert ran.exit_code == 0, ran.output
