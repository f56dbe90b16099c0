"""The pages as their reader follows them: the files that a page shows, written as it says, and its commands, carried out in order."""

import importlib.util
import re
import runpy
import shlex

import numpy as np
import pytest
from pages_support import FOLLOWED, TEXTS, blocks, commands, readers_folder
from safetensors.torch import save_file
from typer.testing import CliRunner

from initbench.cli.app import app

LATEST = ("results/latest/report.html",)
THERE = {
    "quickstart": LATEST,
    "comparing": (),
    "diagnose": (),
    "tasks": (),
    "own": ("stripes.npz",),
    "reading": ("report.html",),
    "course": LATEST,
    "figures": ("signal.pdf", "loss.pdf", "table.tex"),
    "recommend": (),
    "sweep": ("tables/cells.csv", "tables/runs.csv"),
    "probe": ("probe.json", "tables/layers.csv", "tables/runs.csv", "summary.md", "report.html"),
    "integrations": (),
    "gate": ("smoke.json",),
}
"""What a page says that there is after its commands: in its folder, or somewhere in its results."""
SMALL = {"run": 2, "compare": 2, "sweep": 2, "recommend": 2, "smoke": 20}
"""Steps of the commands that train, in place of those of the page, so that one takes seconds; with two seeds."""
RACED = {"-m": ("kaiming", "lsuv"), "--tune": ("train.lr=0.01,0.1",)}
"""What a race is between, in place of all schemes and learning rates, where its command does not say."""
LARGE = ("--model", "torchvision:resnet50")
"""A model that is probed with one scheme on few images."""
EXTRAS = {"parquet": "pyarrow"}
"""Exports whose package may not be installed."""


def smaller(words):
    """A command as it is carried out here: few steps, seeds, schemes and images, three values an axis of a map and three small widths."""
    after = list(zip(["", *words[:-1]], words, strict=True))
    if "--coordinate-check" in words:
        kept = [word for before, word in after if not {before, word} & {"--widths", "--steps", "--seeds"}]
        return [*kept, "--widths", "8,16,32", "--steps", "1", "--seeds", "1"]
    if words[0] not in SMALL:
        few = ["kaiming", "--batch", "4"] if LARGE in after else []
        return [re.sub(r":\d+(?=,|$)", ":3", word) if before == "--map" else word for before, word in after] + few
    kept = [word for before, word in after if not {before, word} & {"--steps", "--epochs", "--seeds"}]
    if words[0] == "recommend":
        kept += [word for option, values in RACED.items() if option not in words for value in values for word in (option, value)]
    few = ["--max-seeds", "8"] if "--until" in words else ["--seeds", "2"]
    return [*kept, "--steps", str(SMALL[words[0]]), *few, "--engine", "serial"]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """The empty folder of a reader, with the files that pages take for granted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INITBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "80")
    readers_folder(tmp_path)
    return tmp_path


def write_files(page, folder):
    """Writes the files that a page shows, and those that it names as the reader's."""
    for kind, ending in (("python", "py"), ("yaml", "yaml")):
        for code in blocks(page, kind):
            if named := re.match(rf"# (\w+\.{ending})\n", code):
                (folder / named[1]).write_text(code, encoding="utf-8")
                if "np.savez(" in code:
                    runpy.run_path(named[1])
    if "batch.npz" in page:
        np.savez(folder / "batch.npz", x=np.random.default_rng(0).normal(size=(64, 3, 224, 224)).astype(np.float32))
    if "weights.safetensors" in page:
        mine = runpy.run_path(str(folder / "mine.py"))
        save_file(mine["Net"]((3, 32, 32), 10).state_dict(), folder / "weights.safetensors")


def test_every_page_that_is_followed_is_known():
    assert {f"docs/{name}.md" for name in THERE} == FOLLOWED
    for name, files in THERE.items():
        assert [file for file in files if file not in TEXTS[f"docs/{name}.md"]] == []


@pytest.mark.heavy
@pytest.mark.parametrize("name", THERE)
def test_every_command_of_a_page_does_what_it_says(name, desk):
    page = TEXTS[f"docs/{name}.md"]
    write_files(page, desk)
    typed = commands(page)
    assert typed
    for words in typed:
        given = smaller(words)
        ran = CliRunner().invoke(app, given)
        missing = words[0] == "export" and importlib.util.find_spec(EXTRAS[words[1]]) is None
        assert ran.exit_code == (5 if missing else 0), (shlex.join(given), ran.output)
        if "--out" in given and "--dry-run" not in given:
            assert (desk / given[given.index("--out") + 1]).exists(), shlex.join(given)
    for file in THERE[name]:
        assert (desk / file).exists() or any(desk.glob(f"results/*/{file}")), file
