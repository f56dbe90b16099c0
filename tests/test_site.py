"""The site of the docs: it builds without a warning, its links lead somewhere, and its pictures show what the page says that they show."""

import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from typer.testing import CliRunner

import initbench
from initbench.cli.app import app

DOCS = Path(__file__).parent.parent / "docs"


class Links(HTMLParser):
    """The targets of a page's links and pictures, and the names that can be linked to."""

    def __init__(self):
        super().__init__()
        self.targets, self.names, self.loaded = [], set(), []

    def handle_starttag(self, tag, attrs):
        own = dict(attrs)
        self.names.add(own.get("id"))
        self.loaded += [own[key] for key in ("href", "src") if own.get(key) and tag in {"script", "link", "img", "iframe"}]
        self.targets += [own[key] for key in ("href", "src") if own.get(key) and tag in {"a", "img"}]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for module in ("sphinx", "latex2mathml"):
        pytest.importorskip(module, reason=f"needs {module}: pip install --group docs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(DOCS), str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def read(site):
    """The links of every page of the site."""
    pages = {path: Links() for path in site.glob("*.html")}
    for path, links in pages.items():
        links.feed(path.read_text(encoding="utf-8"))
    return pages


@pytest.mark.site
def test_every_link_and_picture_of_the_site_is_there(site):
    pages, wrong = read(site), []
    for path, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            file = path.parent / unquote(parts.path) if parts.path else path
            if parts.scheme:
                continue
            if not file.exists() or (parts.fragment and file in pages and unquote(parts.fragment) not in pages[file].names):
                wrong.append((path.name, target))
    assert wrong == []


@pytest.mark.site
def test_the_site_is_read_without_a_network(site):
    assert [(path.name, at) for path, links in read(site).items() for at in links.loaded if urlsplit(at).netloc] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", styles)


@pytest.mark.site
def test_a_formula_is_set_by_the_browser_itself(site):
    text, source = ((folder / f"course.{kind}").read_text(encoding="utf-8") for folder, kind in ((site, "html"), (DOCS, "md")))
    assert text.count("<math ") == source.count("$") / 2
    assert re.search(r"<mfrac>(<mrow>)?<mn>1</mn>", text)
    assert "\\mathrm" not in text


@pytest.mark.site
def test_a_link_to_contributing_leads_to_its_section(site):
    links = [target for path, links in read(site).items() if path.name != "contributing.html" for target in links.targets]
    sections = {target.partition("#")[2] for target in links if target.startswith("contributing.html#")}
    assert {"add-a-scheme-one-file", "add-a-dataset-one-file", "add-an-optimizer-one-file", "add-a-metric-one-file"} <= sections
    text = (site / "contributing.html").read_text(encoding="utf-8")
    assert "Add an engine: one file" in text


@pytest.mark.site
def test_every_page_is_in_the_contents(site):
    contents = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = {
        line
        for block in re.findall(r"```\{toctree\}\n(.*?)```", contents, re.DOTALL)
        for line in block.splitlines()
        if line and line[0] != ":"
    }
    assert listed | {"index"} >= {path.stem for path in DOCS.glob("*.md")}
    assert all((site / f"{name}.html").is_file() for name in listed)


def chapters():
    """The commands of reading.md by the heading that they stand under."""
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "pictures.py")
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    titles = re.findall(r"^## (\w+)$", (DOCS / "reading.md").read_text(encoding="utf-8"), re.MULTILINE)
    commands = pictures.commands("reading.md")
    return [(title, commands[2 * place], commands[2 * place + 1]) for place, title in enumerate(titles)]


SHOWS = {
    "Healthy": lambda scheme: scheme.keeps,
    "Vanishing": lambda scheme: str(scheme.lost).startswith("activations vanish"),
    "Exploding": lambda scheme: str(scheme.lost).startswith("activations explode"),
    "Dead": lambda scheme: str(scheme.lost).startswith("activations") and max(layer.dead_fraction or 0 for layer in scheme.layers) == 1,
    "Chaotic": lambda scheme: "chaotic" in scheme.verdict or str(scheme.lost).startswith("gradients explode"),
}


@pytest.mark.heavy
@pytest.mark.parametrize(("title", "probe", "plot"), chapters())
def test_a_picture_shows_what_its_heading_says(title, probe, plot, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, probe[1:])
    assert done.exit_code == 0, done.output
    (scheme,) = initbench.load_probe("results/latest-probe").schemes
    assert SHOWS[title](scheme), (scheme.verdict, scheme.lost)
    assert plot[2] == "results/latest-probe"
    picture = DOCS.parent / plot[plot.index("--out") + 1]
    assert picture.is_file()
    assert initbench.load_probe("results/latest-probe").chosen(plot[3]).panels
