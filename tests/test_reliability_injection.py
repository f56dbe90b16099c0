"""Names and messages of others stay text: in the terminal, Markdown, pages, spreadsheets and pictures, after really run commands."""

import csv
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

NASTY = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "![p](http://evil.example/x)", "[l](javascript:alert(1))",
    "<http://evil.example>", "=1+1", "@SUM(1)", "+cmd|' /C calc'!A0", "-2+3", "\x1b[31mred\x1b]0;title\x07", "before\rafter", "\u202eleft",
    "wid\u200bth", "a|b", "`tick`", "$\\frac$y", "[red]x[/]", "</title><b>", "a\nb", "\x9b31m", "{{ 1 }}", "%s{0}", "&lt;",
)  # fmt: skip
EVIL = ("evil.example", "javascript:")
MODEL = """
from torch import nn

NASTY = {nasty!r}

class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.flat = nn.Flatten()
        self.layers = nn.ModuleDict({{name.replace(".", "_"): nn.Linear(784, 4) for name in NASTY}})
        self.head = nn.Linear(4, classes)

    def forward(self, x):
        x = self.flat(x)
        return self.head(sum(layer(x) for layer in self.layers.values()).relu())
"""
SCHEME = """
NASTY = {nasty!r}

def build(*, text="a"):
    class Raises:
        def __call__(self, *given, **more):
            raise ValueError(" ".join(NASTY))

    return Raises()
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder in which commands were run with nasty names, and all that they said."""
    folder = tmp_path_factory.mktemp("nasty")
    (folder / "own.py").write_text(MODEL.format(nasty=NASTY))
    schemes = []
    for name in NASTY:
        if "\n" not in name and "/" not in name and "\r" not in name:
            (folder / f"{name}.py").write_text(SCHEME.format(nasty=NASTY))
            schemes.append(f"./{name}.py")
    environment = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(Path.cwd()))}
    said = ""

    def call(*words):
        nonlocal said
        ran = subprocess.run([sys.executable, "-m", "initbench", *words], cwd=folder, env=environment, capture_output=True)
        said += ran.stdout.decode() + ran.stderr.decode()
        return ran.returncode

    training = ["--model", "./own.py:Net", "--steps", "3", "--seeds", "2", "--engine", "serial", "--device", "cpu"]
    assert call("compare", "kaiming", *schemes, *training, "--out", "compared <img src=x> ![p](x)", "-v") in {0, 2, 3}
    assert call("compare", "kaiming", "xavier", *training, "--out", "<b>sound") == 0
    assert call("report", "<b>sound", "--reference", "kaiming") == 0
    assert call("resume", "<b>sound", "--dry-run") == 0
    assert call("probe", "kaiming", "xavier", "--model", "./own.py:Net", "--dataset", "mnist5k", "--out", "probed") == 0
    for name in NASTY:
        assert call("run", "-m", name.replace("\n", " ")) == 2
        assert call("show", f"x{name}".replace("\n", " ")) == 2
    return folder, said


def files(made, ending):
    found = [path for path in made[0].rglob(f"*{ending}") if path.is_file()]
    assert found
    return found


@pytest.mark.heavy
def test_the_terminal_gets_no_control_characters(made):
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b-\u200f]", made[1])


@pytest.mark.heavy
def test_markdown_has_no_html_no_picture_and_no_link_of_theirs(made):
    for path in files(made, ".md"):
        tokens = MarkdownIt("gfm-like", {"linkify": False}).enable("table").parse(path.read_text(encoding="utf-8"))
        every = [inner for token in tokens for inner in (token, *(token.children or ()))]
        assert not {token.type for token in every} & {"html_block", "html_inline", "image"}, path
        links = [token.attrGet("href") or "" for token in every if token.type == "link_open"]
        assert not [link for link in links if any(evil in link for evil in EVIL)], path
        rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
        assert rows
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", path.read_text(encoding="utf-8"))


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.mark.heavy
def test_pages_have_no_tag_and_no_attribute_of_theirs(made):
    for path in files(made, ".html"):
        reader = Tags()
        reader.feed(path.read_text(encoding="utf-8"))
        assert not {tag for tag, _ in reader.found} & {"img", "iframe", "object", "b"}, path
        assert [attrs for tag, attrs in reader.found if tag == "script"] in ([{"type": "application/json", "id": "data"}, {}], [{}]), path
        attributes = [(key, value or "") for _, attrs in reader.found for key, value in attrs.items()]
        assert not [key for key, _ in attributes if key.startswith("on")]
        assert not [value for key, value in attributes if key in {"href", "src"} and any(evil in value for evil in EVIL)]


@pytest.mark.heavy
def test_no_cell_is_a_formula(made):
    for path in files(made, ".csv"):
        with path.open(newline="", encoding="utf-8") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        for cell in cells:
            if cell.startswith(("=", "+", "-", "@", "\t", "\r")):
                float(cell)


@pytest.mark.heavy
def test_pictures_are_pictures_and_json_is_strict(made):
    for path in files(made, ".svg"):
        assert not [each for each in ElementTree.parse(path).iter() if each.tag.endswith("script")]
    for path in files(made, ".json"):
        json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"a number that JSON does not have: {name}"))


def test_each_line_of_the_threat_model_names_tests_that_there_are():
    root = Path(__file__).parent.parent
    lines = [line for line in (root / "docs" / "security.md").read_text().splitlines() if line.startswith("| ") and "shown by" not in line]
    assert len(lines) > 8
    for line in lines:
        files = re.findall(r"`(tests/\w+\.py)`: ((?:`\w+`(?:, )?)+)", line)
        assert files, line
        for file, names in files:
            for name in re.findall(r"\w+", names):
                assert f"def {name}(" in (root / file).read_text(), name
